# SPDX-License-Identifier: MIT
"""One QMP session, played to a real QEMU 7.2 and to `ramferry vm` side by side.

Held to: every key that QEMU returns is there with its type; what QEMU refuses is refused under the same error class;
additions only under "x-". What design decided otherwise is in DECIDED, each with its reason; an entry that no longer
describes a difference fails as well.
"""
import array
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from qemukit import programs  # noqa: E402

RAMFERRY = os.environ.get("RAMFERRY", "ramferry")
PATIENCE = 60

OUT_OF_RANGE = "a value that makes no sense is an error, also where QEMU lets it pass"
NOT_HERE = "listed at QEMU's default and refused when set: it is not supported here"
OLDER = "a command of QEMU's older migration core, which tools of its time still use"

# What was asked (its label in SESSION), or the path of a key in an answer → the reason for the difference.
DECIDED = {
    "greeting /QMP/capabilities/0": "no out-of-band execution: every command here returns at once",
    "query-migrate-parameters /compress-method": "zstd as the better choice for compression; QEMU knows zlib only",
    "max-bandwidth -1": OUT_OF_RANGE,
    "announce too often": OUT_OF_RANGE,
    "max-bandwidth 2^63": OUT_OF_RANGE,
    "max-bandwidth 2^64-1": OUT_OF_RANGE,
    "max-postcopy-bandwidth -1": OUT_OF_RANGE,
    "multifd-zlib-level 10": OUT_OF_RANGE,
    "multifd-zstd-level 21": OUT_OF_RANGE,
    "tls-creds": NOT_HERE,
    "tls-hostname null": "these texts are never null here",
    "tls-authz null": "these texts are never null here",
    "multifd-compression zlib": NOT_HERE,
    "multifd-channels 3": NOT_HERE,
    "multifd-zlib-level 2": NOT_HERE,
    "multifd-zstd-level 2": NOT_HERE,
    "max-postcopy-bandwidth 1": NOT_HERE,
    "compress-wait-thread off": NOT_HERE,
    "cpu-throttle-tailslow on": NOT_HERE,
    "x-checkpoint-delay 1": NOT_HERE,
    "block-bitmap-mapping": NOT_HERE,
    **{f"{name} on": NOT_HERE for name in (
        "postcopy-ram", "x-colo", "release-ram", "return-path", "multifd", "dirty-bitmaps", "postcopy-blocktime",
        "late-block-activate", "x-ignore-shared", "validate-uuid", "background-snapshot")},
    "migrate_set_speed": OLDER,
    "migrate_set_speed negative": OLDER,
    "migrate_set_downtime": OLDER,
    "migrate-set-cache-size": OLDER,
    "query-migrate-cache-size": OLDER,
}
# Fractional by nature, though a whole number looks whole in JSON.
FRACTIONS = {"mbps", "cache-miss-rate", "encoding-rate", "busy-rate", "compression-rate"}


def call(command, **arguments):
    request = {"execute": command}
    if arguments:
        request["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
    return json.dumps(request)


def parameter(name, value):
    return json.dumps({"execute": "migrate-set-parameters", "arguments": {name: value}})


def capability(name, state=True):
    return json.dumps({"execute": "migrate-set-capabilities",
                       "arguments": {"capabilities": [{"capability": name, "state": state}]}})


def raw(command):
    """As it stands: some commands and members have underscores."""
    return json.dumps(command)


QUERIES = ("query-version", "query-name", "query-status", "query-migrate", "query-migrate-parameters",
           "query-migrate-capabilities")
CAPABILITIES = ("xbzrle", "rdma-pin-all", "auto-converge", "zero-blocks", "compress", "events", "block", "postcopy-ram",
                "x-colo", "release-ram", "return-path", "pause-before-switchover", "multifd", "dirty-bitmaps",
                "postcopy-blocktime", "late-block-activate", "x-ignore-shared", "validate-uuid", "background-snapshot",
                "zero-copy-send", "postcopy-preempt")
HONOURED = ("xbzrle", "rdma-pin-all", "auto-converge", "zero-blocks", "compress", "events", "block",
            "pause-before-switchover")
PARAMETERS = (
    ("compress-level", 9), ("compress-level", 10), ("compress-level", -1), ("compress-level", "a"),
    ("compress-level", 1), ("compress-threads", 0), ("compress-threads", 256), ("compress-threads", 1),
    ("decompress-threads", 0), ("decompress-threads", 255), ("downtime-limit", 2000001), ("downtime-limit", -1),
    ("downtime-limit", 300), ("xbzrle-cache-size", 4095), ("xbzrle-cache-size", 5000), ("xbzrle-cache-size", -1),
    ("xbzrle-cache-size", 4096), ("xbzrle-cache-size", 67108864), ("cpu-throttle-initial", 0),
    ("cpu-throttle-initial", 100), ("cpu-throttle-increment", 0), ("max-cpu-throttle", 5), ("max-cpu-throttle", 100),
    ("max-cpu-throttle", 99), ("multifd-channels", 0), ("nosuch", 1), ("announce-initial", 100001),
    ("announce-max", 100001), ("announce-rounds", 1001), ("announce-rounds", 0), ("announce-rounds", 5),
    ("announce-step", 0), ("announce-step", 10001), ("x-checkpoint-delay", -1), ("tls-authz", 5),
    ("multifd-compression", "bad"), ("throttle-trigger-threshold", 0), ("throttle-trigger-threshold", 101),
    ("block-incremental", 5), ("block-incremental", False), ("max-bandwidth", 1.5), ("max-bandwidth", 10**20),
    ("max-bandwidth", 10**6), ("max-bandwidth", 0))


def basics():
    """(label, text to send) of a session with a VM that does nothing."""
    yield "enable nonsense", raw({"execute": "qmp_capabilities", "arguments": {"enable": ["nonsense"]}})
    yield "enable a number", raw({"execute": "qmp_capabilities", "arguments": {"enable": 5}})
    yield "before negotiation", call("query-status")
    yield "negotiation", call("qmp_capabilities")
    yield "negotiation twice", call("qmp_capabilities")
    for command in QUERIES:
        yield command, call(command)
    for text in ('{"execute":5}', '{"execute":"x","foo":1}', "xyz\n", "[]", "{]", "7 ", '{"id":1}',
                 '{"execute":"nosuch"}', '{"execute":"query-status","arguments":5}',
                 '{"execute":"query-status","id":{"a":[1]}}', '{"execute":"migrate_cancel","arguments":{"x":1}}',
                 '{"execute":"query-migrate-parameters","arguments":{"a":1}}', '{"exec-oob":"query-status"}',
                 '{"execute":"migrate-set-parameters"}', '{"execute":"migrate"}', '{"execute":"cont","execute":"stop"}'):
        yield text, text
    for name, value in PARAMETERS:
        yield f"{name} {value}", parameter(name, value)
    yield "max-bandwidth -1", parameter("max-bandwidth", -1)
    yield "max-bandwidth 2^63", parameter("max-bandwidth", 1 << 63)
    yield "max-bandwidth 2^64-1", parameter("max-bandwidth", (1 << 64) - 1)
    yield "max-postcopy-bandwidth -1", parameter("max-postcopy-bandwidth", -1)
    yield "max-postcopy-bandwidth 1", parameter("max-postcopy-bandwidth", 1)
    yield "max-postcopy-bandwidth 0", parameter("max-postcopy-bandwidth", 0)
    yield "multifd-zlib-level 10", parameter("multifd-zlib-level", 10)
    yield "multifd-zstd-level 21", parameter("multifd-zstd-level", 21)
    yield "multifd-zlib-level 2", parameter("multifd-zlib-level", 2)
    yield "multifd-zstd-level 2", parameter("multifd-zstd-level", 2)
    yield "multifd-channels 3", parameter("multifd-channels", 3)
    yield "multifd-compression zlib", parameter("multifd-compression", "zlib")
    yield "compress-wait-thread off", parameter("compress-wait-thread", False)
    yield "compress-wait-thread on", parameter("compress-wait-thread", True)
    yield "cpu-throttle-tailslow on", parameter("cpu-throttle-tailslow", True)
    yield "x-checkpoint-delay 1", parameter("x-checkpoint-delay", 1)
    yield "block-bitmap-mapping", parameter("block-bitmap-mapping", [])
    yield "tls-creds", parameter("tls-creds", "x")
    yield "tls-creds none", parameter("tls-creds", "")
    yield "tls-hostname null", parameter("tls-hostname", None)
    yield "tls-authz null", parameter("tls-authz", None)
    for value in ([], 5, [5], [{"capability": "nosuch", "state": True}], [{"capability": "xbzrle"}],
                  [{"state": True}], [{"capability": "xbzrle", "state": 1}]):
        yield f"capabilities {value}", raw({"execute": "migrate-set-capabilities", "arguments": {"capabilities": value}})
    for name in CAPABILITIES:
        yield f"{name} on", capability(name)
        yield f"{name} off", capability(name, False)
    for two in itertools.combinations(HONOURED, 2):   # what cannot work together is said by `migrate`, as in QEMU
        for state in (True, False):
            yield f"{' and '.join(two)} {'on' if state else 'off'}", raw(
                {"execute": "migrate-set-capabilities", "arguments": {"capabilities": [
                    {"capability": name, "state": state} for name in two]}})
    for how, setting, unset in (("block", capability("block"), capability("block", False)),
                                ("block-incremental", parameter("block-incremental", True),
                                 parameter("block-incremental", False))):
        yield f"{how} set", setting
        yield f"blk beside {how}", call("migrate", uri="exec:true", blk=True)
        yield f"inc beside {how}", call("migrate", uri="exec:true", inc=True)
        yield f"{how} unset", unset
    for state in ("pre-switchover", "active", "bogus", 5):
        yield f"continue {state} while nothing is", call("migrate-continue", state=state)
    yield "continue what", call("migrate-continue")
    yield "getfd without", call("getfd", fdname="x")
    yield "closefd without", call("closefd", fdname="x")
    yield "unknown scheme", call("migrate", uri="bogus:1")
    yield "after it", call("query-migrate")
    yield "fd without", call("migrate", uri="fd:nosuch")
    yield "uri of a wrong type", call("migrate", uri=5)
    yield "resume nothing", call("migrate", uri="tcp:127.0.0.1:1", resume=True)
    yield "incoming without -incoming", call("migrate-incoming", uri="tcp:127.0.0.1:0")
    yield "cancel nothing", call("migrate_cancel")
    yield "stop", call("stop")
    yield "announce", raw({"execute": "announce-self",
                           "arguments": {"initial": 1, "max": 1, "rounds": 1, "step": 1}})
    yield "announce incomplete", raw({"execute": "announce-self", "arguments": {"initial": 1}})
    yield "announce too often", raw({"execute": "announce-self",
                                     "arguments": {"initial": 1, "max": 1, "rounds": 10**6, "step": 1}})
    yield "migrate_set_speed", raw({"execute": "migrate_set_speed", "arguments": {"value": 0}})
    yield "migrate_set_speed negative", raw({"execute": "migrate_set_speed", "arguments": {"value": -5}})
    yield "migrate_set_downtime", raw({"execute": "migrate_set_downtime", "arguments": {"value": 0.3}})
    yield "migrate-set-cache-size", raw({"execute": "migrate-set-cache-size", "arguments": {"value": 1 << 20}})
    yield "query-migrate-cache-size", call("query-migrate-cache-size")


class Vm:
    """A process with a monitor on a unix socket; what it says, line by line."""

    def __init__(self, command, path):
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *command], stdin=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self.lines = self.socket.makefile("rb")
        self.events = []
        self.greeting = json.loads(self.lines.readline())

    def say(self, text, fds=()):
        if fds:
            self.socket.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        else:
            self.socket.sendall(text.encode())
        while True:
            line = self.lines.readline()
            if not line:
                raise ConnectionError(f"hung up after {text}")
            answer = json.loads(line)
            if "event" not in answer:
                return answer
            self.events.append(answer)

    def ask(self, command, **arguments):
        answer = self.say(call(command, **arguments))
        if "error" in answer:
            raise AssertionError(f"{command}: {answer['error']}")
        return answer["return"]

    def wait_migration(self, *states):
        deadline = time.monotonic() + PATIENCE
        while True:
            info = self.ask("query-migrate")
            if info.get("status") in states:
                return info
            if time.monotonic() > deadline:
                raise AssertionError(f"still {info.get('status')}, wanted {states}")
            time.sleep(0.01)

    def wait_run_state(self, state):
        """A QEMU tells that a migration completed a little before it enters the state that goes with it."""
        deadline = time.monotonic() + PATIENCE
        while (now := self.ask("query-status")["status"]) != state:
            if time.monotonic() > deadline:
                raise AssertionError(f"still {now}, wanted {state}")
            time.sleep(0.01)

    def end(self):
        self.lines.close()
        self.socket.close()
        self.process.kill()
        self.process.wait()


def kind(value, key=""):
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number" if key in FRACTIONS or isinstance(value, float) else "integer"
    return {str: "string", list: "array", dict: "object", type(None): "null"}[type(value)]


def differences(theirs, ours, path=""):
    """(path, what) of each key of theirs that ours lacks or has with another type, and each addition."""
    key = path.rsplit("/", 1)[-1]
    if kind(theirs, key) != kind(ours, key):
        yield path, f"{kind(theirs, key)} there, {kind(ours, key)} here"
    elif isinstance(theirs, dict):
        for name in sorted(theirs.keys() | ours.keys()):
            if name not in ours:
                yield f"{path}/{name}", "missing"
            elif name not in theirs:
                if not name.startswith("x-"):
                    yield f"{path}/{name}", "an addition"
            else:
                yield from differences(theirs[name], ours[name], f"{path}/{name}")
    elif isinstance(theirs, list):
        if theirs and isinstance(theirs[0], dict) and "capability" in theirs[0]:
            theirs, ours = ({each["capability"]: each["state"] for each in side} for side in (theirs, ours))
            yield from differences(theirs, ours, path)
            return
        for index, each in enumerate(theirs):
            if index >= len(ours):
                yield f"{path}/{index}", "missing"
            else:
                yield from differences(each, ours[index], f"{path}/{index}")


class Comparison(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.qemu = programs.installed()
        if cls.qemu.line != "7.2":
            raise unittest.SkipTest(f"the session is that of QEMU 7.2, here is {cls.qemu.version}")

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="ramferry-qmp-")
        self.addCleanup(self.folder.cleanup)
        self.found = {}      # differences by label
        self.used = set()    # labels that were looked at

    def pair(self, qemu_options=(), ramferry_options=(), name=""):
        """The same VM twice: not running, 32 MiB."""
        paths = [os.path.join(self.folder.name, f"{program}{name}.qmp") for program in ("qemu", "ramferry")]
        qemu = Vm([*self.qemu.command, "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg",
                   "-machine", "pc-i440fx-7.2", "-m", "32", "-name", "vm", "-qmp", f"unix:{paths[0]},server=on,wait=off",
                   *qemu_options], paths[0])
        self.addCleanup(qemu.end)
        ours = Vm([RAMFERRY, "vm", "--qmp", f"unix:{paths[1]}", "--ram", "32M", *ramferry_options], paths[1])
        self.addCleanup(ours.end)
        return qemu, ours

    def note(self, label, theirs, ours):
        """Holds one answer of ours to theirs."""
        self.used.add(label)
        if ("error" in theirs) != ("error" in ours):
            self.found[label] = f"there {theirs}, here {ours}"
        elif "error" in theirs:
            if theirs["error"]["class"] != ours["error"]["class"]:
                self.found[label] = f"there {theirs['error']}, here {ours['error']}"
        else:
            for path, what in differences(theirs["return"], ours["return"]):
                self.found[f"{label} {path}"] = what
        for side in (theirs, ours):
            self.assertEqual(side.get("id"), theirs.get("id"), label)

    def play(self, session, qemu, ours):
        for label, text in session:
            self.note(label, qemu.say(text), ours.say(text))

    def conclude(self):
        undecided = {label: what for label, what in self.found.items() if label not in DECIDED}
        self.assertEqual(undecided, {}, "differences that nobody decided")
        no_more = [label for label in DECIDED if label.split(" /")[0] in self.used and label not in self.found]
        self.assertEqual(no_more, [], "decided differences that are none any more")

    def test_a_vm_that_does_nothing(self):
        qemu, ours = self.pair(["-S"], ["--paused"])
        self.used.add("greeting")
        for path, what in differences(qemu.greeting, ours.greeting):
            self.found[f"greeting {path}"] = what
        self.play(basics(), qemu, ours)
        self.conclude()

    def test_every_label_of_the_table_is_played(self):
        played = {label for label, _ in basics()} | {"greeting"}
        self.assertEqual([label for label in DECIDED if label.split(" /")[0] not in played], [])

    def test_a_migration_through_its_states(self):
        """Active, refused twice, cancelled; then failed; then completed: keys, classes and events."""
        qemu, ours = self.pair()
        both = (qemu, ours)
        for vm in both:
            vm.say(call("qmp_capabilities"))
            vm.say(raw({"execute": "migrate-set-capabilities", "arguments": {"capabilities": [
                {"capability": name, "state": True} for name in ("events", "xbzrle", "compress")]}}))
            vm.say(parameter("max-bandwidth", 1000))
            vm.ask("migrate", uri="exec:cat >/dev/null")
            vm.wait_migration("active")
        self.play([("active", call("query-migrate")), ("migrate while active", call("migrate", uri="exec:true")),
                   ("capabilities while active", capability("xbzrle", False)),
                   ("parameters while active", parameter("max-bandwidth", 1001)),
                   ("incoming while active", call("migrate-incoming", uri="tcp:127.0.0.1:0")),
                   ("status while active", call("query-status")), ("cancel", call("migrate_cancel"))], *both)
        for vm in both:
            vm.wait_migration("cancelled")
        self.play([("cancelled", call("query-migrate")), ("runs on", call("query-status")),
                   ("query-migrate-parameters", call("query-migrate-parameters")),
                   ("capabilities survive", call("query-migrate-capabilities"))], *both)
        self.assertEqual(ours.ask("query-migrate-parameters")["max-bandwidth"], 1001)

        for vm in both:
            vm.say(parameter("max-bandwidth", 1 << 40))
            vm.ask("migrate", uri="exec:exit 1")
            vm.wait_migration("failed")
        self.play([("failed", call("query-migrate")), ("still runs", call("query-status"))], *both)

        for vm in both:
            vm.say(raw({"execute": "migrate-set-capabilities", "arguments": {"capabilities": [
                {"capability": name, "state": False} for name in ("xbzrle", "compress")]}}))
            vm.ask("migrate", uri="exec:cat >/dev/null", detach=True)
            vm.wait_migration("completed")
            vm.wait_run_state("postmigrate")
        self.play([("completed", call("query-migrate")), ("postmigrate", call("query-status")),
                   ("migrate after completed", call("migrate", uri="exec:true")),
                   ("cont after completed", call("cont"))], *both)
        self.conclude()

        told = [self.states_told(vm) for vm in both]
        self.assertEqual(told[1], told[0], "MIGRATION events")

    def test_events_of_states_and_passes(self):
        """The same events in the same order, and as many passes as dirty-sync-count tells."""
        for paused in (True, False):
            told = []
            for vm in self.pair(["-S"] * paused, ["--fill", "zero"] + ["--paused"] * paused, name=paused):
                self.prepare(vm, "events")
                # Slow enough for QEMU to know its bandwidth when all is sent: before that it skips a pass.
                vm.say(parameter("max-bandwidth", 1_500_000))
                vm.ask("migrate", uri="exec:cat >/dev/null")
                count = vm.wait_migration("completed")["ram"]["dirty-sync-count"]
                told.append(self.events_told(vm, "completed"))
                self.assertEqual([each for each in told[-1] if type(each) is int], list(range(1, count + 1)))
            if paused:
                self.assertEqual(told, [["setup", 1, "active", 2, 3, "completed"]] * 2)
            else:
                self.assertEqual([self.first_and_last(each) for each in told],
                                 [["setup", "first", "active", "STOP", "last", "completed"]] * 2)

    def test_a_pause_before_the_switchover(self):
        """Let go on, and cancelled; a guest that runs."""
        for way in ("continue", "cancel"):
            both = self.pair(name=way)
            for vm in both:
                self.prepare(vm, "events", "pause-before-switchover")
                vm.ask("migrate", uri="exec:cat >/dev/null")
                vm.wait_migration("pre-switchover")
            self.play([("waits", call("query-migrate")), ("does not run", call("query-status")),
                       ("migrate while it waits", call("migrate", uri="exec:true")),
                       ("capabilities while it waits", capability("xbzrle")),
                       ("cont while it waits", call("cont")), ("continue active", call("migrate-continue", state="active")),
                       ("continue device", call("migrate-continue", state="device")),
                       ("does not run yet", call("query-status"))], *both)
            self.assertEqual([vm.ask("query-status")["status"] for vm in both], ["finish-migrate"] * 2)
            if way == "continue":
                self.play([("continue", call("migrate-continue", state="pre-switchover"))], *both)
                end, state, wanted = "completed", "postmigrate", ["device", "last", "completed"]
            else:
                self.play([("cancel", call("migrate_cancel"))], *both)
                end, state, wanted = "cancelled", "running", ["cancelling", "RESUME", "cancelled"]
            for vm in both:
                vm.wait_migration(end)
                vm.wait_run_state(state)
            if way == "cancel":
                self.play([("cancelled", call("query-migrate"))], *both)
            for vm in both:
                told = self.first_and_last(self.events_told(vm, end))
                at = told.index("pre-switchover")
                self.assertEqual([each for each in told[:at] if each != "last"], ["setup", "first", "active", "STOP"])
                # A QEMU that is cancelled here may believe for a moment that it was let go on.
                after = told[at + 1:]
                self.assertEqual(after[1:] if vm is both[0] and after[:2] == ["device", "cancelling"] else after, wanted)
        self.conclude()

    @staticmethod
    def first_and_last(told):
        """How many passes a running guest makes necessary is its own affair."""
        passes = [each for each in told if type(each) is int]
        return [{passes[-1]: "last", passes[0]: "first"}.get(each, each) for each in told
                if type(each) is str or each in (passes[0], passes[-1])]

    @staticmethod
    def prepare(vm, *names):
        vm.say(call("qmp_capabilities"))
        vm.say(raw({"execute": "migrate-set-capabilities", "arguments": {"capabilities": [
            {"capability": name, "state": True} for name in names]}}))

    @staticmethod
    def events_told(vm, end):
        """States and run states by name, passes by number, up to the state `end`."""
        deadline = time.monotonic() + PATIENCE
        while not any(each.get("data", {}).get("status") == end for each in vm.events):
            if time.monotonic() > deadline:
                raise AssertionError(f"nobody told of {end}: {vm.events}")
            vm.ask("query-status")
        return [{"MIGRATION": lambda data: data["status"], "MIGRATION_PASS": lambda data: data["pass"]}.get(
            each["event"], lambda _, name=each["event"]: name)(each.get("data")) for each in vm.events]

    @staticmethod
    def states_told(vm):
        """Of the MIGRATION events; whether a command fails before or after its migration is active is luck."""
        states = [each["data"]["status"] for each in vm.events if each["event"] == "MIGRATION"]
        return [state for state, later in zip(states, [*states[1:], ""]) if (state, later) != ("active", "failed")]

    def test_a_vm_that_waits(self):
        qemu, ours = self.pair(["-incoming", "defer"], ["--incoming", "defer"])
        self.play([("negotiation", call("qmp_capabilities")), ("waits", call("query-status")),
                   ("nothing yet", call("query-migrate")), ("migrate", call("migrate", uri="tcp:127.0.0.1:1")),
                   ("bad address", call("migrate-incoming", uri="bogus:1")), ("still nothing", call("query-migrate")),
                   ("a second defer", call("migrate-incoming", uri="defer")),
                   ("good address", call("migrate-incoming", uri="tcp:127.0.0.1:0")),
                   ("where", call("query-migrate")),
                   ("a second one", call("migrate-incoming", uri="tcp:127.0.0.1:0")),
                   ("stop", call("stop")), ("cont", call("cont")), ("waits on", call("query-status")),
                   ("cancel", call("migrate_cancel")), ("where still", call("query-migrate"))], qemu, ours)
        self.conclude()

    def test_descriptors_by_name(self):
        qemu, ours = self.pair()
        self.play([("negotiation", call("qmp_capabilities"))], qemu, ours)
        for label, name, with_fd in (("a digit first", "5x", True), ("given", "out", True), ("given again", "out", True),
                                     ("to close", "other", True), ("none came", "out", False)):
            answers = []
            for vm in (qemu, ours):
                read, write = os.pipe()
                answers.append(vm.say(call("getfd", fdname=name), [write] if with_fd else ()))
                os.close(write)
                os.close(read)
            self.note(label, *answers)
        self.play([("close", call("closefd", fdname="other")), ("closed", call("closefd", fdname="other")),
                   ("closed out", call("closefd", fdname="out"))], qemu, ours)
        sinks = []
        for vm in (qemu, ours):
            near, far = socket.socketpair()
            self.assertIn("return", vm.say(call("getfd", fdname="mig"), [far.fileno()]))
            far.close()
            sinks.append(near)
        for vm, near in zip((qemu, ours), sinks):
            vm.ask("migrate", uri="fd:mig")
            near.settimeout(PATIENCE)
            stream = b""
            while piece := near.recv(1 << 20):
                stream = stream or piece
            near.close()
            self.assertEqual(stream[:8], b"QEVM\0\0\0\3")
            self.assertEqual(vm.wait_migration("completed", "failed")["status"], "completed")
        self.play([("taken", call("closefd", fdname="mig"))], qemu, ours)
        self.conclude()


class Driver(unittest.TestCase):
    """`ramferry migrate`, `status` and `cancel` drive real QEMUs as they drive our own VM."""

    def setUp(self):
        self.program = programs.installed()
        self.folder = tempfile.TemporaryDirectory(prefix="ramferry-qmp-")
        self.addCleanup(self.folder.cleanup)

    def machine(self, name, *options, ram=64):
        """(a monitor of ours, the monitor's address for the program)"""
        ours, theirs = (os.path.join(self.folder.name, f"{name}-{each}.qmp") for each in ("a", "b"))
        vm = Vm([*self.program.command, "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg",
                 "-machine", "pc-i440fx-7.2", "-m", str(ram), "-qmp", f"unix:{theirs},server=on,wait=off",
                 "-qmp", f"unix:{ours},server=on,wait=off", *options], ours)
        self.addCleanup(vm.end)
        vm.ask("qmp_capabilities")
        return vm, f"unix:{theirs}"

    def ramferry(self, *arguments, status=0):
        done = subprocess.run([RAMFERRY, *arguments], capture_output=True, text=True, timeout=PATIENCE * 2)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def test_two_qemus_over_tcp_with_progress_and_summary(self):
        source, source_monitor = self.machine("source")
        destination, _ = self.machine("destination", "-incoming", "tcp:127.0.0.1:0")
        port = destination.ask("query-migrate")["socket-address"][0]["port"]
        # Slow enough that there is progress to be shown, and a window is measured.
        done = self.ramferry("migrate", "--qmp", source_monitor, "--set", "max-bandwidth=150000", "--set", "xbzrle=on",
                             "--set", "downtime-limit=500", f"tcp:127.0.0.1:{port}")
        for word in ("migrated", "downtime", "rounds", "pages", "zero", "xbzrle", "on the wire"):
            self.assertIn(word, done.stdout)
        self.assertRegex(done.stderr, r"\d+ %  .*/s  .* left  dirty .*  downtime ~.*  round \d+")
        self.assertEqual(source.ask("query-migrate-parameters")["downtime-limit"], 500)
        source.wait_run_state("postmigrate")
        self.assertEqual(destination.wait_migration("completed")["status"], "completed")
        status = self.ramferry("status", "--qmp", source_monitor)
        self.assertIn("postmigrate", status.stdout)
        self.assertIn("completed", status.stdout)

    def test_cancel_and_what_cannot_be_set(self):
        source, source_monitor = self.machine("source")
        self.ramferry("migrate", "--qmp", source_monitor, "--set", "nosuch=1", "exec:true", status=1)
        source.say(parameter("max-bandwidth", 1000))
        source.ask("migrate", uri="exec:cat >/dev/null")
        source.wait_migration("active")
        self.assertIn("active", json.loads(self.ramferry("status", "--json", "--qmp", source_monitor).stdout)
                      ["migration"]["status"])
        self.ramferry("cancel", "--qmp", source_monitor)
        self.assertEqual(source.wait_migration("cancelled")["status"], "cancelled")
        self.assertEqual(source.ask("query-status")["status"], "running")


if __name__ == "__main__":
    unittest.main(verbosity=2)
