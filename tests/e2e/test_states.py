# SPDX-License-Identifier: MIT
"""A migration's states as a monitor sees them: the pause before the switchover, cancels and how long they take, what is
told in each state and traced at each step.
"""

import contextlib
import re
import socket

import harness
from harness import Case
from test_control import capability

MOST_CANCEL_SECONDS = 2


class Both(Case):
    """A source, and a destination at each kind of socket."""

    def each_transport(self):
        for name, incoming in (("tcp", "tcp:127.0.0.1:0"), ("unix", f"unix:{self.directory}/way.sock")):
            with self.subTest(transport=name):
                yield incoming
            self._end_vms()
            self.vms.clear()


class Refusals(Case):
    def test_nothing_new_until_the_last_one_is_over(self):
        """In setup, active and cancelling; the source holds still at each."""
        for phase in ("setup", "active"):
            source, destination = self.pair(["--stall-at", phase])
            source("migrate", uri=destination.uri())
            self.assertEqual(source.qmp.event("X_RAMFERRY_STALLED"), {"at": phase})
            self.assert_refuses(source, phase)
            source("migrate_cancel")
            self.assert_refuses(source, "cancelling")
            source("migrate_cancel")   # once more changes nothing
            source("x-ramferry-continue")
            source.wait_migration("cancelled")
            capability(source, "xbzrle")
            other = self.vm(f"after-{phase}", "--incoming", "tcp:127.0.0.1:0").reach()
            source("migrate", uri=other.uri())
            self.assert_moved(source, other)
            source("migrate_cancel")
            self.assertEqual(source.migration()["status"], "completed", "what is over is not cancelled")
            self._end_vms()
            self.vms.clear()

    def assert_refuses(self, source, status):
        self.assertEqual(source.migration()["status"], status)
        for command in (lambda: source("migrate", uri="tcp:127.0.0.1:1"), lambda: capability(source, "xbzrle")):
            with self.assertRaisesRegex(harness.QmpError, "migration process in progress"):
                command()
        self.assertEqual(source.migration()["status"], status, "nor does it change anything")


class BeforeTheSwitchover(Both):
    def waiting(self, incoming="tcp:127.0.0.1:0"):
        source, destination = self.pair(["--dirty-rate", "10M"], incoming=incoming)
        capability(source, "events", "pause-before-switchover")
        source("migrate", uri=destination.uri())
        source.wait_migration("pre-switchover")
        return source, destination

    def test_waits_until_it_is_let_go_on(self):
        for incoming in self.each_transport():
            source, destination = self.waiting(incoming)
            self.assertEqual(source.state(), "finish-migrate")
            self.assertEqual(destination.state(), "inmigrate")
            info = source.migration()
            self.assertIn("expected-downtime", info)
            self.assertNotIn("downtime", info)
            with self.assertRaisesRegex(harness.QmpError, "not finalized"):
                source("cont")
            with self.assertRaisesRegex(harness.QmpError, "in progress"):
                capability(source, "xbzrle")
            with self.assertRaisesRegex(harness.QmpError, "not in expected state: pre-switchover"):
                source("migrate-continue", state="active")
            self.assertIn("waiting", self.ramferry("status", "--qmp", f"unix:{source.monitor}").stdout)
            source("migrate-continue", state="pre-switchover")
            self.assert_moved(source, destination)

    def test_cancelled_there_the_guest_runs_on(self):
        for incoming in self.each_transport():
            source, destination = self.waiting(incoming)
            source("migrate_cancel")
            self.assertEqual(source.wait_migration("cancelled")["status"], "cancelled")
            self.assert_source_runs_on(source)
            self.assertEqual(destination.exit_status(), 1)
            with self.assertRaisesRegex(harness.QmpError, "not in expected state: cancelled"):
                source("migrate-continue", state="pre-switchover")

    def test_stopped_there_and_cancelled_the_guest_stays_stopped(self):
        source, _ = self.waiting()
        source("stop")
        source("migrate_cancel")
        source.wait_migration("cancelled")
        self.assertEqual(source.wait_state("paused"), "paused")

    def test_destination_that_dies_meanwhile_is_noticed(self):
        for incoming in self.each_transport():
            source, destination = self.waiting(incoming)
            destination.kill()
            self.assertIn("error-desc", source.wait_migration("failed"))
            self.assert_source_runs_on(source)


class CancelLatency(Both):
    """Bounded here; the figures are printed."""

    def cancelled(self, source, where):
        done = self.ramferry("cancel", "--qmp", f"unix:{source.monitor}")
        self.assertRegex(done.stdout, r"cancelled in \d+ ms")
        seconds = source.own()["cancel-seconds"]
        print(f"cancel latency, {where}: {seconds * 1e3:.1f} ms", flush=True)
        self.assertLess(seconds, MOST_CANCEL_SECONDS, where)
        self.assert_source_runs_on(source)

    def test_while_it_connects(self):
        """The other end takes the connection and says nothing."""
        for family, at in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, f"{self.directory}/silent.sock")):
            with contextlib.closing(socket.socket(family)) as silent:
                silent.bind(at)
                silent.listen()
                name = silent.getsockname()
                source = self.vm("source", "--dirty-rate", "10M").reach()
                source("migrate", uri=f"unix:{name}" if family == socket.AF_UNIX else f"tcp:127.0.0.1:{name[1]}")
                self.assertEqual(source.migration()["status"], "setup")
                self.cancelled(source, f"setup, {'unix' if family == socket.AF_UNIX else 'tcp'}")
                source.kill()

    def test_a_new_migration_does_not_wait_for_an_attempt_that_was_given_up(self):
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
            source, destination = self.pair(["--dirty-rate", "10M"])
            begun = harness.time.monotonic()
            for _ in range(4):   # each would hold the next up for ten seconds
                source("migrate", uri=f"tcp:127.0.0.1:{silent.getsockname()[1]}")
                self.assertEqual(source.migration()["status"], "setup")
                source("migrate_cancel")
                source.wait_migration("cancelled")
            source("migrate", uri=destination.uri())
            self.assertLess(harness.time.monotonic() - begun, 30)
            self.assert_moved(source, destination)
            source.kill()

    def test_while_pages_move(self):
        for incoming in self.each_transport():
            source, destination = self.pair(["--dirty-rate", "10M"], incoming=incoming)
            source("migrate-set-parameters", max_bandwidth=1_000_000)
            source("migrate", uri=destination.uri())
            source.wait_migration("active")
            self.cancelled(source, f"active, {incoming[:4].strip(':')}")

    def test_in_a_write_that_is_stuck(self):
        """The destination stands still, and what is between them is full."""
        for incoming in self.each_transport():
            source, destination = self.pair(["--dirty-rate", "10M", "--fill", "random"], incoming=incoming, ram="128M")
            source("migrate-set-parameters", max_bandwidth=1_000_000)
            source("migrate", uri=destination.uri())
            source.wait_migration("active")
            destination.freeze()
            source("migrate-set-parameters", max_bandwidth=0)
            self.wait_until_stuck(source)
            self.cancelled(source, f"stuck write, {incoming[:4].strip(':')}")

    def wait_until_stuck(self, source):
        """Two looks, further apart than it takes to notice a new limit, saw the same number of bytes."""
        deadline = harness.time.monotonic() + harness.PATIENCE
        sent = -1
        while (now := source.migration()["ram"]["transferred"]) != sent:
            self.assertLess(harness.time.monotonic(), deadline)
            sent = now
            harness.time.sleep(0.3)

    def test_before_the_switchover(self):
        source, _ = BeforeTheSwitchover.waiting(self)
        self.cancelled(source, "pre-switchover, tcp")


class Told(Both):
    """What `x-ramferry` has, in each state in which it makes sense."""

    def test_of_the_transport_and_the_migration(self):
        for incoming in self.each_transport():
            source, destination = self.pair(["--dirty-rate", "10M"], incoming=incoming)
            capability(source, "pause-before-switchover")
            source("migrate-set-parameters", max_bandwidth=2_000_000)
            source("migrate", uri=destination.uri() + "?lanes=2")
            source.wait_migration("active")
            at_source, at_destination = source.own(), destination.own()
            self.assertEqual(at_source["session"], at_destination["session"])
            self.assert_tells_of_the_link(at_source, incoming)
            self.assertEqual(at_destination["lanes"], 2)
            source("migrate-set-parameters", max_bandwidth=0, downtime_limit=2000)
            source.wait_migration("pre-switchover")
            waiting = source.own()
            self.assert_tells_of_the_link(waiting, incoming)
            self.assertGreater(waiting["time-to-first-byte-seconds"], 0)
            self.assertIn("predicted-downtime-seconds", waiting)
            source("migrate-continue", state="pre-switchover")
            self.assert_moved(source, destination)
            done = source.own()
            self.assert_tells_of_the_link(done, incoming)
            self.assertNotIn("predicted-downtime-seconds", done)
            self.assertNotIn("cancel-seconds", done)
            self.assertGreater(done["downtime-seconds"], 0)
            self.assertEqual(destination.own()["session"], done["session"])

    def assert_tells_of_the_link(self, own, incoming):
        self.assertRegex(own["session"], "^[0-9a-f]{32}$")
        self.assertEqual(own["lanes"], 2)
        self.assertEqual(own["pinned-bytes"], 0, "sockets pin nothing")
        self.assertIn(own["tracker"], ("pagemap-scan", "userfaultfd"))
        self.assertEqual(own["transport"]["scheme"], incoming.split(":")[0])
        self.assertIn("remote", own["transport"])

    def test_a_source_that_connects_has_a_session_and_no_link(self):
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
            source = self.vm("source").reach()
            source("migrate", uri=f"tcp:127.0.0.1:{silent.getsockname()[1]}")
            own = source.own()
            self.assertEqual(own["state"], "setup")
            self.assertEqual(own["transport"], {"scheme": "tcp"})
            for absent in ("lanes", "pinned-bytes", "time-to-first-byte-seconds", "predicted-downtime-seconds"):
                self.assertNotIn(absent, own)
            source("migrate_cancel")
            self.assertIn("cancel-seconds", source.wait_migration("cancelled")["x-ramferry"])
            source.kill()


class Traced(Case):
    def test_a_line_at_each_step(self):
        source = self.vm("source", "--dirty-rate", "10M", "--verbose").reach()
        destination = self.vm("destination", "--incoming", "tcp:127.0.0.1:0", "--verbose").reach()
        self.begin_and_cancel(source, destination)
        other = self.vm("other", "--incoming", "tcp:127.0.0.1:0", "--verbose").reach()
        source("migrate", uri=other.uri())
        self.assert_moved(source, other)
        for vm in (source, other):
            vm.end()
        for line in (r"migration state from=active to=cancelling", r"migration state from=cancelling to=cancelled",
                     r"migration state from=device to=completed", r"migration cancel$",
                     r"migration pending bytes=\d+ exact=yes", r"migration pending bytes=\d+ exact=no",
                     r"migration window section=ram wire_bytes=\d+ bytes_per_second=\d+", r"migration cleanup$",
                     r"migration global state saved=running"):
            self.assertTrue(re.search(line, source.errors(), re.M), line)
        for line in (r"migration state from=setup to=active", r"migration global state loaded=running",
                     r"migration cleanup$"):
            self.assertTrue(re.search(line, other.errors(), re.M), line)


if __name__ == "__main__":
    harness.main()
