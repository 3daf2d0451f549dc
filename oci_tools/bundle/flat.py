"""An image as one flat archive, or one file or directory of it, without unpacking it: two passes over the layers.

The first reads the headers of all layers into a tree (image/files.py), by the rules by which layers are
unpacked; both digests of each are checked.  The second writes what of each layer is still there.  So only
names are kept, in memory, or beside it if there are too many.  The archive is a pure function of the image:

    1  files, in the order of their layers and archives; of hard links the first name has the content,
       the others follow it at once
    2  directories, links, fifos and devices, in `layer/walk.py`'s order: GNU tar gives a directory its
       time and mode as soon as something else than what is in it comes

A directory that no layer describes has mode 0755, belongs to root, and is of 1970.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.bundle.fresh import Fresh
from oci_tools.errors import Error
from oci_tools.image import files
from oci_tools.bundle.places import Names
from oci_tools.image.tree import LINKS_MAX, Dir, side_by_side
from oci_tools.layer import diff, entries
from oci_tools.layer.entries import PIECE
from oci_tools.layer.write import Writer
from oci_tools.shelf import Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from oci_tools.bundle import Image
    from oci_tools.image.tree import File
    from oci_tools.layer.limits import Limits
    from oci_tools.layer.owner import Owner

GONE: File = ("f", 0, 0, 0, 0, 0, b"", 0, ())  # stands for a whiteout; known by identity
_IMPLIED = (0o755, 0, 0, 0, ())


class Flat:
    """The files of an image: found, and read."""

    def __init__(self, image: Image, limits: Limits, keep: int = 0) -> None:
        image.sources()  # refuses types of layers that we do not know
        self._image = image
        self._limits = limits
        self._below, self._tree = files.places_above(image.layout, image.manifest, keep, limits)

    def find(self, path: str) -> Dir | File:
        """What is at a path, through links, with the image's root as `/`."""
        start = self._tree.root
        parts = _words(os.fsencode(path))
        for _ in range(LINKS_MAX):
            node, missing = self._tree.resolve(parts, start, whole=False)
            if not missing:
                return node
            holder, missing = self._tree.resolve(parts[:-1], start, whole=False)
            kid = None if missing else holder.get(parts[-1])
            if kid is None or isinstance(kid, Dir):
                raise Error("no such file in the image", path)
            if kid[0] != "l":
                file: File = kid
                return file
            start = self._tree.root if kid[6].startswith(b"/") else holder
            parts = _words(kid[6])
        raise Error("cannot read", path, "too many levels of symbolic links")

    # -- reading ---------------------------------------------------------------------------

    def archive(self, top: Dir) -> Iterator[bytes]:
        """A tar archive of a directory, in pieces; names are as if it was the root."""
        return self._written(lambda: _walk(top))

    def changes(self) -> Iterator[bytes]:
        """A layer's archive of what the layers above the lowest `keep` do together, whiteouts and all."""
        return self._written(lambda: _changed(self._below.root, self._tree.root))

    def _written(self, listed: Callable[[], Iterator[tuple[bytes, Dir | File]]]) -> Iterator[bytes]:
        sink = _Sink()
        writer = Writer(sink)
        names = Names(self._tree.attic)
        for path, found in listed():
            if not isinstance(found, Dir) and found[0] == "f" and found is not GONE:
                names.add(path, found[6])
        for entry, reader, paths in self._entries(names):
            leader = next(paths)
            file = (*_attributes(entry), b"", 0, tuple(sorted(entry.xattrs.items())))
            _header(writer, leader, file, entry.size)
            for view in entries.plain(entry, reader):
                writer.data(view)
                yield from sink.taken(PIECE)
            writer.end()
            for name in paths:
                _hard(writer, name, leader, file)
            yield from sink.taken(PIECE)
        leaders = Shelf(self._tree.attic)  # the first names of files that have several
        for path, found in listed():
            if isinstance(found, Dir):
                if path or found.meta is not None:
                    _directory(writer, path, found)
            elif found is GONE:
                parent, slash, name = path.rpartition(b"/")
                writer.entry("f", parent + slash + b".wh." + name, 0, 0, 0, 0)
            elif found[0] != "f":
                link = b"%d" % found[7]
                first = leaders.get(link) if found[7] else None
                if first is not None:
                    _hard(writer, path, first, found)
                else:
                    _header(writer, path, found)
                    if found[7]:
                        leaders.set(link, path, len(path))
            yield from sink.taken(PIECE)
        writer.close()
        yield from sink.taken(1)

    def content(self, file: File, path: str) -> Iterator[bytes]:
        """A regular file's bytes."""
        for _, pieces in self._file(file, path):
            yield from pieces

    def _file(self, file: File, path: str) -> Iterator[tuple[Any, Iterator[bytes]]]:
        if file[0] != "f":
            raise Error("cannot read", path, "not a regular file")
        names = Names(self._tree.attic)
        names.add(os.fsencode(path), file[6])
        for entry, reader, _ in self._entries(names):
            yield entry, entries.plain(entry, reader)

    def write(self, file: File, path: str, to: str, owner: Owner) -> None:
        """A regular file, with its attributes, at a new place."""
        fd = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            for entry, pieces in self._file(file, path):
                for piece in pieces:
                    fs.write_all(fd, piece)
                owner.file(fd, 0o600, entry.mode, entry.uid, entry.gid, dict(sorted(entry.xattrs.items())))
                os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _entries(self, names: Names) -> Iterator[tuple[Any, Any, Iterator[bytes]]]:
        """The entries that have names, with those, layer by layer; each is read as far as something in it is wanted."""
        sources, wanted = self._image.sources(), names.places()
        layer, count, paths = next(wanted, (-1, 0, iter(())))
        while layer >= 0:
            number = layer
            for entry, reader in entries.read(sources[number], self._limits):
                if reader.count == count:
                    yield entry, reader, paths
                    layer, count, paths = next(wanted, (-1, 0, iter(())))
                    if layer != number:
                        break
            if layer == number:
                raise Error("cannot read layer", sources[number], "it changed while it was read")


def unpack(flat: Flat, path: str, found: Dir | File, to: str, owner: Owner) -> str:
    """Put a file or a directory of an image at `to`, which is not there yet or an empty directory."""
    from oci_tools.layer import apply
    from oci_tools.layer.tree import new_root

    with Fresh(to) as fresh:
        try:
            if isinstance(found, Dir):
                fd = new_root(fresh.place)
                try:
                    source = apply.Source(lambda: Stream(flat.archive(found)), None, None, None)
                    layer = apply.unpack(source, fd, owner, flat._limits)
                    with layer.tree:
                        layer.tree.settle(owner)
                finally:
                    os.close(fd)
            else:
                flat.write(found, path, fresh.place, owner)
        except OSError as error:
            raise Error("cannot write", fresh.path, error) from None
        fresh.done()
    return fresh.path


class Stream:
    """Pieces as a stream to read, for a `with` block."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces: Any = pieces

    def read(self, _: int) -> bytes:
        return next(self._pieces, b"")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._pieces.close()


class _Sink:
    """What a Writer writes, to be taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._parts.append(data)

    def taken(self, least: int) -> Iterator[bytes]:
        """All of it, if there is anything; a Writer gives nothing before it has much."""
        if sum(map(len, self._parts)) >= least:
            yield b"".join(self._parts)
            self._parts = []


def _words(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part and part != b"."]


def _walk(top: Dir) -> Iterator[tuple[bytes, Dir | File]]:
    """All that is in a directory, and itself, in the order of `layer/walk.py`."""
    yield b"", top
    levels = [(b"", top.items())]
    while levels:
        prefix, rest = levels[-1]
        for name, found in rest:
            yield prefix + name, found
            if isinstance(found, Dir):
                levels.append((prefix + name + b"/", found.items()))
                break
        else:
            levels.pop()


def _changed(below: Dir, whole: Dir) -> Iterator[tuple[bytes, Dir | File]]:
    """What is in a tree and was not, with the directories on the way, and what is GONE from it; in _walk's order."""
    if whole.meta != below.meta:
        yield b"", whole
    levels = [(b"", side_by_side(below, whole))]
    way: list[tuple[bytes, Dir]] = []  # directories that may be only on the way
    while levels:
        prefix, rest = levels[-1]
        name, old, found = next(rest, (None, None, None))
        if name is None:
            levels.pop()
            continue
        path = prefix + name
        while way and not path.startswith(way[-1][0] + b"/"):
            way.pop()
        if not isinstance(found, Dir):
            if found is None or not _is_same(found, old):
                yield from way
                way = []
                yield path, GONE if found is None else found
            continue
        twin = old if isinstance(old, Dir) else None
        if twin is None or found.meta != twin.meta:
            yield from way
            way = []
            yield path, found
        else:
            way.append((path, found))
        levels.append((path + b"/", side_by_side(twin, found)))


def _is_same(file: File, old: Dir | File | None) -> bool:
    """Whether a file is what it was, however many names it has by now."""
    return isinstance(old, tuple) and (*file[:7], file[8]) == (*old[:7], old[8])


def _attributes(entry: Any) -> tuple[str, int, int, int, int, int]:
    return entry.type, entry.mode, entry.uid, entry.gid, entry.size, entry.mtime


def _directory(writer: Writer, path: bytes, found: Dir) -> None:
    mode, uid, gid, mtime, xattrs = found.meta or _IMPLIED
    writer.entry("d", path or b".", mode, uid, gid, mtime, xattrs=_kept(xattrs))


def _header(writer: Writer, path: bytes, file: File, size: int = 0) -> None:
    kind, mode, uid, gid, _, mtime, what, _, xattrs = file
    link = what if kind == "l" else b""
    major, _, minor = what.partition(b":") if kind in "cb" else (b"0", b"", b"0")
    writer.entry(
        kind, path, mode, uid, gid, mtime, size, link, (int(major), int(minor)), xattrs=_kept(xattrs)
    )


def _hard(writer: Writer, path: bytes, leader: bytes, file: File) -> None:
    writer.entry("h", path, file[1], file[2], file[3], file[5], link=leader)


def _kept(xattrs: tuple[tuple[bytes, bytes], ...]) -> dict[bytes, bytes]:
    return {name: value for name, value in xattrs if not name.startswith(diff.HOST)}
