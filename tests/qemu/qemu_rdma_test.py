#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Stock QEMUs migrate over `rdma:`, their own protocol, into `ramferry receive` and out of `ramferry send`.

Needs an RDMA device; tests/soft-roce/rig runs it where there is none. The machines are paused, and their memory is a
file each: what arrived is compared with what was sent, byte by byte.
RAMFERRY_LONG=1: more memory and devices, three rounds, the newer QEMU, and a race against QEMU itself.
"""
import os
import statistics
import sys
import time
import unittest

from qemukit import programs, ramferry
from qemukit.case import MIB, digest
from qemukit.rdma import MACHINE, PATIENCE, RdmaCase

LONG = os.environ.get("RAMFERRY_LONG") == "1"
DEVICES = ["-vga", "std", "-device", "virtio-rng-pci", "-device", "virtio-balloon-pci"]
PINS = [False, True]
QEMU = "QEMU to QEMU"


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
        source = self.source(self.image(256, seed=7))     # seconds, so that it is met on its way
        at = self.uri()
        with ramferry.Receive(at, self.path("vm.ckpt")) as receive:
            source.ask("migrate", uri=at)
            source.transferred(MIB)
            receive.process.kill()
        self.assertEqual(source.migrated(PATIENCE)["status"], "failed")
        self.assertNotEqual(source.settled(), "postmigrate")
        source.ask("cont")
        self.assertEqual(source.settled(), "running")

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
        source = self.source(self.image(256, seed=6))     # seconds, so that it is met on its way
        at = self.uri()
        with ramferry.Receive(at, self.path("vm.ckpt")) as receive:
            source.ask("migrate", uri=at)
            source.transferred(MIB)
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
        newer = programs.backports()
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

    def race(self, image, pin):
        """One turn each; seconds from the order until all is there. Who waits for a machine has been started before, but
        `send` is counted from its start."""
        mib, took = os.path.getsize(image) // MIB, {}
        memory = self.path("restored")
        source, destination, at = self.source(image, pin=pin), self.waiting(memory, mib, pin), self.uri()
        destination.ask("migrate-incoming", uri=at)
        begun = time.monotonic()
        source.migrate(at, timeout=PATIENCE)
        self.assertEqual(destination.arrived(PATIENCE), "completed")
        took[QEMU] = time.monotonic() - begun
        destination.end()
        source.end()
        os.unlink(memory)

        source, at = self.source(image, pin=pin), self.uri()
        with ramferry.Receive(at, self.path("vm.ckpt")) as receive:
            begun = time.monotonic()
            source.migrate(at, timeout=PATIENCE)
            receive.reported(1, PATIENCE)
            took["receive"] = time.monotonic() - begun
        source.end()

        destination, at = self.waiting(memory, mib, pin), self.uri()
        destination.ask("migrate-incoming", uri=at)
        begun = time.monotonic()
        ramferry.run("send", self.path("vm.ckpt"), at + ("?pin=all" if pin else "?pin=demand"), timeout=PATIENCE)
        self.assertEqual(destination.arrived(PATIENCE), "completed")
        took["send"] = time.monotonic() - begun
        destination.end()
        os.unlink(memory)
        return took

    def waiting(self, memory, mib, pin):
        return self.machine(ram_file=memory, mib=mib, incoming="defer", pin=pin, name="destination")

    def test_race(self):
        """Into and out of QEMU against QEMU to QEMU, alternated; prints the ratios."""
        mib, rounds = 128, int(os.environ.get("RAMFERRY_RACE_ROUNDS", "5"))
        for kind, zero in [("dense", 0.0), ("30 % zero", 0.3)]:
            image = self.image(mib, seed=14, zero=zero)
            for pin in PINS:
                self.race(image, pin)       # warms up
                turns = [self.race(image, pin) for _ in range(rounds)]
                for what in ("receive", "send"):
                    ratios = [turn[QEMU] / turn[what] for turn in turns]
                    print(f"race: {kind}, pin_all={pin}: {what} {statistics.median(ratios):.2f} times as fast as "
                          f"{QEMU} ({min(ratios):.2f} to {max(ratios):.2f}); seconds "
                          f"{', '.join(f'{turn[what]:.1f} for {turn[QEMU]:.1f}' for turn in turns)}", file=sys.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
