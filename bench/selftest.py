#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The benchmark itself, on small memory, for function only: nothing here passes or fails by how fast a machine is.

RAMFERRY_BENCH_BUILD: the build folder with ramferry and plain_loop. The contests over RDMA need a device.
"""
import glob
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
from benchkit import markdown, twice                       # noqa: E402
from benchkit.ballast import CHUNK, Ballast, kernel_memory             # noqa: E402
from benchkit.store import Results, load     # noqa: E402
from benchkit.figures import Figures, Row, Value, ratios, unsteadiness, value     # noqa: E402

BUILD = os.environ.get("RAMFERRY_BENCH_BUILD", "build/dev")
MIB = 32
BATCHES = MIB // 8


def result(ours, theirs, failed=False):
    """A result in which ramferry took `ours` seconds and the others `theirs`."""
    def run(seconds):
        return {"seconds": seconds, "cpu": 1.0, "cpu-source": .5, "cpu-destination": .5, "downtime": .001,
                "first-byte": .001, "grown-source": 0, "grown-destination": 0}
    names = ["ramferry", "plain loop", "QEMU", "QEMU multifd"]
    rounds = [{name: run(ours if name == "ramferry" else theirs) for name in names} for _ in range(4)]
    if failed:
        for each in rounds:
            each["QEMU"] = {"failed": "it fell over"}
    rounds[0]["ramferry"] = run(1000)       # the warm-up does not count
    contest = {"title": "tcp", "workload": "W2", "bytes": 1 << 30, "destination": "pre-faulted", "contenders": names,
               "rounds": rounds}
    return {"identity": {"quick": False, "bytes": 1 << 30, "pairs": 3}, "seconds": 1, "parts": None, "timelines": {},
            "machine": {"cpu": "c", "cpus": 2, "memory": 1 << 33, "kernel": "k", "load-before": 0, "commit": "abc",
                        "versions": {"ramferry": "r", "qemu": "q"}},
            "contests": {"tcp": contest}}


class WhatTheReportSays(unittest.TestCase):
    def rows(self, data):
        return {row.key: row for row in Figures(data).rows()}

    def test_a_winner_wins(self):
        rows = self.rows(result(1.0, 3.0))
        self.assertEqual((rows["tcp-qemu"].verdict, rows["tcp-qemu"].value.median), ("stretch", 3.0))

    def test_a_loser_loses(self):
        data = result(3.0, 1.0)
        rows = self.rows(data)
        self.assertEqual(rows["tcp-loop"].verdict, "missed")
        self.assertEqual(rows["tcp-qemu"].verdict, "missed")
        page = markdown.page(data, None)
        self.assertIn("missed", page)
        self.assertIn("**QEMU** was faster, 0.33 (0.33 - 0.33)", page)

    def test_near_the_plain_loop_is_enough_where_qemu_is_near_it_too(self):
        row = self.rows(result(1.0, 1.0))["tcp-qemu"]
        self.assertEqual((row.required, row.verdict), (0.95, "met"))

    def test_the_first_round_does_not_count(self):
        self.assertEqual(ratios(result(1.0, 2.0)["contests"]["tcp"], "QEMU"), [2.0, 2.0, 2.0])

    def test_a_contender_that_fails_is_shown_as_failed(self):
        data = result(1.0, 2.0, failed=True)
        self.assertEqual(self.rows(data)["tcp-qemu"].verdict, "failed")
        self.assertIn("failed: QEMU: it fell over", markdown.page(data, None))

    def test_lower_is_better_where_it_is(self):
        row = Row("k", "t", "ms", 5, 1, Value(7, 6, 8, 3), lower_is_better=True)
        self.assertEqual(row.verdict, "missed")
        row.value = Value(3, 3, 3, 3)
        self.assertEqual(row.verdict, "met")

    def test_two_runs_agree_or_do_not(self):
        first = result(1.0, 2.0)
        for theirs, verdict in ((2.1, "agrees"), (2.5, "differs"), (0.8, "another winner")):
            pairs = list(twice.pairs(first, result(1.0, theirs)))
            self.assertEqual({pair.peer for pair in pairs}, {"plain loop", "QEMU", "QEMU multifd"})
            self.assertEqual({pair.verdict for pair in pairs}, {verdict})
        near = twice.pairs(result(1.0, 1.04), result(1.0, 0.97))
        self.assertEqual({pair.verdict for pair in near}, {"agrees"})
        self.assertIn("0 of 3 ratios agree", markdown.page(first, None, [(first, result(1.0, 3.0))]))
        other = first | {"identity": first["identity"] | {"bytes": 1}}
        self.assertEqual((twice.same_kind(first, first), twice.same_kind(first, other)), ("", "bytes: 1073741824 and 1"))

    def test_what_spreads_most_is_known_least(self):
        def known(*theirs):
            contest = result(1.0, 2.0)["contests"]["tcp"]
            rounds = [{"ramferry": {"seconds": 1.0}, "QEMU": {"seconds": each}} for each in (9, *theirs)]
            return unsteadiness(contest | {"contenders": ["ramferry", "QEMU"], "rounds": rounds})
        self.assertEqual(known(2, 2, 2, 2), 0)
        self.assertGreater(known(1, 2, 3, 4), known(1.9, 2, 2, 2.1))
        self.assertGreater(known(1, 2, 3), known(*[1, 2, 3] * 10))      # more rounds, better known

    def test_nothing_measured_is_said(self):
        self.assertEqual({row.verdict for row in Figures().rows()}, {"not measured"})
        self.assertIsNone(value([]))


@unittest.skipUnless(importlib.util.find_spec("matplotlib"), "no matplotlib: apt-get install python3-matplotlib")
class WhatThePageShows(unittest.TestCase):
    def page(self, data):
        from benchkit import html
        return html.page(data, None)

    def test_the_page_needs_nothing_else(self):
        page = self.page(result(1.0, 2.0))
        self.assertGreaterEqual(page.count("<svg"), 2)
        self.assertNotRegex(page, r'(src|href)="(?!#)')     # nothing fetched; inside of a picture: #its-own-parts
        self.assertNotIn("**", page)
        self.assertEqual(page.count("<table>"), page.count("</table>"))
        self.assertEqual(page.count("<ul>"), page.count("</ul>"))

    def test_a_loser_and_a_failure_are_seen(self):
        page = self.page(result(3.0, 1.0, failed=True))
        self.assertIn('<td class="missed">missed</td>', page)
        self.assertIn('<td class="failed">failed</td>', page)
        self.assertIn("failed: QEMU: it fell over", page)
        self.assertIn("<b>QEMU multifd</b> was faster, 0.33", page)

    def test_text_of_others_is_no_markup(self):
        data = result(1.0, 2.0)
        data["machine"]["cpu"] = "<script>x</script>"
        self.assertNotIn("<script>", self.page(data))

    def test_the_picture_is_drawn_of_what_there_is(self):
        from benchkit import plots
        with tempfile.TemporaryDirectory() as folder:
            for name, figures in (("all", Figures(result(1.0, 2.0))), ("failed", Figures(result(1.0, 2.0, failed=True)))):
                path = os.path.join(folder, name + ".png")
                plots.summary(figures, path)
                with open(path, "rb") as file:
                    self.assertEqual(file.read(8), b"\x89PNG\r\n\x1a\n")


@unittest.skipUnless(shutil.which("qemu-system-x86_64"), "no QEMU: apt-get install qemu-system-x86")
class TheDriver(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ramferry-bench-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.out = os.path.join(self.folder, "results.json")

    def bench(self, *options, pairs=1, timeout=280):
        done = subprocess.run([sys.executable, os.path.join(HERE, "bench.py"), "--build", BUILD, "--ram", str(MIB),
                               "--pairs", str(pairs), "--no-touch", "--no-parts", "--out", self.out, *options],
                              capture_output=True, text=True, timeout=timeout)
        self.assertTrue(os.path.exists(self.out), done.stderr)
        with open(self.out) as file:
            return done, json.load(file)

    def test_contenders_of_every_kind_are_measured(self):
        contests = ["unix", "tcp-2", "untouched", "zero", "dirty-uniform", "dirty-second", "receive", "send", "tunnel",
                    "round-trip"]
        done, data = self.bench(*(word for key in contests for word in ("--only", key)))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(sorted(data["contests"]), sorted(contests))
        for key, contest in data["contests"].items():
            self.assertEqual(len(contest["rounds"]), 2)
            for each in contest["rounds"]:
                for name in contest["contenders"]:
                    self.assertGreater(each[name]["seconds"], 0, (key, name))
        moved = data["contests"]["unix"]["rounds"][1]["ramferry"]
        self.assertGreaterEqual(moved["wire"], MIB << 20)
        self.assertEqual(moved["stream"]["copied-bytes"], 0)
        self.assertIn("tcp, 2 lanes", markdown.page(data, None))

    def test_the_time_that_is_left_goes_to_what_spreads(self):
        _, data = self.bench("--only", "unix", "--minutes", "0.25", pairs=2)
        rounds = data["contests"]["unix"]["rounds"]
        self.assertGreaterEqual(len(rounds), 3)
        self.assertTrue(len(rounds) > 3 or unsteadiness(data["contests"]["unix"]) < 0.02 or data["seconds"] >= 15)

    def test_held_memory_comes_free_for_a_turn(self):
        def resident():
            with open(f"/proc/{held.process.pid}/status") as file:
                return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS:"))
        free = kernel_memory("MemFree"), kernel_memory("MemAvailable")
        held = Ballast(share=0.05)
        self.addCleanup(held.close)
        self.assertTrue(held.room(0))
        if free[0] > 4 << 30 and kernel_memory("MemFree") > 2 << 30:    # a smaller machine has nothing to hold
            self.assertGreater(resident(), free[1] // 20 - CHUNK)
        self.assertTrue(held.room(1 << 40))     # more than there is: all of it
        self.assertLess(resident(), CHUNK)

    def test_an_interrupted_run_goes_on(self):
        _, first = self.bench("--only", "unix")
        first["contests"]["unix"]["rounds"].pop()
        kept = first["contests"]["unix"]["rounds"][0]
        with open(self.out, "w") as file:
            json.dump(first, file)
        _, second = self.bench("--only", "unix")
        self.assertEqual(len(second["contests"]["unix"]["rounds"]), 2)
        self.assertEqual(second["contests"]["unix"]["rounds"][0], kept)

    def test_other_results_are_put_aside(self):
        before = {"commit": "abc", "quick": True, "slow": 0}
        Results(self.out, before, {}).save()
        Results(self.out, before | {"commit": "def"}, {}).save()
        self.assertEqual(load(os.path.join(self.folder, "results-abc-quick.json"))["identity"], before)
        self.assertEqual(load(self.out)["identity"]["commit"], "def")

    def test_a_slowed_ramferry_is_slower(self):
        wasted = 600_000        # microseconds for each batch: seconds in all, whatever the machine
        _, data = self.bench("--only", "unix", "--slow", str(wasted))
        run = data["contests"]["unix"]["rounds"][1]["ramferry"]
        self.assertGreaterEqual(run["seconds"], BATCHES * wasted / 1e6)
        rows = {row.key: row for row in Figures(data).rows()}
        self.assertEqual(rows["unix-loop"].verdict, "missed")
        self.assertIn("**QEMU** was faster", markdown.page(data, None))
        self.assertIn("SLOWED on purpose", markdown.page(data, None))
        self.assertNotIn("SLOWED", markdown.page(data | {"identity": data["identity"] | {"slow": 0}}, None))

    def test_a_contender_that_cannot_start_fails_and_the_others_go_on(self):
        broken = os.path.join(self.folder, "build")
        os.makedirs(os.path.join(broken, "bench"))
        os.symlink(os.path.realpath(os.path.join(BUILD, "cli")), os.path.join(broken, "cli"))
        done, data = self.bench("--only", "unix", "--build", broken)
        self.assertEqual(done.returncode, 1)
        self.assertIn("FAILED", done.stdout)
        each = data["contests"]["unix"]["rounds"][1]
        self.assertIn("failed", each["plain loop"])
        self.assertGreater(each["QEMU"]["seconds"], 0)

    def test_placements_are_measured_without_a_migration(self):
        ferry = os.path.join(BUILD, "cli/ramferry")
        socket = os.path.join(self.folder, "s")
        serving = subprocess.Popen([ferry, "bench", "serve", "--once", f"unix:{socket}"], stderr=subprocess.PIPE,
                                   text=True)
        self.addCleanup(serving.stderr.close)
        self.addCleanup(serving.kill)
        self.assertIn("waiting", serving.stderr.readline())
        done = subprocess.run([ferry, "bench", "run", "--json", "--bytes", "16M", "--extent", "4K", "--stride", "8K",
                               "--repeat", "2", f"unix:{socket}"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual([run["bytes"] for run in report["runs"]], [16 << 20] * 2)
        self.assertTrue(all(run["copied-bytes"] == 0 for run in report["runs"]))
        self.assertEqual(serving.wait(60), 0)

    @unittest.skipUnless(glob.glob("/sys/class/infiniband/*"), "no RDMA device: run it in tests/soft-roce/rig")
    def test_contenders_over_rdma_are_measured(self):
        done, data = self.bench("--rig", timeout=800)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(sorted(data["contests"]), ["rdma-bulk", "rdma-dynamic", "rdma-pin-all", "rdma-round-trip",
                                                    "rdma-scattered", "rdma-second", "rdma-zero"])
        for key, contest in data["contests"].items():
            for each in contest["rounds"]:
                for name in contest["contenders"]:
                    self.assertGreater(each[name]["seconds"], 0, (key, name))
        rows = {row.key: row.verdict for row in Figures(None, data).rows() if row.key.startswith("rdma")}
        self.assertGreater(len(rows), 10)
        self.assertFalse({"failed", "not measured"} & set(rows.values()), rows)


if __name__ == "__main__":
    unittest.main()
