# SPDX-License-Identifier: MIT
"""One QEMU, started, spoken to over QMP, and certain to end: the kernel kills it when this process ends."""
import json
import os
import select
import shutil
import socket
import subprocess
import tempfile
import time


class QmpError(Exception):
    """QEMU refused a command; the text is its own."""


class Machine:
    """`program` is a programs.Program. `options` come after the basic ones. `ram_mib` may be a fraction."""

    def __init__(self, program, ram_mib=64, machine="pc-i440fx-7.2", options=(), incoming=None, ram_file=None,
                 name="vm"):
        ram = f"{int(ram_mib * 1024)}K"
        self.name = name
        self.folder = tempfile.mkdtemp(prefix="ramferry-qemu-")
        ours, theirs = socket.socketpair()
        self.console, console_theirs = socket.socketpair()
        memory = (f"memory-backend-file,id=pc.ram,size={ram},mem-path={ram_file},share=on" if ram_file
                  else f"memory-backend-ram,id=pc.ram,size={ram}")
        arguments = [*program.command, "-name", name, "-nodefaults", "-no-user-config", "-display", "none",
                     "-accel", "tcg", "-machine", f"{machine},memory-backend=pc.ram", "-object", memory,
                     "-m", ram,
                     "-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control",
                     "-chardev", f"socket,id=console,fd={console_theirs.fileno()}", "-serial", "chardev:console",
                     *options]
        if incoming is not None:
            arguments += ["-incoming", incoming]
        self.messages_path = os.path.join(self.folder, "messages.txt")
        with open(self.messages_path, "wb") as messages:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *arguments], stdin=subprocess.DEVNULL, stdout=messages,
                stderr=messages, pass_fds=[theirs.fileno(), console_theirs.fileno()], start_new_session=True)
        theirs.close()
        console_theirs.close()
        self._qmp = ours
        self._buffer = b""
        self._text = b""
        self.events = []
        self._read(time.monotonic() + 120)    # the greeting
        self.ask("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._qmp.close()
        self.console.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def messages(self):
        with open(self.messages_path, errors="replace") as file:
            return file.read()

    def _receive(self, end, deadline, waiting):
        """More bytes from `end`; `waiting()` is what to say of it if none come."""
        wait = deadline - time.monotonic()
        if wait <= 0 or not select.select([end], [], [], wait)[0]:
            raise TimeoutError(f"{self.name}: {waiting()}; it said: {self.messages()}")
        try:
            got = end.recv(65536)
        except ConnectionError:
            got = b""
        if not got:
            raise QmpError(f"{self.name} is gone: {waiting()}; it said: {self.messages()}")
        return got

    def _read(self, deadline):
        while b"\n" not in self._buffer:
            self._buffer += self._receive(self._qmp, deadline, lambda: "QMP does not answer")
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def ask(self, command, timeout=120, **arguments):
        request = {"execute": command}
        if arguments:
            request["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        try:
            self._qmp.sendall(json.dumps(request).encode() + b"\n")
        except ConnectionError as error:
            raise QmpError(f"{self.name} is gone; it said: {self.messages()}") from error
        deadline = time.monotonic() + timeout
        while True:
            answer = self._read(deadline)
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise QmpError(f"{command}: {answer['error']['desc']}")
            else:
                return answer["return"]

    def monitor(self, line):
        return self.ask("human-monitor-command", timeout=60, command_line=line)

    def capabilities(self, **switches):
        self.ask("migrate-set-capabilities", capabilities=[
            {"capability": name.replace("_", "-"), "state": state} for name, state in switches.items()])

    def unlimited(self):
        """As fast as it goes, and stopping its guest for the rest however slow this machine is; the defaults are
        128 MiB/s and 300 ms."""
        self.ask("migrate-set-parameters", max_bandwidth=1 << 40, downtime_limit=60_000)

    def state(self):
        return self.ask("query-status")["status"]

    def settled(self, timeout=60):
        """Its state when a migration is over: it says 'failed' a little before its guest goes on."""
        deadline = time.monotonic() + timeout
        while (state := self.state()) == "finish-migrate" and time.monotonic() < deadline:
            time.sleep(0.01)
        return state

    def migration(self):
        return self.ask("query-migrate")

    def multifd(self, channels, compression="none"):
        self.capabilities(multifd=channels > 0)
        if channels > 0:
            self.ask("migrate-set-parameters", multifd_channels=channels, multifd_compression=compression)

    def listen(self, uri):
        """Of a machine started with incoming="defer"; the address at which it waits, with its real port."""
        self.ask("migrate-incoming", uri=uri)
        if not uri.startswith("tcp:"):
            return uri
        return f"tcp:127.0.0.1:{self.migration()['socket-address'][0]['port']}"

    def begin_migration(self, uri, timeout=60):
        """Once QEMU has put the one before away, a little after it says how that ended: until then it refuses another
        as a 'duplicate yank instance', or dies of it."""
        deadline = time.monotonic() + timeout
        while any(each["type"] == "migration" for each in self.ask("query-yank")) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.ask("migrate", uri=uri)

    def migrate(self, uri, timeout=60):
        """Starts a migration and waits for its end; what query-migrate says then."""
        self.begin_migration(uri)
        return self.migrated(timeout)

    def migrated(self, timeout=60):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            info = self.migration()
            if info.get("status") in ("completed", "failed", "cancelled"):
                return info
            time.sleep(0.01)
        raise TimeoutError(f"{self.name}: the migration does not end: {self.migration()}")

    def run_again(self):
        """After a migration, which QEMU reports as completed a little before it takes a 'cont'."""
        self.settled()
        self.ask("cont")

    def until(self, test, timeout=60):
        """Waits until test(query-migrate) holds of a migration under way."""
        deadline = time.monotonic() + timeout
        while not test(info := self.migration()):
            if time.monotonic() > deadline or info.get("status") in ("completed", "failed"):
                raise TimeoutError(f"{self.name}: the migration does not get there: {info}")
            time.sleep(0.001)

    def transferred(self, count):
        """Waits until it has sent so many bytes, by its own account."""
        self.until(lambda info: info.get("ram", {}).get("transferred", 0) >= count)

    def arrived(self, timeout=60):
        """Waits for an incoming migration; 'completed' or 'failed', or 'gone' if QEMU ended."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                info = self.migration()
                if info.get("status") in ("completed", "failed"):
                    return info["status"]
                if info.get("status") is None and self.state() not in ("inmigrate",):
                    return "completed"
            except QmpError:
                self.process.wait(10)
                return "gone"
            time.sleep(0.01)
        raise TimeoutError(f"{self.name}: nothing arrives: {self.messages()}")

    def ram(self, length, first=0):
        """Guest-physical memory, as QEMU itself saves it."""
        path = os.path.join(self.folder, "pmemsave")
        self.ask("pmemsave", timeout=120, val=first, size=length, filename=path)
        with open(path, "rb") as file:
            content = file.read()
        os.unlink(path)
        return content

    def console_until(self, test, timeout):
        """Reads the serial line until test(text so far) is true; the text."""
        deadline = time.monotonic() + timeout
        while True:
            text = self._text.decode(errors="replace")
            if test(text):
                return text
            self._text += self._receive(self.console, deadline,
                                        lambda so_far=text: f"the console never said it: ...{so_far[-2000:]!r}")

    def all_console(self):
        """What the serial line has said and was read so far."""
        return self._text.decode(errors="replace")

    def forget_console(self):
        self._text = b""
