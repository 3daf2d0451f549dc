"""The virtual machine of `tests/vm/run`: what it is made of, and a boot of it.

Made once, in the cache of tests/images.py, under a name that changes with what it is made of:

    vm-KEY/vmlinuz     Debian's kernel, out of its package
    vm-KEY/early.cpio  busybox, and the modules by which the disk is reached: the first root
    vm-KEY/disk        a small Debian with python3 and systemd, which a boot does not change

and at each boot an archive with the checkout, its environment and the words for pytest, which
the kernel unpacks over early.cpio.  `early.sh` then goes from the one to the other; process 1 of the machine
that the tests see is `inside.sh`, or systemd, for which they are a service.  Both run `tests.sh`.
"""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from oci_tools.errors import Error
from tests import images

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
# What the host needs for it, beside what tests/run installs.
PACKAGES = {
    "qemu-system-x86": "/usr/bin/qemu-system-x86_64",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "e2fsprogs": "/usr/sbin/mke2fs",
}
KERNEL = "linux-image-amd64"
# What the tests need inside: the commands' own interpreter, what a box is made of, tools of the host's side.
INSIDE = "python3 busybox-static kmod mount procps iproute2 uidmap libmagic1t64 strace runc crun apparmor".split()
INSIDE += "nftables systemd systemd-sysv libpam-systemd dbus e2fsprogs xfsprogs nfs-kernel-server samba".split()
INSIDE += ["containernetworking-plugins"]
# To reach the disk, with what ext4 asks for by another name; the rest is on it.
EARLY = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
# Directories of modules that no container needs: most of the package.
NOT_NEEDED = "sound drivers/gpu drivers/media drivers/infiniband drivers/staging drivers/scsi drivers/usb drivers/iio"
NOT_NEEDED += " drivers/net/ethernet drivers/net/wireless drivers/hwmon drivers/input net/bluetooth net/wireless"
# Of the environment, what only looks at the source.
NOT_CARRIED = ("mypy", "mypyc", "ruff", "pip", "ast_serialize", "librt")
FAILED = 125
SCRIPTS = ("inside.sh", "tests.sh", "oci-tests.service")
# Services of systemd's that find devices or keep time: nobody here waits for them.
MASKED = "systemd-udevd systemd-udev-trigger systemd-timesyncd systemd-random-seed systemd-update-utmp e2scrub_reap"
RESULT = 0x20  # a result that inside.sh writes is at least this, so that qemu's own codes are others


# -- made once -----------------------------------------------------------------------------


def base() -> Path:
    """The directory with kernel, first root and disk."""
    recipe = [KERNEL, *INSIDE, *EARLY, NOT_NEEDED, images.SUITE, (HERE / "early.sh").read_text(), "1"]
    key = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:12]
    place = images.cache() / f"vm-{key}"
    if place.exists():
        return place
    if os.uname().machine != "x86_64" or os.geteuid() != 0:
        raise Error("cannot make the virtual machine", None, "needs root on x86_64")
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{place}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            fresh = Path(f"{place}.new")  # what a killed maker left goes first
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            _make(fresh)
            fresh.rename(place)
    return place


def _make(place: Path) -> None:
    print(f"$ making the virtual machine in {place}", flush=True)
    tree = place / "tree"
    # The kernel's package is unpacked, not installed: that would make a first root of its own.
    fetch = (
        "set -e; export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG; cd \"$1\"/tmp;"
        f" apt-get -qq download $(apt-cache depends {KERNEL} | sed -n 's/.*Depends: \\(linux-image\\)/\\1/p');"
        " dpkg-deb --fsys-tarfile linux-image-*.deb | tar --keep-directory-symlink -x -C \"$1\"; rm linux-image-*.deb"
    )
    words = ["mmdebstrap", "--quiet", "--variant=minbase", *images.SMALLER, f"--include={','.join(INSIDE)}"]
    _run(*words, f"--customize-hook={fetch}", images.SUITE, tree)
    kernel = next((tree / "boot").glob("vmlinuz-*"))
    kernel.rename(place / "vmlinuz")
    modules = next((tree / "usr/lib/modules").iterdir())
    for name in NOT_NEEDED.split():
        shutil.rmtree(modules / "kernel" / name)
    _run("chroot", tree, "/usr/sbin/depmod", modules.name)
    with open(place / "early.cpio", "wb") as file:
        _write_early(Archive(file), tree, modules)
    for path in ("usr/share/doc", "var/cache", "usr/share/locale", "boot"):
        shutil.rmtree(tree / path)
    (tree / "checkout").mkdir()
    _run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, place / "disk", "1500M")
    shutil.rmtree(tree)


def _write_early(archive: Archive, tree: Path, modules: Path) -> None:
    for name in "bin", "dev", "proc", "sys", "disk":
        archive.add(name, stat.S_IFDIR | 0o755)
    archive.add("bin/busybox", stat.S_IFREG | 0o755, (tree / "usr/bin/busybox").read_bytes())
    archive.add("init", stat.S_IFREG | 0o755, (HERE / "early.sh").read_bytes())
    needs: dict[str, tuple[str, list[str]]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path.rpartition("/")[2].split(".")[0]] = (path, others.split())
    ordered: dict[str, None] = {}
    for name in EARLY:
        if name in needs:  # else it is in the kernel itself
            path, others = needs[name]
            ordered |= dict.fromkeys([*reversed(others), path])
    archive.add("modules", stat.S_IFDIR | 0o755)
    for number, path in enumerate(ordered):
        data = (modules / path).read_bytes()
        plain = lzma.decompress(data) if path.endswith(".xz") else data
        archive.add(f"modules/{number:02}.ko", stat.S_IFREG | 0o644, plain)
    archive.end()


def _run(*words: str | os.PathLike[str]) -> None:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, cwd="/", capture_output=True, text=True)
    if done.returncode:
        raise Error("cannot run", os.fspath(words[0]), (done.stderr.strip().splitlines() or ["no word"])[-1])


# -- at each boot --------------------------------------------------------------------------


class Archive:
    """A cpio archive as the kernel unpacks it (kernel documentation, "initramfs buffer format").

    Each entry is "070701", then inode, mode, uid, gid, nlink, mtime, size, four device numbers, length of
    the name, check, as 8 digits each, then the name and the data, both padded to 4 bytes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._count = 0

    def add(self, name: str, mode: int, data: bytes = b"", mtime: int = 0) -> None:
        self._count += 1
        fields = (self._count, mode, 0, 0, 1, mtime, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + os.fsencode(name) + b"\0"
        for part in head, data:
            self._file.write(part + b"\0" * (-len(part) % 4))

    def tree(self, top: Path, names: Iterator[str]) -> None:
        """Files and directories beneath `top`, as checkout/NAME."""
        for name in names:
            found = (top / name).lstat()
            data = b""
            if stat.S_ISLNK(found.st_mode):
                data = os.fsencode(os.readlink(top / name))
            elif stat.S_ISREG(found.st_mode):
                data = (top / name).read_bytes()
            self.add(f"checkout/{name}", found.st_mode, data, int(found.st_mtime))

    def end(self) -> None:
        self.add("TRAILER!!!", 0)


def carried() -> Iterator[str]:
    """The names in the checkout that go into the machine, a directory before what it holds."""
    for folder, directories, files in os.walk(TOP):
        here = os.path.relpath(folder, TOP)
        if here == ".":
            directories[:] = [name for name in directories if name == ".venv" or not name.startswith(".")]
            files = [name for name in files if not name.startswith(".")]
        elif here.startswith(".venv"):
            directories[:] = [name for name in directories if name.split("-")[0] not in NOT_CARRIED]
            files = [name for name in files if "mypyc" not in name and name not in NOT_CARRIED]
        directories.sort()
        if here != ".":
            yield here
        links = [name for name in directories if os.path.islink(f"{folder}/{name}")]
        yield from (os.path.normpath(f"{here}/{name}") for name in sorted([*files, *links]))


def boot(
    place: Path, words: list[str], systemd: bool = False, long: bool = False, seconds: float | None = None
) -> int:
    """Run pytest with these words inside; its exit code.

    systemd  as process 1      long  all rounds      seconds  after which it is an Error
    """
    with tempfile.TemporaryDirectory(prefix="oci-tools-vm-") as scratch:
        first = Path(scratch) / "first.cpio"
        with open(first, "wb") as file:
            file.write((place / "early.cpio").read_bytes())
            archive = Archive(file)
            archive.add("checkout", stat.S_IFDIR | 0o755)
            archive.tree(TOP, carried())
            for name in SCRIPTS:
                archive.add(name, stat.S_IFREG | 0o644, (HERE / name).read_bytes())
            share = 20 if "kvm" not in accelerator() else 1
            archive.add("words", stat.S_IFREG | 0o644, shlex.join(words).encode())
            archive.add("settings", stat.S_IFREG | 0o644, f"export OCI_TEST_LONG={int(long) or ''} OCI_TEST_SHARE={share}\n".encode())
            archive.end()
        sparse = Path(scratch) / "spare"  # a disk that nobody uses: /dev/vdb, for limits and refusals
        with open(sparse, "wb") as file:
            file.truncate(64 << 20)
        try:
            done = subprocess.run(_command(place, first, sparse, systemd), stdin=subprocess.DEVNULL, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Error("the virtual machine has not ended in time", None, f"{seconds:.0f} seconds") from None
        code = done.returncode
    if code < 2 * RESULT:
        raise Error("the virtual machine ended without a result", None, f"qemu's exit code is {code}")
    return code // 2 - RESULT  # isa-debug-exit makes (value << 1) | 1 of it


def _command(place: Path, first: Path, spare: Path, systemd: bool) -> list[str]:
    said = "console=ttyS0 loglevel=2 panic=-1 oops=panic random.trust_cpu=on mitigations=off"
    if systemd:
        said += " systemd.unit=oci-tests.service systemd.show_status=0 systemd.log_target=null"
        said += "".join(f" systemd.mask={name}.service" for name in MASKED.split())
    drives = [(place / "disk", "on"), (spare, "off")]
    return [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        *accelerator(), "-smp", "2", "-m", "3G",
        "-kernel", str(place / "vmlinuz"), "-initrd", str(first),
        "-append", said,
        "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=1",
        *(word for path, snapshot in drives
          for word in ("-drive", f"file={path},format=raw,if=virtio,snapshot={snapshot},cache=unsafe")),
    ]  # fmt: skip


def accelerator() -> list[str]:
    """KVM if the processor can, which a /dev/kvm alone does not say; else all of it in software."""
    with open("/proc/cpuinfo", encoding="ascii") as file:
        flags = next((line.split() for line in file if line.startswith("flags")), [])
    kvm = ["-accel", "kvm"] if {"vmx", "svm"} & set(flags) and os.access("/dev/kvm", os.R_OK | os.W_OK) else []
    return [*kvm, "-accel", "tcg,thread=multi", "-cpu", "max"]
