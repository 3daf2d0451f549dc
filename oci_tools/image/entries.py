"""One layer as a tree in memory, for files.py: what layer/apply.py does with real files.

A test holds the two equal, in every case and for any layers.
"""

from __future__ import annotations

from oci_tools import compress
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image.tree import NAMES_MAX, Dir, Layer, bad
from oci_tools.names import AUFS_LINKS, WHITEOUT, clean, mark, words
from oci_tools.shelf import Shelf
from oci_tools.tar import Attributes, Entry, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.tree import File, Meta, Path
    from oci_tools.shelf import Attic

_ZEROS = bytes(1 << 20)


class Limits:
    """What a layer may ask for here, see oci_tools/tar.py."""

    names = NAMES_MAX
    entries = NAMES_MAX
    size = 1 << 40
    path = 4096
    header = 1 << 20
    xattrs = 256
    attributes = 16 << 20
    expand = staticmethod(compress.expand)


def read(
    layout: Layout,
    layer: Descriptor,
    diff_id: str,
    holes: list[int],
    attic: Attic,
    number: int | None = None,
    limits: Any = Limits,
    attributes: Attributes | None = None,
) -> Layer:
    """A layer as a tree; its blob and its plain archive are what they should be, or it is an Error.

    With a `number` files are not hashed: what they have is b"NUMBER ENTRY", where their bytes are; size and
    time are there too.
    """
    with digests.Verifier(layout.blob(layer), layer) as stream:
        pieces = _checked(limits.expand(compress.read_pieces(stream), layer["digest"]), layer, diff_id)
        reader = Reader(pieces, limits, layer["digest"])
        made = Layer(attic, limits.names)
        reading = _Reading(made, reader, holes, number, attributes or Attributes(limits, layer["digest"]))
        for entry in reader:
            reading.entry(entry)
        reader.drain()
        stream.drain()
    return reading.end()


def _checked(pieces: Iterator[bytes], layer: Descriptor, diff_id: str) -> Iterator[bytes]:
    algorithm, text = digests.check(diff_id)
    hasher = digests.new(algorithm)
    for piece in pieces:
        hasher.update(piece)
        yield piece
    if hasher.hexdigest() != text:
        raise Error("wrong content of layer", layer["digest"], f"not diff id {diff_id}")


class _Reading:
    """The entries of one layer on their way into its tree."""

    def __init__(
        self, layer: Layer, reader: Reader, holes: list[int], number: int | None, attributes: Attributes
    ) -> None:
        self._layer = layer
        self._tree = layer.tree
        self._reader = reader
        self._holes = holes
        self._number = number
        self._attributes = attributes
        self._last: tuple[Path, Dir] = [], self._tree.root  # a directory, and the name that led to it
        # Hard links into lower layers, by `place`: (the directory they are in, their own name, their target's)
        self._later = Shelf(layer.tree.attic)
        self._waits = False  # whether there are any

    def entry(self, entry: Entry) -> None:
        parts = clean(entry.name)
        if not parts:
            if entry.type != "d":
                bad(parts, "only a directory can be the root")
            self._tree.root.meta = self._meta(entry)
            return
        if WHITEOUT in entry.name and mark(parts, self._layer, self._way, lambda why: bad(parts, why)):
            return
        node = self._parent(parts[:-1])
        name = parts[-1]
        if self._waits and entry.type != "h":
            self._later.pop(place(node, name))
        if entry.type == "d":
            kid = node.get(name)
            if isinstance(kid, Dir):
                kid.meta = self._meta(entry)
            else:
                self._put(node, name, Dir(name, node, self._meta(entry)))
        elif entry.type == "h":
            self._hard(parts, clean(entry.link), node)
        else:
            self._put(node, name, self._file(entry))

    def _meta(self, entry: Entry) -> Meta:
        xattrs = self._attributes.keep(entry.xattrs)[0] if entry.xattrs else ()
        return entry.mode, entry.uid, entry.gid, entry.mtime, xattrs

    def _parent(self, parts: Path) -> Dir:
        if parts != self._last[0]:
            node = self._tree.find(parts, make=True)
            assert node is not None
            self._last = parts, node
        return self._last[1]

    def _way(self, parts: Path) -> Path:
        """Where a directory's name leads, as far as this layer's own links do."""
        node, missing = self._tree.resolve(parts)
        return [*node.path(), *missing]

    def _put(self, node: Dir, name: bytes, what: Dir | File) -> None:
        if node.get(name) is not None:
            self._last = [], self._tree.root  # which may have led through this
        self._tree.put(node, name, what)

    def end(self) -> Layer:
        self._tree.root.pop(AUFS_LINKS)
        for where, (directory, path, target) in self._later.items():
            node, name = self._tree.literal(words(directory)), path.rpartition(b"/")[2]
            # Some other thing may have taken its name, or one above it.
            if node is not None and where == place(node, name) and node.get(name) is None:
                self._layer.links.append((path, target), len(path) + len(target))
        return self._layer

    def _hard(self, parts: Path, target: Path, node: Dir) -> None:
        name = parts[-1]
        if not target:
            bad(parts, "a hard link to a directory")
        here = place(node, name)
        way, missing = self._tree.resolve(target[:-1])  # as far as this layer's own links lead
        holder = None if missing else way
        if holder is node and target[-1] == name and (self._later.get(here) or node.get(name) is not None):
            return
        self._later.pop(here)
        if holder is not None:
            taken, found = node.get(name), holder.get(target[-1])
            if isinstance(found, Dir) and found.meta is not None:
                bad(parts, "a hard link to a directory")
            if found is not None and not isinstance(found, Dir) and not _within(holder, taken):
                if taken is not None:
                    self._last = [], self._tree.root  # which may have led through this
                self._tree.link(node, name, holder, target[-1])
                return
        if node.pop(name) is not None:
            self._last = [], self._tree.root
        known = self._later.get(place(holder, target[-1])) if holder else None
        to = known[2] if known else b"/".join((*way.path(), *missing, target[-1]))
        said = b"/".join(node.path()), b"/".join(parts), to
        self._later.set(here, said, sum(map(len, said)))
        self._waits = True

    def _file(self, entry: Entry) -> File:
        what, size, mtime = b"", entry.size, entry.mtime
        if entry.type == "f":
            if self._number is None:
                what = self._digest(entry)
            else:
                what, size, mtime = b"%d %d" % (self._number, self._reader.count), 0, 0
        elif entry.type == "l":
            if not entry.link:
                bad([entry.name], "a link to nowhere")
            what = entry.link
        elif entry.type in "cb":
            what = b"%d:%d" % entry.device
        mode = 0o777 if entry.type == "l" else entry.mode
        xattrs = self._attributes.keep(entry.xattrs)[0] if entry.xattrs else ()
        return (entry.type, mode, entry.uid, entry.gid, size, mtime, what, 0, xattrs)

    def _digest(self, entry: Entry) -> bytes:
        """The SHA-256 of a file, holes and all."""
        hasher: Any = digests.new("sha256")
        if entry.sparse is not None:
            self._hash_sparse(entry, entry.sparse, hasher)
        for view in self._reader.data():
            hasher.update(view)
        found: bytes = hasher.digest()
        return found

    def _hash_sparse(self, entry: Entry, pieces: list[tuple[int, int]], hasher: Any) -> None:
        self._holes[0] -= entry.size - sum(length for _, length in pieces)
        if self._holes[0] < 0:  # hours could be spent on zeros: where they are must do
            hasher.update(repr((entry.size, pieces)).encode())
            return
        views, view, end = self._reader.data(), memoryview(b""), 0
        for offset, length in [*pieces, (entry.size, 0)]:
            for at in range(end, offset, len(_ZEROS)):
                hasher.update(_ZEROS[: offset - at])
            end = offset + length
            while length:
                view = view or next(views)
                hasher.update(view[:length])
                view, length = view[length:], length - min(length, len(view))


def _within(node: Dir | None, top: Dir | File | None) -> bool:
    """Whether a directory is another one or below it."""
    while node is not None and node is not top:
        node = node.parent
    return node is not None


def place(node: Dir, name: bytes) -> bytes:
    """A name in a directory, whatever that is called: of another one that gets its name it is another."""
    return node.number.to_bytes(6, "big") + name
