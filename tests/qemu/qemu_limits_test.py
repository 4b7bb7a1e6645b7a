#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a QEMU may be told to send that a checkpoint cannot hold: the limits of docs/qemu.md. `receive` names each, keeps
nothing, and the machine runs on where it was.

RAMFERRY_LONG=1: the newer QEMU as well.
"""
import os
import unittest

from qemukit import programs, ramferry
from qemukit.case import MIB, QemuCase
from qemukit.machine import Machine

LONG = os.environ.get("RAMFERRY_LONG") == "1"


class WhatCannotBeKept(QemuCase):
    def running(self, *options, **rest):
        """A machine that runs its firmware."""
        source = Machine(options=options, ram_file=self.image(filled=0.05), **rest)
        self.addCleanup(source.end)
        source.unlimited()
        return source

    def refused(self, source, words, address="unix"):
        """It says so, the source's migration fails, and nothing is kept."""
        at = self.socket() if address == "unix" else address
        with ramferry.Receive(at, self.path("kept")) as receive:
            self.assertEqual(source.migrate(receive.at)["status"], "failed", receive.messages)
            self.assertEqual(receive.wait(), 1, receive.messages)
        for word in words:
            self.assertIn(word, receive.messages)
        self.assertEqual(source.settled(), "running")
        self.assertFalse(os.path.exists(self.path("kept")))

    def test_capabilities(self):
        kinds = [("postcopy-ram", {"program": self.program}, ["'postcopy advise'", "switch off"]),
                 ("x-ignore-shared", {"program": self.program}, ["'x-ignore-shared'", "switch it off"])]
        if LONG:
            newer = programs.backports()
            kinds += [("postcopy-ram", {"program": newer, "machine": "pc-i440fx-10.0"}, ["'postcopy advise'"])]
        for name, rest, words in kinds:
            with self.subTest(name, qemu=rest["program"].version):
                source = self.running(**rest)
                for return_path in (True, False):
                    source.capabilities(**{name: True, "return-path": return_path})
                    self.refused(source, words)
                # Without it the same machine is kept.
                source.capabilities(**{name: False, "return-path": True})
                with ramferry.Receive(self.socket(), self.path("kept")) as receive:
                    self.assertEqual(source.migrate(receive.at)["status"], "completed", receive.messages)
                    self.assertEqual(receive.wait(), 0, receive.messages)
                os.unlink(self.path("kept"))

    def test_sections_that_only_a_device_could_read(self):
        """Live sections beside RAM are named, with the device that they are of."""
        disk = self.path("disk.qcow2")
        with open(disk, "wb") as file:
            file.truncate(4 * MIB)
        source = self.running("-blockdev", f"driver=file,node-name=disk,filename={disk}", "-device",
                              "virtio-blk-pci,drive=disk,share-rw=on", program=self.program)
        source.capabilities(dirty_bitmaps=True, return_path=True)
        source.ask("block-dirty-bitmap-add", node="disk", name="kept-by-backup", persistent=False)
        self.refused(source, ["'postcopy advise'", "dirty bitmaps"])      # they might come after the switch
        source.capabilities(dirty_bitmaps=False, block=True)
        self.refused(source, ["section 'block' instance 0 comes beside RAM", "block migration"])

    @unittest.skipUnless(LONG, "RAMFERRY_LONG=1 boots the newer QEMU, too")
    def test_a_capability_that_waits_for_an_answer(self):
        """switchover-ack: its source waits for a word that comes from no checkpoint; it runs on, and can be cancelled."""
        source = self.running(program=programs.backports(), machine="pc-i440fx-10.0")
        source.capabilities(return_path=True, switchover_ack=True)
        with ramferry.Receive(self.socket(), self.path("kept")) as receive:
            source.ask("migrate", uri=receive.at)
            source.until(lambda info: info.get("ram", {}).get("dirty-sync-count", 0) > 3)
            self.assertEqual(source.state(), "running")
            source.ask("migrate_cancel")
            self.assertEqual(source.migrated()["status"], "cancelled")
            self.assertEqual(receive.wait(), 1)
        self.assertEqual(source.settled(), "running")
        self.assertFalse(os.path.exists(self.path("kept")))


if __name__ == "__main__":
    unittest.main(verbosity=2)
