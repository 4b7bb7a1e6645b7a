#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A live Linux guest goes through a file, over every way in and out, and counts on without an error.

One boot, then hop after hop: each case leaves the guest running in another QEMU, from which the next case takes it.
RAMFERRY_LONG=1: every way in with every way out, several times, and across QEMU versions.
"""
import os
import shutil
import tempfile
import unittest

from qemukit import guest, programs, ramferry

LONG = os.environ.get("RAMFERRY_LONG") == "1"
WAYS = ["unix", "tcp", "exec"]
MACHINE = "pc-i440fx-7.2"


class Traveller:
    """The guest, and the QEMU that it runs in."""

    def __init__(self, program):
        self.guest = guest.Guest()
        self.folder = tempfile.mkdtemp(prefix="ramferry-guest-")
        self.machine = self.guest.machine(program)
        self.sockets = 0
        guest.running(self.machine, timeout=300)

    def end(self):
        self.machine.end()
        shutil.rmtree(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def socket(self):
        self.sockets += 1
        return self.path(f"socket-{self.sockets}")

    def save(self, way, return_path):
        """Moves the running guest into a file; the last count that the source's console saw."""
        source, file = self.machine, self.path("guest.ckpt")
        source.unlimited()
        source.capabilities(return_path=return_path)
        if way == "exec":
            # QEMU writes into a command of its own; the program reads from one of its own: a FIFO joins them.
            fifo = self.socket()
            os.mkfifo(fifo)
            with ramferry.Receive(f"exec:cat {fifo}", file) as receive:
                info = source.migrate(f"exec:cat >{fifo}", timeout=120)
                status = receive.wait()
        else:
            at = f"unix:{self.socket()}" if way == "unix" else "tcp:127.0.0.1:0"
            with ramferry.Receive(at, file) as receive:
                info = source.migrate(receive.at, timeout=120)
                status = receive.wait()
        assert status == 0, receive.messages
        assert info["status"] == "completed", info
        assert source.state() == "postmigrate", source.state()
        return file, self.last_count(source)

    @staticmethod
    def last_count(source):
        """What the guest said before it was paused: all of it is in the console's socket by now."""
        try:
            text = source.console_until(lambda text: False, timeout=0.2)
        except TimeoutError:
            text = source.all_console()
        assert guest.errors(text) == 0, text[-300:]
        return guest.counts(text)[-1]

    def restore(self, way, file, program):
        if way == "exec":
            destination = self.guest.machine(program, incoming=f"exec:{ramferry.PROGRAM} send {file} 'exec:cat 1>&3' 3>&1 >&2")
        else:
            at = f"unix:{self.socket()}" if way == "unix" else "tcp:127.0.0.1:0"
            destination = self.guest.machine(program, incoming=at)
            if way == "tcp":
                address = destination.migration()["socket-address"][0]
                at = f"tcp:127.0.0.1:{address['port']}"
            done = ramferry.run("send", file, at)
            if done.returncode != 0:
                destination.end()
                raise AssertionError(done.stderr)
        assert destination.arrived(120) == "completed", destination.messages()
        return destination

    def hop(self, way_in, way_out, program, return_path=True):
        file, last = self.save(way_in, return_path and way_in != "exec")
        destination = self.restore(way_out, file, program)
        self.machine.end()
        self.machine = destination
        text = guest.running(destination)
        counts = guest.counts(text)
        # A line that was being printed during the switch is in two halves.
        assert last < counts[0] <= last + 2, f"{last} at the source, then {counts}"
        assert counts == list(range(counts[0], counts[0] + len(counts))), counts
        assert guest.errors(text) == 0, text


class GuestSurvives(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        try:
            cls.program = programs.installed()
            cls.traveller = Traveller(cls.program)
        except programs.Missing as missing:
            raise unittest.SkipTest(str(missing))

    @classmethod
    def tearDownClass(cls):
        cls.traveller.end()

    def test_each_way_in_and_out(self):
        pairs = [(a, b) for a in WAYS for b in WAYS] if LONG else list(zip(WAYS, WAYS))
        for way_in, way_out in pairs:
            for return_path in (True, False) if LONG else (True,):
                with self.subTest(way_in=way_in, way_out=way_out, return_path=return_path):
                    self.traveller.hop(way_in, way_out, self.program, return_path)

    @unittest.skipUnless(LONG, "RAMFERRY_LONG=1 crosses versions")
    def test_versions(self):
        try:
            newer = programs.backports()
        except programs.Missing as missing:
            self.skipTest(str(missing))
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
