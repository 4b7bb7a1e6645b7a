# SPDX-License-Identifier: MIT
"""The first things that somebody types: examples as they are printed, and the mistakes that are made beside them."""

import json
import os
import pathlib
import re
import signal
import subprocess

import harness
from harness import PROGRAM, Case

FAILED, WRONG = 1, 2   # exit statuses


class Examples(Case):
    def shell(self, script):
        """In a session of its own, with this ramferry first in the PATH; ends with the test."""
        path = f"{pathlib.Path(PROGRAM).resolve().parent}:{os.environ['PATH']}"
        run = subprocess.Popen(["sh", "-c", script], start_new_session=True, text=True, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PATH": path})
        self.addCleanup(run.stderr.close)
        self.addCleanup(run.stdout.close)
        self.addCleanup(self.end, run)
        return run

    @staticmethod
    def end(run):
        try:
            os.killpg(run.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        run.wait()

    def test_help_of_vm_can_be_pasted(self):
        lines = [line.strip() for line in self.ramferry("vm", "--help").stdout.splitlines()
                 if line.startswith("  ramferry ")]
        self.assertEqual(len(lines), 3, lines)
        # Elsewhere than on this machine's port, and smaller.
        lines = [line.replace("/tmp/", f"{self.directory}/").replace("1G", "64M")
                 .replace("tcp:127.0.0.1:4444", f"unix:{self.directory}/there") for line in lines]
        destination = self.shell(lines[0] + "\nwait")
        self.assertIn("b waits for a migration at unix:", destination.stderr.readline())
        self.assertEqual(destination.stderr.readline(),
                         f"ramferry: b is ready, its monitor at unix:{self.directory}/b.qmp\n")
        # The source fills its memory while the next line is already read.
        migrating = self.shell("\n".join(lines[1:]))
        for _ in range(10_000):
            line = migrating.stdout.readline()
            if not line or line.startswith("migrated "):
                break
        self.assertIn("migrated ", line, self.rest(migrating))

    def rest(self, run):
        os.killpg(run.pid, signal.SIGKILL)
        return run.stderr.read()

    def test_monitor_that_is_not_there_is_named(self):
        done = self.ramferry("status", "--qmp", f"unix:{self.directory}/none", status=FAILED)
        self.assertEqual(done.stderr, f"ramferry: connecting to the monitor at unix:{self.directory}/none: No such file "
                                      "or directory (is the VM running? its --qmp says where it listens)\n")


class Monitor(Case):
    def test_refusal_is_in_the_vms_words_with_the_next_step(self):
        source, destination = self.pair()
        for setting in ("nosuch=1", "downtime-limit=long"):
            done = self.ramferry("migrate", "--qmp", f"unix:{source.monitor}", "--set", setting, destination.uri(),
                                 status=FAILED)
            self.assertRegex(done.stderr, r"^ramferry: migrate-set-parameters: .* \(docs/tuning.md lists them\)\n$")
            self.assertNotIn("the peer failed", done.stderr)
        done = self.ramferry("migrate", "--qmp", f"unix:{source.monitor}", "bogus:1", status=FAILED)
        self.assertTrue(done.stderr.startswith("ramferry: migrate: "), done.stderr)
        self.assertNotIn("the peer failed", done.stderr)

    def test_what_counts_bytes_takes_a_size(self):
        source, destination = self.pair()
        self.ramferry("migrate", "--qmp", f"unix:{source.monitor}", "--set", "max-bandwidth=100M", "--set",
                      "xbzrle-cache-size=16M", destination.uri())
        parameters = source("query-migrate-parameters")
        self.assertEqual(parameters["max-bandwidth"], 100 << 20)
        self.assertEqual(parameters["xbzrle-cache-size"], 16 << 20)

    def test_status_of_what_has_not_begun_has_no_empty_answers(self):
        source = self.vm("source").reach()
        waiting = self.vm("waiting", "--incoming", "tcp:127.0.0.1:0").reach()
        for vm in (source, waiting):
            said = self.ramferry("status", "--qmp", f"unix:{vm.monitor}").stdout
            self.assertIn("guest ", said)
            for word in ("none", "session", "hand-over"):
                self.assertNotIn(word, said)
        source("migrate", uri=waiting.uri())
        self.assert_moved(source, waiting)
        said = self.ramferry("status", "--qmp", f"unix:{source.monitor}").stdout
        self.assertRegex(said, "hand-over  running\nsession    .*[1-9a-f]")
        self.assertEqual({"pages", "rounds", "bytes-per-second"} - set(source.own()), set())
        self.assertEqual({"pages", "rounds", "bytes-per-second"} & set(waiting.own()), set(),
                         "which a destination does not count")

    def test_cancel_says_what_it_did(self):
        source, destination = self.pair(["--dirty-rate", "20M"])
        cancel = ["cancel", "--qmp", f"unix:{source.monitor}"]
        self.assertEqual(self.ramferry(*cancel).stdout, "nothing to cancel: no migration is under way\n")
        self.assertEqual(json.loads(self.ramferry(*cancel, "--json").stdout), {"cancelled": False})
        source("migrate-set-parameters", max_bandwidth=200_000)
        source("migrate", uri=destination.uri())
        source.wait_migration("active")
        said = json.loads(self.ramferry(*cancel, "--json").stdout)
        self.assertEqual((sorted(said), said["cancelled"]), (["cancelled", "seconds"], True))
        self.assertGreaterEqual(said["seconds"], 0)
        self.assertEqual(json.loads(self.ramferry(*cancel, "--json").stdout), {"cancelled": False},
                         "what was cancelled before is not cancelled again")


class Listings(Case):
    def test_transports_are_told_to_programs_too(self):
        listed = json.loads(self.ramferry("transports", "--json").stdout)
        text = self.ramferry("transports").stdout
        for scheme, transport in listed.items():
            self.assertIn(f"{scheme}:", text)
            self.assertEqual(transport["usable"], not transport["why-not"])
            for option in transport["options"]:
                self.assertIn("    {name}={values}  {meaning}\n".format(**option), text)
        self.assertIn("lanes", [option["name"] for option in listed["tcp"]["options"]])

    def test_benchs_json_says_where_it_was_measured(self):
        serving = subprocess.Popen([PROGRAM, "bench", "serve", "--once", f"unix:{self.directory}/bench"],
                                   stderr=subprocess.PIPE, text=True)
        self.addCleanup(serving.stderr.close)
        self.addCleanup(serving.wait)
        self.addCleanup(serving.kill)
        self.assertIn("waiting at", serving.stderr.readline())
        told = json.loads(self.ramferry("bench", "run", f"unix:{self.directory}/bench", "--bytes", "16M", "--json").stdout)
        self.assertEqual("ramferry " + told["version"], self.ramferry("--version").stdout.strip())
        self.assertEqual(told["machine"]["kernel"], os.uname().release)
        self.assertGreater(told["machine"]["memory"], 16 << 20)
        self.assertTrue(told["machine"]["cpu"])


class Mistakes(Case):
    def test_pinning_without_rdma_is_refused_before_a_vm_starts(self):
        for options in (["--pin-budget", "64M"], ["--pin", "all"], ["--transport", "unix", "--pin", "demand"]):
            done = self.ramferry("demo", "--ram", "16M", *options, status=WRONG)
            self.assertIn("--pin and --pin-budget are for --transport rdma", done.stderr)
            self.assertNotIn("address", done.stderr)

    def test_unknown_subcommand_is_named_beside_those_there_are(self):
        for line, known in ((["bogus"], "vm, "), (["help"], "demo, "), (["tunnel", "foo"], "enter, exit"),
                            (["bench", "foo"], "serve, run, verbs")):
            done = self.ramferry(*line, status=WRONG)
            self.assertIn(f"ramferry: unknown subcommand '{line[-1]}' (known are ", done.stderr)
            self.assertIn(known, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)

    def test_demo_passes_on_what_its_vms_refuse(self):
        for options, words in ((["--fill", f"{self.directory}/none"], "to fill memory with: No such file"),
                               (["--ram", "7K"], "its size must be a multiple of 4 KiB")):
            done = self.ramferry("demo", *options, status=WRONG)
            self.assertIn(words, done.stderr)
            self.assertEqual(done.stderr.splitlines()[-1],
                             f"ramferry: starting a VM: it ended with status {WRONG} (its message is above)")

    def test_bench_that_cannot_be_is_told_before_memory_is_filled(self):
        # No machine has as much: who tried to map it first would say so.
        much = ["--bytes", "1024T"]
        done = self.ramferry("bench", "run", f"unix:{self.directory}/nobody", *much, status=FAILED)
        self.assertIn("No such file or directory", done.stderr)
        serving = subprocess.Popen([PROGRAM, "bench", "serve", "--once", f"unix:{self.directory}/bench", "--most", "16M"],
                                   stderr=subprocess.PIPE, text=True)
        self.addCleanup(serving.stderr.close)
        self.addCleanup(serving.wait)
        self.addCleanup(serving.kill)
        self.assertIn("waiting at", serving.stderr.readline())
        done = self.ramferry("bench", "run", f"unix:{self.directory}/bench", *much, status=FAILED)
        self.assertTrue(re.search("asking for .* at the other end.*serve --most SIZE", done.stderr), done.stderr)


if __name__ == "__main__":
    harness.main()
