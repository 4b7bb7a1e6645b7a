#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A live Linux guest goes through a file, over every way in and out, and counts on without an error.

One boot, then hop after hop: each case leaves the guest running in another QEMU, from which the next case takes it.
RAMFERRY_LONG=1: every way in with every way out, several times, and across QEMU versions.
"""
import os
import unittest

from qemukit import guest
from qemukit.traveller import TravellerCase

LONG = os.environ.get("RAMFERRY_LONG") == "1"
WAYS = ["unix", "tcp", "exec"]


class GuestSurvives(TravellerCase):
    def test_each_way_in_and_out(self):
        pairs = [(a, b) for a in WAYS for b in WAYS] if LONG else list(zip(WAYS, WAYS))
        for way_in, way_out in pairs:
            for return_path in (True, False) if LONG else (True,):
                with self.subTest(way_in=way_in, way_out=way_out, return_path=return_path):
                    self.traveller.hop(way_in, way_out, self.program, return_path)

    @unittest.skipUnless(LONG, "RAMFERRY_LONG=1 crosses versions")
    def test_versions(self):
        newer = self.newer()
        for program in (newer, newer, self.program, newer, self.program):
            for way in ("unix", "tcp"):
                with self.subTest(to=program.version, way=way):
                    self.traveller.hop(way, way, program)

    def test_checkpoint_and_continue(self):
        """The source goes on after its checkpoint, and the checkpoint is of the moment at which it was taken."""
        traveller = self.traveller
        file, last = traveller.save("unix", True)
        source = traveller.machine
        source.forget_console()
        source.ask("cont")
        later = guest.counts(guest.running(source, 5))
        self.assertLessEqual(later[0], last + 2)
        copy = traveller.restore("unix", file, self.program)
        try:
            text = guest.running(copy)
            self.assertLessEqual(guest.counts(text)[0], last + 2)
            self.assertEqual(guest.errors(text), 0)
            self.assertEqual(guest.errors(guest.running(source, 6)), 0)
        finally:
            copy.end()


if __name__ == "__main__":
    unittest.main(verbosity=2)
