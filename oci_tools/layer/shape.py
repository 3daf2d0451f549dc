"""A tree is cut in layers, so that what changes together lies together and little changes with it.

    parts    a file is part of the Debian package that lists it (var/lib/dpkg/info/*.list), else of the
             directory it is in, down to DEPTH names; names of one file are in one part
    layers   what is in no package, and all directories, are the lowest layer; a part of more than an even
             share has a layer of its own, and a sum of its name says in which of the others each other part is

So the layer of a part depends on its own name and size and on the number of layers, not on what else there is:
where a package comes, goes or changes, one layer is another.  Which comes as rpm-ostree and chunkah do it.
"""

from __future__ import annotations

import os
import stat

from oci_tools import fs
from oci_tools.layer.diff import Masks
from oci_tools.layer.walk import walk
from oci_tools.shelf import Attic, Rows, Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LISTS = b"var/lib/dpkg/info"
DEPTH = 3
LIST_MAX = 16 << 20  # bytes of one list
_MERGED = (b"bin", b"lib", b"lib32", b"lib64", b"libx32", b"sbin")  # where these are links into usr


def cut(rootfd: int, most: int, masks: Iterable[bytes] = ()) -> list[Rows]:
    """The paths of each of at most `most` layers of a tree, the lowest first; none is empty but maybe the lowest."""
    attic, masked = Attic(), Masks(masks)
    owners, whose, sizes, rows = Shelf(attic), Shelf(attic), Shelf(attic), Rows(attic)
    for path, package in _packages(rootfd):
        owners.set(path, package, len(package))
    packaged = not owners.is_empty()
    for found in walk(rootfd, lambda found: not masked.has(found.path)):
        if masked.has(found.path):
            continue
        part = b""  # of the lowest layer
        if not found.is_directory() and most > 1:
            part = owners.get(found.path) or b"/".join(found.path.split(b"/")[:-1][:DEPTH])
            if found.seen.st_nlink > 1:
                key = b"%d %d" % (found.seen.st_dev, found.seen.st_ino)
                part = whose.get(key) or part
                whose.set(key, part, len(part))
            if packaged and part[:1] != b"=":
                part = b""
        if part:
            size = found.seen.st_size if stat.S_ISREG(found.seen.st_mode) else 0
            sizes.set(part, (sizes.get(part) or 0) + size + 512)
        rows.append((found.path, part), len(found.path) + len(part))
    return _layers(rows, sizes, most)


def _layers(rows: Rows, sizes: Shelf, most: int) -> list[Rows]:
    """The paths in layers; those parts that have one of their own last, the largest first."""
    share = sum(size for _, size in sizes.items()) / max(most - 1, 1)
    large = [name for name, size in sizes.items() if size > share]
    large.sort(key=lambda name: (-sizes.get(name), name))
    rest = most - 1 - len(large)
    own = {name: rest + at for at, name in enumerate(large, 1)}
    layers = [Rows(sizes.attic) for _ in range(most)]
    for path, part in rows:
        at = own.get(part) or 1 + _sum(part) % rest if part else 0
        layers[at].append(path, len(path))
    return [layers[0], *(layer for layer in layers[1:] if len(layer))]


def _sum(name: bytes) -> int:
    import hashlib

    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big")


def _packages(rootfd: int) -> Iterator[tuple[bytes, bytes]]:
    """Each path that a package lists, and b"=" with the package's name."""
    try:
        lists = fs.open_beneath(rootfd, LISTS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        merged = {name + b"/" for name in _MERGED if _is_link(rootfd, name)}
        for name in sorted(os.listdir(b"/proc/self/fd/%d" % lists)):
            if name.endswith(b".list"):
                package = b"=" + name[:-5].partition(b":")[0]
                for path in _lines(lists, name):
                    yield (b"usr/" + path if path[: path.find(b"/") + 1] in merged else path), package
    finally:
        os.close(lists)


def _is_link(rootfd: int, name: bytes) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=rootfd).st_mode)
    except OSError:
        return False


def _lines(at: int, name: bytes) -> list[bytes]:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    except OSError:
        return []
    try:
        text = os.read(fd, LIST_MAX) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)
    return [line.strip(b"/") for line in text.split(b"\n")]
