# SPDX-License-Identifier: MIT
"""Runs the program under test."""
import json
import os
import subprocess
import threading
import time

PROGRAM = os.environ.get("RAMFERRY", "ramferry")


def run(*arguments, timeout=120, **popen):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=timeout, **popen)


def channels(count):
    """For the end of an address."""
    return f"?channels={count}" if count else ""


def inspect(path):
    done = run("inspect", "--json", path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Receive:
    """`ramferry receive` in the background; `at` is where it waits."""

    def __init__(self, uri, save, *options, **popen):
        popen.setdefault("stdin", subprocess.DEVNULL)
        self.process = subprocess.Popen([PROGRAM, "receive", uri, "--save", save, "--json", *options],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen)
        self.at = None
        self.said, self.reports = [], []
        first = self.process.stderr.readline()
        if "waiting at " in first:
            self.at = first.split("waiting at ", 1)[1].strip().split("?")[0]
        else:
            self.said.append(first)
        self._readers = [threading.Thread(target=self._read, args=(self.process.stdout, self._report)),
                         threading.Thread(target=self._read, args=(self.process.stderr, self.said.append))]
        for reader in self._readers:
            reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.wait(10)
        self.process.stdout.close()
        self.process.stderr.close()

    @staticmethod
    def _read(stream, take):
        for line in stream:
            take(line)

    def _report(self, line):
        self.reports.append(json.loads(line))

    @property
    def messages(self):
        return "".join(self.said)

    def said_until(self, words, timeout=60):
        """Waits until its messages have `words`."""
        deadline = time.monotonic() + timeout
        while words not in self.messages:
            if time.monotonic() > deadline:
                raise TimeoutError(f"it never said '{words}': {self.messages}")
            time.sleep(0.01)

    def wait(self, timeout=60):
        status = self.process.wait(timeout)
        for reader in self._readers:
            reader.join()
        return status

    def reported(self, count, timeout=60):
        deadline = time.monotonic() + timeout
        while len(self.reports) < count:
            if time.monotonic() > deadline or (self.process.poll() is not None and len(self.reports) < count):
                raise TimeoutError(f"{len(self.reports)} of {count} reports: {self.messages}")
            time.sleep(0.01)
        return self.reports


class TunnelEnd:
    """`ramferry tunnel enter|exit` in the background; `at` is where it waits. `once`: it leaves after one session."""

    def __init__(self, end, at, to):
        self.process = subprocess.Popen([PROGRAM, "tunnel", end, "--once", "--json", at, to], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.messages = self.process.stderr.readline()
        if " at " not in self.messages:
            self.end()
            raise AssertionError(f"tunnel {end}: {self.messages}")
        self.at = self.messages.split(" at ", 1)[1].strip().split("?")[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def wait(self, timeout=60):
        """Its status, and what it reports."""
        said, errors = self.process.communicate(timeout=timeout)
        self.messages += errors
        return self.process.returncode, json.loads(said) if said else {}

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
