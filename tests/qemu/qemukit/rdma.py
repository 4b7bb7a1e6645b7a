# SPDX-License-Identifier: MIT
"""Tests of stock QEMUs over `rdma:`: the device's address, ports that nobody has used, machines that are paused."""
import glob
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from . import programs, ramferry
from .case import MIB, digest
from .machine import Machine

PAGE = 4096
MACHINE = "pc-i440fx-7.2"
PATIENCE = 120


def own_address():
    """Of the interface that an RDMA device sits on."""
    if os.environ.get("RAMFERRY_RIG_A"):
        return os.environ["RAMFERRY_RIG_A"]
    for path in glob.glob("/sys/class/infiniband/*/device/net/*") + glob.glob("/sys/class/infiniband/*/parent"):
        name = os.path.basename(path)
        if name == "parent":
            with open(path) as file:
                name = file.read().strip()
        shown = subprocess.run(["ip", "-4", "-o", "addr", "show", name], capture_output=True, text=True).stdout.split()
        if "inet" in shown:
            return shown[shown.index("inet") + 1].split("/")[0]
    return None


class RdmaCase(unittest.TestCase):
    port = 4500

    @classmethod
    def setUpClass(cls):
        cls.address = own_address()
        if cls.address is None:
            if os.environ.get("RAMFERRY_REQUIRE_RDMA") == "1":
                raise AssertionError("there is no RDMA device with an IPv4 address")
            raise unittest.SkipTest("there is no RDMA device with an IPv4 address. Fix: run tests/soft-roce/rig")
        cls.program = programs.installed()

    def setUp(self):
        begun = time.monotonic()
        self.addCleanup(lambda: print(f"{time.monotonic() - begun:.1f} s ...", end=" ", file=sys.stderr))
        # Memory that a device writes to must not belong to a file on a disk.
        self.folder = tempfile.mkdtemp(prefix="ramferry-rdma-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def uri(self):
        """A port that nobody has used: a device may remember the last one's connections for a while."""
        RdmaCase.port += 1
        return f"rdma:{self.address}:{RdmaCase.port}"

    def image(self, mib=32, seed=1, zero=0.3):
        """Memory of all kinds: a dense quarter, an empty quarter, and half in which pages alternate at random."""
        path = self.path(f"image-{seed}")
        random_ = random.Random(seed)
        with open(path, "wb") as file:
            file.write(random_.randbytes(mib * MIB // 4))
            file.seek(mib * MIB // 2)
            for _ in range(mib * MIB // 2 // PAGE):
                if random_.random() < zero:
                    file.seek(PAGE, os.SEEK_CUR)
                else:
                    file.write(random_.randbytes(64) * (PAGE // 64))
            file.truncate(mib * MIB)
        return path

    def machine(self, program=None, pin=False, mib=32, options=(), **rest):
        started = Machine(program or self.program, ram_mib=mib, machine=MACHINE, options=["-S", *options], **rest)
        self.addCleanup(started.end)
        started.capabilities(rdma_pin_all=pin)
        return started

    def source(self, image, **rest):
        source = self.machine(ram_file=image, mib=os.path.getsize(image) // MIB, name="source", **rest)
        source.unlimited()
        return source

    def save(self, source, name="vm.ckpt", node_options=""):
        """Migrates the machine into a file; what `receive` reported of it."""
        at = self.uri()
        with ramferry.Receive(at + node_options, self.path(name)) as receive:
            self.assertEqual(receive.at, at + node_options, receive.messages)
            info = source.migrate(at, timeout=PATIENCE)
            self.assertEqual(info["status"], "completed", f"{info} {source.messages()} {receive.messages}")
            self.assertEqual(receive.wait(PATIENCE), 0, receive.messages)
            return receive.reports[0]

    def restore(self, name="vm.ckpt", pin=False, mib=32, send_options=None, **rest):
        """Puts the file into a QEMU whose memory is the file that is returned with it."""
        at, memory = self.uri(), self.path("restored")
        destination = self.machine(ram_file=memory, mib=mib, incoming="defer", pin=pin, name="destination", **rest)
        destination.ask("migrate-incoming", uri=at)
        wanted = ("?pin=all" if pin else "?pin=demand") if send_options is None else send_options
        done = ramferry.run("send", self.path(name), at + wanted, "--json", timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, f"{done.stderr} {destination.messages()}")
        self.assertEqual(destination.arrived(PATIENCE), "completed", destination.messages())
        return destination, memory

    def assert_same_memory(self, source, destination, image, memory, mib):
        self.assertEqual(digest(memory), digest(image))
        # And as the machines themselves see it, ROMs and video memory included.
        for first, length in [(0, 1 * MIB), (mib * MIB - MIB, MIB), (0xfffc0000, 256 << 10)]:
            self.assertEqual(destination.ram(length, first), source.ram(length, first), hex(first))
