# SPDX-License-Identifier: MIT
"""What may happen to a migration over rdma: on one host: a clear error in bounded time, a source that runs on, and a
device on which nothing is left.

RAMFERRY names the program. With two hosts, see test_two_hosts.py.
"""

import subprocess
import time
import unittest

import rdma_case
from rdma_case import IN_RIG, TIMEOUT, RdmaCase, harness

PHASES = ("setup", "active", "switchover", "prepared")
SOME_PHASES = PHASES if harness.LONG else ("active", "prepared")


class Faults(RdmaCase):
    def held_at(self, phase, ram="16M", **options):
        """Source and destination, the migration held at `phase`."""
        stall = ["--stall-at", phase]
        at_source = phase != "prepared"
        source, destination, uri = self.rdma_pair(["--dirty-rate", "2M", *(stall if at_source else [])],
                                                  [] if at_source else stall, ram=ram, peer_timeout=TIMEOUT, **options)
        source("migrate", uri=uri)
        held = source if at_source else destination
        self.assertEqual(held.qmp.event("X_RAMFERRY_STALLED"), {"at": phase})
        return source, destination

    @staticmethod
    def go_on(*vms):
        for vm in vms:
            try:
                vm("x-ramferry-continue")
            except ConnectionError:  # it lost its peer, and has ended already
                vm.exit_status()

    def each(self, phases, what):
        for phase in phases:
            self.watch_for_hangs()
            with self.subTest(phase=phase):
                what(phase)
            self.end_all()

    def test_cancel(self):
        def cancel(phase):
            source, destination = self.held_at(phase)
            source("migrate_cancel")
            self.go_on(source, destination)
            source.wait_migration("cancelled")
            self.assert_source_runs_on(source)
            self.assert_ends(destination)

        self.each(PHASES, cancel)

    def test_killed_destination(self):
        def kill(phase):
            source, destination = self.held_at(phase)
            destination.kill()
            self.go_on(source)
            self.assert_noticed(source, "disconnected|gone")
            self.assert_source_runs_on(source)

        self.each(SOME_PHASES, kill)

    def test_killed_source(self):
        source, destination = self.held_at("active")
        source.kill()
        self.assert_ends(destination)
        self.end_all()

    def test_frozen_destination(self):
        source, destination = self.held_at("active")
        destination.freeze()
        self.go_on(source)
        self.assert_noticed(source, "5 s for a sign of life.*peer-timeout")
        self.assert_source_runs_on(source)
        destination.thaw()
        self.assert_ends(destination)
        self.end_all()

    def test_frozen_source(self):
        source, destination = self.held_at("active")
        source.freeze()
        self.assert_ends(destination)
        source.thaw()
        self.go_on(source)
        self.assert_noticed(source, "disconnected|gone")
        self.assert_source_runs_on(source)
        self.end_all()

    def test_destination_killed_while_it_registers(self):
        # Pieces of 64 KiB: there are so many that some are always still to come.
        source, destination, uri = self.rdma_pair(["--dirty-rate", "2M"], fill=["--fill", "random"], ram="64M", chunk="64K", peer_timeout=TIMEOUT)
        source("migrate", uri=uri)
        deadline = time.monotonic() + harness.PATIENCE
        while rdma_case.resources()["mr"] < 40:
            self.assertLess(time.monotonic(), deadline, "nothing is being registered")
        destination.kill()
        self.assert_noticed(source, "disconnected|gone")
        self.assert_source_runs_on(source)
        self.end_all()

    def test_memory_lock_limit_at_either_end(self):
        # What pin=all cannot have is an error that names limit and fix; pin=demand moves a guest larger than it.
        for limited_end in ("source", "destination"):
            with self.subTest(limited_end=limited_end):
                make = {"source": self.vm, "destination": self.vm}
                make[limited_end] = lambda name, *options, ram: self.limited(name, 8 << 20, *options, ram=ram)
                destination = make["destination"]("destination", "--incoming", self.uri(), ram="24M").reach()
                source = make["source"]("source", "--fill", "random", "--dirty-rate", "256K", ram="24M").reach()
                source("migrate", uri=destination.uri())
                self.assert_fails_with(source, "(?s)RLIMIT_MEMLOCK is 8 MiB.*(raise it|pin=demand)")
                self.assert_source_runs_on(source)
                self.assert_ends(destination)
                other = make["destination"]("other", "--incoming", self.uri(pin="demand"), ram="24M").reach()
                source("migrate", uri=other.uri())
                self.assert_moved(source, other)
                stats = source.own()["stream"]
                if limited_end == "source":
                    self.assertLess(stats["peak-pinned-bytes"], 8 << 20)
            self.end_all()

    @unittest.skipUnless(IN_RIG, "it takes the device away")
    def test_device_removed_mid_round(self):
        source, destination = self.held_at("active")
        source("migrate-set-parameters", max_bandwidth=500_000)    # the device goes long before the last page
        removing = subprocess.Popen(["rdma", "link", "delete", "rxe0"])
        try:
            self.go_on(source)
            self.assert_fails_with(source, "removed|disconnected|device|gone|does not")
            self.assert_source_runs_on(source)
            self.assert_ends(destination)
            self.end_all()
            self.assertEqual(removing.wait(harness.PATIENCE), 0, "it waits for the programs that hold the device")
        finally:
            self.end_all()
            removing.wait(harness.PATIENCE)
            subprocess.run(["rdma", "link", "add", "rxe0", "type", "rxe", "netdev", "eth0"], check=True)
        deadline = time.monotonic() + harness.PATIENCE
        while True:
            try:
                rdma_case.address()
                break
            except SystemExit:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.1)

    def test_second_source_during_a_migration(self):
        source, destination = self.held_at("active")
        second = self.vm("second", *rdma_case.FILL, "--dirty-rate", "1M", ram="16M").reach()
        second("migrate", uri=rdma_case.with_options(source.own()["uri"]))
        self.assert_fails_with(second, "timed out.*in another migration")
        self.assert_source_runs_on(second)
        self.go_on(source)
        self.assert_moved(source, destination)
        self.end_all()

    def test_hello_from_a_stranger(self):
        source, destination, uri = self.rdma_pair(peer_timeout=TIMEOUT)
        port = uri.split("?")[0].rsplit(":", 1)[1]
        stranger = subprocess.run(["timeout", "20", "ib_write_bw", "-R", "-p", port, "-n", "5", rdma_case.address()],
                                  capture_output=True, text=True)
        self.assertNotEqual(stranger.returncode, 0, stranger.stdout)
        self.assertRegex(destination.errors(), "refused a connection")
        source("migrate", uri=uri)
        self.assert_moved(source, destination)
        self.end_all()


if __name__ == "__main__":
    rdma_case.address()
    harness.main()
