#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every way of moving a machine between every two of our QEMUs, with a live guest: the table of docs/qemu.md.

As a test it holds the table to what it sees. `--write` puts what it sees into the table:

  RAMFERRY=build/dev/cli/ramferry tests/qemu/qemu_matrix_test.py --write
"""
import os
import sys
import unittest

from qemukit import programs
from qemukit.traveller import Traveller

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "qemu.md")
BEGIN, END = "<!-- tests/qemu/qemu_matrix_test.py --write -->", "<!-- end of the table -->"
COMMON, RECENT = "pc-i440fx-7.2", "pc-i440fx-10.0"


def kept(way_in, way_out, **more):
    return lambda traveller, program: traveller.hop(way_in, way_out, program, **more)


def tunnelled(plain, fabric, channels):
    return lambda traveller, program: traveller.tunnel(plain, fabric, channels, program)


WAYS = [
    ("`receive`, `send` over `tcp:`", kept("tcp", "tcp")),
    ("… over `unix:`", kept("unix", "unix")),
    ("… over `exec:`", kept("exec", "exec")),
    ("… without return path", kept("unix", "tcp", return_path=False)),
    ("`receive` with 4 multifd channels", kept("tcp", "tcp", channels=(4, 0))),
    ("… with zstd", kept("unix", "unix", channels=(4, 0), compression="zstd")),
    ("`send` with 4 multifd channels", kept("tcp", "tcp", channels=(0, 4))),
    ("`tunnel`, plain", tunnelled("unix", "tcp", 0)),
    ("`tunnel`, 4 multifd channels", tunnelled("tcp", "unix", 4)),
]


class Column:
    """One guest that is moved along a round trip of QEMUs by every way in turn."""

    def __init__(self, machine, trip):
        self.machine, self.trip = machine, trip     # the first of the trip is where it starts and ends
        self.traveller = None

    def names(self):
        return [f"{a.line} → {b.line}" for a, b in zip(self.trip, self.trip[1:])]

    def run(self, move):
        return [self._step(move, a, b) for a, b in zip(self.trip, self.trip[1:])]

    def _step(self, move, origin, program):
        if self.traveller is None:      # a way that fails may cost the guest: the next step has a fresh one
            self.traveller = Traveller(origin, self.machine)
        try:
            move(self.traveller, program)
            return "yes"
        except Exception as error:      # whatever it is: the cell is no
            print(f"  {origin.version} to {program.version}: {error}", file=sys.stderr, flush=True)
            self.end()
            return "no"

    def end(self):
        if self.traveller is not None:
            self.traveller.end()
            self.traveller = None


def table(older, newer):
    columns = [Column(COMMON, [older, older, newer, newer, older]), Column(RECENT, [newer, newer])]
    lines = [[""] + [f"{name}, `{column.machine}`" for column in columns for name in column.names()]]
    for name, move in WAYS:
        print(name, flush=True)
        lines.append([name] + [cell for column in columns for cell in column.run(move)])
    for column in columns:
        column.end()
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class Matrix(unittest.TestCase):
    maxDiff = None

    def test_the_table_of_the_manual_is_true(self):
        seen = table(programs.installed(), programs.backports())
        with open(PAGE) as file:
            self.assertEqual(seen, file.read().split(BEGIN)[1].split(END)[0].strip())


def write():
    seen = table(programs.installed(), programs.backports())
    with open(PAGE) as file:
        before, rest = file.read().split(BEGIN)
    with open(PAGE, "w") as file:
        file.write(f"{before}{BEGIN}\n\n{seen}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    else:
        unittest.main(verbosity=2)
