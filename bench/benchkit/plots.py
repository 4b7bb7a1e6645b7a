# SPDX-License-Identifier: MIT
"""The pictures of the report, by matplotlib."""
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot          # noqa: E402

from .figures import GIB, OURS, ratios, runs_of, value      # noqa: E402

COLOURS = {OURS: "#1f6feb", "QEMU": "#d9822b", "QEMU multifd": "#b35900", "plain loop": "#8a8f98", "verbs loop": "#8a8f98",
           "iperf3": "#c3c7cd", "ib_write_bw": "#c3c7cd"}
pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": False,
                        "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
                        "legend.frameon": False, "svg.fonttype": "none", "figure.facecolor": "white"})


def colour(name):
    return COLOURS.get(name, "#555b66")


ON_THE_HOST = ("tcp", "unix", "tcp-2", "tcp-cold")
IN_THE_RIG = ("rdma-bulk", "rdma-scattered", "rdma-pin-all", "rdma-dynamic")


def throughput(axes, figures, wanted=ON_THE_HOST, scale=1e9):
    """Median rate of every contender, by contest, with the spread."""
    keys = [key for key in wanted if key in figures.contests]
    at, ticks, seen = 0.0, [], {}
    for key in keys:
        contest, begin = figures.contests[key], at
        for name in contest["contenders"]:
            rate = value([contest["bytes"] / run["seconds"] / scale for run in runs_of(contest, name)])
            if rate:
                bar = axes.barh(at, rate.median, .8, color=colour(name),
                                xerr=[[rate.median - rate.low], [rate.high - rate.median]],
                                error_kw={"elinewidth": .8, "ecolor": "#222"})
                seen.setdefault(name, bar)
            at += 1
        ticks.append(((begin + at - 1) / 2, contest["title"]))
        at += .8
    axes.set_yticks([each for each, _ in ticks], [title for _, title in ticks])
    axes.invert_yaxis()
    axes.set_xlabel(f"{'GB/s' if scale == 1e9 else 'MB/s'} of guest memory (more is better)")
    axes.set_title("Throughput" if scale == 1e9 else "Throughput over RDMA, in the rig")
    axes.legend(seen.values(), seen.keys(), loc="lower right", fontsize=7.5)


def ratio_bars(axes, figures):
    """How many times as fast as each peer, with the spread; a bar left of the line is a loss."""
    rows = []
    for contest in figures.contests.values():
        for name in contest["contenders"]:
            found = value(ratios(contest, name)) if name not in (OURS, "iperf3") else None
            if found:
                rows.append((f"{contest['title']} – {name}", name, found))
    for at, (_, name, found) in enumerate(rows):
        axes.barh(at, found.median, .7, color=colour(name), xerr=[[found.median - found.low], [found.high - found.median]],
                  error_kw={"elinewidth": .8, "ecolor": "#222"})
        axes.text(found.high * 1.06, at, f"{found.median:.2f}", va="center", fontsize=7.5)
    axes.set_yticks(range(len(rows)), [title for title, _, _ in rows], fontsize=7.5)
    axes.invert_yaxis()
    axes.set_xscale("log")
    ticks = [tick for tick in (.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if not rows or tick <= max(r[2].high for r in rows) * 1.5]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.axvline(1, color="#222", linewidth=1)
    axes.set_xlabel("ramferry is this many times as fast (log; left of 1 it lost)")
    axes.set_title("Against each peer")


def timeline(figures, data):
    lines = {name: each for name, each in data.get("timelines", {}).items() if each.get("samples")}
    if not lines:
        return None
    figure, (left, rate) = pyplot.subplots(2, 1, figsize=(8, 4.6), sharex=True, constrained_layout=True)
    for name, each in lines.items():
        samples = each["samples"]
        times = [sample[0] for sample in samples]
        left.plot(times, [sample[3] / 1e6 for sample in samples], color=colour(name), label=f"{name}: remaining")
        left.plot(times, [sample[4] / 1e6 for sample in samples], color=colour(name), linestyle=":",
                  label=f"{name}: dirtied per second")
        rates, middles = [], []
        for (t0, _, b0, *_), (t1, _, b1, *_) in zip(samples[::3], samples[3::3]):
            if t1 > t0:
                middles.append((t0 + t1) / 2)
                rates.append((b1 - b0) / (t1 - t0) / 1e6)
        rate.plot(middles, rates, color=colour(name), label=name)
        for axes in (left, rate):
            axes.axvline(each["seconds"], color=colour(name), linewidth=.8, linestyle="--")
    left.set_ylabel("MB")
    left.set_title("A migration while memory is written: dashed, the destination has the machine")
    left.legend(fontsize=7.5)
    rate.set_ylabel("sent, MB/s")
    rate.set_xlabel("seconds")
    rate.legend(fontsize=7.5)
    return figure


def downtimes(axes, figures):
    labels, at = [], 0
    for key, contest in figures.contests.items():
        if not key.startswith(("dirty", "rdma-second", "tcp", "rdma-pin-all")):
            continue
        for name in contest["contenders"]:
            samples = [run["downtime"] * 1e3 for run in runs_of(contest, name) if "downtime" in run]
            if samples:
                axes.scatter(samples, [at] * len(samples), s=14, color=colour(name), alpha=.8, linewidths=0)
                axes.plot([value(samples).median] * 2, [at - .3, at + .3], color=colour(name), linewidth=2)
                labels.append(f"{contest['title']} – {name}")
                at += 1
    axes.set_yticks(range(at), labels, fontsize=7.5)
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlabel("ms of downtime, each run a dot, the line is the median (limit 300 ms)")
    axes.set_title("Downtime")


def costs(axes, figures):
    rows = []
    for key in ("tcp", "unix", "tcp-2", "rdma-bulk", "rdma-pin-all"):
        contest = figures.contests.get(key)
        for name in contest["contenders"] if contest else []:
            ends = [value([run[f"cpu-{end}"] * GIB / contest["bytes"] for run in runs_of(contest, name)
                           if f"cpu-{end}" in run]) for end in ("source", "destination")]
            if ends[0]:
                rows.append((f"{contest['title']} – {name}", name, ends[0].median, ends[1].median if ends[1] else 0))
    for at, (_, name, source, destination) in enumerate(rows):
        axes.barh(at, source, .7, color=colour(name))
        axes.barh(at, destination, .7, left=source, color=colour(name), alpha=.45)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=7.5)
    axes.invert_yaxis()
    axes.set_xlabel("CPU seconds per GiB: source, destination (pale)")
    axes.set_title("Cost")


def beginnings(axes, figures):
    """How long until the first byte is placed, and until all is registered."""
    rows = []
    for key, contest in figures.contests.items():
        for name in contest["contenders"]:
            runs = runs_of(contest, name)
            for what, take in (("first byte", lambda run: run.get("first-byte")),
                               ("set-up", lambda run: run.get("setup") if isinstance(run.get("setup"), float) else None),
                               ("all prepared", lambda run: prepared(run))):
                found = value([take(run) * 1e3 for run in runs if take(run) is not None])
                if found and key in ("tcp", "untouched", "rdma-bulk", "rdma-pin-all", "rdma-dynamic"):
                    rows.append((f"{contest['title']} – {name}, {what}", name, found))
    for at, (_, name, found) in enumerate(rows):
        axes.barh(at, max(found.median, .05), .7, color=colour(name),
                  xerr=[[found.median - found.low], [found.high - found.median]], error_kw={"elinewidth": .8})
    axes.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("ms after the order to migrate (log)")
    axes.set_title("First placement, set-up and registration")


def prepared(run):
    setup = run.get("setup")
    return setup.get("all prepared", setup.get("register")) if isinstance(setup, dict) else None


def alone(draw, figures, height, **more):
    figure, axes = pyplot.subplots(figsize=(8, height), constrained_layout=True)
    draw(axes, figures, **more)
    return figure


def lines_of(figures):
    return sum(len(contest["contenders"]) for contest in figures.contests.values())


def all_figures(figures, host, rig):
    """(title, figure) of everything that the report shows."""
    if host:
        yield "Throughput by transport", alone(throughput, figures, 5)
    if rig:
        yield "Throughput in the rig", alone(throughput, figures, 3.5, wanted=IN_THE_RIG, scale=1e6)
    yield "Ratios", alone(ratio_bars, figures, 1.2 + .21 * lines_of(figures))
    for name, data in (("on the host, tcp", host), ("in the rig, rdma", rig)):
        figure = timeline(figures, data) if data else None
        if figure:
            yield f"Time line of a migration, {name}", figure
    yield "Downtime", alone(downtimes, figures, 1.2 + .2 * max(4, lines_of(figures) // 2))
    yield "Cost per GiB", alone(costs, figures, 4)
    yield "First placement", alone(beginnings, figures, 4)


def summary(figures, path):
    """The picture for the README."""
    figure = pyplot.figure(figsize=(13, 7), constrained_layout=True)
    grid = figure.add_gridspec(5, 2)
    throughput(figure.add_subplot(grid[:3, 0]), figures)
    throughput(figure.add_subplot(grid[3:, 0]), figures, IN_THE_RIG, 1e6)
    ratio_bars(figure.add_subplot(grid[:, 1]), figures)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
