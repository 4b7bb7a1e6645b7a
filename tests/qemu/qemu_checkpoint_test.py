#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real QEMUs, paused or in their firmware, through `ramferry receive` and `send`: what is kept is what was there.

RAMFERRY_LONG=1: the large counts.
"""
import hashlib
import os
import signal
import socket
import time
import unittest

import savevm_reader
from qemukit import ramferry
from qemukit.case import MIB, QemuCase, digest
from qemukit.relay import Relay

LONG = os.environ.get("RAMFERRY_LONG") == "1"


def held(process):
    """Descriptors and threads."""
    return [len(os.listdir(f"/proc/{process.pid}/{what}")) for what in ("fd", "task")]


class WhatIsKept(QemuCase):
    def test_three_rounds_keep_every_bit(self):
        # The clock of a paused machine stands still only if it is the machine's own.
        clock = ["-rtc", "clock=vm"]
        source = self.machine(*clock, ram_file=self.image())
        source.ask("cont")
        time.sleep(0.3)         # the firmware gets somewhere
        source.ask("stop")
        expected = source.ram(64 * MIB)
        self.save(source, "round-0")
        machine = source
        for number in (1, 2, 3):
            machine.end()
            machine = self.restore(f"round-{number - 1}", *clock)
            self.assertTrue(machine.ram(64 * MIB) == expected, f"QEMU's own copy of the memory in round {number}")
            self.save(machine, f"round-{number}")
            before, after = self.stream(f"round-{number - 1}"), self.stream(f"round-{number}")
            for block in before.blocks:
                self.assertTrue(before.memory(block) == after.memory(block), f"{block} in round {number}")
            self.assertEqual(len(before.sections), len(after.sections))
            for old, new in zip(before.sections, after.sections):
                self.assertEqual(old[1:], new[1:], f"round {number}")

    def test_a_plain_stream_is_taken_by_qemu_itself(self):
        source = self.machine(ram_file=self.image())
        expected = source.ram(64 * MIB)
        self.save(source, "plain", "--format", "qemu")
        destination = self.machine(incoming=f"exec:cat {self.path('plain')}")
        self.assertEqual(destination.arrived(), "completed")
        self.assertTrue(destination.ram(64 * MIB) == expected)
        # It was recorded with a return path, at whose other end nobody waits any more.
        for number, at in enumerate((f"file:{self.path('plain')}", f"exec:cat {self.path('plain')}", "fd:0")):
            with open(self.path("plain"), "rb") as plain, \
                    ramferry.Receive(at, self.path(f"again-{number}"), stdin=plain) as receive:
                self.assertEqual(receive.wait(), 0, receive.messages)
        for name in ("plain", "again-0"):
            again = self.restore(name)
            self.assertTrue(again.ram(64 * MIB) == expected)

    def test_descriptors_carry_both_ways(self):
        """fd:N with the return path: who starts the program has made the connection."""
        source = self.machine(ram_file=self.image(filled=0.1))
        expected = source.ram(64 * MIB)
        source.unlimited()
        source.capabilities(return_path=True)
        with socket.create_server(self.path("waiting"), family=socket.AF_UNIX) as waiting:
            source.ask("migrate", uri=f"unix:{self.path('waiting')}")
            connection = waiting.accept()[0]
        with connection:
            number = connection.fileno()
            with ramferry.Receive(f"fd:{number}", self.path("kept"), pass_fds=[number]) as receive:
                connection.close()
                self.assertEqual(source.migrated()["status"], "completed")
                self.assertEqual(receive.wait(), 0, receive.messages)
        self.assertTrue(receive.reports[0]["acknowledged"])
        at = self.socket()
        destination = self.machine(incoming=at)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(at.removeprefix("unix:"))
            done = ramferry.run("send", self.path("kept"), f"fd:{connection.fileno()}", pass_fds=[connection.fileno()])
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(destination.arrived(), "completed")
        self.assertTrue(destination.ram(64 * MIB) == expected)

    def test_a_device_without_a_described_layout(self):
        """Its section is told by name and instance alone; the description says nothing of a version."""
        options = ["-netdev", "user,id=net", "-device", "e1000,netdev=net"]
        source = self.machine(*options, ram_file=self.image())
        self.save(source, "kept")
        source.end()
        self.assertEqual(ramferry.run("send", self.path("kept"), f"file:{self.path('stream')}").returncode, 0)
        with open(self.path("stream"), "rb") as stream:
            devices = savevm_reader.Savevm.find_description(stream.read())["devices"]
        self.assertEqual([device["name"] for device in devices if "version" not in device], ["slirp"])
        self.restore("kept", *options)

    def test_zero_pages_cost_nothing(self):
        report = self.save(self.machine(ram_file=self.image(filled=0.3)), "sparse")
        content = report["pages"] * 4096
        self.assertLess(abs(report["pages"] - 0.3 * 16384), 0.03 * 16384)
        self.assertLessEqual(report["file-bytes"], content * 1.01)
        self.assertLessEqual(os.stat(self.path("sparse")).st_blocks * 512, content * 1.01 + 65536)
        share = 100 * (1 - report["pages"] * 4096 / report["ram-bytes"])
        print(f"{share:.1f} % zero: the file is {100 * (report['file-bytes'] / content - 1):.2f} % more than its pages",
              flush=True)


class OneAfterAnother(QemuCase):
    @staticmethod
    def resident(process):
        with open(f"/proc/{process.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    def idle(self, process):
        """What it holds while it waits for machines: it says where before it has the thread that waits."""
        deadline = time.monotonic() + 60
        while held(process)[1] < 2:
            self.assertLess(time.monotonic(), deadline, held(process))
            time.sleep(0.01)
        return held(process)

    def let_go(self, process, before):
        """Waits until it has no more descriptors and threads than `before`; what is left of a machine ends by itself."""
        deadline = time.monotonic() + 60
        while any(now > then for now, then in zip(held(process), before)):
            self.assertLess(time.monotonic(), deadline, f"{before} before, {held(process)} now")
            time.sleep(0.01)

    def test_a_folder_takes_many_without_leaking(self):
        rounds = 60 if LONG else 20
        folder = self.path("vms/")
        with ramferry.Receive(self.socket(), folder) as receive:
            before = self.idle(receive.process)
            source = self.machine(ram_file=self.image(filled=0.1))
            source.unlimited()
            for number in range(1, rounds + 1):
                source.capabilities(return_path=number % 2 == 0)
                self.assertEqual(source.migrate(receive.at)["status"], "completed")
                receive.reported(number)
                source.run_again()
                source.ask("stop")
                self.let_go(receive.process, before)
                if number == 3:
                    resident = self.resident(receive.process)
            self.assertLess(self.resident(receive.process), resident + 8192)
            receive.process.send_signal(signal.SIGTERM)
            self.assertEqual(receive.wait(), 0, receive.messages)
        names = [report["file"] for report in receive.reports]
        self.assertEqual(len(set(names)), rounds)
        self.assertEqual(sorted(os.path.basename(name) for name in names), sorted(os.listdir(folder)))
        for name in names:
            self.assertEqual(ramferry.run("inspect", "--verify", name).returncode, 0)

    def test_what_failed_leaves_nothing_behind_in_a_folder(self):
        folder = self.path("vms/")
        with ramferry.Receive("tcp:127.0.0.1:0", folder) as receive:
            before = self.idle(receive.process)
            source = self.machine(ram_file=self.image(filled=0.5))
            source.unlimited()
            source.capabilities(return_path=True)
            source.ask("cont")
            for number in range(1, 40 if LONG else 6):
                with Relay(receive.at, number * 700_001) as relay:
                    self.assertEqual(source.migrate(relay.at)["status"], "failed")
                self.assertEqual(source.settled(), "running")
                self.let_go(receive.process, before)
            self.assertEqual(os.listdir(folder), [])
            source.ask("stop")
            self.assertEqual(source.migrate(receive.at)["status"], "completed")
            self.assertEqual(len(receive.reported(1)), 1)

    def test_two_at_once(self):
        folder = self.path("vms/")
        with ramferry.Receive("tcp:127.0.0.1:0", folder) as receive:
            sources = [self.machine(ram_file=self.image(filled=0.5, seed=seed)) for seed in (1, 2)]
            expected = {digest(self.image(filled=0.5, seed=seed)) for seed in (1, 2)}
            for source in sources:
                source.ask("migrate-set-parameters", max_bandwidth=32 * MIB)
                source.ask("migrate", uri=receive.at)
            for source in sources:
                self.assertEqual(source.migrated()["status"], "completed")
            reports = receive.reported(2)
            receive.process.send_signal(signal.SIGINT)
            self.assertEqual(receive.wait(), 0)
        found = set()
        for report in reports:
            stream = self.path("stream")
            self.assertEqual(ramferry.run("send", report["file"], f"file:{stream}").returncode, 0)
            found.add(hashlib.sha256(savevm_reader.read(stream).memory("pc.ram")).hexdigest())
        self.assertEqual(found, expected)


if __name__ == "__main__":
    unittest.main(verbosity=2)
