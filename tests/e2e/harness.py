# SPDX-License-Identifier: MIT
"""Real `ramferry` processes for tests: VMs with their monitors, a proxy that can cut or swallow, a work directory.

RAMFERRY names the program. Every process started here dies with this one.
"""

import collections
import contextlib
import faulthandler
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

PROGRAM = os.environ.get("RAMFERRY", "ramferry")
LONG = os.environ.get("RAMFERRY_LONG") == "1"
# Sanitizers make everything slower; nothing here is a timed test, these only end a hang.
PATIENCE = float(os.environ.get("RAMFERRY_PATIENCE", "60"))
# A sanitizer's finding must not pass for one of the program's own exit statuses.
SANITIZER_STATUS = 99
for _sanitizer in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"):
    os.environ[_sanitizer] = f"{os.environ.get(_sanitizer, '')}:exitcode={SANITIZER_STATUS}".lstrip(":")


class QmpError(Exception):
    def __init__(self, error):
        super().__init__(f"{error['class']}: {error['desc']}")
        self.kind, self.desc = error["class"], error["desc"]


class Qmp:
    """A monitor's client; `at` is a socket's path, or a host and a port."""

    def __init__(self, at):
        self.socket = socket.socket(socket.AF_INET if isinstance(at, tuple) else socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(at if isinstance(at, tuple) else str(at))
        except OSError:
            self.socket.close()
            raise
        self.lines = self.socket.makefile("rb")
        self.events = collections.deque()
        self.greeting = self._read()
        self("qmp_capabilities")

    def _read(self):
        line = self.lines.readline()
        if not line:
            raise ConnectionError("the monitor hung up")
        return json.loads(line)

    def __call__(self, command, **arguments):
        request = {"execute": command}
        if arguments:
            request["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            reply = self._read()
            if "event" in reply:
                self.events.append(reply)
            elif "error" in reply:
                raise QmpError(reply["error"])
            else:
                return reply["return"]

    def event(self, *names):
        """The data of the next event with one of these names; others are dropped."""
        while True:
            message = self.events.popleft() if self.events else self._read()
            if message.get("event") in names:
                return message.get("data", {})

    def close(self):
        self.lines.close()
        self.socket.close()


class Vm:
    """A `ramferry vm` (or another program with a monitor), reached once its monitor listens."""

    def __init__(self, directory, name, *options, ram="32M", program=None):
        self.name, self.directory = name, pathlib.Path(directory)
        self.monitor = self.directory / f"{name}.qmp"
        self.stderr = self.directory / f"{name}.err"
        command = program or [
            PROGRAM, "vm", "--name", name, "--qmp", f"unix:{self.monitor}", "--ram", ram,
            "--die-with-parent", str(os.getpid()), *options]
        with open(self.stderr, "wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=err, stderr=err)
        self.qmp = None

    def reach(self):
        deadline = time.monotonic() + PATIENCE
        while not self.monitor.exists() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        while self.qmp is None:
            try:
                self.qmp = Qmp(self.monitor)
            except (FileNotFoundError, ConnectionRefusedError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{self.name} did not come up: {self.errors()}") from None
                time.sleep(0.005)
        return self

    def __call__(self, command, **arguments):
        return self.qmp(command, **arguments)

    def state(self):
        return self("query-status")["status"]

    def migration(self):
        return self("query-migrate")

    def own(self):
        return self.migration().get("x-ramferry", {})

    def uri(self):
        return self.migration()["x-ramferry-uri"]

    def wait_migration(self, *states):
        """The answer of query-migrate once its status is one of `states`."""
        deadline = time.monotonic() + PATIENCE
        while True:
            info = self.migration()
            if info.get("status") in states:
                return info
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: still {info.get('status')}, wanted {states}")
            time.sleep(0.01)

    def wait_state(self, *states):
        deadline = time.monotonic() + PATIENCE
        while self.state() not in states:
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: still {self.state()}, wanted {states}")
            time.sleep(0.01)
        return self.state()

    def sweep(self):
        """Checks all memory now; the report."""
        self("x-ramferry-sweep")
        return self.swept()

    def swept(self):
        """The report of the sweep that is under way or about to begin."""
        deadline = time.monotonic() + PATIENCE
        while True:
            report = self("x-ramferry-query-sweep")
            if report["status"] == "done":
                return report
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: no sweep ended")
            time.sleep(0.01)

    def wait_for_writes(self, pages=200):
        start = self("x-ramferry-query-vm")["pages-written"]
        deadline = time.monotonic() + PATIENCE
        while self("x-ramferry-query-vm")["pages-written"] < start + pages:
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name} does not write")
            time.sleep(0.01)

    def alive(self):
        return self.process.poll() is None

    def exit_status(self):
        return self.process.wait(PATIENCE)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def freeze(self):
        """Returns when all of its threads stand still: on a busy machine the signal takes its time."""
        self.process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + PATIENCE
        while any(state != "T" for state in self._thread_states()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name} does not stop")
            time.sleep(0.001)

    def _thread_states(self):
        for stat in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield stat.read_text().rsplit(")", 1)[1].split()[0]

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def errors(self):
        return self.stderr.read_text(errors="replace")

    def end(self):
        if self.qmp is not None:
            self.qmp.close()
        if self.alive():
            self.thaw()
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


class Proxy:
    """Stands between two ends on 127.0.0.1: passes on, swallows what goes to the far end, flips one bit, or cuts."""

    def __init__(self, to_port):
        self.to_port = to_port
        self.swallowing = False
        self.flip_at = None  # the byte, from the first, of what goes to the far end
        self.sockets = []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to_port))
                with self.lock:
                    self.sockets += [near, far]
                threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source, sink, forward):
        with contextlib.suppress(OSError):
            seen = 0
            while data := source.recv(1 << 18):
                if forward and self.flip_at is not None and seen <= self.flip_at < seen + len(data):
                    at = self.flip_at - seen
                    data = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1:]
                seen += len(data)
                if not (forward and self.swallowing):
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def cut(self):
        """Both ends see their connections reset."""
        linger = b"\x01\0\0\0\0\0\0\0"
        with self.lock:
            for each in self.sockets:
                with contextlib.suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    each.shutdown(socket.SHUT_RDWR)
                    each.close()
            self.sockets.clear()

    def close(self):
        self.listener.close()
        self.cut()


class Case(unittest.TestCase):
    """A test with a directory and VMs that are ended and explained when it fails."""

    longMessage = True

    @staticmethod
    def watch_for_hangs():
        faulthandler.dump_traceback_later(PATIENCE * 5, exit=True)

    def setUp(self):
        self.watch_for_hangs()
        self.addCleanup(faulthandler.cancel_dump_traceback_later)
        self.directory = tempfile.mkdtemp(prefix="ramferry-e2e-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.vms = []
        self.addCleanup(self._end_vms)

    def _end_vms(self):
        outcome = getattr(self, "_outcome", None)
        failed = outcome is not None and not getattr(outcome, "success", True)
        for vm in self.vms:
            vm.end()
            if vm.process.returncode == SANITIZER_STATUS:
                raise AssertionError(f"{vm.name}: {vm.errors()}")
            if failed and vm.stderr.exists():
                print(f"--- {vm.name}\n{vm.errors()}", flush=True)

    def vm(self, name, *options, **more):
        vm = Vm(self.directory, name, *options, **more)
        self.vms.append(vm)
        return vm

    def pair(self, source_options=(), destination_options=(), incoming="tcp:127.0.0.1:0", **more):
        """A running source and a destination that waits; started together."""
        destination = self.vm("destination", "--incoming", incoming, *destination_options, **more)
        source = self.vm("source", *source_options, **more)
        return source.reach(), destination.reach()

    def proxied(self, destination):
        """A proxy to the destination, and the URI to reach it by."""
        proxy = Proxy(int(destination.migration()["socket-address"][0]["port"]))
        self.addCleanup(proxy.close)
        return proxy, f"tcp:127.0.0.1:{proxy.port}"

    def ramferry(self, *arguments, status=0):
        """Runs the program; what it printed."""
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=PATIENCE * 3)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def assert_right(self, report):
        self.assertEqual(report["wrong"], 0, report)

    def help_to_converge(self, source):
        """What the guest writes faster than the link is moved by a longer downtime, set while it runs."""
        for limit in (5, 300, 2000, 100_000):
            for _ in range(100):
                if source.migration().get("status") in ("completed", "failed", "cancelled"):
                    return
                time.sleep(0.02)
            source("migrate-set-parameters", downtime_limit=limit, max_bandwidth=0)

    def begin_and_cancel(self, source, destination):
        """A migration that is slowed, begun and cancelled; the next one has the whole link again."""
        source("migrate-set-parameters", max_bandwidth=200_000)
        source("migrate", uri=destination.uri())
        source.wait_migration("active")
        source("migrate_cancel")
        source.wait_migration("cancelled")
        source("migrate-set-parameters", max_bandwidth=0)

    def assert_source_runs_on(self, source):
        self.assertEqual(source.wait_state("running"), "running")
        source.wait_for_writes()
        self.assert_right(source.sweep())

    def assert_moved(self, source, destination):
        self.assertEqual(source.wait_migration("completed", "failed", "cancelled")["status"], "completed")
        self.assertEqual(source.wait_state("postmigrate"), "postmigrate")
        self.assertEqual(destination.wait_state("running"), "running")
        self.assert_right(destination.swept())


def with_options(uri, **options):
    text = "&".join(f"{name.replace('_', '-')}={value}" for name, value in options.items())
    return uri if not text else f"{uri}{'&' if '?' in uri else '?'}{text}"


def main():
    unittest.main(verbosity=2)
