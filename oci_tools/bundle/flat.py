"""An image as one flat archive, or one file or directory of it, without unpacking it: two passes over the layers.

The first reads the headers of all layers into a tree in memory (image/files.py), by the rules by which
layers are unpacked; both digests of each are checked.  The second writes what of each layer is still
there.  So nothing is kept on disk, and in memory only names.  The archive is a pure function of the image:

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
from oci_tools.image.tree import LINKS_MAX, Dir
from oci_tools.layer import diff, entries
from oci_tools.layer.entries import PIECE
from oci_tools.layer.walk import order
from oci_tools.layer.write import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    from oci_tools.bundle import Image
    from oci_tools.image.tree import File
    from oci_tools.layer.limits import Limits
    from oci_tools.layer.owner import Owner

GONE: File = ("f", 0, 0, 0, 0, 0, b"", ())  # stands for a whiteout; known by identity
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
            node = self._tree.find(parts, start=start)
            if node is not None:
                return node
            holder = self._tree.find(parts[:-1], start=start)
            kid = holder.kids.get(parts[-1]) if holder else None
            if kid is None or isinstance(kid, Dir):
                raise Error("no such file in the image", path)
            if kid[0] != "l":
                return kid
            assert holder is not None
            start = self._tree.root if kid[6].startswith(b"/") else holder
            parts = _words(kid[6])
        raise Error("cannot read", path, "too many levels of symbolic links")

    # -- reading ---------------------------------------------------------------------------

    def archive(self, top: Dir) -> Iterator[bytes]:
        """A tar archive of a directory, in pieces; names are as if it was the root."""
        return self._written(list(_walk(top)))

    def changes(self) -> Iterator[bytes]:
        """A layer's archive of what the layers above the lowest `keep` do together, whiteouts and all."""
        return self._written(_changed(self._below.root, self._tree.root))

    def _written(self, listed: list[tuple[bytes, Dir | File]]) -> Iterator[bytes]:
        sink = _Sink()
        writer = Writer(sink)
        known: dict[bytes, tuple[File, list[bytes]]] = {}  # by where a file's bytes are: it, and its names
        for path, found in listed:
            if not isinstance(found, Dir) and found[0] == "f" and found is not GONE:
                known.setdefault(found[6], (found, []))[1].append(path)
        for entry, reader, place in self._entries(known):
            file, names = known[place]
            _header(writer, names[0], file, entry.size)
            for view in entries.plain(entry, reader):
                writer.data(view)
                yield from sink.taken(PIECE)
            writer.end()
            for name in names[1:]:
                _hard(writer, name, names[0], file)
        leaders: dict[int, bytes] = {}
        for path, found in listed:
            if isinstance(found, Dir):
                if path or found.meta is not None:
                    _directory(writer, path, found)
            elif found is GONE:
                parent, slash, name = path.rpartition(b"/")
                writer.entry("f", parent + slash + b".wh." + name, 0, 0, 0, 0)
            elif found[0] != "f":
                leader = leaders.setdefault(id(found), path)
                if leader == path:
                    _header(writer, path, found)
                else:
                    _hard(writer, path, leader, found)
            yield from sink.taken(PIECE)
        writer.close()
        yield from sink.taken(1)

    def content(self, file: File, path: str) -> Iterator[bytes]:
        """A regular file's bytes."""
        if file[0] != "f":
            raise Error("cannot read", path, "not a regular file")
        for entry, reader, _ in self._entries((file[6],)):
            yield from entries.plain(entry, reader)

    def _entries(self, wanted: Collection[bytes]) -> Iterator[tuple[Any, Any, bytes]]:
        """The wanted entries, layer by layer; each layer is read as far as something in it is wanted."""
        count: dict[int, int] = {}
        for place in wanted:
            number = int(place.partition(b" ")[0])
            count[number] = count.get(number, 0) + 1
        sources = self._image.sources()
        for number in sorted(count):
            for entry, reader in entries.read(sources[number], self._limits):
                place = b"%d %d" % (number, reader.count)
                if place in wanted:
                    yield entry, reader, place
                    count[number] -= 1
                    if not count[number]:
                        break
            if count[number]:
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
                _file(flat.content(found, path), fresh.place, found, owner)
        except OSError as error:
            raise Error("cannot write", fresh.path, error) from None
        fresh.done()
    return fresh.path


def _file(pieces: Iterator[bytes], path: str, found: File, owner: Owner) -> None:
    _, mode, uid, gid, _, mtime, _, xattrs = found
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        for piece in pieces:
            fs.write_all(fd, piece)
        owner.file(fd, 0o600, mode, uid, gid, dict(xattrs))
        os.utime(fd, ns=(mtime, mtime))
    finally:
        os.close(fd)


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
    waiting: list[tuple[bytes, Dir | File]] = [(b"", top)]
    while waiting:
        path, found = waiting.pop()
        yield path, found
        if isinstance(found, Dir):
            prefix = path + b"/" if path else b""
            waiting += [(prefix + name, found.kids[name]) for name in sorted(found.kids, reverse=True)]


def _changed(below: Dir, whole: Dir) -> list[tuple[bytes, Dir | File]]:
    """What is in a tree and was not, with the directories on the way, and what is GONE from it."""
    found: dict[bytes, Dir | File] = {}
    waiting: list[tuple[bytes, Dir, Dir | None, list[tuple[bytes, Dir]]]] = [(b"", whole, below, [])]
    while waiting:
        prefix, node, twin, way = waiting.pop()
        new: dict[bytes, Dir | File] = {}
        for name in twin.kids.keys() - node.kids.keys() if twin else ():
            new[prefix + name] = GONE
        for name, kid in node.kids.items():
            old = twin.kids.get(name) if twin else None
            path = prefix + name
            if not isinstance(kid, Dir):
                if kid != old:
                    new[path] = kid
                continue
            same = old if isinstance(old, Dir) else None
            if same is None or kid.meta != same.meta:
                new[path] = kid
            waiting.append((path + b"/", kid, same, [*way, (path, kid)]))
        if new:
            found.update(way)
            found.update(new)
    if whole.meta != below.meta:
        found[b""] = whole
    return sorted(found.items(), key=lambda one: order(one[0]))


def _directory(writer: Writer, path: bytes, found: Dir) -> None:
    mode, uid, gid, mtime, xattrs = found.meta or _IMPLIED
    writer.entry("d", path or b".", mode, uid, gid, mtime, xattrs=_kept(xattrs))


def _header(writer: Writer, path: bytes, file: File, size: int = 0) -> None:
    kind, mode, uid, gid, _, mtime, what, xattrs = file
    link = what if kind == "l" else b""
    major, _, minor = what.partition(b":") if kind in "cb" else (b"0", b"", b"0")
    writer.entry(
        kind, path, mode, uid, gid, mtime, size, link, (int(major), int(minor)), xattrs=_kept(xattrs)
    )


def _hard(writer: Writer, path: bytes, leader: bytes, file: File) -> None:
    writer.entry("h", path, file[1], file[2], file[3], file[5], link=leader)


def _kept(xattrs: tuple[tuple[bytes, bytes], ...]) -> dict[bytes, bytes]:
    return {name: value for name, value in xattrs if not name.startswith(diff.HOST)}
