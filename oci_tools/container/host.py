"""What the options of a container ask of the world, in one place, so that all else about them is pure."""

from __future__ import annotations

import os
import stat

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.linux import caps, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from oci_tools.runtime.user import Read

MAX_FILE = 1 << 20  # bytes of a file of variables


class Device:
    """A device node of the host."""

    def __init__(self, path: str, seen: os.stat_result) -> None:
        self.path = path
        self.kind = "b" if stat.S_ISBLK(seen.st_mode) else "c"
        self.major = os.major(seen.st_rdev)
        self.minor = os.minor(seen.st_rdev)
        self.mode = stat.S_IMODE(seen.st_mode) & 0o777
        self.uid = seen.st_uid
        self.gid = seen.st_gid


class Blob:
    """A file of an artifact: its digest, its title (empty: none), and where it is."""

    def __init__(self, digest: str, title: str, path: str) -> None:
        self.digest = digest
        self.title = title
        self.path = path


class Host:
    """The host as it is.

    rootfs  where the image's users are looked up
    states  where the runtime keeps the state of containers
    container  the one that is made
    later   what it joins need not run yet
    """

    def __init__(
        self, rootfs: int | str | Read | None = None, states: str | None = None, container: str | None = None
    ) -> None:
        self.rootfs = rootfs
        self.container = container
        self.later = False
        self.states = states or f"{fs.run()}/runtime"
        self.volumes: list[str] = []  # where the image wants one
        self.joins: dict[str, str] = {}  # kind of namespace -> the container of which it is
        self.accounts: dict[str, str] = {}  # its /etc/passwd and /etc/group, where they are others than the image's
        self.images: dict[str, list[str]] = {}  # options of an overlay of each that can be mounted
        self.artifacts: dict[str, list[Blob]] = {}  # files of each that can be mounted
        self.environ: Mapping[str, str] = os.environ
        self.rootless = os.geteuid() != 0
        self.initial = process.in_host_user_namespace()  # else root is one over what some user has given him

    def text(self, path: str) -> str:
        """The text of a file that the caller names."""
        return document.read(path, MAX_FILE).decode("utf-8", "surrogateescape")

    def absolute(self, path: str) -> str:
        return os.path.abspath(os.path.expanduser(path))

    def resolv_conf(self) -> str:
        """Where the host's is."""
        if fs.HOLDER not in os.environ:
            return "/etc/resolv.conf"
        from oci_tools.net import within

        return within.resolv_conf()

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def has_directory(self, path: str) -> bool:
        """Whether a directory is at a path of the image, or of the directory that is the root."""
        if callable(self.rootfs):
            return bool(getattr(self.rootfs, "has_directory", lambda _: False)(path))
        if self.rootfs is None:
            return False
        at = self.rootfs if isinstance(self.rootfs, int) else os.open(self.rootfs, os.O_PATH | os.O_CLOEXEC)
        try:
            os.close(fs.open_beneath(at, path, os.O_PATH | os.O_DIRECTORY))
            return True
        except OSError:
            return False
        finally:
            if at != self.rootfs:
                os.close(at)

    def matching(self, pattern: str) -> list[str]:
        """The paths that a shell's pattern stands for, sorted."""
        from glob import glob

        return sorted(glob(self.absolute(pattern))) if pattern else []

    def place(self) -> str:
        """The directory of the container that is made."""
        from oci_tools.container import names

        return names.place(self.container or "")

    def listed(self, path: str) -> list[str]:
        """The names in a directory; none if there is none."""
        try:
            return os.listdir(path)
        except OSError:
            return []

    def is_file(self, path: str) -> bool:
        return os.path.isfile(path)

    def real(self, path: str) -> str:
        return os.path.realpath(path)

    def namespace(self, word: str, kind: str) -> str:
        """The path of a namespace of a running container; who is to be started later joins as it is then."""
        from oci_tools.container import names
        from oci_tools.runtime.namespaces import FILES

        self.joins[kind] = names.need(word, self.states)
        return f"/proc/{self._pid(word)}/ns/{FILES[kind]}"

    def file_of(self, container: str, name: str) -> str | None:
        """The path of a container's hosts, hostname or resolv.conf; None if it has the image's."""
        from oci_tools.container import names

        path = f"{names.place(container)}/{name}"
        return path if os.path.exists(path) else None

    def root_of(self, word: str) -> str:
        """The path of a running container's root."""
        return f"/proc/{self._pid(word)}/root"

    def _pid(self, word: str) -> int:
        """The pid of the first process of a container that runs."""
        from oci_tools.container import names
        from oci_tools.runtime import state

        container = names.need(word, self.states)
        known = state.load(self.states, container) if os.path.isdir(f"{self.states}/{container}") else None
        if known is None or state.status(self.states, known) not in ("created", "running"):
            if self.later:
                return 0
            raise Error("cannot join container", word, "container not running")
        return int(known["pid"])

    def mounts_of(self, word: str) -> list[dict[str, Any]]:
        """The mounts of a container that people made."""
        from oci_tools.container import names

        container = names.need(word, self.states)
        for path in (f"{names.place(container)}/config.json", f"{names.place(container)}/bundle/config.json"):
            if os.path.exists(path):
                # Files of its own, like /etc/hosts, are not what others mean.
                found = document.load(path).get("mounts") or []
                return [each for each in found if not each.get("source", "").startswith(f"{names.place(container)}/")]
        raise Error("cannot take volumes from", word, "the runtime's own verbs made it")

    def init(self) -> str:
        """A file with our init, to be bound into containers."""
        from oci_tools.container import init

        return init.file()

    def take_ids(self, size: int, known: list[tuple[int, int]]) -> int:
        """The first of so many ids, out of these ranges, that no container has."""
        from oci_tools.container import userns

        return userns.take(size, known, self.container)

    def account(self, word: str) -> tuple[str, int, int, str, str, str, str]:
        """A user of the host by name or number: name, uid, gid, words, home, shell, and the name of the group."""
        import grp
        import pwd

        try:
            one = pwd.getpwuid(int(word)) if word.isascii() and word.isdigit() else pwd.getpwnam(word)
            return (*one[:1], *one[2:7], grp.getgrgid(one.pw_gid).gr_name)
        except (KeyError, OverflowError):
            raise Error("no such user of the host", word) from None

    def show_as_inside(self, mount: dict[str, Any]) -> None:
        """Have what was made for a container with a user namespace belong to its users."""
        if self.initial:
            mount["options"].append("idmap")
            return
        from oci_tools.container import nomap

        if mount["source"].startswith(f"{self.place()}/"):
            nomap.give(mount["source"])

    def selinux(self) -> bool:
        return os.path.exists("/sys/fs/selinux/enforce")

    def hostname(self) -> str:
        return os.uname().nodename

    def cpus(self) -> int:
        return os.cpu_count() or 1

    def capabilities(self) -> list[str]:
        """All that this process could hand on: its bounding set."""
        have = caps.bounding()
        return [name for number, name in enumerate(caps.NAMES) if have >> number & 1]

    def devices(self, path: str) -> list[Device]:
        """The device at `path`, or those in the directory there, sorted by name."""
        try:
            seen = os.stat(path)
        except OSError as error:
            raise Error("cannot use device", path, error) from None
        if stat.S_ISDIR(seen.st_mode):
            return sorted(self._below(path), key=lambda device: device.path)
        if not (stat.S_ISCHR(seen.st_mode) or stat.S_ISBLK(seen.st_mode)):
            raise Error("cannot use device", path, "not a device node")
        return [Device(path, seen)]

    def _below(self, directory: str) -> Iterator[Device]:
        # What a container has its own of is not the host's to give (moby, HostDevices).
        for entry in os.scandir(directory):
            if entry.name in ("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"):
                continue
            try:
                seen = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # gone meanwhile
            if stat.S_ISDIR(seen.st_mode):
                yield from self._below(entry.path)
            elif stat.S_ISCHR(seen.st_mode) or stat.S_ISBLK(seen.st_mode):
                yield Device(entry.path, seen)
