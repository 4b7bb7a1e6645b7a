# SPDX-License-Identifier: MIT
"""What `receive`, `send`, `inspect` and `tunnel` say to those who use them wrongly: what, why, what next."""

import json
import os
import socket
import struct
import subprocess

import harness
from harness import Case

PAGE = 4096
REFUSED, WRONG = 1, 2   # exit statuses


def stream():
    """A machine of two pages and one device, as QEMU would write it."""
    def text(value):
        return bytes([len(value)]) + value.encode()

    def ram(kind, payload):
        return bytes([kind]) + struct.pack(">I", 2) + payload + struct.pack(">QBI", 0x10, 0x7e, 2)

    machine = b"pc-test"
    description = (b'{"page_size": 4096, "devices": [{"name": "clock", "instance_id": 0, "vmsd_name": "clock",'
                   b' "version": 2, "fields": [{"name": "at", "type": "uint32", "size": 4}]}]}')
    return (b"QEVM" + struct.pack(">IBI", 3, 7, len(machine)) + machine
            + ram(1, text("ram") + struct.pack(">IIQ", 0, 4, 2 * PAGE | 0x04) + text("ram") + struct.pack(">Q", 2 * PAGE))
            + ram(3, struct.pack(">Q", 0x08) + text("ram") + bytes(range(256)) * 16 + struct.pack(">QB", PAGE | 0x22, 0))
            + b"\x04" + struct.pack(">I", 5) + text("clock") + struct.pack(">III", 0, 2, 7) + b"\x7e"
            + struct.pack(">I", 5) + b"\0\x06" + struct.pack(">I", len(description)) + description)


class WrongUse(Case):
    def setUp(self):
        super().setUp()
        self.write("plain", stream())
        self.kept = self.path("kept")
        self.ramferry("receive", f"file:{self.path('plain')}", "--save", self.kept)

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)
        return self.path(name)

    def content(self, name="kept"):
        with open(self.path(name), "rb") as file:
            return file.read()

    def says(self, status, words, *arguments):
        """It ends with that status, and all of the words are in one message of its own."""
        with self.subTest(" ".join(arguments)):
            done = self.ramferry(*arguments, status=status)
            for word in words:
                self.assertIn(word, done.stderr)
            self.assertIn("ramferry: ", done.stderr)

    def reads(self, status, words, path, inspected=None):
        self.says(status, words, "send", path, f"file:{self.path('out')}")
        self.assertFalse(os.path.exists(self.path("out")))
        self.says(status, inspected or words, "inspect", path)

    def test_files_that_are_none(self):
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        self.reads(REFUSED, ["opening ", "No such file"], self.path("nowhere"))
        self.reads(WRONG, ["it must be a plain file"], self.directory)
        self.reads(WRONG, ["it must be a plain file"], fifo)
        self.reads(REFUSED, ["ended too early", "neither a checkpoint nor"], self.write("empty", b""), ["it is empty"])
        self.reads(REFUSED, ["'QEVM'", "neither a checkpoint nor"], self.write("odd", b"nothing of ours"), ["'QEVM'"])
        whole = self.content()
        for length in (9, 1000, 5000, len(whole) - 1):
            self.reads(REFUSED, [str(length), "copy it again"], self.write("cut", whole[:length]))
        self.reads(REFUSED, ["copy it again"], self.write("longer", whole + b"!"))
        self.says(REFUSED, ["at byte 57", "ends in the middle"], "inspect", self.write("cut", self.content("plain")[:60]))
        flipped = bytearray(whole)
        flipped[PAGE + 7] ^= 1
        self.says(REFUSED, ["page 0 of RAM block 'ram'", "use another checkpoint"], "send", self.write("bad", flipped),
                  f"file:{self.path('out')}")
        self.says(REFUSED, ["page 0 of RAM block 'ram'"], "inspect", "--verify", self.path("bad"))
        flipped[-3] ^= 1
        self.reads(REFUSED, ["checksum is wrong", "use another checkpoint"], self.write("bad", flipped))

    def test_verifying_says_what_was_verified(self):
        self.assertIn("checked     1 pages, all as they were kept", self.ramferry("inspect", "--verify", self.kept).stdout)
        self.assertEqual(json.loads(self.ramferry("inspect", "--verify", "--json", self.kept).stdout)["checked-pages"], 1)
        self.assertNotIn("checked", self.ramferry("inspect", self.kept).stdout)
        self.says(WRONG, ["a plain stream has no checksums"], "inspect", "--verify", self.path("plain"))

    def test_what_cannot_be_received(self):
        plain, new = f"file:{self.path('plain')}", self.path("new")
        self.says(REFUSED, ["folder " + self.path("none"), "create it first"], "receive", plain, "--save",
                  self.path("none/new"))
        self.says(REFUSED, [self.kept + "/", "without a '/' at its end"], "receive", plain, "--save", self.kept + "/")
        self.says(REFUSED, ["no migration stream"], "receive", f"file:{self.kept}", "--save", new)
        self.says(REFUSED, ["exit status 3"], "receive", f"exec:cat {self.path('plain')}; exit 3", "--save", new)
        self.says(REFUSED, ["no such descriptor"], "receive", "fd:99", "--save", new)
        self.says(WRONG, ["number from 0 to 16"], "receive", "tcp:127.0.0.1:0?channels=17", "--save", new)
        self.says(WRONG, ["known are", "channels"], "receive", "tcp:127.0.0.1:0?chanels=2", "--save", new)
        self.says(WRONG, ["known are tcp:"], "receive", "udp:1", "--save", new)
        self.says(REFUSED, ["another program listens there"], "receive", self.listening(), "--save", new)
        self.assertFalse(os.path.exists(new))
        done = subprocess.run([harness.PROGRAM, "receive", plain], capture_output=True, text=True)
        self.assertEqual((done.returncode, "--save is required" in done.stderr), (WRONG, True), done.stderr)

    def listening(self):
        at = f"unix:{self.path('socket')}"
        waiting = subprocess.Popen([harness.PROGRAM, "receive", at, "--save", self.path("other")],
                                           stderr=subprocess.PIPE)
        self.addCleanup(waiting.stderr.close)
        self.addCleanup(waiting.wait)
        self.addCleanup(waiting.kill)
        self.assertIn(b"waiting at", waiting.stderr.readline())
        return at

    def test_a_folder_without_rights(self):
        closed = self.path("closed")
        os.mkdir(closed)
        os.chmod(closed, 0o555)
        command = [harness.PROGRAM, "receive", f"file:{self.path('plain')}", "--save", f"{closed}/new"]
        if os.geteuid() == 0:   # whom rights do not bind, while it has all of its capabilities
            command = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", *command]
            if subprocess.run([*command[:5], "true"], capture_output=True).returncode != 0:
                self.skipTest("root that may not drop its capabilities may write everywhere")
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(done.returncode, REFUSED, done.stderr)
        self.assertIn("Permission denied (save elsewhere, or as a user who may write there)", done.stderr)

    def test_what_cannot_be_sent(self):
        before = self.content()
        self.says(WRONG, ["to itself", "another path"], "send", self.kept, f"file:{self.kept}")
        self.says(WRONG, ["leave --format native away"], "send", self.kept, f"file:{self.path('out')}", "--format", "native")
        self.says(WRONG, ["begin with a scheme"], "send", self.kept, self.path("out"))
        self.says(REFUSED, ["start the destination first"], "send", self.kept, f"unix:{self.path('nobody')}")
        self.says(REFUSED, ["create the folder first"], "send", self.kept, f"file:{self.path('none/out')}")
        self.says(REFUSED, ["exit status 4"], "send", self.kept, "exec:cat >/dev/null; exit 4")
        self.assertEqual(self.content(), before)
        self.assertIn("on the disk", self.ramferry("send", self.kept, f"file:{self.path('out')}").stdout)

    def test_tunnels_that_cannot_be(self):
        plain, fabric = f"unix:{self.path('plain.sock')}", "tcp:127.0.0.1:0"
        for end in ("enter", "exit"):
            def between(inner, outer):
                return (inner, outer) if end == "enter" else (outer, inner)
            self.says(WRONG, ["plain bytes", "unix:PATH or tcp:HOST:PORT"], "tunnel", end, *between("exec:cat", fabric))
            self.says(WRONG, ["it is tcp:, unix: or rdma:"], "tunnel", end, *between(plain, "exec:cat"))
            self.says(WRONG, ["leave dialect=qemu away"], "tunnel", end, *between(plain, fabric + "?dialect=qemu"))
            self.says(WRONG, ["leave channels=N away"], "tunnel", end, *between(plain, fabric + "?channels=2"))

    def test_a_tunnel_that_leads_nowhere_says_so_at_both_ends(self):
        plain, fabric, nobody = (f"unix:{self.path(name)}" for name in ("plain.sock", "fabric.sock", "nobody.sock"))
        ends = []
        for words in (["exit", fabric, nobody], ["enter", plain, fabric]):
            ends.append(subprocess.Popen([harness.PROGRAM, "tunnel", words[0], "--once", "--json", *words[1:]],
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            self.addCleanup(ends[-1].communicate)
            self.addCleanup(ends[-1].kill)
            self.assertIn(" at ", ends[-1].stderr.readline())
        with socket.socket(socket.AF_UNIX) as program:
            program.connect(self.path("plain.sock"))
            program.settimeout(harness.PATIENCE)
            self.assertEqual(program.recv(1), b"")
        for end in ends:
            said, errors = end.communicate(timeout=harness.PATIENCE)
            self.assertEqual(end.returncode, REFUSED, errors)
            self.assertIn("each of them broke off", errors)
            self.assertEqual(json.loads(said)["failed"], 1)
            self.assertIn("broke off", json.loads(said)["error"])


if __name__ == "__main__":
    harness.main()
