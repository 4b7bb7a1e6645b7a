#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A live Linux guest in stock QEMUs goes over `rdma:` and counts on without an error: into a file and out of it in
QEMU's own protocol, and from QEMU to QEMU through `ramferry tunnel`.

Needs an RDMA device; tests/soft-roce/rig runs it where there is none. One boot, then hop after hop.
"""
import unittest

from qemukit import ramferry
from qemukit.rdma import PATIENCE, RdmaCase
from qemukit.traveller import Traveller

# Nested on a busy machine, all of the guest may stand still for longer than a dead peer is given.
PATIENT = "peer-timeout=300&ack-timeout=20"


class ALiveGuest(RdmaCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.traveller = Traveller(cls.program, boot_timeout=900)

    @classmethod
    def tearDownClass(cls):
        cls.traveller.end()

    def test_through_a_file(self):
        traveller = self.traveller
        for pin in (False, True):
            with self.subTest(pin_all=pin):
                source = traveller.machine
                source.unlimited()
                source.multifd(0)
                source.capabilities(rdma_pin_all=pin, return_path=False)
                self.save(source)
                last = traveller.last_count(source)
                traveller.settle(self.restored(pin), last, timeout=600)

    def restored(self, pin):
        """The QEMU that the file was put back into."""
        destination, at = self.traveller.qemu(self.program, incoming="defer"), self.uri()
        try:
            destination.capabilities(rdma_pin_all=pin)
            destination.ask("migrate-incoming", uri=at)
            options = "?pin=all" if pin else "?pin=demand"
            done = ramferry.run("send", self.path("vm.ckpt"), at + options, timeout=PATIENCE)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(destination.arrived(PATIENCE), "completed", destination.messages())
            return destination
        except BaseException:
            destination.end()
            raise

    def test_through_the_tunnel(self):
        for pin, channels in (("all", 0), ("demand", 4)):
            with self.subTest(pin=pin, multifd=channels):
                fabric = f"{self.uri()}?pin={pin}&{PATIENT}"
                ends = self.traveller.tunnel("unix", fabric, channels, self.program, patience=600)
                for status, report in ends:
                    self.assertEqual(status, 0)
                    self.assertGreaterEqual(report["streams"], 1 + channels)


if __name__ == "__main__":
    unittest.main(verbosity=2)
