# SPDX-License-Identifier: MIT
"""Which QEMUs there are: the installed one, and a newer one from Debian's backports, unpacked beside it.

Nothing is installed for the second, and the system's package lists stay as they are: it is fetched once, into the
cache, with package lists of its own.
"""
import contextlib
import fcntl
import glob
import os
import re
import shutil
import subprocess
import unittest
from dataclasses import dataclass

PACKAGES = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"]
SOURCES = """Types: deb
URIs: {uri}
Suites: {suite}-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


class Missing(unittest.SkipTest):
    """The machine lacks something; the text says what, and the command that fixes it. A test that does not catch it
    is skipped."""


@dataclass(frozen=True)
class Program:
    version: str        # "7.2.22"
    command: tuple      # what to run, with the options that find its files

    @property
    def line(self):
        """7.2, 10.0"""
        return ".".join(self.version.split(".")[:2])


def _program(command):
    shown = subprocess.run([*command, "--version"], capture_output=True, text=True)
    found = re.search(r"version (\d+\.\d+\.\d+)", shown.stdout)
    if shown.returncode != 0 or not found:
        raise Missing(f"{command[0]} does not run: {shown.stderr.strip()}")
    return Program(found.group(1), tuple(command))


def installed():
    """The installed QEMU; Missing without one, or a failure where RAMFERRY_REQUIRE_QEMU=1 says so."""
    path = shutil.which("qemu-system-x86_64")
    try:
        if path is None:
            raise Missing("qemu-system-x86_64 is not installed. Fix: apt-get install qemu-system-x86")
        return _program([path])
    except Missing as missing:
        if os.environ.get("RAMFERRY_REQUIRE_QEMU") == "1":
            raise AssertionError(str(missing)) from missing
        raise


def backports(cache=None):
    """The QEMU of the distribution's backports."""
    cache = cache or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "ramferry", "qemu")
    os.makedirs(cache, exist_ok=True)
    root = os.path.join(cache, "root")
    with open(os.path.join(cache, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(root):
            _fetch(cache, root)
    share = [os.path.join(root, "usr/share", name) for name in ("qemu", "seabios")]
    return _program([os.path.join(root, "usr/bin/qemu-system-x86_64"),
                     *(part for path in [*share, "/usr/lib/ipxe/qemu"] for part in ("-L", path))])


def _fetch(cache, root):
    if shutil.which("apt-get") is None:
        raise Missing("the second QEMU comes from Debian's backports, and this is no Debian")
    with open("/etc/os-release") as file:
        suite = re.search(r"VERSION_CODENAME=(\w+)", file.read())
    folder = os.path.join(cache, "fetch")
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("parts", "lists/partial", "cache/archives/partial", "new"):
        os.makedirs(os.path.join(folder, name))
    with open(os.path.join(folder, "parts", "backports.sources"), "w") as file:
        file.write(SOURCES.format(uri=_mirror(), suite=suite.group(1) if suite else "stable"))
    options = [f"-oDir::Etc::SourceList=/dev/null", f"-oDir::Etc::SourceParts={folder}/parts",
               f"-oDir::State::Lists={folder}/lists", f"-oDir::Cache={folder}/cache", "-oAPT::Sandbox::User=root"]
    try:
        _apt(["update"], options, folder)
        # With only these lists, and the status of what is installed left out, the candidate is the backport.
        _apt(["download", *PACKAGES], [*options, "-oDir::State::status=/dev/null"], folder)
        for package in glob.glob(os.path.join(folder, "*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, os.path.join(folder, "new")], check=True)
        os.rename(os.path.join(folder, "new"), root)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)


def _mirror():
    """The mirror that the system itself uses."""
    texts = []
    for path in ["/etc/apt/sources.list", *glob.glob("/etc/apt/sources.list.d/*")]:
        with contextlib.suppress(OSError), open(path) as file:
            texts.append(file.read())
    found = re.search(r"(https?://\S*/debian/?)(?:\s|$)", "\n".join(texts))
    return found.group(1) if found else "http://deb.debian.org/debian"


def _apt(what, options, folder):
    done = subprocess.run(["apt-get", "-q", *options, *what], cwd=folder, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise Missing(f"'apt-get {' '.join(what)}' from backports failed: {done.stderr.strip()[-500:]}")
