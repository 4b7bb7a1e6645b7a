#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Makes docs/benchmarks.md, its picture, and the report page from the results of bench/bench.py."""
import argparse
import os
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
from benchkit import markdown, twice           # noqa: E402
from benchkit.figures import Figures           # noqa: E402
from benchkit.store import load                # noqa: E402


def parse():
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: bench/report.py --docs")
    add = parser.add_argument
    add("--host", default="build/bench/host.json", help="results of ./dev bench")
    add("--rig", default="build/bench/rig/rig.json", help="results of ./dev bench --rig")
    add("--again", action="append", metavar="JSON", help="results of the same commit measured once more: how well do "
        "the two agree? (default: what ./dev bench [--rig] --again left)")
    add("--out", default="build/bench", metavar="DIR", help="where report.html and report.png go")
    add("--docs", action="store_true", help="write docs/benchmarks.md and docs/benchmarks.png too")
    add("--rows", action="store_true", help="only print the targets")
    return parser.parse_args()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    print(path)


def second_runs(paths, firsts):
    """Each second result beside the first one of its kind. Only one that was asked for must fit."""
    for path in paths or filter(os.path.exists, ("build/bench/again.json", "build/bench/rig/again.json")):
        second = load(path)
        first = next((each for each in firsts if each and each["identity"]["scope"] == second["identity"]["scope"]), None)
        differs = twice.same_kind(first, second) if first else "there is no first one"
        if not differs:
            yield first, second
        elif paths:
            sys.exit(f"report: {path} does not repeat the same measurement: {differs}")


def main():
    options = parse()
    host, rig = (load(path) if os.path.exists(path) else None for path in (options.host, options.rig))
    if host is None and rig is None:
        sys.exit(f"report: neither {options.host} nor {options.rig} is there: run ./dev bench")
    figures = Figures(host, rig)
    again = list(second_runs(options.again, (host, rig)))
    if options.rows:
        for title, required, stretch, got, of, verdict in markdown.target_rows(figures):
            print(f"{verdict:13} {got:>12}  {of:30} asked {required:>12}  {title}")
        for title, peer, first, second, apart, verdict in markdown.twice_rows(again):
            print(f"{verdict:14} {first:>6} {second:>6}  {apart:>5} apart  {title}: {peer}")
        return 0
    text = markdown.page(host, rig, again)
    os.makedirs(options.out, exist_ok=True)
    write(os.path.join(options.out, "benchmarks.md"), text)
    if options.docs:
        write(os.path.join(HERE, "../docs/benchmarks.md"), text)
    try:
        from benchkit import html, plots
    except ImportError as why:
        sys.exit(f"report: no pictures without matplotlib ({why}): apt-get install python3-matplotlib")
    plots.summary(figures, os.path.join(options.out, "benchmarks.png"))
    if options.docs:
        plots.summary(figures, os.path.join(HERE, "../docs/benchmarks.png"))
    write(os.path.join(options.out, "report.html"), html.page(host, rig))
    return 0


if __name__ == "__main__":
    sys.exit(main())
