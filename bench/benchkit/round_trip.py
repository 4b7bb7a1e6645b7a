# SPDX-License-Identifier: MIT
"""What a byte's way there and back takes, straight and through a tunnel.

The near end of everything has one processor and the far end another, as on two hosts: left to the scheduler, whether
two processes share one decides between 25 and 80 microseconds for a trip.
"""
import contextlib
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


def sides():
    """A processor for each side; the same one where there is but one."""
    mine = sorted(os.sched_getaffinity(0))
    return mine[0], mine[-1]


@contextlib.contextmanager
def running_on(processor):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def direct(_):
    near, far = sides()
    with Run() as run:
        path = echo(run, far)
        with running_on(near):
            return trips(path)


def through_tunnel(setup, fabric):
    """`fabric`: unix, or rdma where there is a device."""
    near, far = sides()
    with Run() as run:
        last, first = echo(run, far), run.path("first")
        at = f"unix:{run.path('fabric')}" if fabric == "unix" else f"rdma:{setup.rdma_host}:{free_port(setup.rdma_host)}"
        for end, *places in (("exit", at, f"unix:{last}"), ("enter", f"unix:{first}", at)):
            process = run.start(setup.ramferry, "tunnel", end, "--once", *places,
                                processor=far if end == "exit" else near)
            wait_for(lambda: listens(process), f"tunnel {end}", process)
        with running_on(near):
            return trips(first)


def listens(process):
    """Whether it has said where."""
    with open(process.log.name) as file:        # not through its own descriptor: they would share its place
        return " at " in file.read()


def echo(run, processor):
    """A process that says what it is told; its address."""
    path = run.path("last")
    process = run.start(sys.executable, "-c", ECHO, path, processor=processor)
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
        # As long as all of them take when nothing comes in between.
        return {"seconds": statistics.median(took) * TRIPS, "trip": statistics.median(took), "trip-99": took[len(took) * 99 // 100]}
