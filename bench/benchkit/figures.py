# SPDX-License-Identifier: MIT
"""From runs to figures: medians and spreads of ratios, and the targets they are held to."""
import dataclasses
import math
import statistics

GIB = 1 << 30
OURS = "ramferry"


@dataclasses.dataclass
class Value:
    """A median with its spread; `runs` is how many pairs or runs stand behind it."""
    median: float
    low: float
    high: float
    runs: int


@dataclasses.dataclass
class Row:
    """One target: what was asked, what was got."""
    key: str
    title: str
    unit: str               # "x", "ms", "MiB", "GB/s", "core-s", ""
    required: float | None
    stretch: float | None
    value: Value | None
    lower_is_better: bool = False
    problem: str = ""
    note: str = ""

    def meets(self, bound):
        return self.value.median <= bound if self.lower_is_better else self.value.median >= bound

    @property
    def verdict(self):
        if self.problem:
            return "failed"
        if self.value is None:
            return "not measured"
        if self.stretch is not None and self.meets(self.stretch):
            return "stretch"
        if self.required is None:
            return "no gate"
        return "met" if self.meets(self.required) else "missed"


def value(samples):
    samples = sorted(samples)
    return Value(statistics.median(samples), samples[0], samples[-1], len(samples)) if samples else None


def counted(contest):
    """The rounds that count: all but the first, which warms up."""
    return contest["rounds"][1:] if contest else []


def good(run):
    return run is not None and "failed" not in run


def runs_of(contest, name=OURS):
    return [each[name] for each in counted(contest) if good(each.get(name))]


def failure(contest, *names):
    """Why one of them has no result; empty if they have."""
    for name in names:
        if runs_of(contest, name):
            continue
        for each in contest["rounds"]:
            if name in each and "failed" in each[name]:
                return f"{name}: {each[name]['failed']}"
    return ""


def ratios(contest, theirs, metric="seconds"):
    """How many times as fast ours was, by round."""
    return [each[theirs][metric] / each[OURS][metric] for each in counted(contest)
            if good(each.get(theirs)) and good(each.get(OURS)) and each[OURS][metric] > 0]


def unsteadiness(contest):
    """How well the medians of a contest's ratios are known: the widest one's probable error, as a share of it."""
    found = [ratios(contest, name) for name in contest["contenders"] if name != OURS]
    return max((probable_error(each) for each in found if len(each) > 1), default=0)


def probable_error(samples):
    """Of their median, as a share of it: the distance of the quartiles over the root of how many there are."""
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return (high - low) / 2 / middle / math.sqrt(len(samples))


class Figures:
    """The targets of one host result and one rig result; either may be missing."""

    def __init__(self, host=None, rig=None):
        self.host, self.rig = host, rig
        self.contests = {**(host or {}).get("contests", {}), **(rig or {}).get("contests", {})}

    def rows(self):
        return [*self._rdma(), *self._sockets(), *self._parts(), *self._costs(), *self._nodes()]

    def _ratio(self, key, title, contest, theirs, required, stretch, note=""):
        found = self.contests.get(contest)
        if not found:
            return Row(key, title, "x", required, stretch, None)
        names = theirs if isinstance(theirs, list) else [theirs]
        measured = value(ratios(found, theirs))
        problem = "" if measured else failure(found, OURS, *names)
        return Row(key, title, "x", required, stretch, measured, problem=problem, note=note)

    def _lower(self, key, title, unit, required, stretch, samples, contest, note=""):
        found = self.contests.get(contest)
        problem = failure(found, OURS) if found and not samples else ""
        return Row(key, title, unit, required, stretch, value(samples), lower_is_better=True, problem=problem, note=note)

    def _runs(self, contest):
        return runs_of(self.contests.get(contest))

    def _rdma(self):
        yield self._ratio("rdma-loop", "RDMA bulk, pinned, against a plain verbs loop", "rdma-bulk", "verbs loop", .95, .98)
        yield self._ratio("rdma-perftest", "RDMA bulk, pinned, against the best `ib_write_bw -s 1M`", "rdma-bulk",
                          "ib_write_bw", .90, .95)
        yield self._ratio("rdma-scattered", "RDMA scattered 4 KiB (W4), against a verbs loop", "rdma-scattered",
                          "verbs loop", .90, .97)
        for key, title, required, stretch in (("rdma-pin-all", "dense, pin-all", 1.0, 1.1),
                                              ("rdma-zero", "30 % zero, pin-all", 1.3, 1.4),
                                              ("rdma-dynamic", "dynamic registration", 1.25, 2),
                                              ("rdma-second", "every second page dirtied (W4)", 1.5, 3)):
            yield self._ratio(key, f"RDMA against QEMU `rdma:`, total time: {title}", key, "QEMU", required, stretch)
        for key, title, most in (("rdma-bulk", "bulk", 600), ("rdma-scattered", "scattered", 8500)):
            for count in ("completions", "doorbells"):
                yield self._lower(f"{key}-{count}", f"{count} per GiB, {title}", "", most, None,
                                  [run[count] * GIB / run["bytes"] for run in self._runs(key)], key)
        yield self._lower("rdma-first", "first placement over RDMA, in the rig", "ms", 1000, None,
                          [run["first-byte"] * 1e3 for run in self._runs("rdma-pin-all")], "rdma-pin-all")
        yield self._lower("rdma-downtime", "downtime over RDMA, in the rig", "ms", 60, None,
                          [run["downtime"] * 1e3 for run in self._runs("rdma-pin-all")], "rdma-pin-all")
        for end in ("source", "destination"):
            yield self._lower(f"rdma-user-{end}", f"user CPU per GiB over RDMA, {end}, emulated", "core-s", .10, .05,
                              [run[f"user-{end}"] * GIB / self._bytes("rdma-bulk") for run in self._runs("rdma-bulk")
                               if f"user-{end}" in run], "rdma-bulk")

    def _bytes(self, contest):
        return self.contests[contest]["bytes"]

    def _or_near_the_loop(self, contest, theirs, required):
        """The target, or 0.95 of the plain loop, if that is lower."""
        found = self.contests.get(contest)
        pairs = [each[theirs]["seconds"] / each["plain loop"]["seconds"] for each in counted(found)
                 if good(each.get(theirs)) and good(each.get("plain loop"))]
        return min(required, .95 * statistics.median(pairs)) if pairs else required

    def _sockets(self):
        for transport in ("tcp", "unix"):
            yield self._ratio(f"{transport}-loop", f"{transport}, 1 lane, against a plain write/read loop", transport,
                              "plain loop", .90, .97)
        for contest, theirs, title, required, stretch in (
                ("tcp", "QEMU", "tcp against QEMU `tcp:`", 1.5, 2), ("tcp", "QEMU multifd", "tcp against multifd, 1 channel", 1.1, 1.3),
                ("tcp-2", "QEMU multifd", "tcp, 2 lanes, against multifd, 2 channels", 1.1, 1.3)):
            bound = self._or_near_the_loop(contest, theirs, required)
            note = f"{required:g}, or 0.95 of the plain loop" if bound < required else ""
            yield self._ratio(f"{contest}-{'qemu' if theirs == 'QEMU' else 'multifd'}", f"{title}, W2", contest, theirs,
                              round(bound, 3), stretch, note)
        yield self._ratio("cold-qemu", "the same against QEMU `tcp:`, cold destination", "tcp-cold", "QEMU", None, 2)
        yield self._ratio("cold-multifd", "the same against multifd, cold destination", "tcp-cold", "QEMU multifd", None, 1.5)
        yield self._ratio("untouched", "untouched RAM (W0) against QEMU", "untouched", "QEMU", 50, 200)

    def _part(self, name, counter):
        """The median of a Google Benchmark, or nothing."""
        parts = (self.host or {}).get("parts")
        if not isinstance(parts, list):
            return None
        found = [part for part in parts if part.get("run_name", "").split("/real_time")[0] == name
                 and part.get("aggregate_name") == "median"]
        return found[0].get(counter) if found else None

    def _parts(self):
        yield self._part_ratio("zero-scan", "zero scan against one core's read bandwidth", "ZeroScan/zero", "PlainRead",
                               .9)
        speed = self._part("Xbzrle/encode_1_percent", "bytes_per_second")
        yield Row("xbzrle", "XBZRLE encoder at 1 % of each page changed", "GB/s", 3, None,
                  Value(speed / 1e9, speed / 1e9, speed / 1e9, 1) if speed else None)
        most = self._quotient("Compression/2_processes", "Compression/1_thread")
        yield self._part_ratio("compression", "compression codec, 2 threads against 1", "Compression/2_threads",
                               "Compression/1_thread", 1.6,
                               f"two processes that share nothing reach {show(most, 'x')}" if most else "")

    def _quotient(self, ours, theirs):
        one, other = (self._part(name, "bytes_per_second") for name in (ours, theirs))
        return one / other if one and other else None

    def _part_ratio(self, key, title, ours, theirs, required, note=""):
        ratio = self._quotient(ours, theirs)
        return Row(key, title, "x", required, None, Value(ratio, ratio, ratio, 1) if ratio else None, note=note)

    def _costs(self):
        tcp = self.contests.get("tcp")
        pairs = [each[OURS]["cpu"] / each["plain loop"]["cpu"] for each in counted(tcp)
                 if good(each.get(OURS)) and good(each.get("plain loop")) and each["plain loop"]["cpu"] > 0]
        yield self._lower("tcp-cpu", "CPU of tcp against the plain loop", "x", 1.2, 1.1, pairs, "tcp")
        runs = self._runs("tcp")
        gib = tcp["bytes"] / GIB if tcp else 1
        yield self._lower("downtime", "downtime of an idle machine, device state included", "ms", 5 + gib, 1 + gib / 2,
                          [run["downtime"] * 1e3 for run in runs], "tcp")
        yield self._lower("first-byte", f"first placement over tcp, {gib:.3g} GiB", "ms", 50, 20,
                          [run["first-byte"] * 1e3 for run in runs], "tcp")
        if tcp:
            bound = 64 + tcp["bytes"] / 4096 * 2 / 8 / (1 << 20)
            for end in ("source", "destination"):
                yield self._lower(f"memory-{end}", f"memory beyond guest RAM, {end}", "MiB", round(bound, 1), None,
                                  [run[f"grown-{end}"] / (1 << 20) for run in runs], "tcp",
                                  "what the process grew by during the migration")

    def _nodes(self):
        yield self._ratio("receive", "`receive` from QEMU over unix into a file, against QEMU to QEMU", "receive", "QEMU",
                          .80, .95)
        yield self._ratio("send", "`send` into QEMU, against QEMU to QEMU", "send", "QEMU", .95, 1.0)
        for way, pinning in (("receive", "pin-all"), ("receive", "dynamic"), ("send", "pin-all"), ("send", "dynamic")):
            end = "from" if way == "receive" else "into"
            yield self._ratio(f"rdma-{way}-{pinning}", f"`{way}` {end} QEMU's `rdma:`, {pinning}, against QEMU to QEMU",
                              f"rdma-{way}-{pinning}", "QEMU", 1.0, None)
        yield self._ratio("tunnel", "tunnel over unix, against direct", "tunnel", "QEMU", .7, .9)
        for contest, fabric in (("round-trip", "unix"), ("rdma-round-trip", "rdma, in the rig")):
            added = [(each[OURS]["trip"] - each["direct"]["trip"]) * 1e6 for each in counted(self.contests.get(contest))
                     if good(each.get(OURS)) and good(each.get("direct"))]
            yield self._lower(contest, f"round-trip time that a tunnel over {fabric} adds", "µs", None, None, added, contest)


def show(number, unit):
    if unit == "x":
        return f"{number:.2f}" if number < 100 else f"{number:.0f}"
    digits = 0 if number >= 100 else 1 if number >= 10 else 2
    return f"{number:.{digits}f}" + (f" {unit}" if unit else "")


def spread(measured, unit):
    return f"{show(measured.low, unit)} - {show(measured.high, unit)}"
