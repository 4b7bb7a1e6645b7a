#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Stock QEMUs migrate over `rdma:`, their own protocol, into `ramferry receive` and out of `ramferry send`.

Needs an RDMA device; tests/soft-roce/rig runs it where there is none. The machines are paused, and their memory is a
file each: what arrived is compared with what was sent, byte by byte.
RAMFERRY_LONG=1: more memory and devices, three rounds, the newer QEMU, a live guest, and a race against QEMU itself.
"""
import glob
import hashlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import unittest

from qemukit import guest, programs, ramferry
from qemukit.machine import Machine

LONG = os.environ.get("RAMFERRY_LONG") == "1"
MIB = 1 << 20
PAGE = 4096
MACHINE = "pc-i440fx-7.2"
DEVICES = ["-vga", "std", "-device", "virtio-rng-pci", "-device", "virtio-balloon-pci"]
PINS = [False, True]
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


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class RdmaCase(unittest.TestCase):
    port = 4500

    @classmethod
    def setUpClass(cls):
        cls.address = own_address()
        if cls.address is None:
            if os.environ.get("RAMFERRY_REQUIRE_RDMA") == "1":
                raise AssertionError("there is no RDMA device with an IPv4 address")
            raise unittest.SkipTest("there is no RDMA device with an IPv4 address. Fix: run tests/soft-roce/rig")
        try:
            cls.program = programs.installed()
        except programs.Missing as missing:
            raise unittest.SkipTest(str(missing))

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


class QemuOverRdma(RdmaCase):
    def test_a_machine_goes_in_and_out_unchanged(self):
        for pin in PINS:
            with self.subTest(pin_all=pin):
                mib = 256 if LONG else 16
                image = self.image(mib, seed=1 + pin)
                source = self.source(image, pin=pin, options=DEVICES if LONG or pin else [])
                report = self.save(source)
                self.assertEqual((report["origin"], report["machine"]), ("qemu", MACHINE))
                self.assertEqual(ramferry.run("inspect", "--verify", self.path("vm.ckpt")).returncode, 0)
                # What is zero in the file must become zero in memory that is not.
                with open(self.path("restored"), "wb") as file:
                    file.write(b"\xaa" * mib * MIB)
                destination, memory = self.restore(pin=pin, mib=mib, options=DEVICES if LONG or pin else [])
                self.assert_same_memory(source, destination, image, memory, mib)
                source.end()
                destination.end()
                os.unlink(memory)


@unittest.skipUnless(LONG, "RAMFERRY_LONG=1")
class QemuOverRdmaGoesWrong(RdmaCase):
    def test_a_killed_node_leaves_the_machine_at_its_source(self):
        source = self.source(self.image(seed=7))
        source.ask("migrate-set-parameters", max_bandwidth=2 * MIB)
        at = self.uri()
        with ramferry.Receive(at, self.path("vm.ckpt")) as receive:
            source.ask("migrate", uri=at)
            deadline = time.monotonic() + PATIENCE
            while source.migration().get("ram", {}).get("transferred", 0) < MIB and time.monotonic() < deadline:
                time.sleep(0.05)
            receive.process.kill()
        self.assertEqual(source.migrated(PATIENCE)["status"], "failed")
        self.assertNotEqual(source.state(), "postmigrate")
        source.ask("cont")
        self.assertEqual(source.state(), "running")

    def test_a_destination_with_less_memory_is_noticed_before_a_page_is_sent(self):
        source = self.source(self.image(seed=5))
        self.save(source)
        at = self.uri()
        destination = self.machine(mib=16, incoming="defer", name="small")
        destination.ask("migrate-incoming", uri=at)
        done = ramferry.run("send", self.path("vm.ckpt"), at + "?pin=demand", timeout=PATIENCE)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("less memory", done.stderr)
        self.assertEqual(ramferry.run("inspect", "--verify", self.path("vm.ckpt")).returncode, 0)

    def test_a_killed_source_leaves_no_file(self):
        source = self.source(self.image(seed=6))
        source.ask("migrate-set-parameters", max_bandwidth=2 * MIB)
        at = self.uri()
        with ramferry.Receive(at, self.path("vm.ckpt")) as receive:
            source.ask("migrate", uri=at)
            deadline = time.monotonic() + PATIENCE
            while source.migration().get("ram", {}).get("transferred", 0) < MIB and time.monotonic() < deadline:
                time.sleep(0.05)
            source.end()
            self.assertEqual(receive.wait(PATIENCE), 1, receive.messages)
        self.assertEqual([name for name in os.listdir(self.folder) if "ckpt" in name], [])


@unittest.skipUnless(LONG, "RAMFERRY_LONG=1")
class QemuOverRdmaAtLength(RdmaCase):
    def test_three_rounds(self):
        image = self.image(64, seed=11)
        source = self.source(image, pin=True, options=["-rtc", "clock=vm", *DEVICES])
        for number in range(3):
            self.save(source, f"{number}.ckpt")
            source, memory = self.restore(f"{number}.ckpt", pin=number == 1, mib=64,
                                          options=["-rtc", "clock=vm", *DEVICES])
            source.unlimited()
            self.assertEqual(digest(memory), digest(image))
            os.rename(memory, self.path(f"memory-{number}"))

    def test_newer_qemu(self):
        try:
            newer = programs.backports()
        except programs.Missing as missing:
            self.skipTest(str(missing))
        for first, second in [(newer, newer), (newer, self.program), (self.program, newer)]:
            for pin in PINS:
                with self.subTest(source=first.version, destination=second.version, pin_all=pin):
                    image = self.image(seed=12)
                    source = self.source(image, program=first, pin=pin)
                    self.save(source)
                    destination, memory = self.restore(pin=pin, program=second)
                    self.assert_same_memory(source, destination, image, memory, 32)
                    destination.end()
                    os.unlink(memory)

    def test_many_into_one_folder(self):
        at = self.uri()
        image = self.image(seed=13)
        with ramferry.Receive(at, self.folder + "/") as receive:
            for number in range(20):
                source = self.source(image, pin=number % 2 == 0)
                self.assertEqual(source.migrate(at, timeout=PATIENCE)["status"], "completed")
                source.end()
            reports = receive.reported(20)
            files = len(os.listdir(f"/proc/{receive.process.pid}/fd"))
            self.assertLess(files, 40, "descriptors leak")
            receive.process.terminate()
            receive.wait(PATIENCE)
        self.assertEqual(len({report["file"] for report in reports}), 20)
        for report in reports:
            self.assertEqual(ramferry.run("inspect", "--verify", report["file"]).returncode, 0)

    def test_a_live_guest_survives(self):
        try:
            survivor = guest.Guest()
        except programs.Missing as missing:
            self.skipTest(str(missing))
        machine = survivor.machine(self.program)
        self.addCleanup(machine.end)
        guest.running(machine, timeout=600)
        for pin in PINS:
            machine.unlimited()
            machine.capabilities(rdma_pin_all=pin)
            self.save(machine)
            text = machine.all_console()
            self.assertEqual(guest.errors(text), 0)
            last = guest.counts(text)[-1]
            at = self.uri()
            destination = survivor.machine(self.program, incoming="defer")
            self.addCleanup(destination.end)
            destination.capabilities(rdma_pin_all=pin)
            destination.ask("migrate-incoming", uri=at)
            done = ramferry.run("send", self.path("vm.ckpt"), at + ("?pin=all" if pin else "?pin=demand"),
                                timeout=PATIENCE)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(destination.arrived(PATIENCE), "completed", destination.messages())
            machine.end()
            machine = destination
            text = guest.running(machine, timeout=300)
            self.assertEqual(guest.errors(text), 0, text)
            self.assertGreaterEqual(guest.counts(text)[0], last)

    def test_race(self):
        """Into and out of QEMU against QEMU to QEMU, alternated; prints the ratios."""
        mib, pairs = 128, 5
        for kind, zero in [("dense", 0.0), ("30 % zero", 0.3)]:
            image = self.image(mib, seed=14, zero=zero)
            for pin in PINS:
                ratios = {"receive": [], "send": []}
                for number in range(pairs + 1):
                    at, memory = self.uri(), self.path("restored")
                    source = self.source(image, pin=pin)
                    destination = self.machine(ram_file=memory, mib=mib, incoming="defer", pin=pin)
                    destination.ask("migrate-incoming", uri=at)
                    begun = time.monotonic()
                    source.migrate(at, timeout=PATIENCE)
                    self.assertEqual(destination.arrived(PATIENCE), "completed")
                    theirs = time.monotonic() - begun
                    destination.end()
                    source.end()
                    os.unlink(memory)
                    source = self.source(image, pin=pin)
                    begun = time.monotonic()
                    self.save(source)
                    received = time.monotonic() - begun
                    source.end()
                    at = self.uri()
                    destination = self.machine(ram_file=memory, mib=mib, incoming="defer", pin=pin)
                    destination.ask("migrate-incoming", uri=at)
                    begun = time.monotonic()
                    ramferry.run("send", self.path("vm.ckpt"), at + ("?pin=all" if pin else "?pin=demand"))
                    self.assertEqual(destination.arrived(PATIENCE), "completed")
                    sent = time.monotonic() - begun
                    destination.end()
                    os.unlink(memory)
                    if number > 0:      # the first warms up
                        ratios["receive"].append(theirs / received)
                        ratios["send"].append(theirs / sent)
                for name, all_ in ratios.items():
                    print(f"race: {kind}, pin_all={pin}: {name} {statistics.median(all_):.2f} times as fast as QEMU to "
                          f"QEMU ({min(all_):.2f} to {max(all_):.2f})", file=sys.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
