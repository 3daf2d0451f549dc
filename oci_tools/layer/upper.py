"""What a container changed, when its root was an overlay: its upper directory tells it.

overlayfs (Documentation/filesystems/overlayfs.rst) puts there what was written, and with it every
directory on the way; a device 0:0 for a name that is gone; the attribute `overlay.opaque` on a directory
that hides what was below.  From these come the changes that `diff.py` writes: a whiteout only where
something is below, and never an opaque mark.
"""

from __future__ import annotations

import os
import stat

from oci_tools.errors import Error
from oci_tools.layer import lookup
from oci_tools.layer.diff import Masks
from oci_tools.layer.tree import READ
from oci_tools.layer.walk import Found, names, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oci_tools.layer.store import Chain

_MARKS = ("trusted.overlay.", "user.overlay.")


def compare(
    upperfd: int,
    trees: list[str],
    chain: Chain | None,
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
            path = found.path
            while hiding and not path.startswith(hiding[-1]):
                hiding.pop()
            if masked.has(path) or stat.S_ISSOCK(found.seen.st_mode):
                continue
            if path.startswith(fresh) and path not in places and not _is_whiteout(found):
                yield path, False
                continue
            under = below.look(path)
            if _is_whiteout(found):
                if under is not None and path not in hidden:
                    yield path, True
            elif not found.is_directory():
                empty = stat.S_ISREG(found.seen.st_mode) and not found.seen.st_size
                if under is not None or not (path in places and empty):
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


def _owner(seen: os.stat_result) -> tuple[int, int, int]:
    return stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid


def _is_other(seen: os.stat_result, under: os.stat_result, made: tuple[int, ...] | None) -> bool:
    """Whether a directory has another mode or owner than it was made with here, or than it has below.

    Or than below a time that somebody gave it: names that come and go give both of its times the same one.
    """
    if made is None and under.st_mtime_ns != seen.st_mtime_ns != seen.st_ctime_ns:
        return True
    return _owner(seen) != (made or _owner(under))


def _where(found: Found) -> bytes:
    return b"/proc/self/fd/%d/%b" % (found.at, found.name)


def _is_whiteout(found: Found) -> bool:
    return stat.S_ISCHR(found.seen.st_mode) and found.seen.st_rdev == 0


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
        if name.startswith(_MARKS):
            last = name.rpartition(".")[2]
            if last == "opaque" and os.getxattr(_where(found), name, follow_symlinks=False) == b"y":
                return True
            if last in ("redirect", "metacopy"):
                raise Error(
                    "cannot pack", found.path, f"overlayfs wrote '{name}'", "mount with redirect_dir=off"
                )
    return False
