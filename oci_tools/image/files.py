"""The files of an image, as a list, without unpacking it: image-spec, layer.md.

    files = read(layout, manifest)          the tree after all layers; its root is a Dir
    Dir.kids[name]                          a Dir, or a File

Each layer is read into a tree of its own and then laid over what is below, in the order and with the
choices of layer/apply.py and layer/merge.py, which do the same with real files (a test holds them equal):
hard links into lower layers, whiteouts and opaque directories, directory upon directory.  Hard
links share one File.  Names are walked component by component with the tree's root as `/`.

Memory is what an attacker could ask for here: names, implied directories and steps are counted.
"""

from __future__ import annotations

from oci_tools import compress
from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import digest as digests
from oci_tools.tar import Entry, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

    from oci_tools.image.layout import Descriptor, Layout

    File = tuple[str, int, int, int, int, int, bytes, tuple[tuple[bytes, bytes], ...]]
    Meta = tuple[int, int, int, int, tuple[tuple[bytes, bytes], ...]]
    Path = list[bytes]

# A File is (type, mode, uid, gid, size, mtime in ns, what, xattrs): what is a file's SHA-256, a
# link's target, a device's "major:minor"; a Dir's meta is (mode, uid, gid, mtime, xattrs).

NODES_MAX = 2_000_000  # files and directories in all layers: a gigabyte in memory
STEPS_MAX = 200_000_000  # components of names that are walked
HOLES_MAX = 16 << 30  # bytes of holes in sparse files that are hashed, all together
LINKS_MAX = 40

WHITEOUT, OPAQUE, AUFS, AUFS_LINKS = b".wh.", b".wh..wh..opq", b".wh..wh.", b".wh..wh.plnk"
_ZEROS = bytes(1 << 20)


class Limits:
    """What a layer may ask for here, see oci_tools/tar.py."""

    entries = NODES_MAX
    size = 1 << 40
    path = 4096
    header = 1 << 20
    xattrs = 256


class Dir:
    """A directory: what is in it, the one it is in, its attributes; no meta: only implied by a name."""

    __slots__ = ("kids", "meta", "name", "parent")

    def __init__(self, name: bytes, parent: Dir | None, meta: Meta | None = None) -> None:
        self.name = name
        self.parent = parent
        self.kids: dict[bytes, Dir | File] = {}
        self.meta = meta

    def path(self) -> Path:
        """The names that lead here from the root."""
        parts, node = [], self
        while node.parent:
            parts.append(node.name)
            node = node.parent
        return parts[::-1]


class Loop(Error):
    """A name leads through too many links."""


class Layer:
    """One layer as a tree, and what it says of those below (layer/apply.py)."""

    def __init__(self) -> None:
        self.tree = _Tree()
        self.whiteouts: list[Path] = []
        self.opaques: list[Path] = []
        self.links: list[tuple[Path, Path]] = []


def read(layout: Layout, manifest: dict[str, Any]) -> Dir:
    """The files of an image, after all its layers."""
    return _read(layout, _layers(layout, manifest), None).root


def read_two(a: tuple[Layout, dict[str, Any]], b: tuple[Layout, dict[str, Any]]) -> tuple[Dir, Dir]:
    """The files of two images; the layers that both begin with are read once, and share their Files."""
    one, two = _layers(*a), _layers(*b)
    same = 0
    while same < min(len(one), len(two)) and one[same][1] == two[same][1]:
        same += 1
    whole = _read(a[0], one[:same], None)
    other = whole.copy() if same else None
    return _read(a[0], one[same:], whole if same else None).root, _read(b[0], two[same:], other).root


def _layers(layout: Layout, manifest: dict[str, Any]) -> list[tuple[Descriptor, str]]:
    diff_ids = configs.diff_ids(configs.load(layout, manifest))
    return list(zip(manifest["layers"], diff_ids, strict=True))


def _read(layout: Layout, layers: list[tuple[Descriptor, str]], whole: _Tree | None) -> _Tree:
    holes = whole.holes if whole else [HOLES_MAX]
    for blob, diff_id in layers:
        layer = _layer(layout, blob, diff_id, holes)
        if whole is None:  # of the lowest layer links may stand before what they link to
            whole = layer.tree
            whole.holes = holes
            _link(whole, layer)
        else:
            merge(whole, layer)
    return whole or _Tree()


def _within(node: Dir | None, top: Dir | File | None) -> bool:
    """Whether a directory is another one or below it."""
    while node is not None and node is not top:
        node = node.parent
    return node is not None


# -- names ---------------------------------------------------------------------------------


def clean(name: bytes) -> Path:
    """A name's components, without `.`; `..` takes the one before it back, and stops at the root."""
    kept: Path = []
    for part in name.split(b"/"):
        if part == b"..":
            del kept[-1:]
        elif part and part != b".":
            kept.append(part)
    return kept


class _Tree:
    """Directories that grow, counted."""

    def __init__(self) -> None:
        self.root = Dir(b"", None)
        self.count = 0
        self.holes = [HOLES_MAX]  # bytes that may still be hashed; shared by copies
        self._steps = 0

    def copy(self) -> _Tree:
        """The same tree again, with directories of its own."""
        made = _Tree()
        made.count, made.holes, made.root.meta = self.count, self.holes, self.root.meta
        waiting = [(self.root, made.root)]
        while waiting:
            node, twin = waiting.pop()
            for name, kid in node.kids.items():
                if isinstance(kid, Dir):
                    other = twin.kids[name] = Dir(name, twin, kid.meta)
                    waiting.append((kid, other))
                else:
                    twin.kids[name] = kid
        return made

    def put(self, node: Dir, name: bytes, what: Dir | File) -> None:
        self.add(1)
        node.kids[name] = what

    def add(self, count: int) -> None:
        self.count += count
        if self.count > NODES_MAX:
            raise Error("image has too many files", None, f"more than {NODES_MAX}")

    def find(self, parts: Path, make: bool = False, start: Dir | None = None) -> Dir | None:
        """The directory of a name, through links; None if it is none.  See layer/tree.py."""
        node = start or self.root
        waiting = parts[::-1]
        missing: Path = []
        links = 0
        self._walk(len(parts))
        while waiting:
            part = waiting.pop()
            if part == b"..":
                if missing:
                    missing.pop()
                else:
                    node = node.parent or node
                continue
            kid = None if missing else node.kids.get(part)
            if isinstance(kid, Dir):
                node = kid
            elif kid is not None and kid[0] == "l":
                links += 1
                if links > LINKS_MAX:
                    raise Loop("cannot read layer at", b"/".join(parts), "too many levels of symbolic links")
                if kid[6].startswith(b"/"):
                    node = self.root
                words = [word for word in reversed(kid[6].split(b"/")) if word and word != b"."]
                self._walk(len(words))
                waiting += words
            elif make:
                missing.append(part)
            else:
                return None
        for part in missing:
            made = Dir(part, node)
            self.put(node, part, made)
            node = made
        return node

    def has(self, node: Dir) -> bool:
        """Whether a directory is still in the tree."""
        steps = 0
        while node.parent:
            steps += 1
            if node.parent.kids.get(node.name) is not node:
                break
            node = node.parent
        self._walk(steps)
        return node is self.root

    def _walk(self, steps: int) -> None:
        self._steps += steps
        if self._steps > STEPS_MAX:
            raise Error("image has too many files", None, "its names are walked for too long")


def _bad(parts: Path, why: str) -> NoReturn:
    raise Error("cannot read layer at", b"/".join(parts), why)


# -- one layer -------------------------------------------------------------------------------


def _layer(layout: Layout, layer: Descriptor, diff_id: str, holes: list[int]) -> Layer:
    """A layer as a tree; its blob and its plain archive are what they should be, or it is an Error."""
    with digests.Verifier(layout.blob(layer), layer) as stream:
        pieces = _checked(compress.expand(compress.read_pieces(stream), layer["digest"]), layer, diff_id)
        reader = Reader(pieces, Limits(), layer["digest"])
        reading = _Reading(reader, holes)
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

    def __init__(self, reader: Reader, holes: list[int]) -> None:
        self._layer = Layer()
        self._tree = self._layer.tree
        self._reader = reader
        self._holes = holes
        self._last: tuple[Path, Dir] = [], self._tree.root  # a directory, and the name that led to it
        # Hard links into lower layers: where they stand -> (their own name, their target's)
        self._later: dict[tuple[Dir, bytes], tuple[Path, Path]] = {}

    def entry(self, entry: Entry) -> None:
        parts = clean(entry.name)
        if not parts:
            if entry.type != "d":
                _bad(parts, "only a directory can be the root")
            self._tree.root.meta = _meta(entry)
            return
        if WHITEOUT in entry.name and self._is_mark(parts):
            return
        node = self._parent(parts[:-1])
        name = parts[-1]
        if self._later:
            self._later.pop((node, name), None)
        if entry.type == "d":
            kid = node.kids.get(name)
            if isinstance(kid, Dir):
                kid.meta = _meta(entry)
            else:
                self._put(node, name, Dir(name, node, _meta(entry)))
        elif entry.type == "h":
            self._hard(parts, clean(entry.link), node)
        else:
            self._put(node, name, self._file(entry))

    def _parent(self, parts: Path) -> Dir:
        if parts != self._last[0]:
            node = self._tree.find(parts, make=True)
            assert node is not None
            self._last = parts, node
        return self._last[1]

    def _put(self, node: Dir, name: bytes, what: Dir | File) -> None:
        if name in node.kids:
            self._last = [], self._tree.root  # which may have led through this
        self._tree.put(node, name, what)

    def end(self) -> Layer:
        self._tree.root.kids.pop(AUFS_LINKS, None)
        there: dict[Dir, bool] = {self._tree.root: True}
        for (node, name), pair in self._later.items():
            if name not in node.kids and self._has(node, there):
                self._layer.links.append(pair)
        return self._layer

    def _has(self, node: Dir, known: dict[Dir, bool]) -> bool:
        """Whether a directory is still in the tree: some other thing may have taken a name above it."""
        chain = []
        while node not in known:
            chain.append(node)
            assert node.parent is not None
            known[node] = node.parent.kids.get(node.name) is node
            if not known[node]:
                break
            node = node.parent
        found = known[node]
        known.update(dict.fromkeys(chain, found))
        return found

    def _is_mark(self, parts: Path) -> bool:
        """Whether a name is none of the tree, but tells of lower layers, or is AUFS's."""
        for at, part in enumerate(parts[:-1]):
            if part.startswith(AUFS):
                return at > 0 or part != AUFS_LINKS
            if part.startswith(WHITEOUT):
                _bad(parts, "a name below a whiteout")
        name = parts[-1]
        if not name.startswith(WHITEOUT):
            return False
        if name == OPAQUE:
            self._layer.opaques.append(parts[:-1])
        elif name.startswith(AUFS):
            return name != AUFS_LINKS or len(parts) > 1
        elif name[4:] in (b"", b".", b".."):
            _bad(parts, "a whiteout of nothing")
        else:
            self._layer.whiteouts.append([*parts[:-1], name[4:]])
        return True

    def _hard(self, parts: Path, target: Path, node: Dir) -> None:
        name = parts[-1]
        if not target:
            _bad(parts, "a hard link to a directory")
        holder = self._tree.find(target[:-1])
        if holder is not None:
            if holder is node and target[-1] == name:
                return
            found = holder.kids.get(target[-1])
            if isinstance(found, Dir):
                _bad(parts, "a hard link to a directory")
            if found is not None and not _within(holder, node.kids.get(name)):
                self._put(node, name, found)
                return
        if node.kids.pop(name, None) is not None:
            self._last = [], self._tree.root
        known = self._later.get((holder, target[-1])) if holder else None
        self._later[node, name] = (parts, known[1] if known else target)

    def _file(self, entry: Entry) -> File:
        what = b""
        if entry.type == "f":
            what = self._digest(entry)
        elif entry.type == "l":
            if not entry.link:
                _bad([entry.name], "a link to nowhere")
            what = entry.link
        elif entry.type in "cb":
            what = b"%d:%d" % entry.device
        mode = 0o777 if entry.type == "l" else entry.mode
        xattrs = tuple(sorted(entry.xattrs.items()))
        return (entry.type, mode, entry.uid, entry.gid, entry.size, entry.mtime, what, xattrs)

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


def _meta(entry: Entry) -> Meta:
    return entry.mode, entry.uid, entry.gid, entry.mtime, tuple(sorted(entry.xattrs.items()))


# -- layers over each other ----------------------------------------------------------------


def merge(lower: _Tree, layer: Layer) -> None:
    """Put a layer over a tree; the layer's own is used up."""
    upper = layer.tree
    _link(lower, layer)
    for parts in layer.whiteouts:
        node = _below(lower, upper, parts[:-1])
        if node is not None:
            node.kids.pop(parts[-1], None)
    for parts in layer.opaques:
        node = _below(lower, upper, parts)
        if node is not None:
            node.kids.clear()
    through: list[tuple[Dir, Dir]] = []
    _merge_all(lower, [(upper.root, lower.root)], through)
    for kid, parent in through:  # what goes through links, once all that has its place is there; this grows
        _merge_all(lower, [(kid, _again(lower, parent, [kid.name]))], through)
    lower.add(upper.count)


def _merge_all(lower: _Tree, waiting: list[tuple[Dir, Dir]], through: list[tuple[Dir, Dir]]) -> None:
    while waiting:
        above, below = waiting.pop()
        below = _again(lower, below, [])
        if above.meta is not None:
            below.meta = above.meta
        for name in sorted(above.kids):
            kid, twin = above.kids[name], below.kids.get(name)
            if isinstance(kid, Dir) and isinstance(twin, Dir):
                waiting.append((kid, twin))
            elif isinstance(kid, Dir) and kid.meta is None and twin is not None and twin[0] == "l":  # type: ignore[index]
                through.append((kid, below))
            else:
                below.kids[name] = kid
                if isinstance(kid, Dir):
                    kid.parent = below


def _again(lower: _Tree, node: Dir, more: Path) -> Dir:
    """A directory, or one in it, that is there for sure: what went through a link may have replaced it."""
    if lower.has(node):
        found = lower.find(more, make=True, start=node) if more else node
    else:
        found = lower.find([*node.path(), *more], make=True)
    assert found is not None
    return found


def _below(lower: _Tree, upper: _Tree, parts: Path) -> Dir | None:
    """The lower directory that a mark in an upper layer is about, None if there is none.

    It goes through lower links as names do, but not through what the layer replaces anyhow.
    """
    below: Dir | None = lower.root
    above: Dir | None = upper.root
    for part in parts:
        kid = above.kids.get(part) if above else None
        if kid is not None and not isinstance(kid, Dir):
            return None
        if kid is not None and kid.meta is not None:
            found = below.kids.get(part) if below else None
            below = found if isinstance(found, Dir) else None
        else:
            try:
                below = lower.find([part], start=below)
            except Loop:  # there is nothing
                return None
        if below is None:
            return None
        above = kid
    return below


def _link(lower: _Tree, layer: Layer) -> None:
    """Make the hard links whose targets are in lower layers."""
    for parts, target in layer.links:
        node, holder = layer.tree.find(parts[:-1]), lower.find(target[:-1])
        found = holder.kids.get(target[-1]) if holder else None
        if isinstance(found, Dir):
            _bad(parts, "a hard link to a directory")
        if found is None or node is None:
            _bad(parts, f"no such file to link to: {b'/'.join(target)!r}")
        layer.tree.put(node, parts[-1], found)
