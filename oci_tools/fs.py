"""Files done safely: write beside and rename, lock, remove, resolve; and where things live.

The places (house.md, "The data"): root's are `/var/lib/oci` and `/run/oci`; a plain
user's `$XDG_DATA_HOME/oci` and `$XDG_RUNTIME_DIR/oci`; `OCI_ROOT` and `OCI_RUN` move them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

from oci_tools.errors import Busy, Error
from oci_tools.linux.openat2 import RESOLVE_IN_ROOT, openat2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

LOCK_TIMEOUT = 60.0  # seconds; `--lock-timeout`

# Bytes of one write(2).  The page cache takes memory in blocks as large as a write: up to this size (the kernel's
# PAGE_ALLOC_COSTLY_ORDER) the free lists have them, beyond it memory is compacted first, or is such as a virtual
# machine has given back to its host, and then each byte costs four times as much.
PIECE = 32 << 10


# -- places ------------------------------------------------------------------------


# In the environment of a plain user's root who is on the host's network: who holds his namespaces (net/within.py).
HOLDER = "OCI_SHARED_BY"


def root() -> str:
    """Where images, layers, containers, volumes and networks are kept; not made here."""
    place = os.environ.get("OCI_ROOT")
    if place:
        return os.path.abspath(place)
    if os.geteuid() == 0:
        return "/var/lib/oci"
    return os.path.join(os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "oci")


def run() -> str:
    """Where state that ends with a reboot is kept; not made here."""
    place = os.environ.get("OCI_RUN")
    if place:
        return os.path.abspath(place)
    if os.geteuid() == 0:
        return "/run/oci"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(runtime, "oci") if runtime else f"/tmp/oci-{os.geteuid()}"


def make_private(path: str) -> str:
    """Make a directory with its parents, all of mode 0700; refuse one that another user owns.

    The check matters under `/tmp`, where anybody can make the name first.
    """
    try:
        if not os.path.isdir(os.path.dirname(path) or "."):
            make_private(os.path.dirname(path))  # os.makedirs gives parents the usual mode
        os.makedirs(path, mode=0o700, exist_ok=True)
        seen = os.lstat(path)
    except OSError as error:
        raise Error("cannot make directory", path, error) from None
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid not in (os.geteuid(), 0):
        raise Error("cannot use directory", path, "it belongs to another user")
    return path


def make_roomy(path: str) -> None:
    """Make a directory, of mode 0700, for a tree of many files in a directory that is ours alone.

    ext4 keeps what is made in a directory in its block group, and for minutes it does not use an inode again: each
    new file passes over all that were removed there.  A tree made where one of 10,000 files has just been removed
    takes eight times as long; so each is sent to another group, which ext4 finds by the name.
    """
    from oci_tools.linux import files

    parent, name = os.path.split(path)
    try:
        files.spread(parent)
    except OSError:
        os.mkdir(path, 0o700)
        return
    first = f"{parent}/{name}.{os.urandom(4).hex()}"
    os.mkdir(first, 0o700)
    try:
        os.rename(first, path)
    except FileNotFoundError:  # somebody took it for what a killed process had left
        os.mkdir(path, 0o700)


# -- files ---------------------------------------------------------------------------


class Output:
    """A descriptor of what will be the file at `path`, in a `with` block that gives it its name, whole or not at all.

    What is there and no file, a device or a pipe, /dev/stdout too, is written to as it comes and stays what it is:
    so what people name is meant.  With `replace` it gives way as well.
    """

    def __init__(self, path: str, mode: int = 0o644, replace: bool = False) -> None:
        self.path, self._mode = path, mode
        self._beside = f"{path}.{os.getpid()}.{time.monotonic_ns()}.new"
        self._replaces = replace or _is_replaced(path)

    def __enter__(self) -> int:
        flags, path = os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY, self.path
        if self._replaces:
            flags, path = flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, self._beside
        try:
            self._fd = os.open(path, flags, self._mode)
        except OSError as error:
            raise Error("cannot write", self.path, error) from None
        return self._fd

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        os.close(self._fd)
        if self._replaces and error is None:
            try:
                os.rename(self._beside, self.path)
            except OSError as failed:
                error = failed
        if self._replaces and error is not None:
            try:
                os.unlink(self._beside)
            except OSError:
                pass
        if isinstance(error, OSError):
            raise Error("cannot write", self.path, error) from None


def _is_replaced(path: str) -> bool:
    try:
        seen = os.stat(path).st_mode
    except OSError:
        return True
    return stat.S_ISREG(seen) or stat.S_ISDIR(seen)


def write(path: str, data: bytes, mode: int = 0o644, sync: bool = True) -> None:
    """Replace what is at `path` with a file of `data`: readers see the old or the new, whole."""
    with Output(path, mode, replace=True) as fd:
        write_all(fd, data)
        if sync:
            os.fsync(fd)


def write_to(path: str, data: bytes, mode: int = 0o644) -> None:
    """The same where people say the path: what is no file is written to."""
    with Output(path, mode) as fd:
        write_all(fd, data)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """write(2) until all of `data` is written, in pieces for which the kernel has memory at hand."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:PIECE]) :]


def write_back(fd: int, offset: int, count: int) -> None:
    """Begin to write a part of a file to the disk, so that fsync(2) has little to wait for."""
    from oci_tools.linux import files

    try:
        files.write_back(fd, offset, count)
    except OSError:
        pass  # fsync says what is wrong


def sync_directory(path: str) -> None:
    """Make the names in a directory last through a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Lock:
    """An flock(2) on a directory, or a file made if missing; ends with the `with` block or the process.

    Waits up to `timeout` seconds (default: `LOCK_TIMEOUT`), then raises Busy (exit 75).
    flock has no descriptor that says "free", so waiting looks again, ever more slowly.
    With `make` False nothing is made: an Error if it is missing.
    """

    def __init__(self, path: str, shared: bool = False, timeout: float | None = None, make: bool = True) -> None:
        self.path = path
        self.make = make
        self.shared = shared
        self.timeout = LOCK_TIMEOUT if timeout is None else timeout
        self.fd = -1

    def __enter__(self) -> Self:
        try:
            how = os.O_RDONLY if os.path.isdir(self.path) else os.O_RDWR | (os.O_CREAT if self.make else 0)
            self.fd = os.open(self.path, how | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise Error("cannot lock", self.path, error) from None
        try:
            self._wait()
        except BaseException:
            os.close(self.fd)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def _wait(self) -> None:
        how = (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        deadline, pause = time.monotonic() + self.timeout, 0.002
        while True:
            try:
                return fcntl.flock(self.fd, how)
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Busy("cannot lock", self.path, "another process holds it") from None
                time.sleep(min(pause, left))
                pause = min(pause * 1.5, 0.1)


def pieces(fd: int, size: int) -> list[tuple[int, int]]:
    """(start, end) of each piece of data in a file: lseek(2), SEEK_DATA."""
    found, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            at = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            return [(0, size)]  # the file system does not know
        found.append((start, min(at, size)))
    return found


# -- trees ---------------------------------------------------------------------------


def open_beneath(rootfd: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """openat2(2) as if `rootfd` were `/`: links and `..` in `path` cannot lead out of it."""
    return openat2(rootfd, path, flags, mode, RESOLVE_IN_ROOT)


def remove_tree(path: str, on_error: Callable[[str, OSError], None] | None = None) -> None:
    """Remove a file or directory tree without following links; absent is fine.

    Directories that their owner may not enter are made so first; `on_error` hears of
    what cannot be removed, else the first such thing is an Error.
    """
    path = path.rstrip("/") or "/"
    try:
        parent = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Error("cannot remove", path, error) from None
    try:
        name = os.path.basename(path)
        remove_at(parent, name, on_error, path[: len(path) - len(name)])
    finally:
        os.close(parent)


def remove_at(
    dirfd: int,
    name: str | bytes,
    on_error: Callable[[str, OSError], None] | None = None,
    where: str = "",
) -> None:
    """`remove_tree` of a name in an open directory; `where` is what messages say before it.

    No recursion, and few descriptors however deep a hostile tree is: those of the upper levels
    are closed on the way down, and opened again as `..` on the way up, where it is still the same
    directory.
    """
    levels: list[_Level] = []
    waiting = os.fsencode(name)
    try:
        while True:
            try:
                if waiting:
                    fd = _unlink(levels[-1].fd if levels else dirfd, waiting)
                    if fd >= 0:
                        levels.append(_Level(waiting, fd))
                        if len(levels) > _LEVELS_OPEN:
                            levels[-_LEVELS_OPEN].close()
                elif levels[-1].names or levels[-1].more():
                    waiting = levels[-1].names.pop()
                    continue
                else:
                    done = levels[-1]
                    if len(levels) > 1:
                        levels[-2].open_from(done.fd)
                    levels.pop()
                    done.close()
                    waiting = done.name
                    os.rmdir(waiting, dir_fd=levels[-1].fd if levels else dirfd)
            except OSError as error:
                path = where + os.fsdecode(b"/".join([*(level.name for level in levels), waiting]).rstrip(b"/"))
                if on_error is None:
                    raise Error("cannot remove", path, error) from None
                on_error(path, error)
                if levels:
                    levels[-1].stay.add(waiting)
            waiting = b""
            if not levels:
                return
    finally:
        for level in levels:
            level.close()


_LEVELS_OPEN = 64  # descriptors that remove_at keeps


_NAMES = 10_000  # that remove_at reads at once


class _Level:
    """A directory that is being emptied: its name, a descriptor or -1, names left in it, and those that stay."""

    __slots__ = ("fd", "is_whole", "name", "names", "same", "stay")

    def __init__(self, name: bytes, fd: int) -> None:
        self.name = name
        self.fd = fd
        seen = os.fstat(fd)
        self.same = (seen.st_dev, seen.st_ino)
        self.names: list[bytes] = []
        self.stay: set[bytes] = set()
        self.is_whole = False
        try:
            self.more()
        except OSError:
            os.close(fd)
            raise

    def more(self) -> bool:
        """Read names, if there are any that were not read before."""
        if not self.is_whole:
            with os.scandir(self.fd) as entries:
                new = (name for entry in entries if (name := os.fsencode(entry.name)) not in self.stay)
                self.names = [name for _, name in zip(range(_NAMES), new, strict=False)]
            self.is_whole = len(self.names) < _NAMES
        return bool(self.names)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def open_from(self, below: int) -> None:
        """Open it again from a directory in it."""
        if self.fd >= 0:
            return
        fd = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=below)
        seen = os.fstat(fd)
        if (seen.st_dev, seen.st_ino) != self.same:
            os.close(fd)
            raise Error("cannot remove", self.name, "the tree was moved meanwhile")
        self.fd = fd


def _unlink(dirfd: int, name: bytes) -> int:
    """Remove a name that is no directory, or is absent: -1.  Else a descriptor of the directory."""
    try:
        os.unlink(name, dir_fd=dirfd)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        if not stat.S_ISDIR(os.lstat(name, dir_fd=dirfd).st_mode):
            raise
        return _open_directory(dirfd, name)
    return -1


def _open_directory(dirfd: int, name: bytes) -> int:
    """Open a directory to empty it, giving its owner the right to if that was missing."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    if os.geteuid() != 0:
        mode = os.lstat(name, dir_fd=dirfd).st_mode
        if mode & 0o700 != 0o700:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dirfd)
            try:
                os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(mode) | 0o700)
            finally:
                os.close(fd)
    return os.open(name, flags, dir_fd=dirfd)
