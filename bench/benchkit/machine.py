# SPDX-License-Identifier: MIT
"""The machine that measures: what it is, and getting its memory ready."""
import contextlib
import mmap
import os
import platform
import subprocess
import sys
import tempfile

from .ballast import kernel_memory

GIB = 1 << 30


def first_line(*command):
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except OSError:
        return "not installed"
    return next((line.strip() for line in (out.stdout + out.stderr).splitlines() if line.strip()), "")


def cpu_model():
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def scratch(needed):
    """A folder in memory with this much room; on disk, if there is none: a container's may be small."""
    for folder in ("/dev/shm", tempfile.gettempdir()):
        with contextlib.suppress(OSError):
            room = os.statvfs(folder)
            if room.f_bavail * room.f_frsize >= needed:
                return folder
    sys.exit(f"bench: {needed >> 20} MiB of room for files are needed, in /dev/shm or in $TMPDIR")


def facts(ramferry):
    here = os.path.dirname(os.path.realpath(__file__))
    commit = os.environ.get("RAMFERRY_BENCH_COMMIT") or first_line("git", "-C", here, "describe", "--always", "--dirty")
    return {"cpu": cpu_model(), "cpus": os.cpu_count(), "memory": kernel_memory("MemTotal"),
            "kernel": platform.release(), "load-before": os.getloadavg()[0], "commit": commit,
            "versions": {"ramferry": first_line(ramferry, "--version"),
                         "qemu": first_line("qemu-system-x86_64", "--version"),
                         "iperf3": first_line("iperf3", "--version"), "perftest": first_line("ib_write_bw", "--version"),
                         "python": platform.python_version()}}


def touch_free_memory(share=0.85):
    """Fresh pages of a virtual machine fault slowly; touch them once before anything is measured."""
    wanted = int(kernel_memory("MemAvailable") * share)
    held = []
    try:
        while wanted > 0:
            size = min(wanted, GIB)
            held.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE))
            wanted -= size
    except OSError as why:
        print(f"bench: could not touch all free memory: {why}", file=sys.stderr)
    for each in held:
        each.close()
