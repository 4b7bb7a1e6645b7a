# SPDX-License-Identifier: MIT
"""What becomes of the guest when something breaks: at every phase there is one owner, or one that knows it may not be.

A phase is reached by a VM that holds still there (--stall-at): setup, active and switchover at the source; prepared (all
is loaded, the source does not know) and committed (the source has let go) at the destination.
"""

import contextlib
import random
import socket

import harness
from harness import Case, with_options

BEFORE_COMMIT = ("setup", "active", "switchover", "prepared")
PHASES = (*BEFORE_COMMIT, "committed")


class AtEachPhase(Case):
    PEER_TIMEOUT = 1  # seconds; a frozen peer is noticed after it

    def at(self, phase, through_proxy=False):
        """Source and destination, the migration held at `phase`; and the proxy between them, if there is one."""
        at_source = phase in ("setup", "active", "switchover")
        stall = ["--stall-at", phase]
        source, destination = self.pair(["--dirty-rate", "20M", *(stall if at_source else [])],
                                        [] if at_source else stall,
                                        incoming=f"tcp:127.0.0.1:0?peer-timeout={self.PEER_TIMEOUT}", ram="16M")
        proxy = None
        uri = f"tcp:127.0.0.1:{destination.migration()['socket-address'][0]['port']}"
        if through_proxy:
            proxy, uri = self.proxied(destination)
        source("migrate", uri=with_options(uri, peer_timeout=self.PEER_TIMEOUT))
        held = source if at_source else destination
        self.assertEqual(held.qmp.event("X_RAMFERRY_STALLED"), {"at": phase})
        return source, destination, proxy

    def each(self, phases, what):
        for phase in phases:
            self.watch_for_hangs()
            with self.subTest(phase=phase):
                what(phase)
            self._end_vms()
            self.vms.clear()

    @staticmethod
    def go_on(*vms):
        for vm in vms:
            try:
                vm("x-ramferry-continue")
            except ConnectionError:  # a destination that lost its source may have ended already, as it should
                vm.exit_status()

    def assert_never_runs(self, destination):
        """It has ended, or waits for a decision; it does not run."""
        if destination.alive():
            try:
                self.assertIn(destination.state(), ("inmigrate", "paused"))
                self.assertNotEqual(destination.own().get("hand-over"), "running")
            except (ConnectionError, harness.QmpError):
                pass
        if not destination.alive():
            self.assertEqual(destination.exit_status(), 1)

    def assert_unknown_at_source(self, source):
        info = source.wait_migration("failed")
        self.assertEqual(info["x-ramferry"]["hand-over"], "unknown")
        self.assertRegex(info["x-ramferry"]["session"], "^[0-9a-f]{32}$")
        self.assertEqual(source.state(), "finish-migrate")
        with self.assertRaisesRegex(harness.QmpError, "x-ramferry-force"):
            source("cont")
        with self.assertRaises(harness.QmpError):
            source("migrate", uri="tcp:127.0.0.1:1")

    def test_cancel_before_commit_leaves_the_guest_here(self):
        def cancel(phase):
            source, destination, _ = self.at(phase)
            source("migrate_cancel")
            self.go_on(source, destination)
            source.wait_migration("cancelled")
            self.assert_source_runs_on(source)
            self.assertEqual(destination.exit_status(), 1)

        self.each(BEFORE_COMMIT, cancel)

    def test_cancel_after_commit_comes_too_late(self):
        source, destination, _ = self.at("committed")
        source("migrate_cancel")
        self.go_on(destination)
        self.assert_moved(source, destination)

    def test_killed_destination_leaves_the_guest_here(self):
        def kill(phase):
            source, destination, _ = self.at(phase)
            destination.kill()
            self.go_on(source)
            self.assertIn("error-desc", source.wait_migration("failed"))
            self.assert_source_runs_on(source)

        self.each(BEFORE_COMMIT, kill)

    def test_destination_killed_with_the_guest_leaves_a_source_that_says_so(self):
        source, destination, _ = self.at("committed")
        destination.kill()
        self.assert_unknown_at_source(source)
        source("cont", x_ramferry_force=True)
        self.assert_source_runs_on(source)

    def test_killed_source_leaves_a_destination_that_never_runs(self):
        def kill(phase):
            source, destination, _ = self.at(phase)
            source.kill()
            if phase == "prepared":
                self.go_on(destination)
                destination.wait_state("paused")
                self.assertEqual(destination.own()["hand-over"], "unknown")
                with self.assertRaisesRegex(harness.QmpError, "x-ramferry-force"):
                    destination("cont")
                destination("cont", x_ramferry_force=True)
                self.assertEqual(destination.state(), "running")
                self.assert_right(destination.swept())
            else:
                self.assertEqual(destination.exit_status(), 1)

        self.each(BEFORE_COMMIT, kill)

    def test_source_killed_after_commit_has_given_the_guest_away(self):
        source, destination, _ = self.at("committed")
        source.kill()
        self.go_on(destination)
        destination.wait_state("running")
        self.assert_right(destination.swept())

    def test_cut_link_before_commit_leaves_the_guest_here(self):
        def cut(phase):
            source, destination, proxy = self.at(phase, through_proxy=True)
            proxy.close()
            self.go_on(source, destination)
            source.wait_migration("failed")
            self.assert_source_runs_on(source)
            self.assert_never_runs(destination)

        self.each(BEFORE_COMMIT, cut)

    def test_cut_link_after_commit_is_unknown_to_the_source_alone(self):
        source, destination, proxy = self.at("committed", through_proxy=True)
        proxy.close()
        self.assert_unknown_at_source(source)
        self.go_on(destination)
        destination.wait_state("running")
        self.assert_right(destination.swept())

    def test_lost_commit_is_unknown_at_both_ends(self):
        source, destination, proxy = self.at("prepared", through_proxy=True)
        proxy.swallowing = True
        self.go_on(destination)
        while source.own().get("hand-over") != "committed":
            self.assertEqual(source.own()["state"], "device")
        proxy.close()
        self.assert_unknown_at_source(source)
        destination.wait_state("paused")
        self.assertEqual(destination.own()["hand-over"], "unknown")
        self.assertEqual(destination.own()["session"], source.own()["session"])
        with self.assertRaisesRegex(harness.QmpError, "x-ramferry-force"):
            destination("cont")

    def test_frozen_destination_is_noticed_and_does_not_run_when_it_thaws(self):
        def freeze(phase):
            source, destination, _ = self.at(phase)
            destination.freeze()
            self.go_on(source)
            source.wait_migration("failed")
            self.assert_source_runs_on(source)
            destination.thaw()
            if phase == "prepared":
                self.go_on(destination)
            self.assert_never_runs(destination)
            self.assertEqual(source.state(), "running")

        self.each(BEFORE_COMMIT, freeze)

    def test_destination_frozen_after_commit_keeps_the_guest(self):
        source, destination, _ = self.at("committed")
        destination.freeze()
        self.assert_unknown_at_source(source)
        destination.thaw()
        self.go_on(destination)
        destination.wait_state("running")
        self.assertEqual(source.state(), "finish-migrate")

    def test_frozen_source_is_noticed_and_keeps_the_guest_when_it_thaws(self):
        def freeze(phase):
            source, destination, _ = self.at(phase)
            source.freeze()
            self.assertEqual(destination.exit_status(), 1)
            source.thaw()
            self.go_on(source)
            source.wait_migration("failed")
            self.assert_source_runs_on(source)

        self.each(("setup", "active", "switchover"), freeze)

    def test_source_frozen_before_it_commits_leaves_a_destination_that_waits_for_a_decision(self):
        source, destination, _ = self.at("prepared")
        source.freeze()
        self.go_on(destination)
        destination.wait_state("paused")
        self.assertEqual(destination.own()["hand-over"], "unknown")
        with self.assertRaisesRegex(harness.QmpError, "x-ramferry-force"):
            destination("cont")
        source.thaw()
        source.wait_migration("failed")
        if source.own().get("hand-over") == "unknown":  # it had let go before it saw that the destination was gone
            self.assert_unknown_at_source(source)
        else:
            self.assert_source_runs_on(source)
        self.assertEqual(destination.state(), "paused")

    def test_source_frozen_after_it_committed_has_given_the_guest_away(self):
        source, destination, _ = self.at("committed")
        source.freeze()
        self.go_on(destination)
        destination.wait_state("running")
        source.thaw()
        ended = source.wait_migration("completed", "failed")
        if ended["status"] == "failed":
            self.assert_unknown_at_source(source)
        else:
            self.assertEqual(source.wait_state("postmigrate"), "postmigrate")
        self.assert_right(destination.swept())


class BadHellos(Case):
    def test_strangers_do_not_keep_the_destination_from_its_source(self):
        source, destination = self.pair(["--dirty-rate", "20M"])
        port = int(destination.migration()["socket-address"][0]["port"])
        noise = random.Random(1)
        for said in (b"", b"\0" * 4096, b"GET / HTTP/1.1\r\n\r\n", noise.randbytes(40), noise.randbytes(100_000),
                     b"QEV", b"\xff" * 64):
            with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(said)
        self.assertEqual(destination.state(), "inmigrate")
        source("migrate", uri=destination.uri())
        self.assert_moved(source, destination)

    def test_one_wrong_bit_in_what_a_source_says_first_loses_no_guest(self):
        """Whether it is noticed or means nothing: one of the two has the guest, and runs it."""
        failed = 0
        for offset in (0, 3, 4, 7, 9, 17, 30, 45, 60, 75, 90, 105, 120):
            with self.subTest(offset=offset):
                source, destination = self.pair(["--dirty-rate", "20M"], ram="8M",
                                                incoming="tcp:127.0.0.1:0?peer-timeout=1")
                proxy, uri = self.proxied(destination)
                proxy.flip_at = offset
                source("migrate", uri=with_options(uri, peer_timeout=1))
                if source.wait_migration("failed", "completed")["status"] == "completed":
                    self.assert_moved(source, destination)
                else:
                    failed += 1
                    self.assert_source_runs_on(source)
                    AtEachPhase.assert_never_runs(self, destination)
            self._end_vms()
            self.vms.clear()
        self.assertGreater(failed, 5, "the bits were not where a hello is")


class AfterAFailure(Case):
    def test_a_new_migration_succeeds(self):
        source, destination = self.pair(["--dirty-rate", "20M"])
        source("migrate", uri="tcp:127.0.0.1:1")
        self.assertIn("error-desc", source.wait_migration("failed"))
        self.begin_and_cancel(source, destination)
        other = self.vm("other", "--incoming", f"unix:{self.directory}/o.sock").reach()
        source("migrate", uri=f"unix:{self.directory}/o.sock")
        self.assert_moved(source, other)

    def test_the_monitor_answers_while_a_migration_is_stuck(self):
        source, _, _ = AtEachPhase.at(self, "active")
        self.assertEqual(source.state(), "running")
        with self.assertRaisesRegex(harness.QmpError, "migration process in progress"):
            source("migrate", uri="tcp:127.0.0.1:1")

    PEER_TIMEOUT = 60


if __name__ == "__main__":
    harness.main()
