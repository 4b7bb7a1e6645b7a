# SPDX-License-Identifier: MIT
"""`ramferry tunnel` over rdma: on a real device: streams of others go both ways, whole, and nothing is left behind.

RAMFERRY names the program. With QEMUs at both ends: tests/qemu/qemu_rdma_guest_test.py.
"""

import hashlib
import json
import os
import socket
import subprocess
import threading

import rdma_case
from rdma_case import PROGRAM, RdmaCase, harness

MIB = 1 << 20
STREAMS = 3


def whole(connection):
    """What comes until the other end has finished."""
    return b"".join(iter(lambda: connection.recv(MIB), b""))


class Tunnel(RdmaCase):
    def path(self, name):
        return os.path.join(self.directory, name)

    def end(self, *words):
        process = subprocess.Popen([PROGRAM, "tunnel", words[0], "--once", "--json", *words[1:]], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        said = process.stderr.readline()
        self.assertIn(" at ", said)
        return process, said.split(" at ", 1)[1].strip()

    def answer(self, listener):
        """The program behind the exit: to each stream the digest of what came, and as much of its own."""
        def serve(connection):
            with connection:
                came = whole(connection)
                connection.sendall(hashlib.sha256(came).digest() + came[::-1])

        for _ in range(STREAMS):
            connection, _ = listener.accept()
            connection.settimeout(harness.PATIENCE)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def ask(self, number, wrong):
        content = os.urandom((number + 1) * 2 * MIB + number)   # more than is ever in flight
        with socket.socket(socket.AF_UNIX) as program:
            program.settimeout(harness.PATIENCE)
            program.connect(self.path("near"))
            program.sendall(content)
            program.shutdown(socket.SHUT_WR)
            if whole(program) != hashlib.sha256(content).digest() + content[::-1]:
                wrong.append(number)

    def test_streams_go_both_ways(self):
        wrong = []
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path("far"))
            listener.listen()
            listener.settimeout(harness.PATIENCE)
            leave, fabric = self.end("exit", self.uri(), f"unix:{self.path('far')}")
            enter, _ = self.end("enter", f"unix:{self.path('near')}", fabric)
            asking = [threading.Thread(target=self.ask, args=(number, wrong)) for number in range(STREAMS)]
            for thread in asking:
                thread.start()
            self.answer(listener)
            for thread in asking:
                thread.join()
        self.assertEqual(wrong, [])
        for process in (enter, leave):
            said, errors = process.communicate(timeout=harness.PATIENCE)
            self.assertEqual(process.returncode, 0, errors)
            told = json.loads(said)
            self.assertEqual((told["streams"], told["failed"], told["error"]), (STREAMS, 0, ""))
        self.end_all()


if __name__ == "__main__":
    rdma_case.address()
    harness.main()
