# SPDX-License-Identifier: MIT
"""What is measured against what.

In each round every contender of every contest has one turn, in an order that rotates; the first round is warm-up.
"""
import dataclasses
import functools

from . import contenders as who
from . import round_trip, trace
from .contenders import MIB, Job

OURS = "ramferry"


@dataclasses.dataclass
class Contest:
    key: str
    title: str
    workload: str
    contenders: dict        # name → function(setup) → what it measured
    size: int
    destination: str = "pre-faulted"
    content: str = ""


def room(size):
    """The memory that a turn may take: both machines' and what their sockets, files and programs need."""
    return 3 * min(size, 1024 * MIB) + 512 * MIB


def turn(function, job, *options):
    return functools.partial(lambda setup: function(setup, job, *options))


def duel(key, title, workload, ours, theirs, **more):
    """ramferry and QEMU with the same job."""
    contestants = {OURS: turn(who.ramferry, ours), "QEMU": turn(who.qemu, theirs)}
    return Contest(key, title, workload, contestants, ours.size, content=ours.content, **more)


def sockets(size):
    """Bulk over sockets, against the plain loop and QEMU."""
    for transport in ("tcp", "unix"):
        job = Job(transport, size)
        contestants = {OURS: turn(who.ramferry, job), "plain loop": turn(who.plain, job), "QEMU": turn(who.qemu, job)}
        if transport == "tcp":
            contestants["QEMU multifd"] = turn(who.qemu, dataclasses.replace(job, multifd=1))
            contestants["iperf3"] = turn(who.iperf, job)
        yield Contest(transport, f"{transport}, 1 lane", "W2", contestants, size, content="dense")
    two = Job("tcp", size, query="lanes=2")
    yield Contest("tcp-2", "tcp, 2 lanes", "W2", {
        OURS: turn(who.ramferry, two), "QEMU multifd": turn(who.qemu, Job("tcp", size, multifd=2))}, size, content="dense")


def cold(size):
    job = Job("tcp", size, cold=True)
    yield Contest("tcp-cold", "tcp, 1 lane, cold destination", "W2", {
        OURS: turn(who.ramferry, job), "plain loop": turn(who.plain, job), "QEMU": turn(who.qemu, job),
        "QEMU multifd": turn(who.qemu, dataclasses.replace(job, multifd=1))}, size, "cold", content="dense")


def contents(size):
    blank = Job("tcp", 8 * size, "untouched")
    yield duel("untouched", "memory that nobody ever touched", "W0", blank, blank, destination="cold")
    zero = Job("tcp", size, "zero")
    yield duel("zero", "memory full of zeros", "W1", zero, zero)
    text = Job("tcp", size, "text")
    yield duel("text", "text, nothing compressed", "W3", text, text)


def dirty(size, transport="tcp"):
    for key, title, make in (("second", "every second page written once", functools.partial(trace.every_second, seconds=0.5)),
                             ("uniform", "5 % of the pages written each second", functools.partial(trace.uniform, seconds=10)),
                             ("zipf", "a hot set by Zipf's law", functools.partial(trace.zipf, seconds=10)),
                             ("flood", "for 3 s, three quarters of memory rewritten faster than the link",
                              functools.partial(trace.flood, seconds=3))):
        schedule = make(size)
        job = Job(transport, size, trace=schedule)
        yield duel(f"dirty-{key}", title, schedule.name, job, job)


def nodes(size):
    """Checkpoints and the tunnel, with QEMU at one end or at both."""
    job = Job("unix", size)
    direct = turn(who.qemu, job)
    for key, title, ours in (("receive", "receive from QEMU into a file", who.receive_from_qemu),
                             ("send", "send a file into QEMU", who.send_into_qemu),
                             ("tunnel", "QEMU to QEMU through a tunnel", who.qemu_through_tunnel)):
        yield Contest(key, f"{title}, unix", "W2", {OURS: turn(ours, job), "QEMU": direct}, size, content="dense")


def round_trips(key, fabric):
    """Not how fast, but how soon."""
    return Contest(key, f"a byte there and back, through a tunnel over {fabric}", "latency", {
        OURS: lambda setup: round_trip.through_tunnel(setup, fabric), "direct": round_trip.direct}, 2 * round_trip.TRIPS)


def host(size):
    return [*sockets(size), *contents(size), *nodes(size), round_trips("round-trip", "unix"), *dirty(size), *cold(size)]


def rig(size):
    """Over an RDMA device; ratios within one boot of the soft-RoCE guest."""
    bulk = Job("rdma", 2 * size)
    four = dataclasses.replace(bulk, query="lanes=4&pin=all")
    yield Contest("rdma-bulk", "rdma, placements in bulk, pinned", "W2", {
        OURS: turn(who.channel, four), "verbs loop": turn(who.verbs, bulk, "--lanes", 4),
        "ib_write_bw": turn(who.write_bandwidth, bulk)}, 2 * size)
    scattered = dataclasses.replace(four, size=size // 2)
    pages = ("--extent", "4K", "--stride", "8K")        # as many bytes as every second page of all memory has
    yield Contest("rdma-scattered", "rdma, every second page of 4 KiB, pinned", "W4", {
        OURS: turn(who.channel, scattered, *pages),
        "verbs loop": turn(who.verbs, dataclasses.replace(scattered, query=""), *pages, "--lanes", 4)}, size // 2)
    yield from rdma_migrations(size)
    yield from rdma_nodes(size)
    yield round_trips("rdma-round-trip", "rdma")


def rdma_nodes(size):
    """Into and out of a stock QEMU in its own protocol. Without pin-all it registers and asks for 1 MiB at a time."""
    for key, title, job in (("pin-all", "RAM registered whole", Job("rdma", size, pin_all=True, query="pin=all")),
                            ("dynamic", "registered by the MiB", Job("rdma", size, query="pin=demand"))):
        for what, ours in (("receive from QEMU into a file", who.receive_from_qemu),
                           ("send a file into QEMU", who.send_into_qemu)):
            yield Contest(f"rdma-{what.split()[0]}-{key}", f"{what}, rdma, {title}", "W2", {
                OURS: turn(ours, job), "QEMU": turn(who.qemu, job)}, size, content="dense")


def rdma_migrations(size):
    pinned = Job("rdma", size, query="pin=all", pin_all=True)
    yield duel("rdma-pin-all", "rdma, dense, everything pinned", "W2", pinned, pinned)
    dynamic = Job("rdma", size, query="pin=demand")
    yield duel("rdma-dynamic", "rdma, dense, pinned on demand", "W2", dynamic, dynamic)
    part = dataclasses.replace(pinned, content="partly-zero")
    yield duel("rdma-zero", "rdma, 30 % zero pages, everything pinned", "W2", part, part)
    written = dataclasses.replace(pinned, trace=trace.every_second(size, size / (64 * MIB)))
    yield duel("rdma-second", "rdma, every second page written once, pinned", "W4", written, written)
