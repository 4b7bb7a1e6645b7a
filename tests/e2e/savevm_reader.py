#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads a savevm stream by the format alone: written from the description of QEMU's format, not from our C++.

usage: savevm_reader.py STREAM [DIRECTORY]

Prints one JSON object: machine, RAM blocks, page records by kind, sections, description. With DIRECTORY the memory of
each block is written to DIRECTORY/<number>.ram as the stream leaves it. Exits with 1 and a message at anything that
the format does not allow.
"""
import json
import os
import struct
import sys

PAGE = 4096
ZERO, MEM_SIZE, RAM_PAGE, EOS, CONTINUE = 0x02, 0x04, 0x08, 0x10, 0x20
FLAGS = 0xFFF


class Malformed(Exception):
    pass


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def raw(self, count):
        if self.at + count > len(self.data):
            raise Malformed(f"cut off at byte {len(self.data)}")
        piece = self.data[self.at:self.at + count]
        self.at += count
        return piece

    def number(self, size):
        return int.from_bytes(self.raw(size), "big")

    def name(self):
        return self.raw(self.number(1)).decode()


def description_at(data):
    """Where the JSON at the end begins: 06, its length, and then exactly the rest of the file."""
    at = data.find(b"\x00\x06")
    while at >= 0:
        if at + 6 <= len(data) and at + 6 + struct.unpack(">I", data[at + 2:at + 6])[0] == len(data):
            return at + 6
        at = data.find(b"\x00\x06", at + 1)
    raise Malformed("no description at the end")


class Ram:
    def __init__(self):
        self.blocks, self.memory, self.last = [], {}, None
        self.pages = {"page": 0, "zero": 0}

    def start(self, r):
        word = r.number(8)
        if word & FLAGS != MEM_SIZE:
            raise Malformed(f"ram start begins with {word:#x}")
        left = word & ~FLAGS
        while left > 0:
            name, size = r.name(), r.number(8)
            self.blocks.append({"name": name, "bytes": size})
            self.memory[name] = bytearray(size)
            left -= size
        if left != 0:
            raise Malformed("the block list does not add up")
        self.part(r)

    def part(self, r):
        while True:
            word = r.number(8)
            flags, offset = word & FLAGS, word & ~FLAGS
            if flags == EOS:
                return
            if not flags & CONTINUE:
                self.last = r.name()
            flags &= ~CONTINUE
            memory = self.memory[self.last]
            if offset + PAGE > len(memory):
                raise Malformed(f"page {offset:#x} outside of {self.last}")
            if flags == ZERO:
                if r.number(1) != 0:
                    raise Malformed("a fill byte other than 0")
                memory[offset:offset + PAGE] = bytes(PAGE)
                self.pages["zero"] += 1
            elif flags == RAM_PAGE:
                memory[offset:offset + PAGE] = r.raw(PAGE)
                self.pages["page"] += 1
            else:
                raise Malformed(f"unknown record {word:#x}")


def read(data):
    r, ram, names, sections = Reader(data), Ram(), {}, []
    if r.raw(4) != b"QEVM" or r.number(4) != 3:
        raise Malformed("not a savevm stream of version 3")
    if r.number(1) != 7:
        raise Malformed("no configuration")
    machine = r.raw(r.number(4)).decode()
    text = data[description_at(data):]
    description = json.loads(text)
    sizes = {(d["name"], d["instance_id"]): d["x-ramferry-bytes"] for d in description["devices"]}
    while (kind := r.number(1)) != 0:
        number = r.number(4)
        if kind in (1, 4):
            name, instance, version = r.name(), r.number(4), r.number(4)
            if number in names:
                raise Malformed(f"section number {number} twice")
            names[number] = name
            sections.append({"name": name, "instance": instance, "version": version,
                             "kind": "live" if kind == 1 else "device", "parts": 0})
        elif kind not in (2, 3) or number not in names:
            raise Malformed(f"section type {kind}, number {number}")
        section = next(s for s in sections if s["name"] == names[number])
        if kind == 4:
            section["bytes"] = sizes[(section["name"], section["instance"])]
            section["payload"] = r.raw(section["bytes"]).hex()
        elif section["name"] == "ram":
            ram.start(r) if kind == 1 else ram.part(r)
        else:
            raise Malformed(f"live section {section['name']}, whose format is its own")
        section["parts"] += 1
        if r.number(1) != 0x7E or r.number(4) != number:
            raise Malformed(f"the footer of section {section['name']} is wrong")
    if r.number(1) != 6 or r.number(4) != len(text) or r.raw(len(text)) != text or r.at != len(data):
        raise Malformed("the description is not where the stream ends")
    return {"machine": machine, "blocks": ram.blocks, "pages": ram.pages, "sections": sections,
            "description": description}, ram


def main(arguments):
    with open(arguments[1], "rb") as stream:
        data = stream.read()
    try:
        summary, ram = read(data)
    except (Malformed, KeyError, ValueError) as error:
        print(f"savevm_reader: {arguments[1]}: {error}", file=sys.stderr)
        return 1
    if len(arguments) > 2:
        for number, block in enumerate(ram.blocks):
            with open(os.path.join(arguments[2], f"{number}.ram"), "wb") as out:
                out.write(ram.memory[block["name"]])
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
