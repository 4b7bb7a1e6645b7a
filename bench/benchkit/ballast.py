#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Keeps the machine's free memory in use, so that a hypervisor does not take it back between two turns.

Many virtual machines give pages that they free back to their host within a second or two (a balloon device with free
page reporting). The next who allocates such a page waits for the host to provide it again, at a tenth of the usual
speed, and it is chance whom that hits: pages of sockets and of files are allocated while the clock runs. So a process
of its own holds the free memory, touched; before each turn it takes what the last contender freed, and then lets go of
as much as the next one needs. That process is the first to go should memory run out.
"""
import contextlib
import mmap
import os
import subprocess
import sys

CHUNK = 128 << 20
SPARE = 768 << 20       # left to all others, always
MADV_HUGEPAGE, MADV_POPULATE_WRITE = 14, 23


def kernel_memory(name):
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(name + ":"))


class Ballast:
    """The process that holds the memory; room() before each turn."""

    def __init__(self, share=0.85):
        most = int(kernel_memory("MemAvailable") * share)
        self.process = subprocess.Popen([sys.executable, os.path.realpath(__file__), str(most)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def room(self, size):
        """All free memory is touched, and this much of it is free. False if it could not be done."""
        try:
            self.process.stdin.write(f"{size}\n")
            self.process.stdin.flush()
            return self.process.stdout.readline() == "done\n"
        except OSError:
            return False

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Chunks:
    """What the process holds."""

    def __init__(self, most):
        self.most, self.held = most, []

    def take(self):
        """All that is free, but for what is spared."""
        while len(self.held) * CHUNK < self.most and kernel_memory("MemFree") > SPARE + CHUNK:
            piece = mmap.mmap(-1, CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self.held.append(piece)
            with contextlib.suppress(OSError):
                piece.madvise(MADV_HUGEPAGE)
            try:
                piece.madvise(MADV_POPULATE_WRITE)
            except OSError:             # a kernel before 5.14
                for at in range(0, CHUNK, mmap.PAGESIZE):
                    piece[at] = 1

    def release(self, size):
        for _ in range(min(len(self.held), -(-size // CHUNK))):
            self.held.pop().close()


def main():
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    chunks = Chunks(int(sys.argv[1]))
    for line in sys.stdin:
        chunks.take()
        chunks.release(int(line))
        print("done", flush=True)


if __name__ == "__main__":
    main()
