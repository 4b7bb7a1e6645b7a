#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whole migrations side by side: ramferry, QEMU and a plain write/read loop, alternated in one run.

    bench/migrate.py --ramferry build/release/cli/ramferry --plain-loop build/release/bench/plain_loop

Fairness: the same image, the same kind of socket, no bandwidth limit, equal downtime limits, equal channels, both
destinations pre-faulted (or both cold with --cold). No guest runs in either: what is measured is moving memory.
Prints a table of medians of *ratios* within a pair and writes every run to a JSON file.
"""
import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TIMEOUT = 120  # seconds, for any process started here


class Qmp:
    """A monitor, ours or QEMU's."""

    def __init__(self, path):
        deadline = time.monotonic() + 20
        while True:
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.socket.settimeout(TIMEOUT)
        self.lines = self.socket.makefile("rw")
        self.lines.readline()
        self.run("qmp_capabilities")

    def run(self, command, **arguments):
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def migrate(self, uri):
        self.run("migrate", uri=uri)
        while True:
            info = self.run("query-migrate")
            if info.get("status") in ("completed", "failed", "cancelled"):
                if info["status"] != "completed":
                    raise RuntimeError(f"migration {info['status']}: {info.get('error-desc', '?')}")
                return info
            time.sleep(0.01)


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Run:
    """The processes and files of one run, gone when it ends."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="ramferry-bench-")
        self.processes = []
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, *command):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.processes.append(process)
        return process

    def path(self, name):
        return os.path.join(self.folder, name)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def address(run, kind):
    return f"tcp:127.0.0.1:{free_port()}" if kind == "tcp" else f"unix:{run.path('migration')}"


def plain(options, kind):
    command = [options.plain_loop, kind, options.image] + (["--cold"] if options.cold else [])
    result = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT).stdout)
    return {"seconds": result["seconds"], "cpu": result["source_cpu"] + result["destination_cpu"]}


def ramferry(options, kind, lanes=1, fill=None, size=None):
    size = size or options.bytes
    with Run() as run:
        uri = address(run, kind)
        warm = [] if options.cold or fill else ["--prefault"]
        destination = run.start(options.ramferry, "vm", "--qmp", f"unix:{run.path('b')}", "--ram", str(size), "--paused",
                                "--incoming", uri, *warm)
        source = run.start(options.ramferry, "vm", "--qmp", f"unix:{run.path('a')}", "--ram", str(size), "--fill",
                           fill or options.image)
        there, here = Qmp(run.path("b")), Qmp(run.path("a"))
        before = cpu_seconds(source.pid), cpu_seconds(destination.pid)
        info = here.migrate(uri + (f"?lanes={lanes}" if lanes > 1 else ""))
        used = cpu_seconds(source.pid) - before[0], cpu_seconds(destination.pid) - before[1]
        there.run("query-status")
        return {"seconds": info["total-time"] / 1e3, "downtime": info["downtime"] / 1e3, "cpu": sum(used),
                "setup": info["setup-time"] / 1e3, "wire": info["ram"]["transferred"]}


def qemu(options, kind, channels=0, untouched=False, size=None):
    size = size or options.bytes
    with Run() as run:
        common = ["timeout", str(TIMEOUT), "qemu-system-x86_64", "-nodefaults", "-display", "none", "-S", "-accel", "tcg",
                  "-m", f"{size >> 20}M", "-machine", "pc,memory-backend=m"]
        image = f"memory-backend-file,id=m,size={size},mem-path={options.image},share=on"
        blank = f"memory-backend-ram,id=m,size={size}"
        warm = "" if options.cold or untouched else ",prealloc=on"
        uri = address(run, kind)
        run.start(*common, "-object", blank + warm, "-qmp", f"unix:{run.path('b')},server=on,wait=off",
                  "-incoming", "defer")
        run.start(*common, "-object", blank if untouched else image, "-qmp", f"unix:{run.path('a')},server=on,wait=off")
        there, here = Qmp(run.path("b")), Qmp(run.path("a"))
        here.run("migrate-set-parameters", **{"max-bandwidth": 0, "downtime-limit": 300})
        if channels:
            for end in (there, here):
                end.run("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": True}])
                end.run("migrate-set-parameters", **{"multifd-channels": channels})
        there.run("migrate-incoming", uri=uri)
        pids = [int(open(f"/proc/{each.pid}/task/{each.pid}/children").read().split()[0]) for each in run.processes]
        before = sum(cpu_seconds(pid) for pid in pids)
        info = here.migrate(uri)
        return {"seconds": info["total-time"] / 1e3, "downtime": info["downtime"] / 1e3,
                "cpu": sum(cpu_seconds(pid) for pid in pids) - before, "setup": info["setup-time"] / 1e3,
                "wire": info["ram"]["transferred"]}


def contests(options):
    """(name, what is measured over what, our run, the other's, target)."""
    big = 4 * options.bytes
    return [
        ("tcp vs plain loop", lambda: ramferry(options, "tcp"), lambda: plain(options, "tcp"), 0.90),
        ("unix vs plain loop", lambda: ramferry(options, "unix"), lambda: plain(options, "unix"), 0.90),
        ("tcp vs QEMU tcp", lambda: ramferry(options, "tcp"), lambda: qemu(options, "tcp"), 1.5),
        ("unix vs QEMU unix", lambda: ramferry(options, "unix"), lambda: qemu(options, "unix"), 1.5),
        ("tcp 1 lane vs multifd 1", lambda: ramferry(options, "tcp"), lambda: qemu(options, "tcp", 1), 1.1),
        ("tcp 2 lanes vs multifd 2", lambda: ramferry(options, "tcp", 2), lambda: qemu(options, "tcp", 2), 1.1),
        ("untouched vs QEMU tcp", lambda: ramferry(options, "tcp", fill="untouched", size=big),
         lambda: qemu(options, "tcp", untouched=True, size=big), 50),
    ]


def touch_free_memory():
    """Fresh pages fault slowly on a virtual machine; touch them once before anything is measured."""
    available = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemAvailable")) << 10
    block = bytearray(int(available * 0.6))
    for at in range(0, len(block), 4096):
        block[at] = 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ramferry", required=True)
    parser.add_argument("--plain-loop", required=True)
    parser.add_argument("--ram", type=int, default=1024, help="MiB of guest memory (default 1024)")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of each contest, after one that is discarded")
    parser.add_argument("--only", help="contests whose name contains this")
    parser.add_argument("--cold", action="store_true", help="destinations are not pre-faulted")
    parser.add_argument("--out", default="bench-results.json")
    options = parser.parse_args()
    options.bytes = options.ram << 20
    options.image = f"/dev/shm/ramferry-bench-{os.getpid()}"
    results, failed = [], False
    try:
        with open(options.image, "wb") as image:
            for _ in range(options.ram):
                image.write(os.urandom(1 << 20))
        touch_free_memory()
        print(f"{'contest':28} {'ratio':>6} {'spread':>15} {'target':>7}   medians: ours, theirs (s)  CPU ours/theirs")
        for name, ours, theirs, target in contests(options):
            if options.only and options.only not in name:
                continue
            pairs, error = [], None
            try:
                for _ in range(options.pairs + 1):
                    pairs.append((ours(), theirs()))
            except (RuntimeError, OSError, subprocess.SubprocessError, ValueError) as problem:
                error, failed = str(problem), True
            results.append({"contest": name, "target": target, "pairs": pairs, "error": error})
            if error:
                print(f"{name:28} FAILED: {error}")
                continue
            pairs = pairs[1:]
            ratios = sorted(b["seconds"] / max(a["seconds"], 1e-3) for a, b in pairs)
            mine, other = (statistics.median(pair[side]["seconds"] for pair in pairs) for side in (0, 1))
            cpu = statistics.median(a["cpu"] / b["cpu"] for a, b in pairs if b["cpu"])
            print(f"{name:28} {statistics.median(ratios):6.2f} {ratios[0]:6.2f} - {ratios[-1]:6.2f} {target:7.2f}   "
                  f"{mine:.3f} {other:.3f}  {cpu:.2f}", flush=True)
    finally:
        if os.path.exists(options.image):
            os.unlink(options.image)
    version = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    with open(options.out, "w") as out:
        json.dump({"machine": platform.processor() or platform.machine(), "kernel": platform.release(),
                   "cpus": os.cpu_count(), "qemu": version, "ram": options.bytes, "cold": options.cold,
                   "results": results}, out, indent=1)
    print(f"every run: {options.out}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
