# SPDX-License-Identifier: MIT
"""Dirty traces: which pages are written when, the same for every contender.

No guest runs in either. ramferry's reference VM writes at the driver's word through its monitor, QEMU's memory is
written through its qtest socket; both writes pass through the same dirty tracking as a guest's.
"""
import random
import time

from .process import Background, Failed, connect_unix

PAGE = 4096
LOWEST = 256            # below are QEMU's display and firmware
BURST = 512             # pages


class RamferryPages:
    """Writes pages of a reference VM through a monitor connection of its own."""

    def __init__(self, monitor):
        self.monitor = monitor

    def scattered(self, pages):
        self.monitor.run("x-ramferry-write", pages=pages)

    def run_of(self, first, count):
        self.monitor.run("x-ramferry-write", first=first, count=count)


class QtestPages:
    """Writes pages of a QEMU through its qtest socket."""

    def __init__(self, path, process):
        self.socket = connect_unix(path, process)
        self.lines = self.socket.makefile("r")
        self.turn = 0

    def _send(self, commands):
        self.socket.sendall("".join(command + "\n" for command in commands).encode())
        for _ in commands:
            answer = self.lines.readline()
            if not answer.startswith("OK"):
                raise Failed(f"qtest: {answer.strip() or 'closed'}")

    def scattered(self, pages):
        self.turn += 1
        value = f"0x{self.turn:016x}" + "5a" * 56       # 64 bytes, as the reference VM's workload changes
        self._send([f"write {page * PAGE:#x} 0x40 {value}" for page in pages])

    def run_of(self, first, count):
        self.turn += 1
        self._send([f"memset {first * PAGE:#x} {count * PAGE:#x} {self.turn & 255:#x}"])


class Trace:
    """A schedule of (seconds after the start, kind, arguments); `seconds` long at most."""

    def __init__(self, name, seconds, steps):
        self.name, self.seconds, self.steps = name, seconds, steps

    def play(self, pages, over):
        """Writes until the schedule ends or over() says that the migration is."""
        begin = time.monotonic()
        lateness = 0.0
        for at, kind, arguments in self.steps:
            wait = begin + at - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            lateness = max(lateness, -wait)
            if over() or time.monotonic() > begin + self.seconds:
                break       # the schedule has an end, however far behind the writes are
            try:
                getattr(pages, kind)(*arguments)
            except Failed as why:
                if over() or "paused" in str(why):
                    break       # it has stopped for its last round: nothing may write any more
                raise
        return round(lateness, 3)

    def start(self, pages, over):
        return Background(lambda: self.play(pages, over))


def _bursts(rate, seconds, draw):
    """`rate` pages a second in bursts of BURST pages or 10 ms, whichever is longer."""
    size = max(1, min(BURST, int(rate / 100)))
    count = int(rate * seconds / size)
    return [(number * size / rate, "scattered", [[draw() for _ in range(size)]]) for number in range(count)]


def every_second(ram, seconds):
    """W4: every second page once, from low to high, spread over `seconds`."""
    pages = list(range(LOWEST, ram // PAGE, 2))
    bursts = [pages[at:at + BURST] for at in range(0, len(pages), BURST)]
    return Trace("W4", seconds, [(number * seconds / len(bursts), "scattered", [burst])
                                 for number, burst in enumerate(bursts)])


def uniform(ram, seconds, share=0.05):
    """W5: a share of all pages each second, anywhere."""
    draw, most = random.Random(5), ram // PAGE
    return Trace("W5", seconds, _bursts(share * most, seconds, lambda: draw.randrange(LOWEST, most)))


def zipf(ram, seconds, rate=10_000):
    """W6: a hot set by Zipf's law with exponent 1, scattered over memory."""
    draw, most = random.Random(6), ram // PAGE - LOWEST
    return Trace("W6", seconds, _bursts(
        rate, seconds, lambda: LOWEST + (int(most ** draw.random()) - 1) * 0x9e3779b1 % most))


def flood(ram, seconds):
    """W7: three quarters of memory rewritten over and over, faster than any link here."""
    first, count = LOWEST, ram // PAGE * 3 // 4
    return Trace("W7", seconds, [(number * 0.05, "run_of", [first, count]) for number in range(int(seconds / 0.05))])
