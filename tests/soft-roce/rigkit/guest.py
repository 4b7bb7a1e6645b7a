# SPDX-License-Identifier: MIT
"""One guest: the files it is told what to do with, its QEMU process, and our ends of its ports.

Everything goes over socket pairs that QEMU inherits: no path, no port number, nothing on this machine listens,
and nothing is left behind when a process is killed.
"""
import contextlib
import json
import os
import shlex
import socket
import subprocess
from dataclasses import dataclass, field

# Documentation addresses (RFC 5737, RFC 3849): they cannot collide with a network of this machine.
ADDRESS = {"a": "192.0.2.1", "b": "192.0.2.2"}
ADDRESS6 = {"a": "2001:db8::1", "b": "2001:db8::2"}
CONTROL = {"a": "198.51.100.1", "b": "198.51.100.2"}
MAC = {"a": "52:54:00:00:00:0a", "b": "52:54:00:00:00:0b"}
CONTROL_MAC = {"a": "52:54:00:00:01:0a", "b": "52:54:00:00:01:0b"}
PORTS = ["stdin", "stdout", "stderr", "control"]

KERNEL_ARGUMENTS = " ".join([
    "console=ttyS0 quiet loglevel=5",       # warnings and worse at once, the whole log at the end: the console is slow
    "log_buf_len=4M",                       # a noisy test must not push an oops out of the log
    "unknown_nmi_panic panic_print=0x41",   # what Guest.explain() asks for: all tasks, all processors
    "panic=-1",                             # with -no-reboot: a panic ends QEMU, and the run, at once
    "mitigations=off no5lvl",               # emulation has no use for either, and both cost time
    "no_timer_check",                       # a busy host stops the clock that it measures for long enough to panic
    "tsc=reliable",                         # it is under TCG, but the kernel doubts it, and the next best clock is slow
    "net.ifnames=0",
])


def escaped(path):
    """For a place where QEMU ends the value at a comma."""
    return path.replace(",", ",,")


@dataclass
class Job:
    """What the command needs to know, for every host."""
    argv: list
    directory: str
    environment: dict
    hosts: int
    memory: int
    out: str
    netem: str = ""
    stdin: bool = False
    fresh_folders: list = field(default_factory=lambda: ["/tmp"])


class Guest:
    """Starts in the constructor; poll() and kill() as for any process. `host` is "a" or "b"."""

    def __init__(self, host, job, kernel, initramfs, folder, links):
        self.host = host
        self.folder = folder                # shared with the guest: settings go in, status and dmesg come out
        self.started = False
        os.mkdir(folder)
        self._write_instructions(job)
        self.ports, theirs = {}, {}
        for name in [*PORTS, "qmp"]:
            self.ports[name], theirs[name] = socket.socketpair()
        arguments = self._arguments(job, kernel, initramfs, theirs, links)
        inherited = [end.fileno() for end in [*theirs.values(), *links.values()]]
        with open(os.path.join(folder, "qemu.txt"), "wb") as messages:
            # setpriv becomes QEMU, with the same process id; should the rig be killed, the kernel kills QEMU.
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *arguments],
                                            stdin=subprocess.DEVNULL, stdout=messages, stderr=messages,
                                            pass_fds=inherited, start_new_session=True)
        for end in [*theirs.values(), *links.values()]:
            end.close()
        self._qmp = self.ports.pop("qmp").makefile("rw")
        self._qmp_ready = False
        self.registers = ""                 # of all processors, once explain() has asked

    def _write_instructions(self, job):
        settings = {"rig_host": self.host, "rig_hosts": job.hosts,
                    "rig_address": ADDRESS[self.host], "rig_address6": ADDRESS6[self.host],
                    "rig_address_a": ADDRESS["a"], "rig_address_b": ADDRESS["b"],
                    "rig_control": CONTROL[self.host], "rig_control_b": CONTROL["b"],
                    "rig_stdin": "/dev/virtio-ports/rig.stdin" if self._reads_stdin(job) else "/dev/null",
                    "rig_netem": job.netem, "rig_tmpfs": " ".join(job.fresh_folders)}
        self._write("settings", [f"{name}={shlex.quote(str(value))}" for name, value in settings.items()])
        environment = dict(job.environment, RAMFERRY_RIG_OUT="/run/rig/out", RAMFERRY_RIG_A=ADDRESS["a"])
        if job.hosts == 2:
            environment["RAMFERRY_RIG_B"] = ADDRESS["b"]
        environment["PATH"] = "/run/rig/bin:" + environment["PATH"]
        command = job.argv if self.host == "a" else ["rig-peer", "--serve"]
        self._write("command", [
            *(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
            f"cd {shlex.quote(job.directory)} || exit 126",
            "exec " + shlex.join(command),
        ])

    def _reads_stdin(self, job):
        return job.stdin or self.host == "b"        # host B is told through it that the run is over

    def _write(self, name, lines):
        with open(os.path.join(self.folder, name), "w") as file:
            file.write("\n".join(lines) + "\n")

    def _arguments(self, job, kernel, initramfs, theirs, links):
        def share(tag, path, options=""):
            rights = "security_model=none,multidevs=remap" + options
            return ["-virtfs", f"local,mount_tag={tag},path={escaped(path)},{rights}"]

        arguments = [
            "qemu-system-x86_64", "-name", "rig-" + self.host,
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            # q35 boots a second faster than the default machine; its interrupts need less of the emulated firmware.
            "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(job.memory),
            "-kernel", kernel.image, "-initrd", initramfs, "-append", KERNEL_ARGUMENTS,
            "-chardev", f"file,id=console,path={escaped(os.path.join(self.folder, 'console.txt'))}",
            "-serial", "chardev:console",
            "-chardev", f"socket,id=qmp,fd={theirs['qmp'].fileno()}", "-mon", "chardev=qmp,mode=control",
            *share("host", "/", ",readonly=on"), *share("modules", kernel.modules, ",readonly=on"),
            *share("run", self.folder), *share("out", job.out),
            "-device", "virtio-serial-pci",
        ]
        for name in PORTS:
            arguments += ["-chardev", f"socket,id={name},fd={theirs[name].fileno()}",
                          "-device", f"virtserialport,chardev={name},name=rig.{name}"]
        return arguments + self._network(links)

    def _network(self, links):
        def card(name, mac, options=""):
            return ["-device", f"virtio-net-pci,netdev={name},mac={mac},romfile={options}"]

        if not links:
            # rxe wants an Ethernet device with an address; its loopback never sends a packet there.
            return ["-netdev", "hubport,id=data,hubid=0", *card("data", MAC[self.host], ",host_mtu=9000")]
        arguments = []
        for name, end in links.items():
            arguments += ["-netdev", f"stream,id={name},server=off,addr.type=fd,addr.str={end.fileno()}"]
        return arguments + card("data", MAC[self.host], ",host_mtu=9000") + card("control", CONTROL_MAC[self.host])

    def set_link(self, up):
        """Plugs or pulls the cable of the data link, at this end."""
        self._ask("set_link", name="data", up=up)

    def explain(self, seconds):
        """Makes the kernel say on the console what every processor and task is doing, which is the last thing it does.
        It is asked by an interrupt that nothing can hold up; where each processor was goes into the log as well."""
        with contextlib.suppress(OSError, RuntimeError, ValueError, subprocess.TimeoutExpired):
            self.registers = self._ask("human-monitor-command", command_line="info registers -a")
            self._ask("inject-nmi")
            self.process.wait(seconds)

    def _ask(self, command, **arguments):
        if not self._qmp_ready:
            self._qmp_ready = True
            self._ask("qmp_capabilities")
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._qmp.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._qmp.flush()
        for line in self._qmp:
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]
        raise RuntimeError("QEMU is gone")

    def read(self, name):
        """A file that the guest or QEMU left in the folder, or "" if there is none."""
        try:
            with open(os.path.join(self.folder, name), errors="replace") as file:
                return file.read().replace("\r", "")
        except FileNotFoundError:
            return ""

    @property
    def running(self):
        return self.process.poll() is None

    def kill(self):
        if self.running:
            self.process.kill()
        self.process.wait()
