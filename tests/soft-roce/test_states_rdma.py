# SPDX-License-Identifier: MIT
"""The control plane over rdma:, on one host: states, events and what is told in each, cancels, limits, throttling, disks,
and what is refused there. All pages are swept after each migration, and nothing is left on the device.

RAMFERRY names the program.
"""

import os
import random
import sys
import time

import rdma_case
from rdma_case import RdmaCase, harness

MOST_CANCEL_SECONDS = 2
MIB = 1 << 20


def capability(vm, *names, state=True):
    vm("migrate-set-capabilities", capabilities=[{"capability": name, "state": state} for name in names])


class States(RdmaCase):
    def assert_tells_of_the_link(self, own, lanes="4", pin="all"):
        self.assertRegex(own["session"], "^[0-9a-f]{32}$")
        facts = own["transport"]
        self.assertEqual((facts["scheme"], facts["lanes"], facts["pin"]), ("rdma", lanes, pin))
        self.assertTrue(facts["device"] and facts["gid"] and int(facts["mtu"]) >= 256, facts)
        self.assertIn("pinned", facts)
        self.assertEqual(own["lanes"], int(lanes))
        self.assertGreater(own["pinned-bytes"], 0)

    def test_each_state_and_what_it_tells(self):
        source, destination, uri = self.rdma_pair(["--dirty-rate", "2M"], fill=("--fill", "random"))
        capability(source, "events", "pause-before-switchover", "rdma-pin-all")
        source("migrate-set-parameters", max_bandwidth=2_000_000)
        source("migrate", uri=uri)
        source.wait_migration("active")
        self.assert_tells_of_the_link(source.own())
        self.assert_tells_of_the_link(destination.own())
        self.assertEqual(source.own()["session"], destination.own()["session"])
        source("migrate-set-parameters", max_bandwidth=0, downtime_limit=5000)
        info = source.wait_migration("pre-switchover")
        self.assert_tells_of_the_link(info["x-ramferry"])
        self.assertGreaterEqual(info["x-ramferry"]["stream"]["peak-pinned-bytes"], 16 * MIB, "all of it is registered")
        for name in ("tracker", "time-to-first-byte-seconds", "predicted-downtime-seconds"):
            self.assertIn(name, info["x-ramferry"])
        self.assertEqual((source.state(), destination.state()), ("finish-migrate", "inmigrate"))
        source("migrate-continue", state="pre-switchover")
        self.assert_moved(source, destination)
        done = source.migration()
        self.assert_tells_of_the_link(done["x-ramferry"])
        told, passes = self.told(source)
        self.assertEqual(told, ["setup", "active", "STOP", "pre-switchover", "device", "completed"])
        self.assertEqual(passes, list(range(1, done["ram"]["dirty-sync-count"] + 1)))
        self.end_all()

    @staticmethod
    def told(vm):
        """States and run states by name; and the numbers of the passes."""
        told, passes = [], []
        while not told or told[-1] != "completed":
            event = vm.qmp.events.popleft() if vm.qmp.events else vm.qmp._read()
            if event["event"] == "MIGRATION_PASS":
                passes.append(event["data"]["pass"])
            else:
                told.append(event.get("data", {}).get("status", event["event"]))
        return told, passes

    def test_paused_guest_arrives_paused(self):
        source, destination, uri = self.rdma_pair(["--paused"])
        source("migrate", uri=uri)
        self.assertEqual(source.wait_migration("completed", "failed")["status"], "completed")
        self.assertEqual(destination.wait_state("prelaunch", "paused"), "prelaunch")
        self.assert_right(destination.sweep())
        self.end_all()


class Cancels(RdmaCase):
    def cancelled(self, source, where):
        source("migrate_cancel")
        seconds = source.wait_migration("cancelled")["x-ramferry"]["cancel-seconds"]
        print(f"cancel latency, {where}, rdma: {seconds * 1e3:.0f} ms", flush=True)
        self.assertLess(seconds, MOST_CANCEL_SECONDS, where)
        self.assert_source_runs_on(source)

    def test_in_setup_active_and_before_the_switchover_then_a_new_one(self):
        source = self.vm("source", *rdma_case.FILL, "--dirty-rate", "2M", ram="16M").reach()
        capability(source, "pause-before-switchover")
        source("migrate-set-parameters", downtime_limit=5000)
        for where in ("setup", "active", "pre-switchover"):
            stall = ["--stall-at", "setup"] if where == "setup" else []
            destination = self.vm(f"at-{where}", "--incoming", self.uri(), *stall, ram="16M").reach()
            source("migrate-set-parameters", max_bandwidth=1_000_000 if where == "active" else 0)
            source("migrate", uri=destination.uri())
            source.wait_migration(where)
            self.cancelled(source, where)
            if where == "setup":
                destination.kill()
            else:
                self.assert_ends(destination)
        capability(source, "pause-before-switchover", state=False)
        destination = self.vm("destination", "--incoming", self.uri(), ram="16M").reach()
        self.assertEqual(source("query-migrate-parameters")["downtime-limit"], 5000, "settings survive")
        source("migrate", uri=destination.uri())
        self.assert_moved(source, destination)
        self.end_all()

    def test_in_a_write_to_a_destination_that_stands_still(self):
        source, destination, uri = self.rdma_pair(["--dirty-rate", "2M"])
        source("migrate-set-parameters", max_bandwidth=1_000_000)
        source("migrate", uri=uri)
        source.wait_migration("active")
        destination.freeze()
        source("migrate-set-parameters", max_bandwidth=0)
        sent = -1
        while (now := source.migration()["ram"]["transferred"]) != sent:
            sent = now
            time.sleep(0.5)
        self.cancelled(source, "stuck")
        destination.thaw()
        self.assert_ends(destination)
        self.end_all()


class Limits(RdmaCase):
    def test_bandwidth_is_kept_and_lifted_while_it_runs(self):
        limit = 2_000_000
        source, destination, uri = self.rdma_pair(fill=("--fill", "random"))
        source("migrate-set-parameters", max_bandwidth=limit)
        source("migrate", uri=uri)
        source.wait_migration("active")
        looks = []
        while not looks or looks[-1][2] - looks[0][2] < 3:
            before = time.monotonic()
            sent = source.migration()["ram"]["transferred"]
            looks.append((before, sent, time.monotonic()))
            time.sleep(0.2)
        for first in looks:
            for last in looks:
                if last[0] - first[2] >= 1:
                    # At most a window's worth may fall before or behind the looks.
                    most = limit * 1.02 * (last[2] - first[0] + 0.1)
                    self.assertLessEqual(last[1] - first[1], most)
        self.assertGreater(looks[-1][1] - looks[0][1], limit, "nor does it stand still")
        source("migrate-set-parameters", max_bandwidth=0)
        self.assert_moved(source, destination)
        self.end_all()

    def test_guest_that_outruns_the_link_is_slowed_down_and_let_go(self):
        source, destination, uri = self.rdma_pair(["--dirty-rate", "20M", "--pattern", "hot"], ram="8M")
        capability(source, "auto-converge")
        source("migrate-set-parameters", max_bandwidth=2_000_000, downtime_limit=1, cpu_throttle_initial=40)
        source("migrate", uri=uri)
        deadline = time.monotonic() + harness.PATIENCE * 2
        while "cpu-throttle-percentage" not in (info := source.migration()):
            self.assertLess(time.monotonic(), deadline, info)
            time.sleep(0.1)
        self.assertGreaterEqual(info["cpu-throttle-percentage"], 40)
        source("migrate-set-parameters", max_bandwidth=0, downtime_limit=100_000)
        self.assert_moved(source, destination)
        self.end_all()


class Disks(RdmaCase):
    SIZE = 2 * MIB + 4096

    def image(self, name, seed=None):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(random.Random(seed).randbytes(self.SIZE) if seed else bytes(self.SIZE))
        return path

    def moved(self, source_options, destination_options, **how):
        a, b = self.image("a", 1), self.image("b")
        source, destination, uri = self.rdma_pair(["--disk", a, *source_options], ["--disk", b, *destination_options],
                                                  ram="8M")
        source("migrate", uri=uri, **how)
        self.assert_moved(source, destination)
        with open(a, "rb") as left, open(b, "rb") as right:
            self.assertEqual(left.read(), right.read())
        disk = source.own()["disk"]
        self.end_all()
        return disk

    def test_image_moves_live(self):
        disk = self.moved(["--dirty-rate", "1M", "--disk-rate", "200K"], [], blk=True)
        self.assertEqual((disk["total"], disk["remaining"]), (self.SIZE, 0))
        self.assertGreaterEqual(disk["transferred"], self.SIZE)

    def test_only_what_differs_from_the_base(self):
        base = self.image("base", 1)
        with open(base, "r+b") as file:
            file.write(b"another beginning")
        disk = self.moved(["--disk-base", base], ["--disk-base", base], blk=True, inc=True)
        self.assertEqual(disk["transferred"], MIB)


class Refusals(RdmaCase):
    def test_encodings_by_name_and_with_the_reason(self):
        source, destination, uri = self.rdma_pair(["--dirty-rate", "2M"])
        for name in ("xbzrle", "compress"):
            capability(source, name)
            with self.assertRaisesRegex(harness.QmpError, f"'{name}' cannot be used with 'rdma:'.*straight into"):
                source("migrate", uri=uri)
            self.assertEqual(source.migration()["status"], "failed")
            capability(source, name, state=False)
        self.assert_source_runs_on(source)
        source("migrate", uri=uri)
        self.assert_moved(source, destination)
        self.end_all()

    def test_pinning_by_capability_yields_to_the_address(self):
        source, destination, uri = self.rdma_pair()
        capability(source, "rdma-pin-all")
        source("migrate", uri=rdma_case.with_options(uri, pin="demand", lanes="1"))
        self.assert_moved(source, destination)
        self.assertEqual(source.own()["transport"]["pin"], "demand")
        self.assertEqual(source.own()["lanes"], 1)
        self.end_all()


if __name__ == "__main__":
    rdma_case.address()
    sys.exit(harness.main())
