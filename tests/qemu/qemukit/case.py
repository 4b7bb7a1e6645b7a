# SPDX-License-Identifier: MIT
"""Tests of real QEMUs that are paused, or run their firmware: machines, files and addresses that end by themselves."""
import hashlib
import os
import random
import shutil
import tempfile
import unittest

import savevm_reader
from . import programs, ramferry
from .machine import Machine

MIB = 1 << 20
# Devices of many kinds.
RICH = ["-vga", "std", "-netdev", "hubport,id=n0,hubid=0", "-device", "virtio-net-pci,netdev=n0", "-device",
        "virtio-serial-pci", "-device", "virtio-rng-pci", "-device", "virtio-balloon-pci", "-device", "qemu-xhci",
        "-device", "usb-kbd", "-device", "virtio-scsi-pci", "-device", "ahci", "-smp", "2"]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class QemuCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = programs.installed()

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ramferry-checkpoint-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.sockets = 0

    def path(self, name):
        return os.path.join(self.folder, name)

    def socket(self):
        self.sockets += 1
        return "unix:" + self.path(f"socket-{self.sockets}")

    def image(self, mib=64, filled=0.3, seed=1):
        """A file for guest memory, `filled` of whose pages have content."""
        path = self.path(f"image-{seed}")
        random_ = random.Random(seed)
        with open(path, "wb") as file:
            file.truncate(mib * MIB)
            for page in range(mib * 256):
                if random_.random() < filled:
                    file.seek(page * 4096)
                    file.write(random_.randbytes(4096))
        return path

    def machine(self, *options, program=None, **rest):
        machine = Machine(program or self.program, options=["-S", *options], **rest)
        self.addCleanup(machine.end)
        return machine

    def save(self, source, name, *options, return_path=True):
        """Takes a machine into a file; the report."""
        source.unlimited()
        source.capabilities(return_path=return_path)
        with ramferry.Receive(self.socket(), self.path(name), *options) as receive:
            info = source.migrate(receive.at)
            self.assertEqual(receive.wait(), 0, receive.messages)
        self.assertEqual(info["status"], "completed", info)
        return receive.reports[0]

    def restore(self, name, *options, **rest):
        at = self.socket()
        destination = self.machine(*options, incoming=at, **rest)
        done = ramferry.run("send", self.path(name), at)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("says that it has the machine", done.stdout)
        self.assertEqual(destination.arrived(), "completed")
        return destination

    def stream(self, name):
        """The plain stream that a file is sent as, read by the independent reader."""
        path = self.path(name + ".stream")
        done = ramferry.run("send", self.path(name), f"file:{path}")
        self.assertEqual(done.returncode, 0, done.stderr)
        return savevm_reader.read(path)
