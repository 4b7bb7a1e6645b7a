#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real QEMUs and `ramferry receive` and `send`: what goes wrong. A clear error, the earlier checkpoint as it was, and a
source that goes on running unless it was told that its machine is safe.

RAMFERRY_LONG=1: the large counts, and the newer QEMU as well.
"""
import os
import random
import signal
import subprocess
import unittest

from qemukit import ramferry
from qemukit.case import MIB, RICH, QemuCase, digest
from qemukit.machine import Machine
from qemukit.relay import Relay

LONG = os.environ.get("RAMFERRY_LONG") == "1"


class WhatGoesWrong(QemuCase):
    def running(self, filled=0.3):
        """A machine that runs (its firmware), with its return path on."""
        source = Machine(self.program, ram_file=self.image(filled=filled))
        self.addCleanup(source.end)
        source.unlimited()
        source.capabilities(return_path=True)
        return source

    def old_sockets(self):
        return [name for name in os.listdir(self.folder) if name.startswith("socket-")]

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

    def test_a_live_source_whose_network_is_cut_runs_on(self):
        """At every 64 KiB of its stream (LONG), and over multifd."""
        source = self.running(filled=0.1 if LONG else 0.3)
        kept = self.path("kept")
        with ramferry.Receive("tcp:127.0.0.1:0", kept) as receive, Relay(receive.at, keep=True) as relay:
            self.assertEqual(source.migrate(relay.at)["status"], "completed")
            self.assertEqual(receive.wait(), 0, receive.messages)
        before, length, cuts = digest(kept), len(relay.kept[0]), 0
        places = [9, *range(65536, length, 65536)]      # a connection that says nothing at all is nobody's migration
        for limit in places if LONG else places[:2] + random.Random(2).sample(places, 6) + places[-2:]:
            source.run_again()
            with ramferry.Receive("tcp:127.0.0.1:0", kept) as receive, Relay(receive.at, limit) as relay:
                status = source.migrate(relay.at)["status"]
                self.assertEqual(receive.wait(), 1 if status == "failed" else 0, f"cut after {limit} bytes")
                whole = not relay.broken.is_set()
            if whole:       # the guest runs: it is not always the same length
                self.assertEqual(status, "completed")
                before = digest(kept)
                continue
            cuts += 1
            self.assertEqual((status, source.settled()), ("failed", "running"), f"cut after {limit} bytes")
            self.assertRegex(receive.messages, "ended|hung up|reset|gone", f"cut after {limit} bytes")
            self.assertEqual(digest(kept), before)
        self.assertGreater(cuts, 0.9 * len(places) if LONG else 7)
        self.assertEqual(sorted(os.listdir(self.folder)), sorted(["kept", "image-1"]))

    def test_a_live_source_whose_multifd_is_cut_runs_on(self):
        kept = self.path("kept")
        with open(kept, "wb") as file:
            file.write(b"an earlier one")
        for limit in range(100_000, 18_000_000, 1_000_000) if LONG else (100_000, 9_000_000):
            # A QEMU 7.2 that failed with multifd does not migrate again: a fresh one each time.
            source = self.running()
            source.multifd(4)
            at = "tcp:127.0.0.1:0?channels=4&peer-timeout=2"
            with ramferry.Receive(at, kept) as receive, Relay(receive.at, limit) as relay:
                self.assertEqual(source.migrate(relay.at)["status"], "failed", f"cut after {limit} bytes")
                # It ends, or waits for another where not all of the channels had come.
                receive.said_until("ramferry: ")
            self.assertEqual(source.settled(), "running")
            source.end()
        with open(kept, "rb") as file:
            self.assertEqual(file.read(), b"an earlier one")

    def test_a_receiver_that_is_killed_leaves_the_source_running(self):
        source, kept = self.running(), self.path("kept")
        with open(kept, "wb") as file:
            file.write(b"an earlier one")
        for moment in range(1, 40 if LONG else 5):
            source.ask("migrate-set-parameters", max_bandwidth=2 * MIB)
            with ramferry.Receive(self.socket(), kept) as receive:
                source.begin_migration(receive.at)
                source.transferred(moment * 50_000)
                receive.process.kill()
                self.assertEqual(source.migrated()["status"], "failed")
            self.assertEqual(source.settled(), "running")
        with open(kept, "rb") as file:
            self.assertEqual(file.read(), b"an earlier one")
        # What the killed ones left does not stand in the way.
        source.unlimited()
        with ramferry.Receive(self.socket(), kept) as receive:
            self.assertEqual(source.migrate(receive.at)["status"], "completed")
            self.assertEqual(receive.wait(), 0, receive.messages)
        self.assertEqual(ramferry.run("inspect", "--verify", kept).returncode, 0)

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
            with open(kept, "wb") as file:
                file.write(b"an earlier one")
            with ramferry.Receive(f"exec:cat {flipped}", kept) as receive:
                status = receive.wait()
            self.assertIn(status, (0, 1), f"byte {at}: {receive.messages}")
            with open(kept, "rb") as file:
                self.assertEqual(file.read(14) == b"an earlier one", status == 1, f"byte {at}")
            self.assertTrue(status == 0 or receive.messages.startswith("ramferry: "), receive.messages)

    def test_a_flipped_bit_of_a_checkpoint_is_always_noticed(self):
        self.save(self.machine(ram_file=self.image(filled=0.02)), "kept")
        with open(self.path("kept"), "rb") as file:
            content = bytearray(file.read())
        random_, end = random.Random(5), len(content)
        places = [random_.randrange(4096) for _ in range(5)] + [random_.randrange(end - 120_000, end) for _ in range(10)]
        places += [random_.randrange(end) for _ in range(10)]
        for at in places if not LONG else range(0, end, 10_007):
            bit = 1 << random_.randrange(8)
            content[at] ^= bit
            with open(self.path("flipped"), "wb") as file:
                file.write(content)
            content[at] ^= bit
            for action in (("send", self.path("flipped"), f"file:{self.path('out')}"),
                           ("inspect", "--verify", self.path("flipped"))):
                done = ramferry.run(*action)
                self.assertEqual(done.returncode, 1, f"{action[0]}, byte {at}: {done.stdout}")
                self.assertTrue(done.stderr.startswith("ramferry: "), done.stderr)
            self.assertFalse(os.path.exists(self.path("out")))
        # Nor does a QEMU take over a machine with such a page.
        at = self.socket()
        destination = self.machine(incoming=at)
        content[8192] ^= 1
        with open(self.path("flipped"), "wb") as file:
            file.write(content)
        self.assertEqual(ramferry.run("send", self.path("flipped"), at).returncode, 1)
        self.assertIn(destination.arrived(), ("gone", "failed"))
        self.restore("kept")

    def test_a_source_that_dies_leaves_the_earlier_checkpoint(self):
        kept = self.path("kept")
        with open(kept, "wb") as file:
            file.write(b"an earlier one")
        for moment in range(1, 20 if LONG else 3):
            source = self.machine(ram_file=self.image(filled=0.9))
            source.ask("migrate-set-parameters", max_bandwidth=8 * MIB)
            with ramferry.Receive(self.socket(), kept) as receive:
                source.ask("migrate", uri=receive.at)
                source.transferred(moment * 300_000)
                source.process.kill()
                self.assertEqual(receive.wait(), 1)
            self.assertIn("ended", receive.messages)
            source.end()
        with open(kept, "rb") as file:
            self.assertEqual(file.read(), b"an earlier one")
        self.assertEqual(sorted(os.listdir(self.folder)), sorted(["kept", "image-1", *self.old_sockets()]))

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
        # Too small for the pages, too small for what follows them, ...
        for size in range(1, 64) if LONG else (2, 30, 57):
            subprocess.run(["mount", "-o", f"remount,size={size}m", disk], check=True)
            for return_path in (True, False):
                source = self.running(filled=0.9)
                source.capabilities(return_path=return_path)
                with ramferry.Receive(self.socket(), self.path("disk/kept")) as receive:
                    info = source.migrate(receive.at)
                    status = receive.wait()
                if status == 0:
                    self.assertGreaterEqual(size, 57)
                    return
                self.assertEqual(status, 1)
                self.assertIn("No space left", receive.messages)
                if return_path or size < 50:    # without one it may have said all before the disk was full
                    self.assertEqual(info["status"], "failed", f"{size} MiB")
                    self.assertEqual(source.settled(), "running", f"{size} MiB")
                source.end()
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
            self.assertEqual(source.settled(), "running")
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


if __name__ == "__main__":
    unittest.main(verbosity=2)
