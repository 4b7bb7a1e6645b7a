#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What real QEMUs put into their streams: pages plain, zero, compressed, over multifd; and what they check at the other
end. A reader that was written from the format alone must see what `ramferry` sees.

RAMFERRY_LONG=1: more machines.
"""
import os
import unittest

import savevm_reader
from qemukit import programs, ramferry
from qemukit.agreement import compare_checkpoint, compare_stream
from qemukit.case import MIB, RICH, QemuCase
from qemukit.relay import Relay

LONG = os.environ.get("RAMFERRY_LONG") == "1"
UUIDS = ["550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-446655440001"]


class AnIndependentReaderAgrees(QemuCase):
    """On every block and section of captured streams: fifteen of them, with those of multifd and of a running guest."""

    def capture(self, *options, slow=False, capabilities=None, **rest):
        """A stream in a file, and the checkpoint that `receive` makes of it."""
        name = self.path("captured")
        machine = self.machine(*options, ram_file=self.image(filled=0.3) if slow else None, **rest)
        machine.unlimited()
        machine.capabilities(**(capabilities or {}))
        if slow:    # its RAM comes in several parts, each of which ends inside a block
            machine.ask("migrate-set-parameters", max_bandwidth=64 * MIB, downtime_limit=1)
        self.assertEqual(machine.migrate(f"exec:cat >{name}")["status"], "completed")
        expected = machine.ram(64 * MIB)
        machine.end()
        stream = compare_stream(self, name)
        self.same_memory(stream, expected)
        with ramferry.Receive(f"exec:cat {name}", name + ".ckpt") as receive:
            self.assertEqual(receive.wait(), 0, receive.messages)
        compare_checkpoint(self, name + ".ckpt", stream)
        return stream

    def same_memory(self, stream, expected):
        """As QEMU itself saves it; below 1 MiB other things lie over the RAM."""
        name = "microvm.ram" if "microvm.ram" in stream.blocks else "pc.ram"
        self.assertTrue(stream.memory(name)[MIB:] == expected[MIB:])

    def test_machines(self):
        kinds = [(self.program, "pc-i440fx-7.2", []), (self.program, "pc-q35-7.2", []),
                 (self.program, "pc-i440fx-7.2", RICH), (self.program, "pc-q35-7.2", RICH),
                 (self.program, "pc-i440fx-2.12", []), (self.program, "microvm", ["-nodefaults"]),
                 (self.program, "pc-i440fx-7.2", ["-smp", "4", "-device", "e1000"])]
        try:
            newer = programs.backports()
            kinds += [(newer, "pc-i440fx-7.2", []), (newer, "pc-i440fx-10.0", RICH), (newer, "pc-q35-10.0", RICH)]
        except programs.Missing as missing:
            print(f"only seven machines: {missing}")
        for number, (program, kind, options) in enumerate(kinds if LONG else kinds[::3]):
            with self.subTest(qemu=program.version, machine=kind, options=len(options)):
                self.capture(*options, slow=number == 0, program=program, machine=kind)

    def test_compressed_pages(self):
        stream = self.capture(slow=True, capabilities={"compress": True})
        self.assertGreater(stream.kinds["compress"], 1000)

    def test_multifd(self):
        """The main stream and each channel, as they went over the wire."""
        programs_ = [(self.program, "pc-i440fx-7.2")]
        if LONG:
            programs_ += [(programs.backports(), "pc-i440fx-7.2"), (programs.backports(), "pc-i440fx-10.0")]
        for number, (program, kind) in enumerate(programs_):
            with self.subTest(qemu=program.version, machine=kind):
                source = self.machine(*RICH, program=program, machine=kind, ram_file=self.image(filled=0.3))
                source.unlimited()
                source.capabilities(return_path=True)
                source.multifd(3)
                kept = self.path(f"kept-{number}")
                with ramferry.Receive("tcp:127.0.0.1:0?channels=3", kept) as receive, \
                        Relay(receive.at, keep=True) as relay:
                    self.assertEqual(source.migrate(relay.at)["status"], "completed")
                    self.assertEqual(receive.wait(), 0, receive.messages)
                expected = source.ram(64 * MIB)
                source.end()
                files = []
                for content in sorted(relay.kept, key=lambda content: content[:4] != b"QEVM"):
                    files.append(self.path(f"connection-{len(files)}"))
                    with open(files[-1], "wb") as file:
                        file.write(content)
                stream = savevm_reader.read(*files)
                self.assertEqual(len(files), 4)
                self.assertGreater(stream.kinds["multifd page"], 4000)
                self.same_memory(stream, expected)
                compare_checkpoint(self, kept, stream)


class WhatADestinationChecks(QemuCase):
    def test_the_uuid(self):
        """It is in the stream where the source's capability validate-uuid is on; it is kept, and given back."""
        source = self.machine("-uuid", UUIDS[0], ram_file=self.image(filled=0.02))
        source.capabilities(validate_uuid=True)
        self.save(source, "kept")
        self.assertEqual(self.stream("kept").configuration["configuration/uuid"], UUIDS[0].replace("-", ""))
        for uuid in UUIDS:
            at = self.socket()
            destination = self.machine("-uuid", uuid, incoming="defer")
            destination.capabilities(validate_uuid=True)
            destination.listen(at)
            done = ramferry.run("send", self.path("kept"), at)
            self.assertEqual(done.returncode, 0 if uuid == UUIDS[0] else 1, done.stderr)
            self.assertEqual(destination.arrived() == "completed", uuid == UUIDS[0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
