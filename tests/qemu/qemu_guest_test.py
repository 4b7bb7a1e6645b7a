#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A live Linux guest goes through a file, over every way in and out, and counts on without an error.

One boot, then hop after hop: each case leaves the guest running in another QEMU, from which the next case takes it.
RAMFERRY_LONG=1: every way in with every way out, several times, and across QEMU versions.
"""
import os
import unittest

from qemukit import guest, programs, ramferry
from qemukit.agreement import compare_checkpoint, compare_stream
from qemukit.case import MIB
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
        newer = programs.backports()
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

    def with_differences(self, to):
        """A migration with XBZRLE that goes round until its cache has had hits, and then as fast as it can."""
        source = self.traveller.machine
        source.capabilities(xbzrle=True, return_path=not to.startswith("exec:"))
        source.ask("migrate-set-parameters", xbzrle_cache_size=256 * MIB, max_bandwidth=48 * MIB, downtime_limit=1)
        source.ask("migrate", uri=to)
        source.until(lambda info: info.get("xbzrle-cache", {}).get("pages", 0) > 500)
        source.unlimited()
        info = source.migrated()
        self.assertEqual(info["status"], "completed", info)
        return info

    def test_differences_as_another_reader_sees_them(self):
        traveller = self.traveller
        name = traveller.path("captured")
        self.with_differences(f"exec:cat >{name}")
        stream = compare_stream(self, name)
        self.assertGreater(stream.kinds["xbzrle"], 500)
        with ramferry.Receive(f"exec:cat {name}", name + ".ckpt") as receive:
            self.assertEqual(receive.wait(), 0, receive.messages)
        compare_checkpoint(self, name + ".ckpt", stream)
        traveller.machine.capabilities(xbzrle=False)
        traveller.machine.run_again()

    def test_the_guest_survives_differences(self):
        traveller = self.traveller
        for program in [self.program] + ([programs.backports(), programs.backports(), self.program] if LONG else []):
            with self.subTest(to=program.version):
                traveller.machine.forget_console()
                guest.running(traveller.machine)
                file = traveller.path("live.ckpt")
                with ramferry.Receive(traveller.address("tcp"), file) as receive:
                    info = self.with_differences(receive.at)
                    self.assertEqual(receive.wait(), 0, receive.messages)
                print(f"{info['xbzrle-cache']['pages']} pages came as differences", flush=True)
                last = traveller.last_count(traveller.machine)
                traveller.settle(traveller.restore("tcp", file, program), last)


if __name__ == "__main__":
    unittest.main(verbosity=2)
