# SPDX-License-Identifier: MIT
"""Processes under measurement, and the monitors through which they are driven."""
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

PATIENCE = 180      # seconds, for anything that is waited for
TICKS = os.sysconf("SC_CLK_TCK")


SCRATCH = ["/dev/shm"]  # where images, sockets and files of runs go


class Failed(Exception):
    """A contender could not do it; its text goes into the report."""


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Run:
    """The processes and files of one run of one contender, gone when it ends."""

    def __init__(self):
        self.processes = []

    def __enter__(self):
        # Short: paths of unix sockets have at most 107 bytes.
        self.folder = tempfile.mkdtemp(prefix="rfb-", dir=SCRATCH[0])
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, *command, output=False, processor=None):
        """`processor`: the only one it may run on."""
        def prepare():
            _die_with_parent()
            if processor is not None:
                os.sched_setaffinity(0, {processor})
        log = open(self.path(f"stderr-{len(self.processes)}"), "w+")
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE if output else subprocess.DEVNULL, stderr=log, text=True,
                                   preexec_fn=prepare)
        process.log = log
        self.processes.append(process)
        return process

    def call(self, *command):
        """Runs it to its end; its standard output."""
        process = self.start(*command, output=True)
        try:
            out, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired as why:
            raise Failed(f"{command[0]} did not end in {PATIENCE} s") from why
        if process.returncode != 0:
            raise Failed(f"{os.path.basename(str(command[0]))}: {said(process) or out.strip()[-300:]} "
                         f"(status {process.returncode})")
        return out


def said(process):
    """The last line it wrote to standard error."""
    process.log.seek(0)
    lines = [line.strip() for line in process.log.read().splitlines() if line.strip()]
    return lines[-1] if lines else ""


def first_line(process):
    """Of its standard output; empty if it ended without one."""
    if not select.select([process.stdout], [], [], PATIENCE)[0]:
        raise Failed(f"{process.args[0]} said nothing for {PATIENCE} s")
    return process.stdout.readline()


def wait_for(condition, what, process=None):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process is not None and process.poll() is not None:
            raise Failed(f"{what}: it ended: {said(process)}")
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {PATIENCE} s")
        time.sleep(0.005)


def connect_unix(path, process):
    """To a socket that `process` makes."""
    found = []

    def attempt():
        each = socket.socket(socket.AF_UNIX)
        try:
            each.connect(path)
        except OSError:
            each.close()
            return False
        found.append(each)
        return True

    wait_for(attempt, f"connecting to {os.path.basename(process.args[0])}", process)
    found[0].settimeout(PATIENCE)
    return found[0]


class Qmp:
    """A monitor, ours or QEMU's: the same protocol."""

    def __init__(self, path, process):
        self.process = process
        self.socket = connect_unix(path, process)
        self.lines = self.socket.makefile("rw")
        self.events = []
        self.next_event()
        self.run("qmp_capabilities")

    def next_event(self):
        """The next line that is not an answer to a command of ours, which are read where they are given."""
        try:
            line = self.lines.readline()
        except OSError as why:
            raise Failed(f"monitor: {why}") from why
        if not line:
            raise Failed(f"it ended: {said(self.process)}")
        return json.loads(line)

    def run(self, command, **arguments):
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        while True:
            answer = self.next_event()
            if "error" in answer:
                raise Failed(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
            self.events.append(answer)

    def capability(self, name, state=True):
        self.run("migrate-set-capabilities", capabilities=[{"capability": name, "state": state}])

    def migrate(self, uri, watch=None):
        """Migrates; query-migrate's last answer with "begun" and "wall-seconds". `watch` polls: called with each answer."""
        self.capability("events")
        self.events.clear()
        begin = time.monotonic()
        self.run("migrate", uri=uri)
        while not self._over(watch, begin):
            pass
        took = time.monotonic() - begin
        info = self.run("query-migrate")
        if info["status"] != "completed":
            raise Failed(f"the migration {info['status']}: {info.get('error-desc', 'no reason given')}")
        info["wall-seconds"], info["begun"] = took, begin
        return info

    def arrived(self):
        """At a destination with the capability "events": waits until it has the machine."""
        while True:
            for event in self.events:
                status = event["data"]["status"] if event.get("event") == "MIGRATION" else ""
                if status == "completed":
                    return
                if status == "failed":
                    raise Failed("the destination says that the migration failed")
            self.events.append(self.next_event())

    def _over(self, watch, begin):
        if watch is not None:
            watch(time.monotonic() - begin, self.run("query-migrate"))
            time.sleep(0.01)
        else:
            self.events.append(self.next_event())
        if time.monotonic() > begin + PATIENCE:
            raise Failed(f"the migration was not over after {PATIENCE} s")
        return any(event.get("event") == "MIGRATION" and event["data"]["status"] in ("completed", "failed", "cancelled")
                   for event in self.events)


def cpu(pid):
    """(user, system) seconds."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def memory(pid, name):
    """VmRSS or VmHWM of a process, in bytes."""
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1]) << 10
    return 0


class Meter:
    """CPU and memory that the processes of each end use from here on. They are still there when it is read."""

    def __init__(self, source=(), destination=()):
        self.ends = {"source": [each.pid for each in source], "destination": [each.pid for each in destination]}
        self.cpu = {pid: cpu(pid) for pids in self.ends.values() for pid in pids}
        self.resident = {pid: memory(pid, "VmRSS") for pid in self.cpu}
        self.ended = cpu_of_ended()

    def read(self, ended=None):
        """`ended`: the end that is also charged for the program that ended meanwhile, from its start."""
        found = {}
        for end, pids in self.ends.items():
            used = [[now - before for now, before in zip(cpu(pid), self.cpu[pid])] for pid in pids]
            found[f"cpu-{end}"] = round(sum(user + system for user, system in used), 3)
            found[f"user-{end}"] = round(sum(user for user, _ in used), 3)
            found[f"grown-{end}"] = sum(max(0, memory(pid, "VmHWM") - self.resident[pid]) for pid in pids)
        if ended:
            found[f"cpu-{ended}"] = round(found[f"cpu-{ended}"] + cpu_of_ended() - self.ended, 3)
        found["cpu"] = round(found["cpu-source"] + found["cpu-destination"], 3)
        return found


def cpu_of_ended():
    """CPU seconds of all processes that ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def free_port(host="127.0.0.1"):
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


class Background(threading.Thread):
    """A thread whose failure is told when it is joined."""

    def __init__(self, function):
        super().__init__(daemon=True)
        self.function, self.result, self.error = function, None, None
        self.start()

    def run(self):
        try:
            self.result = self.function()
        except Exception as error:      # noqa: BLE001: told by finish()
            self.error = error

    def finish(self):
        self.join()
        if self.error is not None:
            raise Failed(f"{type(self.error).__name__}: {self.error}")
        return self.result
