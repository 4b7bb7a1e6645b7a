#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds `max-bandwidth` to its word: how many bytes cross in each second, and the share of the limit that is.

A relay between source and destination counts what the source sends. Needs a machine that does little else: the
figures are of time.

    bench/bandwidth.py build/release/cli/ramferry --limit 50M --seconds 10
"""
import argparse
import json
import os
import pathlib
import socket
import statistics
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "e2e"))


class Relay:
    """Passes bytes on and notes how many came when."""

    def __init__(self, to_port):
        self.to_port, self.came = to_port, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(("127.0.0.1", self.to_port))
            threading.Thread(target=self.pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self.pump, args=(far, near, False), daemon=True).start()

    def pump(self, source, sink, counted):
        try:
            while data := source.recv(1 << 16):
                if counted:
                    self.came.append((time.monotonic(), len(data)))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def windows(came, length):
    """Bytes in each whole window, from the first byte on."""
    start, last = came[0][0], came[-1][0]
    sums = [0] * int((last - start) / length)
    for at, count in came:
        index = int((at - start) / length)
        if index < len(sums):
            sums[index] += count
    return sums


def size(text):
    units = {"K": 10**3, "M": 10**6, "G": 10**9}
    return int(float(text[:-1]) * units[text[-1]]) if text[-1] in units else int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--limit", type=size, default=50_000_000, help="bytes per second")
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    os.environ["RAMFERRY"] = arguments.program
    import harness
    with tempfile.TemporaryDirectory() as directory:
        ram = f"{int(arguments.limit * arguments.seconds * 2) // (1 << 20) + 64}M"
        destination = harness.Vm(directory, "destination", "--incoming", "tcp:127.0.0.1:0", ram=ram).reach()
        source = harness.Vm(directory, "source", "--fill", "random", ram=ram).reach()
        try:
            relay = Relay(int(destination.migration()["socket-address"][0]["port"]))
            source("migrate-set-parameters", max_bandwidth=arguments.limit, downtime_limit=0)
            source("migrate", uri=f"tcp:127.0.0.1:{relay.port}")
            source.wait_migration("active")
            time.sleep(arguments.seconds)
            came = list(relay.came)
            source("migrate_cancel")
        finally:
            source.end()
            destination.end()
    shares = [each / arguments.limit for each in windows(came, 1.0)]
    print(json.dumps({"limit": arguments.limit, "seconds": len(shares), "median": round(statistics.median(shares), 4),
                      "most": round(max(shares), 4), "least": round(min(shares), 4)}))
    return 0 if max(shares) <= 1.02 and abs(statistics.median(shares) - 1) <= 0.02 else 1


if __name__ == "__main__":
    sys.exit(main())
