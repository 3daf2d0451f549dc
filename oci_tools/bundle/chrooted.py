"""The root of a step that runs in a chroot (runtime/chrooted.py), where nothing can be mounted.

What a mount would show is moved into the tree while the step runs, and moved back after it, changed or not: so a
cache keeps what was written in it, and the tree is without all of it when it is packed.  What was in its place lies
aside meanwhile.  All of it is in one file system, below the layer store's root.

    ROOT/placed    what is lent to the tree: lines "SOURCE\\0PLACE\\n", for `give_back`
    ROOT/aside/    what the tree itself has in these places
    ROOT/dev/      its /dev: devices, as far as they can be made
"""

from __future__ import annotations

import os
import stat

from oci_tools import fs
from oci_tools.bundle.whole import Whole
from oci_tools.errors import Error
from oci_tools.names import clean
from oci_tools.runtime import devices
from oci_tools.runtime.chrooted import possible as possible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_STAY = ("proc", "sys")  # there is nothing in them, but where somebody looks for them there they are


class Chrooted(Whole):
    """One root, as `Whole` is, with a process in it by `runtime/chrooted.py`."""

    def __enter__(self) -> Chrooted:
        super().__enter__()
        self._wanted: list[dict[str, Any]] = []
        self._lent: list[_Lent] = []
        self._ways: list[tuple[int, bytes]] = []
        return self

    def specify(
        self, config: dict[str, Any], hostname: str, mounts: list[dict[str, Any]], network: bool,
        insecure: bool = False, more: Callable[[dict[str, Any]], None] | None = None, hidden: str | None = None,
    ) -> None:  # fmt: skip
        def plain(made: dict[str, Any]) -> None:
            if more:
                more(made)
            made["mounts"] = []
            filtered = made["linux"].get("seccomp") if self._store.key.startswith("single") else None
            made["linux"] = {"seccomp": filtered} if filtered else {}
            made["process"]["noNewPrivileges"] = bool(filtered)  # else only who may mount may have a filter

        super().specify(config, hostname, mounts, network, insecure, plain, hidden)
        self._wanted = mounts

    # -- in place of mounts ---------------------------------------------------------------------

    def place(self) -> None:
        os.mkdir(f"{self.path}/aside", 0o700)
        for name in _STAY:
            if not self.has(name):
                os.mkdir(f"{self._tree()}/{name}", 0o755)
        _make_devices(f"{self.path}/dev")
        first: dict[str, str] = {}
        for mount in [{"destination": "/dev", "type": "bind", "source": f"{self.path}/dev"}, *self._wanted]:
            source = mount["source"]
            if mount["type"] == "tmpfs":
                source = f"{self.path}/empty-{len(self._lent)}"
                os.mkdir(source, 0o700)
                os.chmod(source, 0o1777)
            elif source in first:  # it can be in one place only
                link = f"{self.path}/link-{len(self._lent)}"
                os.symlink(first[source], link)
                source = link
            first[source] = mount["destination"]
            self._put(source, mount["destination"])

    def _put(self, source: str, destination: str) -> None:
        *way, name = clean(os.fsencode(destination))
        try:
            at = self._way(way)
            lent = _Lent(at, name, source, f"{self.path}/aside/{len(self._lent)}")
            self._lent.append(lent)
            lent.go(f"{self.path}/placed")
        except OSError as error:
            hint = "OCI_ROOT wants to be in one file system, a volume" if error.errno == 18 else None
            raise Error("cannot have in a chroot", destination, error, hint) from None

    def _way(self, parts: list[bytes]) -> int:
        """A descriptor of a directory in the tree, made if it is missing; links are followed beneath the root."""
        at = os.dup(self.mount())
        for end, part in enumerate(parts, 1):
            path = b"/".join(parts[:end])
            try:
                below = fs.open_beneath(self.mount(), path, _DIRECTORY)
            except FileNotFoundError:
                os.mkdir(part, 0o755, dir_fd=at)
                self._ways.append((os.dup(at), part))
                below = fs.open_beneath(self.mount(), path, _DIRECTORY)
            os.close(at)
            at = below
        return at

    def take_away(self) -> None:
        """The tree as if nothing had been put into it; what the step itself did to its places is lost."""
        for lent in reversed(self._lent):
            lent.come_back()
        for at, name in reversed(self._ways):
            try:
                os.rmdir(name, dir_fd=at)
            except OSError:
                pass  # something is in it, or it is gone
            os.close(at)
        self._lent, self._ways = [], []


class _Lent:
    """One thing in the tree, as `name` in the open directory `at`; `aside` is for what has this name there."""

    def __init__(self, at: int, name: bytes, source: str, aside: str) -> None:
        self._at = at
        self._name = name
        self._source = source
        self._aside = aside
        self._seen = os.lstat(source)

    def go(self, told: str) -> None:
        """Have it in the tree; the file `told` says so first, in case nobody is there any more to bring it back."""
        where = os.readlink(b"/proc/self/fd/%d" % self._at) + b"/" + self._name
        with open(told, "ab") as file:
            file.write(os.fsencode(self._source) + b"\0" + where + b"\n")
        try:
            os.rename(self._name, self._aside, src_dir_fd=self._at)
        except FileNotFoundError:
            pass
        os.rename(self._source, self._name, dst_dir_fd=self._at)

    def come_back(self) -> None:
        if not os.path.lexists(self._source):
            self._leave()
        if os.path.lexists(self._aside):
            try:
                os.rename(self._aside, self._name, dst_dir_fd=self._at)
            except OSError:
                pass  # the step removed the directory that it was in
        os.close(self._at)

    def _leave(self) -> None:
        try:
            found = os.lstat(self._name, dir_fd=self._at)
            if stat.S_IFMT(found.st_mode) == stat.S_IFMT(self._seen.st_mode):
                return os.rename(self._name, self._source, src_dir_fd=self._at)
            fs.remove_at(self._at, self._name)  # by now a link, which might lead anywhere
        except FileNotFoundError:
            pass
        if stat.S_ISDIR(self._seen.st_mode):  # a mount could not have been removed either
            os.mkdir(self._source, 0o700)
            os.chown(self._source, self._seen.st_uid, self._seen.st_gid)
            os.chmod(self._source, stat.S_IMODE(self._seen.st_mode))


def give_back(path: str, wanted: str) -> None:
    """Move what a killed build had lent to the root of a step, at `path`, back to below `wanted`."""
    try:
        with open(f"{path}/placed", "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return
    for line in reversed(lines):
        source, _, where = line.partition(b"\0")
        if source.startswith(os.fsencode(wanted) + b"/") and not os.path.lexists(source):
            try:
                if stat.S_ISDIR(os.lstat(where).st_mode):
                    os.rename(where, source)
            except OSError:
                continue


def _make_devices(path: str) -> None:
    """A /dev; where mknod(2) is refused, or what it made cannot be opened, only a file that stands for null."""
    os.mkdir(path, 0o755)
    os.chmod(path, 0o755)
    for entry in devices.DEFAULTS:
        name = f"{path}/{os.path.basename(entry['path'])}"
        try:
            os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(entry["major"], entry["minor"]))
            if entry["minor"]:  # a terminal there may be none
                os.close(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            fs.remove_tree(name)
            if not name.endswith("/null"):
                continue
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        os.chmod(name, 0o666)
    for link, target in devices.LINKS:
        os.symlink(target, f"{path}/{link}")
    os.mkdir(f"{path}/shm", 0o700)
    os.chmod(f"{path}/shm", 0o1777)
