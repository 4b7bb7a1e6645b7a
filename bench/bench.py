#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Measures ramferry against its peers on this machine, alternated in one run.

Results go to a JSON file that is written after every turn: start it again and it goes on where it stopped.
bench/report.py makes the page, the picture and docs/benchmarks.md from it.
"""
import argparse
import fnmatch
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from benchkit import contests, machine, process        # noqa: E402
from benchkit.ballast import Ballast                   # noqa: E402
from benchkit.contenders import MIB, Job, Setup, qemu, ramferry     # noqa: E402
from benchkit.image import Images                      # noqa: E402
from benchkit.process import Failed                    # noqa: E402
from benchkit.figures import unsteadiness              # noqa: E402
from benchkit.store import Results                     # noqa: E402
from benchkit.trace import uniform                     # noqa: E402

PARTS = ["PlainRead|ZeroScan/(zero|dense)/", "Xbzrle", ("Compression", 0.2), "Frame|Hash", "PlanRound",
         "(Arm1GiB|Harvest1GiB|FirstWrite)/(pagemap_scan|userfaultfd)/anonymous"]
RIG_PARTS = ["Registration/(touched|fresh)/(65536|2097152|16777216)/"]
GIVE_UP_AFTER = 2       # failures of one contender in one contest
STEADY = 0.02           # a contest whose medians of ratios are known this well needs no more rounds
MOST_ROUNDS = 40


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="example: ./dev bench --quick")
    add = parser.add_argument
    add("--build", default="build/release", help="where ramferry was built (default build/release)")
    add("--rig", action="store_true", help="the RDMA contests: needs an RDMA device; ./dev bench --rig boots one")
    add("--quick", action="store_true", help="small memory, 3 rounds: under five minutes; to see that it works")
    add("--ram", type=int, metavar="MiB", help="guest memory (default 1024; --quick 256; --rig 128)")
    add("--pairs", type=int, help="rounds of every contest that count, after one that does not (default 5; --quick 3)")
    add("--minutes", type=float, metavar="N", help="no new turns after this; what is left after --pairs goes to the "
        "contests whose ratios spread most (default 12; --rig 20; --quick 4)")
    add("--only", action="append", default=[], metavar="PATTERN", help="contests to run, e.g. 'tcp*'; again for more")
    add("--no-parts", action="store_true", help="leave out the parts of the page path")
    add("--no-touch", action="store_true", help="do not touch the machine's free memory, nor hold it between turns")
    add("--slow", type=int, default=0, metavar="MICROSECONDS", help="waste this much in ramferry for each batch: "
        "shows that the harness can lose")
    add("--out", help="the results (default build/bench/host.json; with --rig build/bench/rig/rig.json)")
    add("--again", action="store_true", help="measure once more, into again.json beside those: do the two agree?")
    add("--fresh", action="store_true", help="start over instead of going on")
    add("--list", action="store_true", help="only list the contests")
    options = parser.parse_args()
    folder = os.environ.get("RAMFERRY_RIG_OUT", "build/bench/rig") if options.rig else "build/bench"
    first = "rig.json" if options.rig else "host.json"
    options.out = options.out or os.path.join(folder, "again.json" if options.again else first)
    options.size = (options.ram or (128 if options.rig else 256 if options.quick else 1024)) * MIB
    options.minutes = options.minutes or (4 if options.quick else 20 if options.rig else 12)
    options.pairs = options.pairs or (3 if options.quick else 5)
    return options


def chosen(options):
    everything = contests.rig(options.size) if options.rig else contests.host(options.size)
    return [each for each in everything
            if not options.only or any(fnmatch.fnmatch(each.key, pattern) for pattern in options.only)]


def rdma_address():
    """An address on an RDMA device's network interface."""
    if os.environ.get("RAMFERRY_RIG_A"):
        return os.environ["RAMFERRY_RIG_A"]
    for device in sorted(os.listdir("/sys/class/infiniband")) if os.path.isdir("/sys/class/infiniband") else []:
        try:
            with open(f"/sys/class/infiniband/{device}/ports/1/gid_attrs/ndevs/0") as file:
                interface = file.read().strip()
        except OSError:
            continue
        out = subprocess.run(["ip", "-j", "-4", "address", "show", "dev", interface], capture_output=True, text=True)
        for link in json.loads(out.stdout or "[]"):
            if link.get("addr_info"):
                return link["addr_info"][0]["local"]
    sys.exit("bench: no RDMA device with an IPv4 address: try ./dev bench --rig, or see docs/soft-roce.md")


class Round:
    """One turn of every contender in every contest, kept in the results as they come."""

    def __init__(self, chosen_contests, setup, results, ballast=None):
        self.contests, self.setup, self.results, self.ballast = chosen_contests, setup, results, ballast
        self.kept = {each.key: results.contest(each.key, {
            "title": each.title, "workload": each.workload, "bytes": each.size, "destination": each.destination,
            "contenders": list(each.contenders)}) for each in chosen_contests}

    def run(self, number, deadline):
        for contest in self.contests:
            rounds = self.kept[contest.key]["rounds"]
            if len(rounds) <= number and time.monotonic() < deadline:
                rounds.append(self.take_turns(contest, number))
                self.results.save()

    def more_where_it_spreads(self, deadline):
        """One more round of the contest whose ratios are known least well, again and again."""
        while time.monotonic() < deadline:
            open_ones = [(unsteadiness(self.kept[each.key]), each) for each in self.contests
                         if each.destination != "cold" and len(self.kept[each.key]["rounds"]) <= MOST_ROUNDS]
            worst, contest = max(open_ones, key=lambda pair: pair[0], default=(0, None))
            if worst <= STEADY:
                return
            rounds = self.kept[contest.key]["rounds"]
            print(f"  {contest.key}: round {len(rounds)} (the median is known to {worst:.0%})", flush=True)
            rounds.append(self.take_turns(contest, len(rounds)))
            self.results.save()

    def take_turns(self, contest, number):
        names, found = list(contest.contenders), {}
        for name in names[number % len(names):] + names[:number % len(names)]:
            if self.failures(contest, name) >= GIVE_UP_AFTER:
                continue
            if self.ballast:
                self.ballast.room(contests.room(contest.size))
            begin = time.monotonic()
            try:
                found[name] = contest.contenders[name](self.setup)
            except Failed as problem:
                found[name] = {"failed": str(problem)}
            except (OSError, ValueError, KeyError, subprocess.SubprocessError) as problem:
                found[name] = {"failed": f"{type(problem).__name__}: {problem}"}
            found[name]["took"] = round(time.monotonic() - begin, 2)
        return found

    def failures(self, contest, name):
        return sum("failed" in each.get(name, {}) for each in self.kept[contest.key]["rounds"])

    def any_failure(self):
        return any(self.failures(contest, name) for contest in self.contests for name in contest.contenders)


def tell(contest):
    """One line on the terminal for each contender."""
    rounds = contest["rounds"][1:]
    for name in contest["contenders"]:
        runs = [each[name] for each in rounds if name in each]
        good = sorted(run["seconds"] for run in runs if "failed" not in run)
        problem = next((run["failed"] for each in contest["rounds"] for run in [each.get(name, {})] if "failed" in run), "")
        text = f"FAILED: {problem}" if problem else ""
        if good:
            middle = statistics.median(good)
            text = f"{middle:8.3f} s  ({good[0]:.3f} - {good[-1]:.3f})  {contest['bytes'] / middle / 1e6:8.0f} MB/s  {text}"
        print(f"{contest['title'][:44]:44}  {name:26} {text}", flush=True)


def measure_parts(options, results, seconds):
    """Group by group, as far as the time goes: what is missing is shown as not measured."""
    if results.data["parts"] is not None:
        return
    program = os.path.join(options.build, "bench/ramferry_bench_parts")
    until, found = time.monotonic() + seconds, []
    for group in RIG_PARTS if options.rig else PARTS:
        group, least = group if isinstance(group, tuple) else (group, 0.02)     # seconds for one repetition
        command = [program, f"--benchmark_filter={group}", "--benchmark_format=json", "--benchmark_repetitions=5",
                   f"--benchmark_min_time={least}", "--benchmark_enable_random_interleaving=true",
                   "--benchmark_report_aggregates_only=true"]
        print(f"  parts: {group}", flush=True)
        try:
            out = subprocess.run(command, capture_output=True, text=True, check=True,
                                 timeout=max(1, min(seconds / 2, until - time.monotonic()))).stdout
            found += [each for each in json.loads(out)["benchmarks"] if each.get("aggregate_name") == "median"]
        except (OSError, ValueError, subprocess.SubprocessError) as problem:
            print(f"  parts: {group} FAILED: {problem}", flush=True)
    results.data["parts"] = found
    results.save()


def measure_timelines(options, setup, results):
    """What a migration of a machine that is written to looks like over time; one run each."""
    transport = "rdma" if options.rig else "tcp"
    for name, contender in (("ramferry", ramferry), ("QEMU", qemu)):
        if name in results.data["timelines"]:
            continue
        samples = []
        job = Job(transport, options.size, trace=uniform(options.size, 10, 0.02 if options.rig else 0.1), pin_all=options.rig,
                  watch=lambda at, info, into=samples: into.append(sample(at, info)))
        try:
            result = contender(setup, job)
            results.data["timelines"][name] = {"samples": samples, "seconds": result["seconds"],
                                               "downtime": result["downtime"]}
        except (Failed, OSError, ValueError, KeyError) as problem:
            results.data["timelines"][name] = {"failed": str(problem)}
        results.save()


def sample(at, info):
    ram = info.get("ram", {})
    return [round(at, 4), info.get("status", ""), ram.get("transferred", 0), ram.get("remaining", 0),
            ram.get("dirty-pages-rate", 0) * ram.get("page-size", 4096), ram.get("dirty-sync-count", 0)]


def measure(options, setup, results, deadline, ballast):
    """True if some contender failed. The warm-up and the first round after it are complete, whatever the deadline."""
    rounds = Round(chosen(options), setup, results, ballast)
    for number in range(options.pairs + 1):
        print("  warming up" if number == 0 else f"  round {number} of {options.pairs}", flush=True)
        rounds.run(number, deadline if number > 1 else float("inf"))
        if number == 0 and not options.only:
            measure_timelines(options, setup, results)
            if not options.no_parts:
                measure_parts(options, results, 12 * options.minutes)
    rounds.more_where_it_spreads(deadline if options.pairs > 1 else 0)
    for contest in rounds.kept.values():
        tell(contest)
    return rounds.any_failure()


def main():
    options = parse()
    if options.list:
        for contest in chosen(options):
            print(f"{contest.key:16} {contest.workload}  {contest.title}: {', '.join(contest.contenders)}")
        return 0
    begin = time.monotonic()
    ferry = os.path.join(options.build, "cli/ramferry")
    about = machine.facts(ferry)
    identity = {"scope": "rig" if options.rig else "host", "quick": options.quick, "bytes": options.size,
                "pairs": options.pairs, "slow": options.slow, "commit": about["commit"]}
    os.makedirs(os.path.dirname(options.out) or ".", exist_ok=True)
    if options.fresh and os.path.exists(options.out):
        os.unlink(options.out)
    results = Results(options.out, identity, about)
    if about["load-before"] > 0.5:
        print(f"bench: this machine is busy (load {about['load-before']:.1f}): the figures will be poor", file=sys.stderr)
    if options.rig and not options.no_touch:
        machine.touch_free_memory()
    process.SCRATCH[0] = machine.scratch(4 * options.size)
    folder = tempfile.mkdtemp(prefix="rfi-", dir=process.SCRATCH[0])
    failed, ballast = False, None
    try:
        images = Images(folder)
        setup = Setup(ferry, os.path.join(options.build, "bench/plain_loop"), images,
                      rdma_address() if options.rig else "", options.slow)
        ballast = None if options.no_touch or options.rig else Ballast()
        failed = measure(options, setup, results, begin + 60 * options.minutes, ballast)
    finally:
        if ballast:
            ballast.close()
        shutil.rmtree(folder, ignore_errors=True)
        results.data["seconds"] += round(time.monotonic() - begin)
        results.save()
    print(f"every run is in {options.out}" + ("; some contenders failed" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
