# SPDX-License-Identifier: MIT
"""Reads a checkpoint from docs/checkpoint-format.md alone: it shares no code, and no author's assumptions, with the
program it checks. Checksums are left to the program: Python has no XXH3."""
import struct

PAGE = 4096


class Checkpoint:
    """After the constructor: origin, session, taken, machine, configuration, ram_section, beside, state, description,
    blocks [(name, bytes)], pages {(block name, page number): content}; `left`: bytes of the metadata that are none of
    these."""

    def __init__(self, content):
        magic, version, page_bytes, slots, length = struct.unpack_from(">8sIIQQ", content)
        assert (magic, version, page_bytes) == (b"RAMFERRY", 1, PAGE), (magic, version, page_bytes)
        assert not any(content[40:PAGE - 8]), "zeros up to the head's checksum"
        assert (1 + slots) * PAGE + length == len(content), "head, slots and metadata are the file"
        self._metadata, self._at = content[len(content) - length:], 0
        self.origin = {1: "qemu", 2: "ramferry"}[self._number("B")]
        self.session = self._raw(16).hex()
        self.taken = self._number("Q")
        self.machine = self._raw(self._number("H")).decode()
        self.configuration = self._raw(self._number("I"))
        self.ram_section = self._number("I")
        self.beside = self._raw(self._number("Q"))
        self.state = self._raw(self._number("Q"))
        described_at, described = self._number("Q"), self._number("Q")
        self.description = self.state[described_at:described_at + described]
        self.blocks = []
        for _ in range(self._number("I")):
            name = self._raw(self._number("B")).decode()
            self.blocks.append((name, self._number("Q")))
        self.pages, used = {}, []
        for name, bytes_ in self.blocks:
            runs = [struct.unpack(">III", self._raw(12)) for _ in range(self._number("I"))]
            self._raw(8 * sum(count for _, count, _ in runs))
            for first, count, slot in runs:
                assert first + count <= bytes_ // PAGE, (name, first, count)
                for index in range(count):
                    at = (slot + index) * PAGE
                    self.pages[(name, first + index)] = content[at:at + PAGE]
                    used.append(slot + index)
        assert sorted(used) == list(range(1, slots + 1)), "every slot is used, once"
        self.left = len(self._metadata) - self._at

    def _raw(self, count):
        assert self._at + count <= len(self._metadata), "the metadata ends too early"
        self._at += count
        return self._metadata[self._at - count:self._at]

    def _number(self, form):
        return struct.unpack(">" + form, self._raw(struct.calcsize(form)))[0]


def read(path):
    with open(path, "rb") as file:
        return Checkpoint(file.read())
