#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A live Linux guest moves from stock QEMU to stock QEMU through `ramferry tunnel`, and counts on without an error.

One boot, then hop after hop; at last networks that break. RAMFERRY_LONG=1: every combination, and the newer QEMU.
"""
import os
import time
import unittest

from qemukit import guest, programs, ramferry
from qemukit.relay import Relay
from qemukit.traveller import TravellerCase

LONG = os.environ.get("RAMFERRY_LONG") == "1"
MIB = 1 << 20
PEER_TIMEOUT = 5        # seconds of silence after which the tunnel gives its fabric up
NOTICED = 30            # seconds within which both QEMUs must have seen it, on a machine as busy as you like


class Tunnel(TravellerCase):
    def hop(self, plain, fabric, channels, program):
        for status, report in self.traveller.tunnel(plain, fabric, channels, program):
            self.assertEqual((status, report["error"]), (0, ""))
            self.assertGreaterEqual(report["streams"], 1 + channels)

    def test_1_the_guest_survives(self):
        cases = [("unix", "tcp", 0), ("tcp", "unix", 4), ("unix", "tcp", 4), ("tcp", "tcp", 0)]
        if LONG:
            cases = [(plain, fabric, channels) for plain in ("unix", "tcp") for fabric in ("tcp", "unix")
                     for channels in (0, 1, 4, 16)]
        for plain, fabric, channels in cases:
            with self.subTest(plain=plain, fabric=fabric, multifd=channels):
                self.hop(plain, fabric, channels, self.program)

    @unittest.skipUnless(LONG, "RAMFERRY_LONG=1 crosses versions")
    def test_2_versions(self):
        newer = programs.backports()
        for program in (newer, newer, self.program):
            with self.subTest(to=program.version):
                self.hop("unix", "tcp", 0, program)
        self.hop("unix", "tcp", 0, newer)
        for channels in (1, 4):
            with self.subTest("between newer ones", multifd=channels):
                self.hop("unix", "tcp", channels, newer)
        self.hop("tcp", "tcp", 0, self.program)

    def break_in_the_middle(self, silently, channels):
        source, destination = self.traveller.machine, self.traveller.qemu(self.program, incoming="defer")
        self.addCleanup(destination.end)
        for machine in (source, destination):
            machine.multifd(channels)
        source.capabilities(return_path=True)
        source.ask("migrate-set-parameters", max_bandwidth=16 * MIB)
        to = destination.listen(self.traveller.address("unix"))
        timeout = f"?peer-timeout={PEER_TIMEOUT}"
        with ramferry.TunnelEnd("exit", "tcp:127.0.0.1:0" + timeout, to) as far, \
                Relay(far.at, 8 * MIB, silently) as relay, \
                ramferry.TunnelEnd("enter", self.traveller.address("unix"), relay.at + timeout) as near:
            source.ask("migrate", uri=near.at)
            self.assertTrue(relay.broken.wait(60))
            begun = time.monotonic()
            self.assertEqual(source.migrated(NOTICED)["status"], "failed")
            if channels == 0:
                self.assertIn(destination.arrived(NOTICED), ("failed", "gone"))
            # With multifd a QEMU may wait for ever for the channel that lost most, and its monitor does not answer:
            # 7.2 does so without a tunnel, too. Its sockets are closed: their process ends.
            took = time.monotonic() - begun
            for end in (near, far):
                self.assertEqual(end.wait()[0], 1, end.messages)
        print(f"both QEMUs saw it after {took:.1f} s", flush=True)
        self.assertEqual(source.settled(), "running")
        source.forget_console()
        text = guest.running(source)
        self.assertEqual(guest.errors(text), 0, text)

    def test_3_a_broken_fabric_is_a_closed_socket_at_both(self):
        for silently in (False, True):
            for channels in (0, 4) if LONG else (0,):
                with self.subTest(silently=silently, multifd=channels):
                    self.break_in_the_middle(silently, channels)


if __name__ == "__main__":
    unittest.main(verbosity=2)
