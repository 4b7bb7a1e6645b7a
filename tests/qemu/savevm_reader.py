#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads a QEMU migration stream from the format alone: an oracle for `ramferry inspect`, and for our own output.

It shares no code, and no author's assumptions, with the program it checks: it holds the whole file in memory, keeps
the newest content of every page, and lets the JSON description at the end say how long each device's state is.

usage: savevm_reader.py FILE [CHANNEL...] [--memory FOLDER]

Prints a JSON summary. CHANNEL: what came over each of multifd's. With --memory FOLDER each RAM block's content, as the
stream leaves it, is written to FOLDER/BLOCK.ram.
"""
import argparse
import hashlib
import json
import os
import struct
import zlib

EOF, START, PART, END, FULL, SUBSECTION, DESCRIPTION, CONFIGURATION, COMMAND, FOOTER = 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x7e
ZERO, MEM_SIZE, PAGE, EOS, CONTINUE, XBZRLE, HOOK, COMPRESS, MULTIFD_FLUSH = (
    0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x100, 0x200)
MULTIFD_MAGIC, MULTIFD_PAGES, MULTIFD_SYNC = 0x11223344, 128, 1
PAGE_BYTES = 4096


class Malformed(Exception):
    pass


class Stream:
    def __init__(self, content):
        self.content = content
        self.at = 0

    def raw(self, count):
        if self.at + count > len(self.content):
            raise Malformed(f"it ends at byte {len(self.content)}, {count} bytes after {self.at} were wanted")
        self.at += count
        return self.content[self.at - count:self.at]

    def number(self, form):
        return struct.unpack(">" + form, self.raw(struct.calcsize(form)))[0]

    def u8(self):
        return self.number("B")

    def u16(self):
        return self.number("H")

    def u32(self):
        return self.number("I")

    def u64(self):
        return self.number("Q")

    def text(self):
        return self.raw(self.u8()).decode("ascii")

    def peek(self):
        return self.content[self.at] if self.at < len(self.content) else None


class Savevm:
    """After the constructor: machine, blocks {name: bytes}, pages {(block, page number): content or None for zeros},
    kinds {record kind: count}, sections [(number, name, instance, version, length)], description, commands."""

    def __init__(self, content):
        self.blocks, self.pages, self.kinds = {}, {}, {}
        self.sections, self.commands, self.live = [], [], {}
        self.block, self.parts = None, 0
        self.configuration = {}
        stream = Stream(content)
        if stream.u32() != 0x5145564d or stream.u32() != 3:
            raise Malformed("it is no savevm stream of version 3")
        if stream.u8() != CONFIGURATION:
            raise Malformed("it has no configuration")
        self._configuration(stream)
        self.description = self.find_description(content)
        while True:
            kind = stream.u8()
            if kind == EOF:
                break
            if kind == COMMAND:
                command = stream.u16()
                self.commands.append((command, stream.raw(stream.u16())))
            elif kind in (START, FULL):
                self._section(stream, kind)
            elif kind in (PART, END):
                number = stream.u32()
                if self.live.get(number) != "ram":
                    raise Malformed(f"a part of section {number}, which is not RAM")
                self._ram(stream, number)
            else:
                raise Malformed(f"section type {kind} at byte {stream.at - 1}")
        if self.description is not None:
            if stream.u8() != DESCRIPTION or json.loads(stream.raw(stream.u32())) != self.description:
                raise Malformed("the description is not where it should be")
        self.trailing = len(content) - stream.at

    @staticmethod
    def find_description(content):
        at = content.rfind(b'{"')
        while at > 4:
            length = len(content) - at
            if content[at - 5] == DESCRIPTION and content[at - 4:at] == struct.pack(">I", length):
                return json.loads(content[at:])
            at = content.rfind(b'{"', 0, at)
        return None

    def _configuration(self, stream):
        self.machine = stream.raw(stream.u32()).decode("ascii")
        while stream.peek() == SUBSECTION:
            stream.u8()
            name = stream.text()
            stream.u32()
            if name == "configuration/target-page-bits":
                self.configuration[name] = stream.u32()
            elif name == "configuration/capabilities":
                self.configuration[name] = [stream.text() for _ in range(stream.u32())]
            elif name == "configuration/uuid":
                self.configuration[name] = stream.raw(16).hex()
            else:
                raise Malformed(f"subsection {name}")

    def _section(self, stream, kind):
        number, name, instance, version = stream.u32(), stream.text(), stream.u32(), stream.u32()
        if kind == START:
            if name != "ram" or version != 4:
                raise Malformed(f"live section {name} version {version}")
            self.live[number] = name
            return self._ram(stream, number)
        if self.description is None:
            raise Malformed("device state without a description")
        index = len(self.sections)
        if index >= len(self.description["devices"]):
            raise Malformed(f"section {name} is not described")
        device = self.description["devices"][index]
        if (device["name"], device["instance_id"], device["version"]) != (name, instance, version):
            raise Malformed(f"section {name}.{instance} v{version} is described as {device['name']}")
        state = stream.raw(device_bytes(device))
        self._footer(stream, number)
        self.sections.append((number, name, instance, version, state))

    def _footer(self, stream, number):
        if stream.u8() != FOOTER or stream.u32() != number:
            raise Malformed(f"section {number} has no footer at byte {stream.at - 5}")

    def _ram(self, stream, number):
        self.parts += 1
        while True:
            word = stream.u64()
            flags, offset = word & 0xfff, word & ~0xfff
            if flags == EOS:
                break
            if flags == MULTIFD_FLUSH:
                self._count("multifd flush")
            elif flags == MEM_SIZE:
                self._block_list(stream, offset)
            else:
                self._page(stream, flags, offset)
        self._footer(stream, number)

    def _block_list(self, stream, total):
        while total:
            name, length = stream.text(), stream.u64()
            self.blocks[name] = length
            total -= length
            if total < 0:
                raise Malformed("the block list is longer than its total")

    def _page(self, stream, flags, offset):
        if not flags & CONTINUE:
            self.block = stream.text()
        if self.block not in self.blocks or offset >= self.blocks[self.block]:
            raise Malformed(f"a page at {offset:#x} of block {self.block}")
        where = (self.block, offset // PAGE_BYTES)
        kind = flags & ~CONTINUE
        if kind == ZERO:
            value = stream.u8()
            self._count("zero")
            self.pages[where] = bytes([value]) * PAGE_BYTES if value else None
        elif kind == PAGE:
            self._count("page")
            self.pages[where] = stream.raw(PAGE_BYTES)
        elif kind == XBZRLE:
            self._count("xbzrle")
            if stream.u8() != 1:
                raise Malformed("an unknown delta encoding")
            self.pages[where] = undelta(self.pages[where] or bytes(PAGE_BYTES), Stream(stream.raw(stream.u16())))
        elif kind == COMPRESS:
            self._count("compress")
            self.pages[where] = zlib.decompress(stream.raw(stream.u32()))
            if len(self.pages[where]) != PAGE_BYTES:
                raise Malformed(f"a compressed page of {len(self.pages[where])} bytes")
        else:
            raise Malformed(f"RAM record {flags:#x}")

    def add_channel(self, content):
        """What came over a channel of multifd, uncompressed. A page that came in several: the last one added stays."""
        stream = Stream(content)
        magic, version, uuid, _, pad = (stream.u32(), stream.u32(), stream.raw(16), stream.u8(), stream.raw(39))
        if magic != MULTIFD_MAGIC or version != 1 or any(pad):
            raise Malformed(f"a channel that begins with {magic:#x}, version {version}")
        while stream.peek() is not None:
            self._packet(stream)

    def _packet(self, stream):
        magic, version, flags, _, full, _ = (stream.u32() for _ in range(6))
        number, zeros = stream.u64(), stream.u32()
        stream.raw(28)
        block = stream.raw(256).split(b"\0")[0].decode("ascii")
        offsets = [stream.u64() for _ in range(MULTIFD_PAGES)]
        if magic != MULTIFD_MAGIC or version != 1 or flags & ~MULTIFD_SYNC or full + zeros > MULTIFD_PAGES:
            raise Malformed(f"packet {number} at byte {stream.at}")
        for index, offset in enumerate(offsets[:full + zeros]):
            if offset % PAGE_BYTES or offset >= self.blocks.get(block, 0):
                raise Malformed(f"packet {number} has a page at {offset:#x} of block {block}")
            self._count("multifd page" if index < full else "multifd zero")
            self.pages[(block, offset // PAGE_BYTES)] = stream.raw(PAGE_BYTES) if index < full else None

    def _count(self, kind):
        self.kinds[kind] = self.kinds.get(kind, 0) + 1

    def memory(self, block):
        content = bytearray(self.blocks[block])
        for (name, page), bytes_ in self.pages.items():
            if name == block and bytes_:
                content[page * PAGE_BYTES:(page + 1) * PAGE_BYTES] = bytes_
        return bytes(content)

    def summary(self):
        blocks = {}
        for name, length in self.blocks.items():
            # A page whose bytes are all zero is a zero page, however it came.
            normal = sum(1 for (block, _), bytes_ in self.pages.items() if block == name and bytes_ and any(bytes_))
            digest = hashlib.sha256(self.memory(name)).hexdigest()
            blocks[name] = {"bytes": length, "normal": normal, "sha256": digest}
        return {"machine": self.machine, "blocks": blocks, "records": self.kinds, "commands": len(self.commands),
                "sections": [{"name": name, "instance": instance, "version": version, "bytes": len(state)}
                             for _, name, instance, version, state in self.sections],
                "description": self.description is not None, "trailing": self.trailing}


def undelta(page, delta):
    """QEMU's delta encoding: pairs of ULEB128 lengths, unchanged and changed, the latter followed by the bytes."""
    result, at = bytearray(page), 0

    def length():
        value = shift = 0
        while True:
            byte = delta.u8()
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value

    while delta.peek() is not None:
        at += length()
        if delta.peek() is None:
            break
        count = length()
        result[at:at + count] = delta.raw(count)
        at += count
    if len(result) != len(page):
        raise Malformed("a delta that leaves its page")
    return bytes(result)


def device_bytes(device):
    if "x-ramferry-bytes" in device:        # ramferry's own devices say it outright
        return device["x-ramferry-bytes"]
    return sum(field["size"] * field.get("array_len", 1) for field in device.get("fields", [])) + sum(
        1 + 1 + len(part["vmsd_name"]) + 4 + device_bytes(part) for part in device.get("subsections", []))


def read(path, *channels):
    with open(path, "rb") as file:
        stream = Savevm(file.read())
    for channel in channels:
        with open(channel, "rb") as file:
            stream.add_channel(file.read())
    return stream


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("channels", nargs="*", metavar="CHANNEL")
    parser.add_argument("--memory", metavar="FOLDER")
    options = parser.parse_args()
    stream = read(options.file, *options.channels)
    for name in stream.blocks if options.memory else ():
        with open(os.path.join(options.memory, name + ".ram"), "wb") as file:
            file.write(stream.memory(name))
    print(json.dumps(stream.summary(), indent=1))


if __name__ == "__main__":
    main()
