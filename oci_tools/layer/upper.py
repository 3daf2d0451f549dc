"""What a container changed, when its root was an overlay: its upper directory tells it.

overlayfs (Documentation/filesystems/overlayfs.rst) puts there what was written, and with it every
directory on the way; a device 0:0 for a name that is gone; the attribute `overlay.opaque` on a directory
that hides what was below.  It puts there, too, what was only opened for writing, or moved away and back: a copy, which
is no change.  From these come the changes that `diff.py` writes: a whiteout only where
something is below, and never an opaque mark.

fuse-overlayfs(1) puts there another attribute, a file `.wh..wh..opq` and a device `.wh..opq` too; where it may make no
device 0:0, before Linux 5.8, a file `.wh.NAME`.  It lets nobody else have such names.
"""

from __future__ import annotations

import os
import stat

from oci_tools.errors import Error
from oci_tools.fs import PIECE
from oci_tools.layer import lookup, store
from oci_tools.layer.diff import Masks
from oci_tools.layer.tree import READ
from oci_tools.layer.walk import Found, names, walk
from oci_tools.names import OPAQUE, WHITEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def compare(
    upperfd: int,
    trees: list[str],
    chain: store.Chain | None,
    masks: Iterable[bytes] = (),
    places: frozenset[bytes] = frozenset(),
) -> Iterator[tuple[bytes, bool]]:
    """What an upper directory changes: (path, whether it is gone), in `walk`'s order.

    trees   what it lies on, the top one first
    chain   what was made in it from the start
    places  where a runtime makes an empty directory or file to mount on: new ones are no change
    """
    known = {os.fsencode(row[0]): tuple(row[1:4]) for row in chain.made} if chain else {}
    hidden = {os.fsencode(path) for path in chain.hidden} if chain else set()
    masked = Masks(masks)
    hiding: list[bytes] = []  # the directories, each in the one before, of which all that is below is hidden
    fresh = b"\0"  # a directory that is new, and with it all that is in it
    with lookup.Stack(trees) as below:
        seen = os.fstat(upperfd)
        if known.get(b"", _owner(seen)) != _owner(seen):
            yield b"", False
        for found in walk(upperfd):
            path, gone = _says(found)
            while hiding and not path.startswith(hiding[-1]):
                hiding.pop()
            if masked.has(path) or stat.S_ISSOCK(found.seen.st_mode):
                continue
            if path.startswith(fresh) and path not in places and not gone:
                yield path, False
                continue
            under = below.look(path)
            if gone:
                if under is not None and path not in hidden:
                    yield path, True
            elif not found.is_directory():
                empty = stat.S_ISREG(found.seen.st_mode) and not found.seen.st_size
                if not (path in places and empty if under is None else _is_copy(found, under, below)):
                    yield path, False
            else:
                if hiding or _is_opaque(found):
                    hiding.append(path + b"/")
                    yield from ((path + b"/" + name, True) for name in _missing(below.names(path), _names(found)))
                if under is None or not stat.S_ISDIR(under.st_mode):
                    if path not in places:
                        fresh = path + b"/"
                        yield path, False
                elif _is_other(found.seen, under, known.get(path)) or _xattrs(found) != below.xattrs(path):
                    yield path, False


def _says(found: Found) -> tuple[bytes, bool]:
    """The path that a name tells of, and whether that is gone; of a mark of opaqueness it is one that never was."""
    if _is_file_of_fuse(found):
        return found.path.removesuffix(found.name) + found.name.removeprefix(WHITEOUT), True
    return found.path, _is_whiteout(found)


def as_overlayfs(upperfd: int) -> None:
    """Have the marks that fuse-overlayfs left in an upper directory as overlayfs has them, for who is no root."""
    for found in walk(upperfd):
        if _is_file_of_fuse(found) or (_is_whiteout(found) and found.name.startswith(WHITEOUT)):
            above = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found.at)
            try:
                _as_overlayfs(above, found.name)
            finally:
                os.close(above)


def _as_overlayfs(above: int, name: bytes) -> None:
    """One mark in a directory, which stays what it was; it may be one that its owner may not write in."""
    seen = os.fstat(above)
    os.fchmod(above, stat.S_IMODE(seen.st_mode) | 0o700)
    try:
        if name in (OPAQUE, b".wh..opq"):
            os.setxattr(above, store.OPAQUE[False], b"y")
        else:
            os.mknod(name.removeprefix(WHITEOUT), stat.S_IFCHR, 0, dir_fd=above)
        os.unlink(name, dir_fd=above)
        os.utime(above, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    except PermissionError:
        pass  # where nobody may make a device 0:0, a plain user can stack nothing but with FUSE either
    finally:
        os.fchmod(above, stat.S_IMODE(seen.st_mode))


def _owner(seen: os.stat_result) -> tuple[int, int, int]:
    return stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid


def _is_other(seen: os.stat_result, under: os.stat_result, made: tuple[int, ...] | None) -> bool:
    """Whether a directory has another mode or owner than it was made with here, or than it has below.

    Or than below a time that somebody gave it: names that come and go give both of its times the same one.
    """
    if made is None and under.st_mtime_ns != seen.st_mtime_ns != seen.st_ctime_ns:
        return True
    return _owner(seen) != (made or _owner(under))


_SAME = ("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_rdev")


def _is_copy(found: Found, under: os.stat_result, below: lookup.Stack) -> bool:
    """Whether what is no directory is what it was below; one of several names may be what another is a link to."""
    if found.seen.st_nlink > 1 or any(getattr(found.seen, name) != getattr(under, name) for name in _SAME):
        return False
    fds: list[int] = []
    try:
        fds.append(os.open(found.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=found.at))
        lower = below.open(found.path)
        if lower is None or not os.path.samestat(found.seen, os.fstat(fds[0])):
            return False
        fds.append(lower)
        one, other = (b"/proc/self/fd/%d" % fd for fd in fds)
        if lookup.attributes(one) != lookup.attributes(other):
            return False
        if stat.S_ISLNK(under.st_mode):
            return os.readlink(b"", dir_fd=fds[0]) == os.readlink(b"", dir_fd=fds[1])
        return not stat.S_ISREG(under.st_mode) or _have_same_bytes(one, other)
    except OSError:
        return False  # it is going just now, or may not be read, which who packs it says
    finally:
        for fd in fds:
            os.close(fd)


def _have_same_bytes(one: bytes, other: bytes) -> bool:
    with open(one, "rb", buffering=0) as first, open(other, "rb", buffering=0) as second:
        while (data := first.read(PIECE)) == second.read(PIECE):
            if not data:
                return True
    return False


def _where(found: Found) -> bytes:
    return b"/proc/self/fd/%d/%b" % (found.at, found.name)


def _is_whiteout(found: Found) -> bool:
    return stat.S_ISCHR(found.seen.st_mode) and found.seen.st_rdev == 0


def _is_file_of_fuse(found: Found) -> bool:
    """Whether it is one of the files in which fuse-overlayfs has its marks."""
    seen = found.seen
    return found.name.startswith(WHITEOUT) and seen.st_mode == stat.S_IFREG | 0o700 and not seen.st_size


def _names(found: Found) -> Iterator[bytes]:
    """The names in a directory, sorted."""
    fd = os.open(found.name, READ, dir_fd=found.at)
    try:
        return names(fd)
    finally:
        os.close(fd)


def _missing(names: Iterator[bytes], there: Iterator[bytes]) -> Iterator[bytes]:
    """Those of sorted names that are not there."""
    other = next(there, None)
    for name in names:
        while other is not None and other < name:
            other = next(there, None)
        if other != name:
            yield name


def _xattrs(found: Found) -> dict[str, bytes]:
    return lookup.attributes(_where(found))


def _is_opaque(found: Found) -> bool:
    """Whether a directory hides what is below; one that was renamed is not understood."""
    for name in os.listxattr(_where(found), follow_symlinks=False):
        if name.startswith(lookup.MARKS):
            last = name.rpartition(".")[2]
            if last == "opaque" and os.getxattr(_where(found), name, follow_symlinks=False) == b"y":
                return True
            if last in ("redirect", "metacopy"):
                raise Error(
                    "cannot pack", found.path, f"overlayfs wrote '{name}'", "mount with redirect_dir=off"
                )
    return os.path.lexists(_where(found) + b"/" + OPAQUE)
