# SPDX-License-Identifier: MIT
"""A Linux guest that proves that it survived: it counts on its serial line, and counts its errors with it."""
import hashlib
import os
import re
import subprocess
import sys
import tempfile

from .machine import Machine
from .programs import Missing

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "soft-roce"))
from rigkit import kernel  # noqa: E402  finds a kernel, or fetches one, without installing it

# Not a multiple of 256 KiB: where it is one, QEMU 7.2 without KVM loses marks of pages that its running guest has
# written, between two QEMUs just as well (1 in 11 migrations on a busy machine; 10.0 was not seen to).
RAM_MIB = 160 + 8 / 1024
# The kernel measures its timer against a clock that a busy machine stops for too long: it must not check it.
COMMAND_LINE = "console=ttyS0 quiet panic=-1 mitigations=off no5lvl tsc=reliable no_timer_check"
LINE = re.compile(r"counter (\d+) errors (\d+)\r?\n")


class Guest:
    """What it takes to boot the guest; `options` start a QEMU that has it, as source or as destination."""

    def __init__(self, cache=None):
        cache = cache or kernel.default_cache()
        os.makedirs(cache, exist_ok=True)
        try:
            self.kernel = kernel.unpacked(kernel.find(cache), cache)
        except kernel.Missing as missing:
            raise Missing(str(missing)) from missing
        self.initramfs = _initramfs(cache)

    @property
    def options(self):
        return ["-kernel", self.kernel.image, "-initrd", self.initramfs, "-append", COMMAND_LINE, "-no-reboot"]

    def machine(self, program, machine="pc-i440fx-7.2", **rest):
        rest["options"] = [*self.options, *rest.get("options", ())]
        return Machine(program, ram_mib=RAM_MIB, machine=machine, **rest)


def _initramfs(cache):
    source = os.path.join(HERE, "..", "guest", "init.c")
    with open(source, "rb") as file:
        name = "survivor-" + hashlib.sha256(file.read()).hexdigest()[:16] + ".cpio"
    path = os.path.join(cache, name)
    if not os.path.exists(path):
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            program = os.path.join(folder, "init")
            built = subprocess.run(["cc", "-O2", "-static", "-o", program, source], capture_output=True, text=True)
            if built.returncode != 0:
                raise Missing(f"the guest's program does not build: {built.stderr}")
            with open(program, "rb") as file:
                content = file.read()
            with open(os.path.join(folder, "image"), "wb") as file:
                file.write(_entry("init", 0o100755, content) + _entry("TRAILER!!!", 0, b""))
            os.rename(os.path.join(folder, "image"), path)
    return path


def _entry(name, mode, content):
    """One file of a cpio archive, "newc"."""
    fields = [0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def counts(text):
    return [int(number) for number, _ in LINE.findall(text)]


def errors(text):
    return max([int(number) for _, number in LINE.findall(text)], default=0)


def running(machine, more=3, timeout=120):
    """Waits until the guest has counted `more` times; all that it said."""
    return machine.console_until(lambda text: len(counts(text)) >= more, timeout)
