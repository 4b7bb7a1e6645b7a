# SPDX-License-Identifier: MIT
"""What a byte's way there and back takes, straight and through a tunnel."""
import os
import socket
import statistics
import sys
import time

from .process import Failed, Run, free_port, wait_for

WARM_UP, TRIPS = 200, 2000
ECHO = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1] + ".new")
listener.listen()
os.rename(sys.argv[1] + ".new", sys.argv[1])
peer = listener.accept()[0]
while got := peer.recv(1):
    peer.sendall(got)
"""


def direct(_):
    with Run() as run:
        return trips(echo(run))


def through_tunnel(setup, fabric):
    """`fabric`: unix, or rdma where there is a device."""
    with Run() as run:
        last, first = echo(run), run.path("first")
        at = f"unix:{run.path('fabric')}" if fabric == "unix" else f"rdma:{setup.rdma_host}:{free_port(setup.rdma_host)}"
        for end, *places in (("exit", at, f"unix:{last}"), ("enter", f"unix:{first}", at)):
            process = run.start(setup.ramferry, "tunnel", end, "--once", *places)
            wait_for(lambda: listens(process), f"tunnel {end}", process)
        return trips(first)


def listens(process):
    """Whether it has said where."""
    with open(process.log.name) as file:        # not through its own descriptor: they would share its place
        return " at " in file.read()


def echo(run):
    """A process that says what it is told; its address."""
    path = run.path("last")
    process = run.start(sys.executable, "-c", ECHO, path)
    wait_for(lambda: os.path.exists(path), "the echo", process)
    return path


def trips(path):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(60)
        peer.connect(path)
        took = []
        for _ in range(WARM_UP + TRIPS):
            begin = time.monotonic()
            peer.sendall(b"?")
            if peer.recv(1) != b"?":
                raise Failed("the byte did not come back")
            took.append(time.monotonic() - begin)
        took = sorted(took[WARM_UP:])
        return {"seconds": sum(took), "trip": statistics.median(took), "trip-99": took[len(took) * 99 // 100]}
