#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""doctor_e2e.py RAMFERRY: what `ramferry doctor` says of this machine, and, inside the soft-RoCE rig, of RDMA.

In the rig it takes the RDMA device away and does what doctor says: so every command in a fix is one that works.
"""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import unittest

RAMFERRY = ""
IN_RIG = "RAMFERRY_RIG_A" in os.environ
SECONDS = 60
VERDICTS = {"yes", "no", "note"}


def doctor(*arguments, wrapper=()):
    return subprocess.run([*wrapper, RAMFERRY, "doctor", *arguments], capture_output=True, text=True, timeout=SECONDS)


def findings(*arguments, wrapper=()):
    """The exit status, and the checks by name."""
    ran = doctor(*arguments, "--json", wrapper=wrapper)
    try:
        answer = json.loads(ran.stdout)
    except json.JSONDecodeError:
        raise AssertionError(f"no JSON, status {ran.returncode}: {ran.stdout}{ran.stderr}") from None
    assert ran.returncode == (0 if answer["works"] else 1), (ran.returncode, answer["works"])
    return ran.returncode, {check["name"]: check for group in answer["groups"] for check in group["checks"]}


def shell(command):
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=SECONDS)


class AnyMachine(unittest.TestCase):
    def test_needs_only_sockets_and_a_tracker(self):
        status, checks = findings()
        self.assertEqual(status, 0, checks)

    def test_has_a_fix_for_every_no(self):
        for arguments in [[], ["tcp:127.0.0.1:1"], ["unix:/no/such/folder/socket"],
                          ["file:/no/such/folder/state"], ["fd:77"], *self.rdma()]:
            _, checks = findings(*arguments)
            for check in checks.values():
                self.assertIn(check["verdict"], VERDICTS)
                if check["verdict"] == "no":
                    self.assertNotEqual(check["fix"], "", check)

    def test_text_says_the_same_as_json(self):
        ran = doctor()
        _, checks = findings()
        for name, check in checks.items():
            self.assertRegex(ran.stdout, rf"(?m)^  {check['verdict']} +{re.escape(name)}( |$)")
            if check["fix"]:
                self.assertIn(f"        fix: {check['fix']}\n", ran.stdout)
        self.assertIn("this machine can migrate guests", ran.stdout.splitlines()[-1])

    @staticmethod
    def rdma():
        """Where this program was built with it."""
        return [["rdma:127.0.0.1:4444"]] if doctor("rdma:127.0.0.1:4444").returncode != 2 else []

    def test_has_no_fix_that_cannot_work(self):
        for arguments in self.rdma():
            _, checks = findings(*arguments)
            if "rdma_ucm" not in checks["kernel modules"]["value"] or "modinfo" not in checks["kernel modules"]["value"]:
                self.skipTest("this kernel has the modules")
            for check in checks.values():
                self.assertNotIn("modprobe", check["fix"], check)

    def test_does_not_say_of_what_it_did_not_try_that_it_works(self):
        def verdict(uri, status):
            ran = doctor(uri)
            self.assertEqual(ran.returncode, status, ran.stdout)
            return ran.stdout.splitlines()[-1]

        with tempfile.TemporaryDirectory() as folder:
            for uri in (f"file:{folder}/state", "exec:false", "fd:0", "tcp:127.0.0.1:1?dialect=qemu"):
                self.assertIn(f"nothing here speaks against {uri}; it was not tried", verdict(uri, 0))
        self.assertIn(f"file:{folder}/state does not work yet: see 'no'", verdict(f"file:{folder}/state", 1))
        self.assertEqual(findings(f"file:{folder}/state")[1][f"folder {folder}"]["fix"], f"mkdir -p {folder}")
        self.assertIn("fd:77 does not work yet: see 'no'", verdict("fd:77", 1))

    def test_finds_a_listener_and_its_absence(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            uri = f"tcp:127.0.0.1:{listener.getsockname()[1]}"
            self.assertEqual(findings(uri)[0], 1)
            listener.listen()
            status, checks = findings(uri)
            self.assertEqual(status, 0, checks)

    def test_wrong_usage_is_status_2(self):
        for arguments in [["carrier-pigeon:coop"], ["tcp:127.0.0.1:1?lane=3"], ["--nonsense"]]:
            self.assertEqual(doctor(*arguments).returncode, 2, arguments)

    @unittest.skipIf(os.path.isdir("/sys/class/infiniband"), "there is RDMA")
    def test_without_rdma_names_what_gives_it(self):
        _, checks = findings()
        if "built in" in checks:
            self.assertIn("libibverbs-dev", checks["built in"]["fix"])
            return
        self.assertEqual(checks["device"]["verdict"], "no")
        self.assertRegex(checks["device"]["fix"], r"rdma link add rxe0 type rxe netdev \S+|modinfo \S+` finds none")
        self.assertIn("'no' under rdma:", doctor().stdout.splitlines()[-1])


@unittest.skipUnless(IN_RIG, "changes the machine: in the rig only")
class SoftRoce(unittest.TestCase):
    def setUp(self):
        self.address = os.environ["RAMFERRY_RIG_A"]

    def test_shows_the_device_as_it_is(self):
        status, checks = findings()
        self.assertEqual(status, 0)
        self.assertEqual(checks["port of rxe0"]["value"], "ACTIVE, Ethernet, on eth0")
        self.assertIn("4096 bytes (MTU of eth0: 9000)", checks["path MTU of rxe0"]["value"])
        self.assertIn(f"{self.address} (RoCE v2)", checks["GIDs of rxe0"]["value"])

    def test_follows_the_mtu_of_the_interface(self):
        try:
            shell("ip link set eth0 mtu 1500")
            _, checks = findings()
            self.assertIn("1024 bytes", checks["path MTU of rxe0"]["value"])
            self.assertEqual(shell(checks["path MTU of rxe0"]["fix"]).returncode, 0)
            self.assertIn("4096 bytes", findings()[1]["path MTU of rxe0"]["value"])
        finally:
            shell("ip link set eth0 mtu 9000")

    def test_gives_the_commands_that_bring_a_device(self):
        shell("rdma link delete rxe0; modprobe -r rdma_ucm rdma_rxe ib_uverbs; ip link set eth0 mtu 1500")
        _, checks = findings()
        self.assertEqual(checks["device"]["verdict"], "no")
        commands = checks["device"]["fix"].split(" (as root")[0]
        ran = shell(commands)
        self.assertEqual(ran.returncode, 0, (commands, ran.stderr))
        _, checks = findings()
        self.assertEqual(checks["port of rxe0"]["verdict"], "yes")
        self.assertIn("4096 bytes", checks["path MTU of rxe0"]["value"])

    def test_counts_the_lock_limit_for_whom_it_binds(self):
        self.assertEqual(findings()[1]["memory lock limit"]["verdict"], "yes")
        bound = ["setpriv", "--bounding-set", "-ipc_lock", "prlimit", "--memlock=8388608:8388608"]
        status, checks = findings(wrapper=bound)
        self.assertEqual(status, 0, "without a URI nothing needs pinning")
        self.assertEqual(checks["memory lock limit"]["verdict"], "no")
        self.assertIn("8 MiB", checks["memory lock limit"]["value"])
        _, checks = findings(f"rdma:{self.address}:4444?pin=demand", wrapper=bound)
        self.assertEqual(checks["memory lock limit"]["verdict"], "note")
        fixed = checks["memory lock limit"]["fix"].split(" (as root)")[0]
        limit = shell(f"prlimit --memlock=8388608:8388608 --pid $$; {fixed}; ulimit -l").stdout.split()
        self.assertEqual(limit[-1:], ["unlimited"], fixed)

    def test_knows_the_way_and_disturbs_nobody(self):
        uri = f"rdma:{self.address}:4444"
        status, checks = findings(uri)
        self.assertEqual(status, 1)
        self.assertIn("nobody listens", checks[f"connect to {uri}"]["value"])
        self.assertIn("rxe0 port 1, GID 1", checks[f"route to {self.address}"]["value"])
        with tempfile.TemporaryDirectory() as folder:
            vm = subprocess.Popen([RAMFERRY, "vm", "--name", "b", "--qmp", f"unix:{folder}/b", "--ram", "16M",
                                   "--incoming", uri])
            try:
                for _ in range(600):
                    status, checks = findings(uri)
                    if status == 0:
                        break
                self.assertEqual(status, 0, checks)
                self.assertEqual(findings(uri)[0], 0, "it still listens")
                self.assertIsNone(vm.poll())
            finally:
                vm.kill()
                vm.wait()


if __name__ == "__main__":
    RAMFERRY = os.path.realpath(sys.argv.pop(1))
    unittest.main(verbosity=2)
