# SPDX-License-Identifier: MIT
"""docs/benchmarks.md: every figure in it comes from a result."""
import json
import os

from . import twice
from .figures import GIB, OURS, Figures, failure, ratios, runs_of, show, spread, value

METHOD = """# Benchmarks

This page is made by `bench/report.py` from the results of `./dev bench` and `./dev bench --rig`; no figure in its tables is
typed by hand; the reasons under "What we lose" are, from profiles. Run both on your own machine, and send us what comes
out (an issue at https://github.com/ramferry/ramferry): `ramferry bench` measures a transport between two hosts.

## How it is measured

- **Same machine, same run, same memory image**; contenders take turns, in an order that rotates from round to round.
  The first round warms up and does not count.
- What is given is the **median of the ratios** within a round, and their spread (least - most). A ratio above 1 means
  that ramferry was faster.
- Time is the driver's clock, from the order to migrate until the *destination* says that it has the machine; for `receive`
  until it says that the file is complete, less what fsync took (the file is in memory); for `send` from the start of the
  program to its end. Plain loops, `iperf3`, `ib_write_bw` and `ramferry bench` have no machine, and tell the time of their bytes.
- CPU is that of both ends, with the tunnel's two processes where there is one.
- QEMU 7.2 with `max-bandwidth` 0 (no limit), a downtime limit of 300 ms as ours, and as many channels as we have lanes;
  started with `-S` on a `memory-backend-file` with the image in it, pre-faulted. No guest runs on either side.
- Dirty traces are the same for both: ramferry's reference VM writes pages at the driver's word, QEMU's memory is
  written through its qtest socket, which takes QEMU's main lock. In these rows QEMU pays for that as well.
- Destinations are pre-faulted unless a row says *cold*: fresh pages cost more than moving them, and vary wildly.
  The machine's free memory is touched, and held by a process of its own that lets go of as much as the next turn
  needs: a hypervisor that takes back free pages otherwise does so between turns, and it is chance who then waits for
  them, in sockets' buffers and files most of all, while the clock runs. (Not in the rig, which touches it once.)
- Every contest has as many rounds as are said below, and the time that is left goes to those whose ratios spread most.
- For round trips each side has a processor of its own, in a tunnel and without; all else is left to the scheduler.
- A contender that fails is shown as failed.
- Not every combination of workload, transport, lanes and pinning is run, or it would take a day: contents (W0, W1, W3)
  and dirty traces (W4-W7) over `tcp:` with one lane, bulk (W2) over `tcp:`, `unix:` and with two lanes, and over `rdma:`
  bulk, scattered, 30 % zero and one dirty trace, and into and out of QEMU. `./dev bench --list` names them.
- On soft-RoCE whoever posts a write does the moving, so lanes that are posted from several threads buy processors.
  ramferry and the verbs loop post their four lanes so; QEMU and `ib_write_bw` have one thread that posts.
- In the **rig** (soft-RoCE in an emulated guest) absolute figures mean nothing; ratios within one boot do. No figure
  for RDMA hardware is given here, because nobody has run this on any yet.
"""


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"


def machine_text(name, data):
    about = data["machine"]
    versions = about["versions"]
    busy = f"; the machine was busy (load {about['load-before']:.1f})" if about["load-before"] > 0.5 else ""
    quick = " (a quick run: small memory, few rounds)" if data["identity"]["quick"] else ""
    if data["identity"].get("slow"):
        quick += f" (ramferry SLOWED on purpose: {data['identity']['slow']} µs for each batch)"
    return (f"**{name}**{quick}: {about['cpus']} x {about['cpu']}, {about['memory'] / GIB:.0f} GiB, Linux {about['kernel']}; "
            f"{versions['ramferry']} at {about['commit']}, {versions['qemu']}; {data['identity']['bytes'] / GIB:.3g} GiB of "
            f"guest memory, {data['identity']['pairs']} rounds or more, {data['seconds']} s in all{busy}.\n")


def bound_text(row, bound):
    if bound is None:
        return "–"
    return ("≤ " if row.lower_is_better else "") + show(bound, row.unit)


def target_rows(figures):
    for row in figures.rows():
        got = show(row.value.median, row.unit) if row.value else "–"
        of = f"{spread(row.value, row.unit)} ({row.value.runs})" if row.value and row.value.runs > 1 else "–"
        title = row.title + (f" ({row.note})" if row.note else "")
        yield title, bound_text(row, row.required), bound_text(row, row.stretch), got, of, row.verdict


def contest_text(contest):
    lines = [f"### {contest['title']}\n",
             f"{contest['workload']}, {contest['bytes'] / GIB:.3g} GiB, destination {contest['destination']}.\n"]
    rows = []
    for name in contest["contenders"]:
        runs = runs_of(contest, name)
        problem = failure(contest, name)
        if not runs:
            rows.append([name, f"failed: {problem}" if problem else "not measured", "", "", "", "", ""])
            continue
        seconds = value([run["seconds"] for run in runs])
        against = value(ratios(contest, name)) if name != OURS else None
        rows.append([name, f"{seconds.median:.3f}", f"{seconds.low:.3f} - {seconds.high:.3f}",
                     f"{contest['bytes'] / seconds.median / 1e6:.0f}",
                     f"{against.median:.2f} ({against.low:.2f} - {against.high:.2f})" if against else "",
                     per_gib(contest, runs, "cpu"), downtime(runs)])
    header = ["", "seconds", "spread", "MB/s", "ramferry is x times as fast", "CPU s/GiB", "downtime ms"]
    return "\n".join(lines) + "\n" + table(header, rows)


def per_gib(contest, runs, name):
    found = value([run[name] * GIB / contest["bytes"] for run in runs if name in run])
    return f"{found.median:.2f}" if found else ""


def downtime(runs):
    found = value([run["downtime"] * 1e3 for run in runs if "downtime" in run])
    return f"{found.median:.1f} ({found.low:.1f} - {found.high:.1f})" if found else ""


def limits():
    """Why a target is missed, by row: written by hand, from profiles and counters."""
    with open(os.path.join(os.path.dirname(os.path.realpath(__file__)), "limits.json")) as file:
        return json.load(file)


def losses_text(figures):
    known, lines = limits(), []
    for row in figures.rows():
        if row.verdict not in ("missed", "failed", "not measured"):
            continue
        got = f"{show(row.value.median, row.unit)}, asked for {bound_text(row, row.required)}" if row.value else row.verdict
        why = row.problem or known.get(row.key, "not looked into yet")
        lines.append(f"- **{row.title}**: {got}. {why[0].upper()}{why[1:]}{'' if why.endswith('.') else '.'}")
    for key, contest in figures.contests.items():
        for name in contest["contenders"]:
            against = value(ratios(contest, name)) if name != OURS and "iperf" not in name else None
            if against and against.median < 1:
                lines.append(f"- {contest['title']} ({contest['workload']}): **{name}** was faster, "
                             f"{against.median:.2f} ({against.low:.2f} - {against.high:.2f}).")
    return "\n".join(lines) if lines else "Nothing in this run."


def parts_text(host, rig):
    rows = [[f"`{part['run_name']}`" + where, f"{part['real_time']:.0f} {part['time_unit']}",
             f"{part['bytes_per_second'] / 1e9:.2f} GB/s" if "bytes_per_second" in part else ""]
            for data, where in ((host, ""), (rig, ", in the rig"))
            for part in (data or {}).get("parts") or [] if "error_occurred" not in part]
    return "## Parts of the page path\n\nMedians, by Google Benchmark.\n\n" + table(["", "time", "rate"], rows) if rows else ""


def twice_rows(again):
    for pair in (pair for first, second in again for pair in twice.pairs(first, second)):
        yield (pair.title, pair.peer, show(pair.first, "x"), show(pair.second, "x"), f"{pair.apart:.0%}", pair.verdict)


def twice_text(again):
    rows = list(twice_rows(again))
    if not rows:
        return ""
    gated = [row for row in rows if not row[-1].startswith("cold")]
    agree = sum(row[-1] == "agrees" for row in gated)
    return (f"## Measured twice\n\nThe same commit, a whole run after the other: {agree} of {len(gated)} ratios agree within "
            f"{twice.NEAR:.0%} and have the same winner (closer than that to 1, there is none).\n\n" +
            table(["", "peer", "first", "second", "apart", ""], rows))


def page(host, rig, again=()):
    """The whole page. `again`: pairs of results, the first and the second run of the same commit."""
    figures = Figures(host, rig)
    text = [METHOD]
    for name, data in (("Host", host), ("Rig", rig)):
        if data:
            text.append(machine_text(name, data))
    text.append("![Throughput, and ratios against each peer](benchmarks.png)\n")
    text.append("## Targets\n")
    text.append(table(["", "required", "stretch", "got", "spread (runs)", ""], target_rows(figures)))
    text.append("## What we lose, and why\n")
    text.append(losses_text(figures) + "\n")
    text.append(twice_text(again))
    text.append("## Contests\n")
    text.extend(contest_text(contest) for contest in figures.contests.values())
    text.append(parts_text(host, rig))
    text.append("""## Commands

```
./dev bench                 # the host: 12 minutes; build/bench/host.json
./dev bench --rig           # RDMA, in the soft-RoCE guest: 20 minutes; build/bench/rig/rig.json
./dev bench --again         # once more, with or without --rig: do the two runs agree?
bench/report.py --docs      # this page and docs/benchmarks.png; without --docs build/bench/report.html and its picture
```
""")
    return "\n".join(part for part in text if part)
