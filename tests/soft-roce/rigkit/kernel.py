# SPDX-License-Identifier: MIT
"""Finds or fetches a kernel with soft-RoCE, and builds the initramfs that boots it.

Nothing is installed: installing a kernel package runs boot loader hooks, which a build machine should not see.
Both results live in the cache folder and are made once, under a lock, so that rigs may start side by side.
"""
import contextlib
import fcntl
import glob
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass

HERE = os.path.dirname(os.path.abspath(__file__))
GUEST_FILES = os.path.join(os.path.dirname(HERE), "guest")
# Only what it takes to mount the host's root. All other modules are loaded from the 'modules' share.
EARLY_MODULES = ["virtio_pci", "9p", "9pnet_virtio", "overlay"]
# Half of the package is drivers that no guest of ours has.
UNWANTED = ["drivers/gpu", "drivers/media", "drivers/staging", "drivers/usb", "drivers/scsi", "sound"]


class Missing(Exception):
    """The machine lacks something; the text says what, and the command that fixes it."""


@dataclass(frozen=True)
class Kernel:
    image: str          # as QEMU boots it
    modules: str        # .../lib/modules/<version>

    @property
    def version(self):
        return os.path.basename(self.modules)


def default_cache():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "ramferry", "rig")


def check_tools():
    """Names every missing tool at once: finding them one run at a time is tedious."""
    if os.uname().machine != "x86_64":
        raise Missing(f"the rig boots this machine's programs on an emulated x86-64, and this is {os.uname().machine}")
    packages = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "cpio": "cpio",
                "modprobe": "kmod", "rdma": "iproute2", "tc": "iproute2", "setpriv": "util-linux"}
    missing = [tool for tool in packages if which(tool) is None]
    if missing:
        wanted = " ".join(sorted({packages[tool] for tool in missing}))
        raise Missing(f"the rig needs {', '.join(missing)}. Fix: apt-get install {wanted}")
    if subprocess.run(["ldd", which("busybox")], capture_output=True).returncode == 0:
        raise Missing("busybox is not statically linked, so it cannot run in an initramfs. "
                      "Fix: apt-get install busybox-static")


def which(tool):
    # /usr/sbin is not in every user's PATH, and modprobe lives there.
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")


def find(cache):
    """An installed kernel if it has soft-RoCE (cloud kernels have not), else Debian's, from the cache."""
    prefix = "/boot/vmlinuz-"
    installed = [Kernel(image, "/lib/modules/" + image[len(prefix):]) for image in glob.glob(prefix + "*")]
    usable = [kernel for kernel in installed if _has_soft_roce(kernel) and os.access(kernel.image, os.R_OK)]
    if usable:
        return max(usable, key=lambda kernel: [int(part) for part in re.findall(r"\d+", kernel.version)])
    return _fetched(cache)


def _has_soft_roce(kernel):
    return (bool(glob.glob(kernel.modules + "/kernel/drivers/infiniband/sw/rxe/rdma_rxe.ko*"))
            and os.path.exists(kernel.modules + "/modules.dep"))


def _fetched(cache):
    package = _package_name(cache)
    version = package[len("linux-image-"):]
    root = os.path.join(cache, "kernel-" + version)
    kernel = Kernel(f"{root}/boot/vmlinuz-{version}", f"{root}/lib/modules/{version}")
    with _lock(cache):
        if not _has_soft_roce(kernel):
            print(f"rig: fetching {package} (once, into {cache})", file=sys.stderr)
            with tempfile.TemporaryDirectory(dir=cache) as workplace:
                _unpack(_download(package, workplace), os.path.join(workplace, "root"), version)
                shutil.rmtree(root, ignore_errors=True)
                os.rename(os.path.join(workplace, "root"), root)
    if not _has_soft_roce(kernel):
        raise Missing(f"{package} has no rdma_rxe module. Fix: apt-get install linux-image-amd64")
    return kernel


def _package_name(cache):
    # Once fetched, a kernel stays until the cache is removed: asking apt is slow, and its index changes under us.
    cached = glob.glob(os.path.join(cache, "kernel-*-amd64", "lib", "modules", "*", "modules.dep"))
    if cached:
        newest = max(cached, key=os.path.getmtime)
        return "linux-image-" + os.path.basename(os.path.dirname(newest))
    answer = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True)
    found = re.search(r"Depends: (linux-image-\S+-amd64)", answer.stdout)
    if not found:
        raise Missing("apt does not know linux-image-amd64. "
                      "Fix: apt-get update, or install a kernel that has the module rdma_rxe")
    return found.group(1)


def _download(package, folder):
    # apt's own download user cannot write to the cache; saying so keeps it from warning about that.
    fetched = subprocess.run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", package], cwd=folder,
                             capture_output=True, text=True)
    packages = glob.glob(os.path.join(folder, "*.deb"))
    if fetched.returncode != 0 or not packages:
        raise Missing(f"'apt-get download {package}' failed: {fetched.stderr.strip()}\n"
                      "rig: Fix: apt-get update, then try again")
    return packages[0]


def _unpack(package, root, version):
    os.mkdir(root)
    exclude = [f"--exclude=./lib/modules/*/kernel/{folder}" for folder in UNWANTED]
    archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", root, "--no-same-owner", "--exclude=./usr", *exclude],
                   stdin=archive.stdout, check=True)
    if archive.wait() != 0:
        raise Missing(f"{package} is damaged. Fix: run again; it is downloaded anew")
    subprocess.run([which("depmod"), "-b", root, version], check=True)


def unpacked(kernel, cache):
    """The same kernel without its compression, which takes 3 s to undo under emulation; as it is if that fails."""
    with open(kernel.image, "rb") as file:
        image = file.read()
    path = os.path.join(cache, f"vmlinux-{kernel.version}-{hashlib.sha256(image).hexdigest()[:16]}")
    with _lock(cache):
        if not os.path.exists(path):
            try:
                program = lzma.LZMADecompressor().decompress(image[image.index(b"\xfd7zXZ\0"):])
            except (ValueError, lzma.LZMAError):
                return kernel
            # QEMU boots such a file through its PVH entry, which a note in it names.
            if not program.startswith(b"\x7fELF") or b"Xen\0" not in program:
                return kernel
            with open(path + ".new", "wb") as file:
                file.write(program)
            os.rename(path + ".new", path)
    return Kernel(path, kernel.modules)


def initramfs(kernel, cache):
    """The path of an initramfs for this kernel; the name holds everything that it depends on."""
    recipe = hashlib.sha256()
    for part in [kernel.modules, _interpreter(), *EARLY_MODULES]:
        recipe.update(part.encode() + b"\0")
    for path in [which("busybox"), __file__, *_guest_files(), kernel.modules + "/modules.dep"]:
        with open(path, "rb") as file:
            recipe.update(hashlib.sha256(file.read()).digest())
    image = os.path.join(cache, f"initramfs-{kernel.version}-{recipe.hexdigest()[:16]}.cpio")
    with _lock(cache):
        if not os.path.exists(image):
            with tempfile.TemporaryDirectory(dir=cache) as workplace:
                _fill(os.path.join(workplace, "root"), kernel)
                _pack(os.path.join(workplace, "root"), os.path.join(workplace, "image"))
                os.rename(os.path.join(workplace, "image"), image)
    return image


def _guest_files():
    return sorted(glob.glob(os.path.join(GUEST_FILES, "*")))


def _interpreter():
    # A version manager's `python3` is a slow script; the interpreter that runs the rig exists in the guest as well.
    return os.path.realpath(sys.executable)


def _fill(root, kernel):
    for folder in ["bin", "proc", "sys", "dev", "modules", "rig/bin"]:
        os.makedirs(os.path.join(root, folder))
    shutil.copy(which("busybox"), os.path.join(root, "bin", "busybox"))
    for path in _guest_files():
        name = os.path.basename(path)
        target = {"init": "init", "start": "rig/start"}.get(name, "rig/bin/" + name)
        with open(path) as file:
            text = file.read().replace("#!/usr/bin/env python3\n", f"#!{_interpreter()} -IS\n", 1)
        with open(os.path.join(root, target), "w") as file:
            file.write(text)
        os.chmod(os.path.join(root, target), 0o755)
    order = []
    for path in _early_module_files(kernel):
        name = re.sub(r"\.(xz|zst|gz)$", "", os.path.basename(path))
        with open(path, "rb") as file:
            content = file.read()
        with open(os.path.join(root, "modules", name), "wb") as file:
            file.write(lzma.decompress(content) if path.endswith(".xz") else content)
        order.append(name)
    with open(os.path.join(root, "modules", "order"), "w") as file:
        file.write("".join(name + "\n" for name in order))


def _early_module_files(kernel):
    """The early modules and what they need, dependencies first."""
    base = kernel.modules[:-len("/lib/modules/" + kernel.version)]
    shown = subprocess.run([which("modprobe"), "-d", base or "/", "-S", kernel.version, "--show-depends", "-a",
                            *EARLY_MODULES], capture_output=True, text=True)
    if shown.returncode != 0:
        raise Missing(f"kernel {kernel.version} lacks a module for the rig: {shown.stderr.strip()}. "
                      "Fix: apt-get install linux-image-amd64 (cloud kernels do not have it)")
    paths = re.findall(r"^insmod (\S+)", shown.stdout, re.MULTILINE)
    return list(dict.fromkeys(paths))


def _pack(root, image):
    # Not compressed: unpacking under emulation costs more than copying 3 MB.
    names = subprocess.run(["find", ".", "-print0"], cwd=root, capture_output=True, check=True).stdout
    with open(image, "wb") as file:
        subprocess.run(["cpio", "--quiet", "-0", "-o", "-H", "newc", "-R", "0:0"], cwd=root, input=names, stdout=file,
                       check=True)


@contextlib.contextmanager
def _lock(cache):
    os.makedirs(cache, exist_ok=True)
    with open(os.path.join(cache, "lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
