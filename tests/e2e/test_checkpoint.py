# SPDX-License-Identifier: MIT
"""A running VM of ours into a checkpoint file and back, as often as one likes; and what does not take it."""

import os
import sys

import harness
from harness import Case

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "qemu"))
from qemukit import ramferry  # noqa: E402


class Checkpoints(Case):
    def address(self, scheme, name):
        return f"unix:{self.directory}/{name}.sock" if scheme == "unix" else "tcp:127.0.0.1:0"

    def keep(self, scheme, *options):
        """A running VM in a file; the VM that it was, and the file."""
        source = self.vm(f"source-{scheme}", "--dirty-rate", "20M", *options).reach()
        source.wait_for_writes()
        file = f"{self.directory}/{scheme}.ckpt"
        with ramferry.Receive(self.address(scheme, "receive"), file) as receive:
            source("migrate", uri=receive.at)
            self.help_to_converge(source)
            self.assertEqual(source.wait_migration("completed", "failed")["status"], "completed", receive.messages)
            self.assertEqual(receive.wait(), 0, receive.messages)
        self.assertEqual(receive.reports[0]["origin"], "ramferry")
        self.assertTrue(receive.reports[0]["acknowledged"])
        self.assertEqual(source.wait_state("postmigrate"), "postmigrate")
        self.ramferry("inspect", "--verify", file)
        return source, file

    def test_a_folder_is_tidied_first(self):
        folder = f"{self.directory}/machines"
        os.mkdir(folder)
        with open(f"{folder}/.receiving-1-1.partial", "wb") as left:
            left.write(bytes(8192))
        with ramferry.Receive(self.address("unix", "receive"), folder) as receive:
            receive.said_until("removed")
            self.assertEqual(os.listdir(folder), [])
            receive.process.terminate()
            self.assertEqual(receive.wait(), 0)
        self.assertIn(f"removed {folder}/.receiving-1-1.partial of 8 KiB", receive.messages)

    def put_back(self, file, scheme, name):
        restored = self.vm(name, "--dirty-rate", "20M", "--incoming", self.address(scheme, name)).reach()
        self.assertIn("says that it has the machine", self.ramferry("send", file, restored.uri()).stdout)
        self.assertEqual(restored.wait_state("running"), "running")
        self.assert_right(restored.swept())
        restored.wait_for_writes()
        return restored

    def test_there_and_back_over_sockets(self):
        for scheme in ("tcp", "unix"):
            with self.subTest(scheme):
                _, file = self.keep(scheme)
                with open(file, "rb") as content:
                    before = content.read()
                for number in range(2):
                    self.put_back(file, scheme, f"restored-{scheme}-{number}")
                with open(file, "rb") as content:
                    self.assertTrue(content.read() == before, "a file is never changed by sending it")

    def test_a_restored_vm_is_kept_again(self):
        _, file = self.keep("tcp")
        for number in range(3):
            vm = self.put_back(file, "tcp", f"round-{number}")
            file = f"{self.directory}/round-{number}.ckpt"
            with ramferry.Receive("tcp:127.0.0.1:0", file) as receive:
                vm("migrate", uri=receive.at)
                self.help_to_converge(vm)
                self.assertEqual(receive.wait(), 0, receive.messages)
        self.assert_right(self.put_back(file, "tcp", "last").sweep())

    def test_a_vm_of_another_size_does_not_take_it(self):
        _, file = self.keep("tcp")
        other = self.vm("other", "--incoming", "tcp:127.0.0.1:0", ram="16M").reach()
        failed = self.ramferry("send", file, other.uri(), status=1)
        self.assertIn("ram", failed.stderr)
        self.put_back(file, "tcp", "right")

    def test_a_receiver_that_dies_leaves_the_guest_running(self):
        source = self.vm("source", "--dirty-rate", "20M").reach()
        source("migrate-set-parameters", max_bandwidth=4 << 20)
        file = f"{self.directory}/never.ckpt"
        with ramferry.Receive("tcp:127.0.0.1:0", file) as receive:
            source("migrate", uri=receive.at)
            while source.migration().get("ram", {}).get("transferred", 0) == 0:
                self.assertNotIn(source.migration().get("status"), ("completed", "failed"))
            receive.process.kill()
            self.assertEqual(source.wait_migration("completed", "failed")["status"], "failed")
        self.assert_source_runs_on(source)
        self.assertFalse(os.path.exists(file))


if __name__ == "__main__":
    harness.main()
