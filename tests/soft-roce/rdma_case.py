# SPDX-License-Identifier: MIT
"""Real migrations over rdma: for the rig's tests: VMs on this machine's device, and what the kernel counts on it."""

import ipaddress
import json
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import harness  # noqa: E402
from harness import PROGRAM, Case, with_options  # noqa: E402

FILL = ("--fill", f"mixed:{PROGRAM}")    # walking this machine's files takes long in the rig
IN_RIG = "RAMFERRY_RIG_A" in os.environ
TIMEOUT = 5                                      # seconds of silence until a peer counts as gone
STANDSTILL = 7 * 4.096e-6 * 2 ** 16 + 1          # (retries + 1) times the default acknowledgement timeout, and 1 s


def address():
    """An IPv4 address that a device here answers to, from its GID table."""
    for gid in sorted(pathlib.Path("/sys/class/infiniband").glob("*/ports/1/gids/*")):
        try:
            found = ipaddress.IPv6Address(gid.read_text().strip())
        except (OSError, ValueError):
            continue
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
    sys.exit("no RDMA device here: run it by tests/soft-roce/rig")


def resources():
    """What programs have registered, opened and connected on all devices, by the kernel's own count."""
    done = subprocess.run(["rdma", "-j", "resource", "show"], capture_output=True, text=True, check=True)
    return {kind: sum(device.get(kind, 0) for device in json.loads(done.stdout)) for kind in ("cm_id", "mr", "ctx")}


CONTROL_OF_B = "198.51.100.2"    # the rig's link that no mischief touches


class PeerVm(harness.Vm):
    """A VM on the rig's host B, with its monitor on the control link."""

    PORT = 7100

    def __init__(self, directory, name, *options, ram):
        PeerVm.PORT += 1
        self.at = (CONTROL_OF_B, PeerVm.PORT)
        super().__init__(directory, name, program=["rig-peer", PROGRAM, "vm", "--name", name, "--qmp",
                                                   f"tcp:{CONTROL_OF_B}:{PeerVm.PORT}", "--ram", ram, *options])

    def reach(self):
        deadline = time.monotonic() + harness.PATIENCE
        while self.qmp is None:
            try:
                self.qmp = harness.Qmp(self.at)
            except OSError:
                if not self.alive() or time.monotonic() > deadline:
                    raise AssertionError(f"{self.name} did not come up: {self.errors()}") from None
                time.sleep(0.05)
        return self


NOTHING = {"cm_id": 0, "mr": 0, "ctx": 0}


class RdmaCase(Case):
    """A pair of VMs over rdma:; when all have ended, nothing is left on the device."""

    def uri(self, **options):
        return with_options(f"rdma:{address()}:0", **options)

    def rdma_pair(self, source_options=(), destination_options=(), ram="16M", fill=FILL, **options):
        source_options = (*fill, *source_options)
        source, destination = self.pair(source_options, destination_options, incoming=self.uri(**options), ram=ram)
        return source, destination, with_options(destination.uri())

    def limited(self, name, limit, *options, ram):
        """A VM without the right to lock more memory than `limit`."""
        monitor = pathlib.Path(self.directory) / f"{name}.qmp"
        return self.vm(name, program=[
            "setpriv", "--bounding-set", "-ipc_lock", "prlimit", f"--memlock={limit}:{limit}", PROGRAM, "vm", "--name",
            name, "--qmp", f"unix:{monitor}", "--ram", ram, "--die-with-parent", str(os.getpid()), *options])

    def assert_nothing_is_left(self):
        """The kernel lets go of what a killed process had in its own time."""
        deadline = time.monotonic() + harness.PATIENCE
        while resources() != NOTHING and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(resources(), NOTHING)

    def end_all(self):
        self._end_vms()
        self.vms.clear()
        self.assert_nothing_is_left()

    def assert_fails_with(self, vm, pattern):
        info = vm.wait_migration("failed")
        print(f"{vm.name}: {info['error-desc']}", flush=True)
        self.assertRegex(info["error-desc"], pattern)
        return info

    def assert_noticed(self, vm, pattern):
        """What happened just now fails the migration once the peer timeout and the retries are over; a busy machine
        that emulates another has as much time again."""
        since = time.monotonic()
        self.assert_fails_with(vm, pattern)
        took = time.monotonic() - since
        print(f"noticed after {took:.1f} s", flush=True)
        self.assertLess(took, 2 * (TIMEOUT + STANDSTILL))

    def assert_ends(self, destination):
        """A destination that lost its source before it owned the guest ends, and says why."""
        self.assertEqual(destination.exit_status(), 1, destination.errors())
