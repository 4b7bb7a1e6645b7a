# SPDX-License-Identifier: MIT
"""Migrations over rdma: between the rig's two hosts: real packets, a cable that can be pulled, a bad network.

RAMFERRY names the program; RAMFERRY_LONG=1 takes 256 MiB in place of 16, and adds loss and delay.
"""

import os
import subprocess
import time
import unittest

import rdma_case
from rdma_case import PeerVm, RdmaCase, harness, with_options

RAM = "256M" if harness.LONG else "16M"
STANDSTILL = rdma_case.STANDSTILL


class TwoHosts(RdmaCase):
    def pair_across(self, *source_options, **options):
        uri = with_options(f"rdma:{os.environ['RAMFERRY_RIG_B']}:0", **options)
        destination = PeerVm(self.directory, "destination", "--incoming", uri, ram=RAM)
        self.vms.append(destination)
        source = self.vm("source", *rdma_case.FILL, "--dirty-rate", "1M", *source_options, ram=RAM)
        return source.reach(), destination.reach()

    def move(self, **options):
        source, destination = self.pair_across(**options)
        source("migrate-set-parameters", downtime_limit=2000)
        source("migrate", uri=destination.uri())
        self.assert_moved(source, destination)
        own = source.own()
        # Between two fences that settle, by the channel's own clock.
        gap = int(own["transport"]["longest-silence"].split()[0]) / 1000
        self.assertGreater(gap, 0)
        print(f"{options}: {own['total-seconds']:.1f} s, longest gap between settled fences {gap:.2f} s", flush=True)
        self.end_all()
        return gap

    def test_every_pinning(self):
        self.move(pin="all", lanes=1)
        self.move(pin="demand", pin_budget="4M", lanes=4)

    def test_pulled_link(self):
        source, destination = self.pair_across("--stall-at", "active", peer_timeout=rdma_case.TIMEOUT)
        source("migrate", uri=with_options(destination.uri()))
        source.qmp.event("X_RAMFERRY_STALLED")
        subprocess.run(["rig-link", "down"], check=True)
        source("x-ramferry-continue")
        self.assert_noticed(source, "sign of life|disconnected|retry|port")
        self.assert_source_runs_on(source)
        self.assert_ends(destination)
        subprocess.run(["rig-link", "up"], check=True)
        self.end_all()
        self.wait_for_the_port()
        self.move()

    def wait_for_the_port(self):
        states = ["cat", "/sys/class/infiniband/rxe0/ports/1/state"]
        deadline = time.monotonic() + harness.PATIENCE
        while any("ACTIVE" not in subprocess.run(where + states, capture_output=True, text=True).stdout
                  for where in ([], ["rig-peer"])):
            self.assertLess(time.monotonic(), deadline, "the port stays down")
            time.sleep(0.1)

    @unittest.skipUnless(harness.LONG, "takes minutes: RAMFERRY_LONG=1")
    def test_bad_network(self):
        # How often fences settle on a good link depends on how fast two emulated guests are here and now.
        usual = self.move(lanes=4)
        for what in ("loss 0.1%", "loss 1%", "delay 5ms"):
            with self.subTest(network=what):
                subprocess.run(["rig-link", "netem", what], check=True)
                try:
                    print(what, end=" ", flush=True)
                    self.assertLess(self.move(lanes=4), usual + STANDSTILL)
                finally:
                    subprocess.run(["rig-link", "netem", "off"], check=True)


if __name__ == "__main__":
    rdma_case.address()
    harness.main()
