#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Does `compress` ever make a migration slower on a link of 1 Gbit/s? Pairs without and with, alternated, by content.

The link is a veth pair between two network namespaces with a token bucket: it takes root, iproute2, and a machine that
does little else. A pair's ratio is the time without by the time with; 1 and more is at least as fast.

    bench/compression.py build/release/cli/ramferry --pairs 5
"""
import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "e2e"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

LEAST_RATIO = 0.97    # what two runs of the same differ by


def run(*command):
    subprocess.run(command, check=True)


@contextlib.contextmanager
def link(rate):
    """Two namespaces; what leaves the first goes at `rate`."""
    near, far = (f"ramferry-{os.getpid()}-{end}" for end in "ab")
    try:
        for name in (near, far):
            run("ip", "netns", "add", name)
        run("ip", "link", "add", "ramferry0", "netns", near, "type", "veth", "peer", "name", "ramferry0", "netns", far)
        for name, address in ((near, "192.0.2.1/24"), (far, "192.0.2.2/24")):
            run("ip", "-n", name, "addr", "add", address, "dev", "ramferry0")
            run("ip", "-n", name, "link", "set", "ramferry0", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "netns", "exec", near, "tc", "qdisc", "add", "dev", "ramferry0", "root", "tbf", "rate", rate, "burst",
            "256kb", "latency", "20ms")
        yield near, far
    finally:
        for name in (near, far):
            subprocess.run(["ip", "netns", "del", name], check=False)


def migrate(harness, near, far, fill, ram, method):
    """(seconds, pages compressed, pages that went as they are because it did not pay)"""
    with tempfile.TemporaryDirectory() as directory:
        def vm(name, namespace, *options):
            return harness.Vm(directory, name, program=[
                "ip", "netns", "exec", namespace, harness.PROGRAM, "vm", "--name", name, "--qmp",
                f"unix:{directory}/{name}.qmp", "--ram", ram, "--die-with-parent", str(os.getpid()), *options])
        destination = vm("destination", far, "--incoming", "tcp:192.0.2.2:0")
        source = vm("source", near, "--fill", fill)
        try:
            source.reach(), destination.reach()
            if method:
                source("migrate-set-capabilities", capabilities=[{"capability": "compress", "state": True}])
                source("migrate-set-parameters", compress_method=method)
            source("migrate", uri=destination.uri())
            info = source.wait_migration("completed", "failed")
            if info["status"] != "completed":
                raise SystemExit(info)
            own = info["x-ramferry"]
            return (own["total-seconds"], info.get("compression", {}).get("pages", 0),
                    own.get("compression-declined-pages", 0))
        finally:
            source.end()
            destination.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--ram", default="256M")
    parser.add_argument("--rate", default="1gbit")
    arguments = parser.parse_args()
    os.environ["RAMFERRY"] = arguments.program
    import harness
    from benchkit import image
    slower = []
    with tempfile.TemporaryDirectory() as folder, link(arguments.rate) as (near, far):
        text = os.path.join(folder, "text")
        with open(text, "wb") as file:
            piece = image.text(64 << 20)
            file.write(b"".join(piece(number) for number in range(64)))
        for content, fill in (("random", "random"), ("text", text), ("mixed", f"mixed:{text}")):
            for method in ("zlib", "zstd"):
                pairs = []
                for _ in range(arguments.pairs):
                    without = migrate(harness, near, far, fill, arguments.ram, None)
                    pairs.append((without, migrate(harness, near, far, fill, arguments.ram, method)))
                ratios = sorted(without[0] / compressed[0] for without, compressed in pairs)
                last = pairs[-1][1]
                print(json.dumps({"content": content, "method": method, "ratio": round(statistics.median(ratios), 3),
                                  "least": round(ratios[0], 3), "most": round(ratios[-1], 3), "seconds without":
                                  round(statistics.median(pair[0][0] for pair in pairs), 2), "pages compressed": last[1],
                                  "did not pay for": last[2]}), flush=True)
                if statistics.median(ratios) < LEAST_RATIO:
                    slower.append((content, method))
    return f"slower with compression: {slower}" if slower else 0


if __name__ == "__main__":
    sys.exit(main())
