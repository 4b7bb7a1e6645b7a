# SPDX-License-Identifier: MIT
"""A VM in a file and back; what a file that is not right does; streams between ours and a QEMU's monitor."""

import contextlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest

import harness
from harness import Case


class FileCase(Case):
    def save(self, *options, ram="16M"):
        """A paused VM's state in a file."""
        source = self.vm("saved", "--dirty-rate", "20M", *options, ram=ram).reach()
        source.wait_for_writes()
        state = pathlib.Path(self.directory) / "state"
        source("migrate", uri=f"file:{state}")
        info = source.wait_migration("completed", "failed")
        self.assertEqual(info["status"], "completed", info)
        return source, state


class Files(FileCase):
    def test_round_trip(self):
        source, state = self.save()
        self.assertFalse(pathlib.Path(f"{state}.partial").exists())
        restored = self.vm("restored", "--dirty-rate", "20M", "--incoming", f"file:{state}", ram="16M").reach()
        self.assertEqual(restored.wait_state("running"), "running")
        self.assert_right(restored.swept())
        restored.wait_for_writes()
        self.assertEqual(source.state(), "postmigrate")

    def test_saved_guest_goes_on_when_told_to(self):
        source, _ = self.save()
        source("cont")
        self.assert_source_runs_on(source)

    def test_inspect_reads_what_we_wrote(self):
        _, state = self.save()
        seen = json.loads(self.ramferry("inspect", "--json", str(state)).stdout)
        self.assertEqual(seen["bytes"], state.stat().st_size)
        self.assertEqual(seen["run-state"], "running")
        self.assertEqual([block["name"] for block in seen["blocks"]], ["ram", "vga"])
        self.assertEqual(seen["blocks"][0]["pages"], 4096)
        names = [section["name"] for section in seen["sections"]]
        self.assertEqual(names, ["ram", "ramferry/table", "ramferry/clock", "ramferry/serial", "globalstate"])
        self.assertEqual([device["name"] for device in seen["description"]["devices"]], names[2:])
        self.assertIn("RAM block", self.ramferry("inspect", str(state)).stdout)

    def test_exec_round_trip(self):
        source = self.vm("saved", "--dirty-rate", "20M", ram="16M").reach()
        state = pathlib.Path(self.directory) / "state.gz"
        source("migrate", uri=f"exec:gzip -1 > {state}")
        self.help_to_converge(source)   # on a busy machine the guest writes faster than gzip takes it
        self.assertEqual(source.wait_migration("completed", "failed")["status"], "completed")
        restored = self.vm("restored", "--incoming", f"exec:gunzip -c {state}", ram="16M").reach()
        restored.wait_state("running")
        self.assert_right(restored.swept())

    def test_command_that_fails_leaves_the_guest_here(self):
        source = self.vm("saved", "--dirty-rate", "20M", ram="16M").reach()
        source("migrate", uri="exec:cat > /dev/null; exit 3")
        self.assertIn("3", source.wait_migration("failed")["error-desc"])
        self.assert_source_runs_on(source)

    def test_disk_that_fills_at_any_phase_leaves_the_guest_here_and_no_file(self):
        for phase, megabytes in (("setup", 64), ("active", 4), ("switchover", 64)):
            with self.subTest(phase):
                disk = self.small_disk(megabytes)
                held = phase != "active"  # there its own pages fill the disk
                source = self.vm(f"saved-{phase}", "--dirty-rate", "5M", *(["--stall-at", phase] if held else []),
                                 ram="16M").reach()
                source("migrate", uri=f"file:{disk}/state")
                if held:
                    self.assertEqual(source.qmp.event("X_RAMFERRY_STALLED"), {"at": phase})
                    self.fill(disk)
                    source("x-ramferry-continue")
                info = source.wait_migration("failed", "completed")
                self.assertRegex(info.get("error-desc", "completed"), "No space left|full")
                self.assert_source_runs_on(source)
                self.assertEqual({path.name for path in pathlib.Path(disk).iterdir()} - {"ballast"}, set())

    @staticmethod
    def fill(disk):
        with contextlib.suppress(OSError), open(f"{disk}/ballast", "wb", buffering=0) as ballast:
            while ballast.write(bytes(4096)) == 4096:
                pass

    def small_disk(self, megabytes):
        disk = tempfile.mkdtemp(prefix="ramferry-disk-")
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", disk],
                                 capture_output=True)
        if mounted.returncode != 0:
            os.rmdir(disk)
            self.skipTest("a small tmpfs cannot be mounted here: run as root")
        self.addCleanup(os.rmdir, disk)
        self.addCleanup(subprocess.run, ["umount", disk], check=True)
        return disk


class BadFiles(FileCase):
    """Each ends the restoring VM with status 1 and one clear error, before anything ran."""

    def refused(self, state, words, ram="16M", status=1):
        vm = self.vm("restored", "--incoming", f"file:{state}", ram=ram)
        self.assertEqual(vm.exit_status(), status)
        self.assertRegex(vm.errors(), words)
        complaints = [line for line in vm.errors().splitlines()
                      if "waits for a migration" not in line and " is ready, " not in line]
        self.assertEqual(len(complaints), 1, vm.errors())
        self.vms.remove(vm)
        vm.monitor.unlink(missing_ok=True)
        vm.stderr.unlink()

    def test_bad_files(self):
        _, state = self.save()
        good = state.read_bytes()
        footer = good.index(b"ramferry/clock")

        def patched(change):
            data = bytearray(good)
            change(data)
            other = pathlib.Path(self.directory) / "bad"
            other.write_bytes(bytes(data))
            return other

        block = good.index(b"\x03vga")

        def called(name):
            return lambda data: data.__setitem__(slice(block + 1, block + 4), name)

        def enormous(data):
            data[block + 4:block + 12] = b"\x7f" + b"\xff" * 7

        def renamed(data):
            data[footer:footer + 14] = b"ramferry/clocc"

        def versioned(data):
            at = footer + 14 + 4
            data[at:at + 4] = struct.pack(">I", 99)

        cases = {
            "cut short": (lambda data: data.__delitem__(slice(len(data) // 2, None)), "gone|ended|short|missing"),
            "not a stream": (lambda data: data.__setitem__(slice(0, 4), b"ABCD"), "magic|QEVM|savevm|begin"),
            "another version of the frame": (lambda data: data.__setitem__(7, 2), "version 2"),
            "unknown section": (renamed, "ramferry/clocc"),
            "unknown version of a section": (versioned, "version 99"),
            "another machine": (lambda data: data.__setitem__(13, ord("X")), "machine"),
            "RAM block missing": (called(b"vgb"), "vgb"),
            "RAM block twice": (called(b"ram"), "twice"),
            "RAM block of another size": (enormous, "vga|RAM"),
            "empty": (lambda data: data.clear(), "gone|ended|empty|short"),
        }
        for name, (change, words) in cases.items():
            with self.subTest(name):
                self.refused(patched(change), words)
        with self.subTest("another size of RAM"):
            self.refused(state, "ram", ram="8M")

    def test_file_that_cannot_be_read(self):
        self.refused(f"{self.directory}/nosuch", "No such file")
        self.refused(self.directory, "directory|plain file", status=2)


class WrongUsage(Case):
    """Exit status 2 for what makes no sense, 1 for what fails; one clear line either way."""

    def test_table(self):
        monitor = f"unix:{self.directory}/m.qmp"
        vm = ["vm", "--qmp", monitor, "--ram", "4M"]
        cases = [
            (["nosuch"], 2, ""), ([], 2, ""), (["vm"], 2, "--qmp"), (["demo", "--nosuch"], 2, "nosuch"),
            (["demo", "--ram", "many"], 2, "many"), (["demo", "--transport", "pigeon"], 2, "pigeon"),
            ([*vm, "--pattern", "wild"], 2, "uniform"), ([*vm, "--fill", "/nosuch"], 2, "/nosuch"),
            ([*vm[:3], "--ram", "5000"], 2, "4 KiB"), (["vm", "--qmp", "nonsense"], 2, "nonsense"),
            ([*vm, "--incoming", "bogus:1"], 2, "tcp:"), ([*vm, "--incoming", "tcp:127.0.0.1:0?nosuch=1"], 2, "lanes"),
            ([*vm, "--incoming", "tcp:127.0.0.1"], 2, "127.0.0.1"),
            (["migrate", "--qmp", f"unix:{self.directory}/none", "tcp:127.0.0.1:1"], 1, "No such file"),
            (["status", "--qmp", f"unix:{self.directory}/none"], 1, "No such file"),
            (["inspect", f"{self.directory}/none"], 1, "No such file"), (["inspect", self.directory], 2, "plain file"),
        ]
        for arguments, status, words in cases:
            with self.subTest(arguments):
                done = self.ramferry(*arguments, status=status)
                self.assertIn(words, done.stderr + done.stdout)

    def test_address_in_use(self):
        first = self.vm("first", "--incoming", "tcp:127.0.0.1:0").reach()
        port = first.migration()["socket-address"][0]["port"]
        second = self.vm("second", "--incoming", f"tcp:127.0.0.1:{port}")
        self.assertEqual(second.exit_status(), 1)
        self.assertIn("in use", second.errors())
        third = self.vm("first", "--paused")
        self.assertEqual(third.exit_status(), 1)
        self.assertEqual(first.state(), "inmigrate")
        self.vms.remove(third)

    def test_bad_addresses_leave_the_source_running(self):
        source = self.vm("source", "--dirty-rate", "20M").reach()
        for uri, words in (("bogus:1", "migration protocol"), ("tcp:127.0.0.1:1?nosuch=1", "nosuch"), ("tcp:", ""),
                           ("", ""), ("tcp:127.0.0.1:99999", "99999")):
            with self.subTest(uri), self.assertRaisesRegex(harness.QmpError, words):
                source("migrate", uri=uri)
            self.assertEqual(source.migration()["status"], "failed")
        done = self.ramferry("migrate", "--qmp", f"unix:{source.monitor}", "bogus:1", status=1)
        self.assertIn("known are", done.stderr)
        self.ramferry("migrate", "--qmp", f"unix:{source.monitor}", "--set", "nosuch=1", "tcp:127.0.0.1:1", status=1)
        self.ramferry("migrate", "--qmp", f"unix:{source.monitor}", "tcp:127.0.0.1:1", status=1)
        self.assert_source_runs_on(source)

    def test_another_size_of_ram_leaves_the_source_running(self):
        destination = self.vm("destination", "--incoming", "tcp:127.0.0.1:0", ram="8M")
        source = self.vm("source", "--dirty-rate", "20M", ram="16M").reach()
        source("migrate", uri=destination.reach().uri())
        self.assertRegex(source.wait_migration("failed")["error-desc"], "ram")
        self.assertEqual(destination.exit_status(), 1)
        self.assert_source_runs_on(source)


@unittest.skipUnless(shutil.which("qemu-system-x86_64"), "no QEMU here: apt-get install qemu-system-x86")
class Qemu(Case):
    def qemu(self, name, *options):
        """With two monitors, each of which serves one client: ours and, at NAME.qmp2, the program's."""
        monitor = f"unix:{self.directory}/{name}.qmp"
        return self.vm(name, program=[
            "timeout", "--foreground", "-k", "1", "120", "qemu-system-x86_64", "-nodefaults", "-display", "none",
            "-m", "32", "-qmp", f"{monitor},server=on,wait=off", "-qmp", f"{monitor}2,server=on,wait=off", *options])

    def test_migrate_drives_two_qemus(self):
        address = f"unix:{self.directory}/migration.sock"
        destination = self.qemu("destination", "-incoming", address).reach()
        source = self.qemu("source").reach()
        done = self.ramferry("migrate", "--qmp", f"unix:{source.monitor}2", "--set", "downtime-limit=400", address)
        for word in ("migrated 3", "downtime", "rounds", "pages", "on the wire"):
            self.assertIn(word, done.stdout)
        self.assertEqual(source.wait_state("postmigrate"), "postmigrate")  # a little after it says completed
        self.assertEqual(destination.wait_state("running"), "running")

    def test_inspect_reads_what_qemu_wrote(self):
        source = self.qemu("source").reach()
        state = f"{self.directory}/qemu.state"
        self.ramferry("migrate", "--qmp", f"unix:{source.monitor}2", f"exec:cat > {state}")
        seen = json.loads(self.ramferry("inspect", "--json", state).stdout)
        self.assertEqual(seen["blocks"][0]["name"], "pc.ram")
        self.assertEqual(seen["blocks"][0]["distinct-pages"], 8192)
        self.assertEqual(seen["run-state"], "running")
        described = {(device["name"], device["instance_id"]) for device in seen["description"]["devices"]}
        whole = {(each["name"], each["instance"]) for each in seen["sections"] if not each["live"]}
        self.assertEqual(whole, described)


if __name__ == "__main__":
    harness.main()
