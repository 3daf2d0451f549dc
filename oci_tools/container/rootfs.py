"""A container's files, for somebody who stands outside: `cp`, `export`, `diff`.

    running           what its first process sees, mounts and all, through /proc/PID/root
    not running       its layers, mounted for nobody but us, or the bundle's rootfs as it lies there; and what is
                      bound into it, where a path leads there

All paths are opened beneath it by openat2 (`fs.open_beneath`): links are followed inside, `..` stops at
its root, and no link of procfs leads out, however the container changes its files meanwhile
(CVE-2018-15664, CVE-2019-10152, CVE-2026-41568).  Nothing of ours is executed or loaded inside
(CVE-2019-14271).
"""

from __future__ import annotations

import os
import time

from oci_tools import bundle as bundles
from oci_tools import document, fs
from oci_tools.container import ending, names
from oci_tools.errors import Busy, Error
from oci_tools.linux import mount, process
from oci_tools.names import clean
from oci_tools.runtime import overlay, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

_LOOK = 0.1  # seconds after which to look again whether it runs
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def is_path(word: str) -> bool:
    return word.startswith(("/", "./", "../")) or word in (".", "..")


def is_bundle(path: str) -> bool:
    """Whether a path is a bundle: contracts.md, "Path operands"."""
    return bundles.is_bundle(path) or os.path.exists(f"{path}/config.json")


def bundle_of(root: str, word: str) -> str:
    """The bundle that a word means: a path, or that of a container."""
    if is_path(word):
        path = os.path.abspath(word)
        if not is_bundle(path):
            raise Error("no bundle at", word)
        return path
    container = names.need(word, root)
    if names.policy(container):
        return os.path.realpath(f"{names.place(container)}/bundle")
    return str(state.load(root, container)["bundle"])


class Rootfs:
    """A descriptor `fd` of a root directory, for a `with` block; of a resting container nobody starts it meanwhile.

    Where the files belong to a user namespace, this process enters it, and does not come back: what is
    done to files is done with the rights over them that the container's root has, and no others.

    word    a container, or the path of a bundle
    mounts  True: with what is mounted in it; False: without
    single  whether the files are a plain user's, for whom owners are remembered (layer/owner.py)
    """

    def __init__(self, root: str, word: str, mounts: bool = True) -> None:
        self._root = root
        self._word = word
        self._bundle = bundle_of(root, word)
        self._container = None if is_path(word) else names.need(word, root)
        self._mounts = mounts
        self._held: fs.Lock | None = None
        self._opened: list[int] = []
        self._mounted: list[dict[str, Any]] = []  # what would be mounted in a resting one
        self.single = os.geteuid() != 0

    def __enter__(self) -> Self:
        pid = self._settled()
        try:
            self.fd = self._of_process(*pid) if pid else self._of_bundle()
        except OSError as error:
            self._release()
            raise Error("cannot open the files of", self._container or self._bundle, error) from None
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self.fd, *self._opened):
            os.close(fd)
        self._release()

    def at(self, path: bytes, write: bool) -> tuple[int, bytes]:
        """Where a path has to be looked for: a descriptor and the path beneath it.

        Of a running container that is its root; of a resting one of people, what would be bound there.
        """
        parts = clean(path)
        for mounted in sorted(self._mounted, key=lambda each: len(each["destination"]), reverse=True):
            there = clean(os.fsencode(mounted["destination"]))
            if not there or parts[: len(there)] != there:
                continue
            options = mounted.get("options") or []
            if not self._container or not {"bind", "rbind"}.intersection(options):
                why = "something is mounted there while it runs, and it does not run"
                raise Error("cannot copy", f"{self._word}:{mounted['destination']}", why)
            if write and "ro" in options:
                raise Error("cannot copy to", f"{self._word}:{mounted['destination']}", "it is mounted read-only")
            return self._bound(mounted["source"], b"/".join(parts[len(there) :]))
        return self.fd, b"/" + path

    def real(self, fd: int) -> bytes:
        """The path of a directory in a resting one, links resolved; of a running one it is not wanted."""
        if not self._mounted:
            return b""
        top, path = (os.readlink(b"/proc/self/fd/%d" % each) for each in (self.fd, fd))
        return path.removeprefix(top.rstrip(b"/"))

    def _bound(self, source: str, rest: bytes) -> tuple[int, bytes]:
        directory = os.path.isdir(source)
        try:
            fd = os.open(source if directory else os.path.dirname(source), _DIRECTORY)
        except OSError as error:
            raise Error("cannot open", source, error) from None
        self._opened.append(fd)
        return fd, b"/" + (rest if directory else os.fsencode(os.path.basename(source)))

    def _release(self) -> None:
        if self._held:
            self._held.__exit__()

    def _settled(self) -> tuple[int, int] | None:
        """What `_running` says of one that runs; one that rests is held from here on.

        One that has just ended is still somebody's for a moment, and so is one that is being started.
        """
        deadline = time.monotonic() + fs.LOCK_TIMEOUT
        while True:
            pid = self._running()
            if pid or not self._container or not names.policy(self._container):
                return pid
            held = fs.Lock(f"{names.place(self._container)}/lock", timeout=_LOOK, make=False)
            try:
                self._held = held.__enter__()
                return None
            except Busy:
                if time.monotonic() > deadline:
                    raise Busy("cannot use container", self._container, "another process uses it") from None

    def _running(self) -> tuple[int, int] | None:
        """The pid of the first process of the container, or of one that runs in the bundle, and a pidfd."""
        for container in [self._container] if self._container else state.ids(self._root):
            pidfd = ending.payload(self._root, container)
            if pidfd >= 0:
                known = state.load(self._root, container)
                if self._container or os.path.realpath(known["bundle"]) == os.path.realpath(self._bundle):
                    if state.status(self._root, known) == "creating":  # it may not have its root yet
                        raise Busy("cannot use container", container, "it is being made")
                    return int(known["pid"]), pidfd
                os.close(pidfd)
        return None

    def _of_process(self, pid: int, pidfd: int) -> int:
        """Its root.  It may end at any moment: its pid must not have become another's when all is opened."""
        self._opened.append(pidfd)
        if not self._mounts and bundles.OVERLAY not in (self._spec().get("annotations") or {}):
            return self._tree()
        foreign = os.stat(f"/proc/{pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
        if self._mounts:
            if foreign:
                _become_root_of(pidfd)
            fd = os.open(f"/proc/{pid}/root", _DIRECTORY)
        else:
            fd = _bare(pid, pidfd, foreign)
            if foreign:
                _become_root_of(pidfd)
        process.pidfd_send_signal(pidfd, 0)
        return fd

    def _of_bundle(self) -> int:
        if self._container:  # else who asks for it knows what its files are
            from oci_tools.container import nomap

            nomap.refuse(self._bundle, "cannot open the files of", self._container)
        spec = self._spec(own=True)
        if self._mounts:
            self._mounted = spec.get("mounts") or []
        if bundles.OVERLAY not in (spec.get("annotations") or {}):
            return self._tree()
        if os.geteuid() != 0:
            _become_root()
        return overlay.make(spec, self._bundle)

    def _tree(self) -> int:
        path: str = self._spec()["root"]["path"]
        return os.open(os.path.join(self._bundle, path), _DIRECTORY)

    def _spec(self, own: bool = False) -> dict[str, Any]:
        """What says how it is run: its own, of a container that was made of somebody's bundle."""
        path = f"{names.place(self._container)}/config.json" if own and self._container else ""
        spec: dict[str, Any] = document.load(path if os.path.exists(path) else f"{self._bundle}/config.json")
        return spec


def _become_root() -> None:
    """A plain user may mount only in a user namespace of its own: be root in one, from here on."""
    os.environ["OCI_ROOT"], os.environ["OCI_RUN"] = fs.root(), fs.run()  # they are still the user's
    uid, gid = os.geteuid(), os.getegid()
    process.unshare(process.CLONE_NEWUSER | process.CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="utf-8") as file:
            file.write(text)


def _become_root_of(pidfd: int) -> None:
    """Enter the user namespace of a container; nobody in there may look into us, if ever it sees us."""
    os.environ["OCI_ROOT"], os.environ["OCI_RUN"] = fs.root(), fs.run()
    process.prctl(process.PR_SET_DUMPABLE, 0)
    process.setns(pidfd, process.CLONE_NEWUSER)
    try:
        os.setgroups([])
    except PermissionError:
        pass  # setgroups is denied in a plain user's namespace
    process.become_root()


def _bare(pid: int, pidfd: int, foreign: bool) -> int:
    """The root of a running container without what is mounted in it.

    A mount can be cloned only from inside its namespace: by a child, which does that and nothing else there.
    """
    from oci_tools.runtime import host_mounts, sync

    def root() -> int:
        process.prctl(process.PR_SET_DUMPABLE, 0)
        top = host_mounts.enter(pid, pidfd, process.CLONE_NEWUSER if foreign else 0)
        return mount.open_tree(mount.AT_FDCWD, top, mount.OPEN_TREE_CLONE)

    return sync.opened_by_child(root)
