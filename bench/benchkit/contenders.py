# SPDX-License-Identifier: MIT
"""Who is measured: each function here is one run of one contender, and returns what it measured.

"seconds" is the driver's own clock, from the order to migrate until the destination says that it has the machine;
what a contender says about itself is kept beside it. Loops that have no machine tell the time of their bytes.
"""
import dataclasses
import json
import os
import time

from .process import PATIENCE, Failed, Meter, Qmp, Run, first_line, free_port, said, wait_for
from .trace import QtestPages, RamferryPages

MIB = 1 << 20
DOWNTIME_LIMIT = 300        # milliseconds, for all


@dataclasses.dataclass
class Setup:
    """What all runs share."""
    ramferry: str
    plain_loop: str
    images: object
    rdma_host: str = ""     # an address of the RDMA device; empty: none
    slow: int = 0           # microseconds that ramferry wastes on each batch: the self-test


@dataclasses.dataclass
class Job:
    """What is moved, and over what."""
    transport: str = "tcp"          # tcp, unix, rdma
    size: int = 1024 * MIB
    content: str = "dense"          # an image's kind, "untouched", or "zero"
    cold: bool = False              # the destination's memory is not allocated before
    query: str = ""                 # ramferry's options: "lanes=2"
    multifd: int = 0                # QEMU's channels; 0: none
    pin_all: bool = False           # QEMU's rdma:
    trace: object = None
    watch: object = None            # called with (seconds, query-migrate) while it runs

    @property
    def image(self):
        return self.content not in ("untouched", "zero")


def address(setup, job, run):
    if job.transport == "unix":
        return f"unix:{run.path('wire')}"
    host = setup.rdma_host if job.transport == "rdma" else "127.0.0.1"
    return f"{job.transport}:{host}:{free_port(host)}"


def migrate(source, destination, uri, job, pages):
    """Drives one migration; query-migrate's last answer, "wall-seconds" being until the destination has the machine."""
    over = [False]
    player = job.trace.start(pages(), lambda: over[0]) if job.trace else None
    try:
        info = source.migrate(uri, job.watch)
        destination.arrived()
        took = time.monotonic() - info["begun"]
    finally:
        over[0] = True
        if player:
            player.join()
    info = source.run("query-migrate") | {"wall-seconds": took}     # again: QEMU adds up its times at the very end
    if player:
        info["trace-late-seconds"] = player.finish()
    return info


def told(info):
    """What both programs tell under the same names."""
    result = {"seconds": info["wall-seconds"], "own-seconds": info["total-time"] / 1e3,
              "downtime": info["downtime"] / 1e3, "setup": info["setup-time"] / 1e3,
              "wire": info["ram"]["transferred"], "passes": info["ram"]["dirty-sync-count"],
              "normal": info["ram"]["normal"], "zero": info["ram"]["duplicate"]}
    if "trace-late-seconds" in info:
        result["trace-late"] = info["trace-late-seconds"]
    return result


def ramferry(setup, job):
    with Run() as run:
        uri = address(setup, job, run)
        query = f"?{job.query}" if job.query else ""
        fill = setup.images.get(job.content, job.size) if job.image else job.content
        slow = ["--slow-batches", setup.slow] if setup.slow else []
        warm = [] if job.cold or job.content == "untouched" else ["--prefault"]
        destination = run.start(setup.ramferry, "vm", "--qmp", f"unix:{run.path('b')}", "--ram", job.size, "--paused",
                                *warm, "--incoming", "defer")
        source = run.start(setup.ramferry, "vm", "--qmp", f"unix:{run.path('a')}", "--ram", job.size, "--fill", fill,
                           *slow)
        there, here = Qmp(run.path("b"), destination), Qmp(run.path("a"), source)
        there.capability("events")
        there.run("migrate-incoming", uri=uri + query)
        here.run("migrate-set-parameters", **{"max-bandwidth": 0, "downtime-limit": DOWNTIME_LIMIT})
        meter = Meter([source], [destination])
        info = migrate(here, there, uri + query, job, lambda: RamferryPages(Qmp(run.path("a"), source)))
        used = meter.read()
        own = info["x-ramferry"]
        return told(info) | used | {
            "own-seconds": own["total-seconds"], "downtime": own["downtime-seconds"],
            "first-byte": own.get("time-to-first-byte-seconds", 0), "stream": own["stream"], "rounds": own["rounds"],
            "tracker": own.get("tracker", ""), "transport": own["transport"],
            "destination-stream": there.run("query-migrate")["x-ramferry"]["stream"]}


class Qemu:
    """One QEMU without a guest: its memory, its monitor, and qtest to write to the memory."""

    def __init__(self, run, name, memory, size, *, incoming=None, qtest=False):
        self.qtest_path = run.path(f"{name}-qtest")
        test = ["-qtest", f"unix:{self.qtest_path},server=on,wait=off", "-qtest-log", "none"] if qtest else []
        wait = ["-incoming", incoming] if incoming else []
        self.process = run.start("qemu-system-x86_64", "-nodefaults", "-display", "none", "-S", "-accel", "tcg", "-m",
                                 f"{size // MIB}M", "-machine", "pc-i440fx-7.2,memory-backend=m", "-object", memory,
                                 "-qmp", f"unix:{run.path(name)},server=on,wait=off", *test, *wait)
        self.qmp = Qmp(run.path(name), self.process)

    def unlimited(self, job):
        self.qmp.run("migrate-set-parameters", **{"max-bandwidth": 0, "downtime-limit": DOWNTIME_LIMIT})
        if job.multifd:
            self.qmp.capability("multifd")
            self.qmp.run("migrate-set-parameters", **{"multifd-channels": job.multifd})
        if job.pin_all:
            self.qmp.capability("rdma-pin-all")
        return self

    @staticmethod
    def blank(size, warm):
        return f"memory-backend-ram,id=m,size={size}" + (",prealloc=on" if warm else "")


def qemu_source(setup, job, run):
    if job.image:
        image = setup.images.get(job.content, job.size)
        memory = f"memory-backend-file,id=m,size={job.size},mem-path={image},share=on,prealloc=on"
    else:
        memory = Qemu.blank(job.size, job.content == "zero")
    return Qemu(run, "a", memory, job.size, qtest=job.trace is not None).unlimited(job)


def qemu_destination(job, run, uri):
    warm = not job.cold and job.content != "untouched"
    destination = Qemu(run, "b", Qemu.blank(job.size, warm), job.size, incoming="defer").unlimited(job)
    destination.qmp.capability("events")
    destination.qmp.run("migrate-incoming", uri=uri)
    return destination


def qemu(setup, job):
    with Run() as run:
        uri = address(setup, job, run)
        destination, source = qemu_destination(job, run, uri), qemu_source(setup, job, run)
        meter = Meter([source.process], [destination.process])
        info = migrate(source.qmp, destination.qmp, uri, job, lambda: QtestPages(source.qtest_path, source.process))
        return told(info) | meter.read()


def qemu_through_tunnel(setup, job):
    """QEMU to QEMU over unix sockets, through a ramferry tunnel over another one."""
    with Run() as run:
        last, fabric, first = (f"unix:{run.path(name)}" for name in ("last", "fabric", "first"))
        destination = qemu_destination(job, run, last)
        leave = run.start(setup.ramferry, "tunnel", "exit", "--once", fabric, last)
        wait_for(lambda: os.path.exists(run.path("fabric")), "tunnel exit", leave)
        enter = run.start(setup.ramferry, "tunnel", "enter", "--once", first, fabric)
        wait_for(lambda: os.path.exists(run.path("first")), "tunnel enter", enter)
        source = qemu_source(setup, job, run)
        meter = Meter([source.process, enter], [destination.process, leave])
        info = migrate(source.qmp, destination.qmp, first, job, None)
        return told(info) | meter.read()


def receive_from_qemu(setup, job):
    """A QEMU's machine into a checkpoint file in memory. fsync is not counted: there is no disk under it."""
    with Run() as run:
        return keep(setup, job, run, run.path("kept"))


def keep(setup, job, run, path):
    """`receive` from the order to QEMU until the program says that the file is complete."""
    uri = address(setup, job, run)
    node = run.start(setup.ramferry, "receive", uri, "--save", path, "--json", output=True)
    wait_for(lambda: "waiting" in said(node), "receive", node)
    source = qemu_source(setup, job, run)
    meter = Meter(source=[source.process])
    info = source.qmp.migrate(uri)
    line = first_line(node)
    took = time.monotonic() - info["begun"]
    if not line or node.wait(PATIENCE) != 0:
        raise Failed(f"receive: {said(node)}")
    report = json.loads(line)
    return (told(info | {"wall-seconds": took - report["sync-seconds"]}) | meter.read(ended="destination") |
            {"report": report})


def send_into_qemu(setup, job):
    """A kept machine from a file in memory into a QEMU. From the order, which starts the program."""
    kept = setup.images.get(job.content, job.size) + ".kept"
    if not os.path.exists(kept):
        with Run() as run:
            keep(setup, dataclasses.replace(job, transport="unix", pin_all=False), run, kept)
    with Run() as run:
        uri = address(setup, job, run)
        query = f"?{job.query}" if job.query else ""
        destination = qemu_destination(job, run, uri)
        meter, begun = Meter(destination=[destination.process]), time.monotonic()
        report = json.loads(run.call(setup.ramferry, "send", kept, uri + query, "--json"))
        destination.qmp.arrived()
        return {"seconds": time.monotonic() - begun, "report": report} | meter.read(ended="source")


def plain(setup, job):
    """write(2) and read(2), nothing else."""
    cold = ["--cold"] if job.cold else []
    with Run() as run:
        result = json.loads(run.call(setup.plain_loop, job.transport, setup.images.get(job.content, job.size), *cold))
    return {"seconds": result["seconds"], "cpu-source": result["source_cpu"],
            "cpu-destination": result["destination_cpu"], "cpu": result["source_cpu"] + result["destination_cpu"]}


def iperf(setup, job):
    """TCP on loopback without guest memory: context, not a contender."""
    with Run() as run:
        port = free_port()
        run.start("iperf3", "-s", "-1", "-p", port)
        wait_for(lambda: listening(port), "iperf3")
        report = json.loads(run.call("iperf3", "-c", "127.0.0.1", "-p", port, "-n", job.size, "-J"))
    end = report["end"]["sum_received"]
    return {"seconds": job.size * 8 / end["bits_per_second"]}


def listening(port):
    wanted = f"{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as file:
            if any(line.split()[1].endswith(":" + wanted) and line.split()[3] == "0A" for line in list(file)[1:]):
                return True
    return False


def channel(setup, job, *options):
    """`ramferry bench run`: placements over a channel, without a migration around them."""
    return between(setup, job, ["bench", "serve", "--once"], ["bench", "run", "--json", *options])


def verbs(setup, job, *options):
    """`ramferry bench verbs`: a plain loop of RDMA writes over registered memory."""
    return between(setup, job, ["bench", "verbs", "--serve", "--once"], ["bench", "verbs", "--json", *options])


def between(setup, job, serve, measure):
    with Run() as run:
        uri = address(setup, job, run)
        query = f"?{job.query}" if job.query else ""
        slow = ["--slow-batches", setup.slow] if setup.slow and measure[1] == "run" else []
        server = run.start(setup.ramferry, *serve, uri + query)
        wait_for(lambda: "waiting" in said(server), "bench serve", server)
        report = json.loads(run.call(setup.ramferry, *measure, *slow, "--bytes", job.size, uri + query))
    return report["runs"][-1] | {"setup": report["setup"]}


def write_bandwidth(setup, job):
    """perftest's ib_write_bw with messages of 1 MiB; the faster of one and four queue pairs."""
    return min((write_bandwidth_over(setup, job, queues) for queues in (1, 4)), key=lambda run: run["seconds"])


def write_bandwidth_over(setup, job, queues):
    with Run() as run:
        port = free_port()
        device = os.listdir("/sys/class/infiniband")[0]
        common = ["ib_write_bw", "-d", device, "-F", "-s", MIB, "-n", max(5, job.size // MIB // queues), "-q", queues,
                  "-p", port]
        server = run.start(*common)
        wait_for(lambda: listening(port), "ib_write_bw", server)
        out = run.call(*common, setup.rdma_host)
    rows = [line.split() for line in out.splitlines() if line.strip().startswith(str(MIB))]
    if not rows:
        raise Failed("ib_write_bw: no result in its output")
    return {"seconds": job.size / (float(rows[-1][3]) * MIB), "queue-pairs": queues}
