#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A live Linux guest goes through a file over QEMU's multifd, in, out and both, and counts on without an error.

RAMFERRY_LONG=1: 1 to 16 channels, every way, across QEMU versions and with the newer one's own way to sync.
"""
import os
import unittest

from qemukit import guest, programs, ramferry
from qemukit.traveller import Traveller, TravellerCase

LONG = os.environ.get("RAMFERRY_LONG") == "1"
UUID = "550e8400-e29b-41d4-a716-446655440000"


class Multifd(TravellerCase):
    def hop(self, way, channels, compression="none", program=None, return_path=True):
        program = program or self.program
        with self.subTest(way=way, channels=channels, compression=compression, to=program.version):
            self.traveller.hop(way, way, program, return_path, channels, compression)

    def test_1_the_guest_survives(self):
        self.hop("tcp", (4, 4))
        self.hop("unix", (2, 0), "zstd")
        if LONG:
            for way in ("unix", "tcp"):
                for channels in ((1, 1), (16, 16), (0, 4), (3, 0)):
                    self.hop(way, channels, return_path=way == "tcp")
            self.hop("tcp", (16, 1), "zstd")
            for channels in range(1, 17):
                self.hop("tcp", (channels, 17 - channels))

    @unittest.skipUnless(LONG, "RAMFERRY_LONG=1 crosses versions")
    def test_2_versions(self):
        newer = programs.backports()
        for program in (newer, newer, self.program, newer, self.program):
            self.hop("tcp", (4, 4), program=program)
        self.hop("unix", (4, 4), "zstd", newer)
        self.hop("unix", (4, 2), "zstd", self.program)

    def test_3_a_machine_with_a_uuid(self):
        """Its QEMU expects the uuid of every channel."""
        traveller = self.traveller
        file, last = traveller.save("unix", True)
        destination = traveller.qemu(self.program, options=["-uuid", UUID], incoming="defer")
        destination.multifd(2)
        at = destination.listen(traveller.address("unix"))
        done = ramferry.run("send", file, f"{at}?channels=2&uuid={UUID}")
        if done.returncode != 0:
            destination.end()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(destination.arrived(), "completed")
        traveller.settle(destination, last)

    def test_4_what_goes_wrong_leaves_the_guest_running(self):
        traveller = self.traveller
        file, last = traveller.save("unix", True)
        for expected, sent, compression, naming in ((3, 2, "none", "2 of its 3 multifd channels"),
                                                    (2, 3, "none", "both sides the same number"), (2, 2, "zlib", "zlib")):
            with self.subTest(expected=expected, sent=sent, compression=compression):
                # A fresh QEMU each time: one that failed with multifd does not migrate again ("duplicate yank
                # instance").
                traveller.settle(traveller.restore("unix", file, self.program), last)
                source = traveller.machine
                source.unlimited()
                source.multifd(sent, compression)
                at = f"{traveller.address('unix')}?channels={expected}&peer-timeout=2"
                with ramferry.Receive(at, traveller.path("kept")) as receive:
                    self.assertEqual(source.migrate(receive.at)["status"], "failed")
                    receive.said_until(naming)
                self.assertEqual(source.settled(), "running")
                self.assertFalse(os.path.exists(traveller.path("kept")))
        traveller.machine.forget_console()
        text = guest.running(traveller.machine)
        self.assertEqual(guest.errors(text), 0, text)


class NewerSync(unittest.TestCase):
    """Machine types from 8.1 on say in the main stream where the channels are to come together."""

    @unittest.skipUnless(LONG, "RAMFERRY_LONG=1 boots the newer QEMU, too")
    def test_the_guest_survives(self):
        newer = programs.backports()
        traveller = Traveller(newer, machine="pc-i440fx-10.0")
        self.addCleanup(traveller.end)
        for channels, compression in (((4, 4), "none"), ((1, 16), "zstd"), ((0, 2), "none"), ((2, 0), "none")):
            with self.subTest(channels=channels, compression=compression):
                traveller.hop("tcp", "tcp", newer, True, channels, compression)


if __name__ == "__main__":
    unittest.main(verbosity=2)
