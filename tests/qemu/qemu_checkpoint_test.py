#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real QEMUs, paused or in their firmware, through `ramferry receive`, `send` and `inspect`; and what goes wrong.

RAMFERRY_LONG=1: the large counts, and the newer QEMU as well.
"""
import hashlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

import savevm_reader
from qemukit import programs, ramferry
from qemukit.machine import Machine

LONG = os.environ.get("RAMFERRY_LONG") == "1"
MIB = 1 << 20
MACHINE = "pc-i440fx-7.2"
RICH = ["-vga", "std", "-netdev", "hubport,id=n0,hubid=0", "-device", "virtio-net-pci,netdev=n0", "-device",
        "virtio-serial-pci", "-device", "virtio-rng-pci", "-device", "virtio-balloon-pci", "-device", "qemu-xhci",
        "-device", "usb-kbd", "-device", "virtio-scsi-pci", "-device", "ahci", "-smp", "2"]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class QemuCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        try:
            cls.program = programs.installed()
        except programs.Missing as missing:
            raise unittest.SkipTest(str(missing))

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ramferry-checkpoint-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.sockets = 0

    def path(self, name):
        return os.path.join(self.folder, name)

    def socket(self):
        self.sockets += 1
        return "unix:" + self.path(f"socket-{self.sockets}")

    def image(self, mib=64, filled=0.3, seed=1):
        """A file for guest memory, `filled` of whose pages have content."""
        path = self.path(f"image-{seed}")
        random_ = random.Random(seed)
        with open(path, "wb") as file:
            file.truncate(mib * MIB)
            for page in range(mib * 256):
                if random_.random() < filled:
                    file.seek(page * 4096)
                    file.write(random_.randbytes(4096))
        return path

    def machine(self, *options, program=None, **rest):
        machine = Machine(program or self.program, options=["-S", *options], **rest)
        self.addCleanup(machine.end)
        return machine

    def save(self, source, name, *options, return_path=True):
        """Takes a machine into a file; the report."""
        source.unlimited()
        source.capabilities(return_path=return_path)
        with ramferry.Receive(self.socket(), self.path(name), *options) as receive:
            info = source.migrate(receive.at)
            self.assertEqual(receive.wait(), 0, receive.messages)
        self.assertEqual(info["status"], "completed", info)
        return receive.reports[0]

    def restore(self, name, *options, **rest):
        at = self.socket()
        destination = self.machine(*options, incoming=at, **rest)
        done = ramferry.run("send", self.path(name), at)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("says that it has the machine", done.stdout)
        self.assertEqual(destination.arrived(), "completed")
        return destination

    def stream(self, name):
        """The plain stream that a file is sent as, read by the independent reader."""
        path = self.path(name + ".stream")
        done = ramferry.run("send", self.path(name), f"file:{path}")
        self.assertEqual(done.returncode, 0, done.stderr)
        return savevm_reader.read(path)


class WhatIsKept(QemuCase):
    def test_three_rounds_keep_every_bit(self):
        # The clock of a paused machine stands still only if it is the machine's own.
        clock = ["-rtc", "clock=vm"]
        source = self.machine(*clock, ram_file=self.image())
        source.ask("cont")
        time.sleep(0.3)         # the firmware gets somewhere
        source.ask("stop")
        expected = source.ram(64 * MIB)
        self.save(source, "round-0")
        machine = source
        for number in (1, 2, 3):
            machine.end()
            machine = self.restore(f"round-{number - 1}", *clock)
            self.assertTrue(machine.ram(64 * MIB) == expected, f"QEMU's own copy of the memory in round {number}")
            self.save(machine, f"round-{number}")
            before, after = self.stream(f"round-{number - 1}"), self.stream(f"round-{number}")
            for block in before.blocks:
                self.assertTrue(before.memory(block) == after.memory(block), f"{block} in round {number}")
            for old, new in zip(before.sections, after.sections):
                self.assertEqual(old[1:], new[1:], f"round {number}")

    def test_a_plain_stream_is_taken_by_qemu_itself(self):
        source = self.machine(ram_file=self.image())
        expected = source.ram(64 * MIB)
        self.save(source, "plain", "--format", "qemu")
        destination = self.machine(incoming=f"exec:cat {self.path('plain')}")
        self.assertEqual(destination.arrived(), "completed")
        self.assertTrue(destination.ram(64 * MIB) == expected)
        again = self.restore("plain")
        self.assertTrue(again.ram(64 * MIB) == expected)

    def test_zero_pages_cost_nothing(self):
        report = self.save(self.machine(ram_file=self.image(filled=0.3)), "sparse")
        content = report["pages"] * 4096
        self.assertLess(abs(report["pages"] - 0.3 * 16384), 0.03 * 16384)
        self.assertLessEqual(report["file-bytes"], content * 1.01)
        self.assertLessEqual(os.stat(self.path("sparse")).st_blocks * 512, content * 1.01 + 65536)

    def test_an_independent_reader_agrees(self):
        """Ten captured streams: every block and section."""
        kinds = [(self.program, "pc-i440fx-7.2", []), (self.program, "pc-q35-7.2", []),
                 (self.program, "pc-i440fx-7.2", RICH), (self.program, "pc-q35-7.2", RICH),
                 (self.program, "pc-i440fx-2.12", []), (self.program, "microvm", ["-nodefaults"]),
                 (self.program, "pc-i440fx-7.2", ["-smp", "4", "-device", "e1000"])]
        try:
            newer = programs.backports()
            kinds += [(newer, "pc-i440fx-7.2", []), (newer, "pc-i440fx-10.0", RICH), (newer, "pc-q35-10.0", RICH)]
        except programs.Missing as missing:
            print(f"only seven streams: {missing}")
        for number, (program, kind, options) in enumerate(kinds):
            with self.subTest(qemu=program.version, machine=kind, options=len(options)):
                name = self.path(f"captured-{number}")
                # The first takes its time: its RAM comes in several parts, each of which ends inside a block.
                slow = number == 0
                machine = self.machine(*options, program=program, machine=kind,
                                       ram_file=self.image(filled=0.3) if slow else None)
                machine.unlimited()
                if slow:
                    machine.ask("migrate-set-parameters", max_bandwidth=64 * MIB, downtime_limit=1)
                self.assertEqual(machine.migrate(f"exec:cat >{name}")["status"], "completed")
                machine.end()
                self.compare(name)

    def compare(self, name):
        read, found = savevm_reader.read(name).summary(), ramferry.inspect(name)
        self.assertEqual(found["machine"], read["machine"])
        self.assertEqual({block["name"]: block["bytes"] for block in found["blocks"]},
                         {block: content["bytes"] for block, content in read["blocks"].items()})
        for kind, ours in (("page", "normal"), ("zero", "zero"), ("xbzrle", "xbzrle")):
            self.assertEqual(sum(block["records"][ours] for block in found["blocks"]), read["records"].get(kind, 0))
        devices = [section for section in found["sections"] if not section["live"]]
        self.same_sections(devices, read)
        kept = self.path("kept")
        with ramferry.Receive(f"exec:cat {name}", kept) as receive:
            self.assertEqual(receive.wait(), 0, receive.messages)
        kept = ramferry.inspect(kept)
        self.assertEqual({block["name"]: block["stored-pages"] for block in kept["blocks"]},
                         {block: content["normal"] for block, content in read["blocks"].items()})
        self.same_sections([section for section in kept["sections"] if not section["live"]], read)

    def same_sections(self, ours, read):
        names = ("name", "instance", "version", "bytes")
        self.assertEqual([{name: section[name] for name in names} for section in ours], read["sections"])


class WhatGoesWrong(QemuCase):
    def test_a_cut_stream_leaves_the_earlier_checkpoint(self):
        source = self.machine(ram_mib=64, ram_file=self.image(filled=0.1 if LONG else 0.02))
        source.unlimited()
        whole = self.path("whole")
        source.migrate(f"exec:cat >{whole}")
        kept = self.path("kept")
        with ramferry.Receive(f"exec:cat {whole}", kept) as receive:
            self.assertEqual(receive.wait(), 0, receive.messages)
        before = digest(kept)
        for length in range(0, os.path.getsize(whole), 65536):
            with ramferry.Receive(f"exec:head -c {length} {whole}", kept) as receive:
                self.assertEqual(receive.wait(), 1, f"{length} bytes")
            self.assertIn("ended", receive.messages)
        self.assertEqual(digest(kept), before)
        self.assertFalse(os.path.exists(kept + ".partial"))

    def test_flipped_bits_never_crash_it(self):
        source = self.machine()
        source.unlimited()
        whole, flipped, kept = self.path("whole"), self.path("flipped"), self.path("kept")
        source.migrate(f"exec:cat >{whole}")
        with open(whole, "rb") as file:
            content = bytearray(file.read())
        random_ = random.Random(4)
        # Where the structure is: the head, the first records, and everything from the end of RAM on.
        places = ([random_.randrange(400) for _ in range(20)] +
                  [random_.randrange(len(content) - 120_000, len(content)) for _ in range(20)])
        for at in places * (10 if LONG else 1):
            bit = 1 << random_.randrange(8)
            content[at] ^= bit
            with open(flipped, "wb") as file:
                file.write(content)
            content[at] ^= bit
            with ramferry.Receive(f"exec:cat {flipped}", kept) as receive:
                status = receive.wait()
            self.assertIn(status, (0, 1), f"byte {at}: {receive.messages}")
            self.assertTrue(status == 0 or receive.messages.startswith("ramferry: "), receive.messages)

    def test_a_source_that_dies_leaves_nothing(self):
        source = self.machine(ram_file=self.image(filled=0.9))
        source.ask("migrate-set-parameters", max_bandwidth=4 * MIB)
        with ramferry.Receive(self.socket(), self.path("kept")) as receive:
            source.ask("migrate", uri=receive.at)
            time.sleep(1)
            source.process.kill()
            self.assertEqual(receive.wait(), 1)
        self.assertIn("ended", receive.messages)
        self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("kept")], [])

    def test_a_full_disk_leaves_the_guest_running(self):
        disk = self.path("disk")
        os.mkdir(disk)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", disk], capture_output=True)
        if mounted.returncode != 0:
            self.skipTest("mounting a small tmpfs needs root")
        self.addCleanup(subprocess.run, ["umount", disk])
        earlier = self.machine()
        self.save(earlier, "disk/kept")
        before = digest(self.path("disk/kept"))
        for return_path in (True, False):
            source = Machine(self.program, ram_file=self.image(filled=0.9))
            self.addCleanup(source.end)
            source.unlimited()
            source.capabilities(return_path=return_path)
            with ramferry.Receive(self.socket(), self.path("disk/kept")) as receive:
                info = source.migrate(receive.at)
                self.assertEqual(receive.wait(), 1)
            self.assertIn("No space left", receive.messages)
            self.assertEqual(info["status"], "failed")
            self.assertEqual(source.state(), "running")
        self.assertEqual(digest(self.path("disk/kept")), before)
        self.assertEqual(os.listdir(disk), ["kept"])

    def test_another_machine_does_not_take_it(self):
        self.save(self.machine(ram_file=self.image(filled=0.05)), "kept")
        for what, rest in (("another type", {"machine": "pc-q35-7.2"}), ("less memory", {"ram_mib": 32}),
                           ("a device fewer", {"options": RICH})):
            with self.subTest(what):
                at = self.socket()
                destination = self.machine(*rest.pop("options", []), incoming=at, **rest)
                if what == "a device fewer":
                    self.save(self.machine(*RICH), "kept")
                    destination.end()
                    destination = self.machine(incoming=at)
                done = ramferry.run("send", self.path("kept"), at)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn("own messages say why", done.stderr)
                self.assertIn(destination.arrived(), ("gone", "failed"))

    def test_a_destination_that_dies_is_told_and_the_file_goes_to_the_next_one(self):
        self.save(self.machine(ram_file=self.image(filled=0.9)), "kept")
        before = digest(self.path("kept"))
        at = self.socket()
        destination = self.machine(incoming=at)
        destination.process.send_signal(signal.SIGSTOP)     # it takes no more than fits its socket
        sending = subprocess.Popen([ramferry.PROGRAM, "send", self.path("kept"), at], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        with self.assertRaises(subprocess.TimeoutExpired):
            sending.communicate(timeout=1)
        destination.process.kill()
        _, messages = sending.communicate(timeout=60)
        self.assertEqual(sending.returncode, 1)
        # On a machine that is busy enough it has not even connected.
        self.assertRegex(messages, "own messages say why|start the destination first")
        self.assertEqual(digest(self.path("kept")), before)
        self.restore("kept")

    def test_multifd_without_channels_is_refused_not_half_kept(self):
        """Whether the main connection has said anything before it ends is chance; what follows from it is not."""
        source = Machine(self.program, ram_file=self.image())
        self.addCleanup(source.end)
        source.unlimited()
        source.multifd(2)
        with ramferry.Receive(self.socket(), self.path("kept")) as receive:
            self.assertEqual(source.migrate(receive.at)["status"], "failed")
            self.assertEqual(source.state(), "running")
            receive.said_until("add the option channels=N")
            self.assertFalse(os.path.exists(self.path("kept")))
            # Where the main connection said nothing it goes on waiting, for anybody; else nobody listens now.
            other = self.machine()
            other.capabilities(return_path=True)
            kept = other.migrate(receive.at)["status"] == "completed"
            self.assertEqual(receive.wait(), 0 if kept else 1, receive.messages)
        self.assertEqual(os.path.exists(self.path("kept")), kept)

    def test_a_file_that_is_nothing_is_not_sent(self):
        with open(self.path("odd"), "wb") as file:
            file.write(b"nothing of ours" * 1000)
        done = ramferry.run("send", self.path("odd"), f"file:{self.path('out')}")
        self.assertEqual(done.returncode, 1)
        self.assertIn("QEVM", done.stderr)
        self.assertFalse(os.path.exists(self.path("out")))


class OneAfterAnother(QemuCase):
    def test_a_folder_takes_many_without_leaking(self):
        rounds = 20 if LONG else 6
        folder = self.path("vms/")
        with ramferry.Receive(self.socket(), folder) as receive:
            source = self.machine(ram_file=self.image(filled=0.1))
            source.unlimited()

            def take(number):
                self.assertEqual(source.migrate(receive.at)["status"], "completed")
                receive.reported(number)
                source.ask("cont")
                source.ask("stop")

            def usage():
                process = f"/proc/{receive.process.pid}"
                with open(process + "/status") as file:
                    resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
                return len(os.listdir(process + "/fd")), resident

            take(1)
            take(2)
            time.sleep(0.5)     # the program has let go of the second one
            descriptors, resident = usage()
            for number in range(3, rounds + 1):
                take(number)
            time.sleep(0.5)
            self.assertLessEqual(usage()[0], descriptors)
            self.assertLess(usage()[1], resident + 8192)
            receive.process.send_signal(signal.SIGTERM)
            self.assertEqual(receive.wait(), 0, receive.messages)
        names = [report["file"] for report in receive.reports]
        self.assertEqual(len(set(names)), rounds)
        self.assertEqual(sorted(os.path.basename(name) for name in names), sorted(os.listdir(folder)))
        for name in names:
            self.assertEqual(ramferry.run("inspect", "--verify", name).returncode, 0)

    def test_two_at_once(self):
        folder = self.path("vms/")
        with ramferry.Receive("tcp:127.0.0.1:0", folder) as receive:
            sources = [self.machine(ram_file=self.image(filled=0.5, seed=seed)) for seed in (1, 2)]
            expected = {digest(self.image(filled=0.5, seed=seed)) for seed in (1, 2)}
            for source in sources:
                source.ask("migrate-set-parameters", max_bandwidth=32 * MIB)
                source.ask("migrate", uri=receive.at)
            for source in sources:
                self.assertEqual(source.migrated()["status"], "completed")
            reports = receive.reported(2)
            receive.process.send_signal(signal.SIGINT)
            self.assertEqual(receive.wait(), 0)
        found = set()
        for report in reports:
            stream = self.path("stream")
            self.assertEqual(ramferry.run("send", report["file"], f"file:{stream}").returncode, 0)
            found.add(hashlib.sha256(savevm_reader.read(stream).memory("pc.ram")).hexdigest())
        self.assertEqual(found, expected)


if __name__ == "__main__":
    unittest.main(verbosity=2)
