# SPDX-License-Identifier: MIT
"""The control plane between real processes: disks, encodings, throttling, storage, and clients that misbehave."""

import array
import contextlib
import json
import os
import random
import socket

import harness
from harness import Case


def capability(vm, *names):
    vm("migrate-set-capabilities", capabilities=[{"capability": name, "state": True} for name in names])


class Encodings(Case):
    def moved_with(self, names, incoming="tcp:127.0.0.1:0", settings=None, options=("--dirty-rate", "30M")):
        source, destination = self.pair(options, incoming=incoming)
        capability(source, *names)
        source("migrate-set-parameters", downtime_limit=1, max_bandwidth=40_000_000, **(settings or {}))
        source("migrate", uri=destination.uri())
        self.help_to_converge(source)
        self.assert_moved(source, destination)
        return source.migration()

    def test_xbzrle_over_tcp_and_unix(self):
        for incoming in ("tcp:127.0.0.1:0", f"unix:{self.directory}/x.sock"):
            info = self.moved_with(["xbzrle"], incoming, options=("--dirty-rate", "30M", "--pattern", "hot"))
            self.assertEqual(info["xbzrle-cache"]["cache-size"], 64 << 20)
            self.assertGreater(info["xbzrle-cache"]["cache-miss"] + info["xbzrle-cache"]["pages"], 0)
            self._end_vms()
            self.vms.clear()

    def test_compression_by_both_methods(self):
        for method, incoming in (("zlib", "tcp:127.0.0.1:0"), ("zstd", f"unix:{self.directory}/z.sock"),
                                 ("zlib", "tcp:127.0.0.1:0?dialect=qemu")):
            info = self.moved_with(["compress"], incoming, {"compress_method": method, "compress_threads": 3})
            self.assertGreater(info["compression"]["pages"], 0)
            self._end_vms()
            self.vms.clear()

    def test_both_with_lanes_and_a_summary_that_says_so(self):
        source, destination = self.pair(["--dirty-rate", "30M"])
        source("migrate-set-parameters", max_bandwidth=60_000_000)
        done = self.ramferry("migrate", "--qmp", f"unix:{source.monitor}", "--set", "xbzrle=on", "--set", "compress=on",
                             "--set", "compress-method=zstd", "--set", "downtime-limit=300",
                             destination.uri() + "?lanes=2")
        self.assert_moved(source, destination)
        for word in ("xbzrle", "compression", "pages as"):
            self.assertIn(word, done.stdout)

    def test_zstd_to_qemus_dialect_fails_and_the_guest_runs_on(self):
        source, destination = self.pair(["--dirty-rate", "5M"])
        capability(source, "compress")
        source("migrate-set-parameters", compress_method="zstd")
        source("migrate", uri=f"file:{self.directory}/state")
        self.assertIn("zlib only", source.wait_migration("failed")["error-desc"])
        self.assert_source_runs_on(source)
        self.assertFalse(os.path.exists(f"{self.directory}/state"))
        destination.kill()

    def test_compressed_file_comes_back_to_life(self):
        """QEMU's own records, in a file."""
        source = self.vm("source", "--dirty-rate", "20M").reach()
        capability(source, "compress", "xbzrle")
        source("migrate", uri=f"file:{self.directory}/state")
        self.assertEqual(source.wait_migration("completed", "failed")["status"], "completed")
        self.ramferry("inspect", f"{self.directory}/state")
        copy = self.vm("copy", "--incoming", f"file:{self.directory}/state").reach()
        self.assertEqual(copy.wait_state("running"), "running")
        self.assert_right(copy.swept())


class Throttling(Case):
    def test_guest_that_outruns_the_link_is_slowed_down_and_released(self):
        source, destination = self.pair(["--dirty-rate", "100M", "--pattern", "hot"])
        capability(source, "auto-converge", "events")
        source("migrate-set-parameters", max_bandwidth=10_000_000, downtime_limit=1, cpu_throttle_initial=40,
               cpu_throttle_increment=30)
        source("migrate", uri=destination.uri())
        deadline = harness.time.monotonic() + harness.PATIENCE
        while "cpu-throttle-percentage" not in source.migration():
            self.assertLess(harness.time.monotonic(), deadline, source.migration())
            harness.time.sleep(0.02)
        self.assertGreaterEqual(source.migration()["cpu-throttle-percentage"], 40)
        source("migrate_cancel")
        self.assertEqual(source.wait_migration("cancelled")["status"], "cancelled")
        self.assertNotIn("cpu-throttle-percentage", source.migration())
        self.assert_source_runs_on(source)


class Disks(Case):
    SIZE = (5 << 20) + 4096

    def image(self, name, seed=None):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(random.Random(seed).randbytes(self.SIZE) if seed else bytes(self.SIZE))
        return path

    @staticmethod
    def content(path):
        with open(path, "rb") as file:
            return file.read()

    def test_image_moves_live_while_the_guest_writes_to_it(self):
        a, b = self.image("a", 1), self.image("b")
        source, destination = self.pair(["--dirty-rate", "10M", "--disk", a, "--disk-rate", "2M"],
                                        ["--disk", b])
        capability(source, "zero-blocks")
        source("migrate-set-parameters", max_bandwidth=20_000_000)
        source("migrate", uri=destination.uri(), blk=True)
        self.help_to_converge(source)
        self.assert_moved(source, destination)
        self.assertEqual(self.content(a), self.content(b))
        disk = source.own()["disk"]
        self.assertEqual((disk["total"], disk["remaining"]), (self.SIZE, 0))
        self.assertGreaterEqual(disk["transferred"], self.SIZE)

    def test_only_what_differs_from_the_base_is_sent(self):
        base, a, b = self.image("base", 1), self.image("a", 1), self.image("b")
        with open(a, "r+b") as file:
            file.seek(3 << 20)
            file.write(b"changed")
        source, destination = self.pair(["--disk", a, "--disk-base", base], ["--disk", b, "--disk-base", base])
        source("migrate", uri=destination.uri(), blk=True, inc=True)
        self.assert_moved(source, destination)
        self.assertEqual(self.content(a), self.content(b))
        self.assertEqual(source.own()["disk"]["transferred"], 1 << 20)

    def test_without_blk_the_image_stays(self):
        a, b = self.image("a", 1), self.image("b")
        source, destination = self.pair(["--disk", a], ["--disk", b])
        source("migrate", uri=destination.uri())
        self.assert_moved(source, destination)
        self.assertEqual(self.content(b), bytes(self.SIZE))

    def test_storage_that_cannot_be_used_again_ends_the_destination(self):
        a, b = self.image("a", 1), self.image("b")
        source, destination = self.pair(["--disk", a], ["--disk", b])
        os.truncate(b, 4096)
        source("migrate", uri=destination.uri())
        self.assertEqual(destination.exit_status(), 1)
        self.assertIn("it has another size", destination.errors())
        self.assertNotEqual(source.state(), "running", "whether the guest was given away, the source cannot know")


class Arrival(Case):
    def test_guest_announces_itself_as_often_as_it_was_told(self):
        source, destination = self.pair()
        destination("migrate-set-parameters", announce_rounds=3, announce_initial=1, announce_step=1)
        source("migrate", uri=destination.uri())
        self.assert_moved(source, destination)
        self.wait_announcements(destination, 3)
        destination("announce-self", initial=0, max=0, rounds=2, step=1)
        self.wait_announcements(destination, 5)

    def wait_announcements(self, vm, count):
        deadline = harness.time.monotonic() + harness.PATIENCE
        while vm("x-ramferry-query-vm")["announcements"] < count:
            self.assertLess(harness.time.monotonic(), deadline)
            harness.time.sleep(0.01)
        self.assertEqual(vm("x-ramferry-query-vm")["announcements"], count)

    def test_socket_handed_over_by_name_carries_a_migration(self):
        source, destination = self.pair(incoming="defer")
        near, far = socket.socketpair()
        for vm, end in ((source, near), (destination, far)):
            vm.qmp.socket.sendmsg([json.dumps({"execute": "getfd", "arguments": {"fdname": "link"}}).encode()],
                                  [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [end.fileno()]))])
            self.assertEqual(vm.qmp._read(), {"return": {}})
            end.close()
        destination("migrate-incoming", uri="fd:link")
        source("migrate", uri="fd:link")
        self.assert_moved(source, destination)


class Misbehaviour(Case):
    def test_migration_goes_on_whatever_the_monitors_clients_do(self):
        source, destination = self.pair(["--dirty-rate", "10M"])
        source("migrate-set-parameters", max_bandwidth=2_000_000)
        source("migrate", uri=destination.uri())
        source.wait_migration("active")
        lazy = socket.socket(socket.AF_UNIX)
        self.addCleanup(lazy.close)
        lazy.connect(str(source.monitor))
        lazy.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):   # it never reads, and asks for much
            lazy.sendall(b'{"execute":"qmp_capabilities"}')
            for _ in range(20_000):
                lazy.sendall(b'{"execute":"query-migrate"}')
        for _ in range(100):
            with contextlib.suppress(ConnectionError), socket.socket(socket.AF_UNIX) as flood:
                flood.connect(str(source.monitor))
                flood.sendall(b'}{"execute":[[[\xff')
        for bad in ({"max-bandwidth": -1}, {"max-bandwidth": 10 ** 30}, {"downtime-limit": "long"}, {"nosuch": 1},
                    {"xbzrle-cache-size": -4096}, {"compress-level": 1e9}):
            with self.assertRaises(harness.QmpError):
                source("migrate-set-parameters", **{name.replace("-", "_"): value for name, value in bad.items()})
        self.assertEqual(source.migration()["status"], "active")
        self.help_to_converge(source)
        self.assert_moved(source, destination)


if __name__ == "__main__":
    harness.main()
