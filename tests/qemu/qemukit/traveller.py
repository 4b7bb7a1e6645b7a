# SPDX-License-Identifier: MIT
"""A running guest that is taken from QEMU to QEMU: one boot for any number of cases."""
import os
import shutil
import tempfile
import unittest

from . import guest, programs, ramferry


class Traveller:
    """The guest, and the QEMU that it runs in."""

    def __init__(self, program, machine="pc-i440fx-7.2", boot_timeout=300):
        self.guest = guest.Guest()
        self.type = machine
        self.folder = tempfile.mkdtemp(prefix="ramferry-guest-")
        self.machine = self.qemu(program)
        self.sockets = 0
        guest.running(self.machine, timeout=boot_timeout)

    def end(self):
        self.machine.end()
        shutil.rmtree(self.folder)

    def qemu(self, program, **rest):
        return self.guest.machine(program, machine=self.type, **rest)

    def path(self, name):
        return os.path.join(self.folder, name)

    def socket(self):
        self.sockets += 1
        return self.path(f"socket-{self.sockets}")

    def address(self, way):
        """A free one to listen at; `way` may be one already."""
        if ":" in way:
            return way
        return f"unix:{self.socket()}" if way == "unix" else "tcp:127.0.0.1:0"

    def save(self, way, return_path, channels=0, compression="none"):
        """Moves the running guest into a file; the last count that the source's console saw."""
        source, file = self.machine, self.path("guest.ckpt")
        source.unlimited()
        source.capabilities(return_path=return_path)
        source.multifd(channels, compression)
        if way == "exec":
            # QEMU writes into a command of its own; the program reads from one of its own: a FIFO joins them.
            fifo = self.socket()
            os.mkfifo(fifo)
            with ramferry.Receive(f"exec:cat {fifo}", file) as receive:
                info = source.migrate(f"exec:cat >{fifo}", timeout=120)
                status = receive.wait()
        else:
            with ramferry.Receive(self.address(way) + ramferry.channels(channels), file) as receive:
                info = source.migrate(receive.at, timeout=120)
                status = receive.wait()
        assert status == 0, receive.messages
        assert info["status"] == "completed", info
        assert source.settled() == "postmigrate", source.settled()
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

    def restore(self, way, file, program, channels=0):
        if way == "exec":
            destination = self.qemu(program, incoming=f"exec:{ramferry.PROGRAM} send {file} 'exec:cat 1>&3' 3>&1 >&2")
        else:
            destination = self.qemu(program, incoming="defer")
            destination.multifd(channels)
            done = ramferry.run("send", file, destination.listen(self.address(way)) + ramferry.channels(channels))
            if done.returncode != 0:
                destination.end()
                raise AssertionError(done.stderr)
        assert destination.arrived(120) == "completed", destination.messages()
        return destination

    def hop(self, way_in, way_out, program, return_path=True, channels=(0, 0), compression="none"):
        """`channels` of multifd, in and out."""
        file, last = self.save(way_in, return_path and way_in != "exec", channels[0], compression)
        self.settle(self.restore(way_out, file, program, channels[1]), last)

    def tunnel(self, plain, fabric, channels, program, patience=120):
        """Straight into another QEMU, through `ramferry tunnel`; what became of both of its ends."""
        source, destination = self.machine, self.qemu(program, incoming="defer")
        try:
            for machine in (source, destination):
                machine.multifd(channels)
            source.unlimited()
            source.capabilities(return_path=True)
            options = fabric[len(fabric.split("?")[0]):]
            with ramferry.TunnelEnd("exit", self.address(fabric), destination.listen(self.address(plain))) as far, \
                    ramferry.TunnelEnd("enter", self.address(plain), far.at + options) as near:
                info = source.migrate(near.at, timeout=patience)
                assert info["status"] == "completed", (info, near.wait(), near.messages, far.wait(), far.messages)
                assert destination.arrived(patience) == "completed", destination.messages()
                ends = [near.wait(), far.wait()]
        except BaseException:
            destination.end()
            raise
        self.settle(destination, self.last_count(source), timeout=patience)
        return ends

    def settle(self, destination, last, timeout=120):
        """The guest lives there from now on, and counts on from where it was."""
        self.machine.end()
        self.machine = destination
        text = guest.running(destination, timeout=timeout)
        counts = guest.counts(text)
        # A line that was being printed during the switch is in two halves.
        assert last < counts[0] <= last + 2, f"{last} at the source, then {counts}"
        assert counts == list(range(counts[0], counts[0] + len(counts))), counts
        assert guest.errors(text) == 0, text


class TravellerCase(unittest.TestCase):
    """Tests that share one guest, in the installed QEMU at first."""

    @classmethod
    def setUpClass(cls):
        cls.program = programs.installed()
        cls.traveller = Traveller(cls.program)

    @classmethod
    def tearDownClass(cls):
        cls.traveller.end()
