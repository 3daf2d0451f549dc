"""One layer's archive becomes a tree of its own: image-spec, layer.md, "Applying Changesets".

A layer is unpacked by itself, into an empty directory, so that layers can be unpacked at once and
shared; `merge.py` puts them one over the other, `store.py` keeps them.  What speaks of
lower layers is put down here as data, and done there:

    whiteouts  paths that the layer removes from those below, wherever in the archive they stood
    opaques    directories whose content below is hidden
    links      hard links whose target is not in this layer, with that

All are paths as bytes, and on disk where there are too many (oci_tools/shelf.py).

A directory that only appears in the names of others is there with no meta: below it may
be one whose attributes count, or a link to where the names really go.

A name given twice is what it is last, but a directory given again keeps what is in it.  Names that tell of lower
layers are read by oci_tools/names.py.
"""

from __future__ import annotations

import errno
import os
import stat

from oci_tools import compress, fs
from oci_tools.errors import Error, quote
from oci_tools.layer.ahead import Ahead
from oci_tools.layer.tree import Dir, Tree
from oci_tools.layer.unpacked import Layer, bytes_of
from oci_tools.names import AUFS_LINKS, WHITEOUT, clean, mark, put, words
from oci_tools.shelf import Shelf
from oci_tools.tar import Attributes, Entry, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from oci_tools.layer.limits import Limits
    from oci_tools.layer.owner import Owner
    from oci_tools.layer.tree import Meta
    from oci_tools.shelf import Attic

KNOWN_MAX = 4096  # directories that are found by their names at once

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR)


class Source:
    """A layer to unpack: where its bytes come from, and what they must be.

    open         gives the blob as a binary stream
    digest       of the blob, and its size in bytes; None where the caller has checked them
    diff_id      the digest of the plain archive; None if nobody knows it
    compression  what its media type says: "gzip", "zstd", "none"; None if it says nothing
    """

    def __init__(
        self,
        open: Callable[[], Any],
        digest: str | None,
        size: int | None,
        diff_id: str | None,
        compression: str | None = None,
    ) -> None:
        self.open = open
        self.digest = digest
        self.size = size
        self.diff_id = diff_id
        self.compression = compression

    def __str__(self) -> str:
        return self.digest or self.diff_id or "layer"

    def check_type(self, owner: Owner) -> None:
        """Warn if the blob is something else than its media type says; the bytes are right."""
        if self.compression is None:
            return
        with self.open() as stream:
            found = compress.kind(stream.read(6))
        if self.compression != found and found in compress.LEVELS:
            what = "not compressed" if found == "none" else found
            owner.warn("type", f"layer {quote(self)} is {what}, whatever its type says")


def unpack(
    source: Source,
    rootfd: int,
    owner: Owner,
    limits: Limits,
    threads: bool = False,
    literal: bool = False,
    attic: Attic | None = None,
) -> Layer:
    """Unpack a layer into the empty directory `rootfd`, and check all that it promises.

    With `threads`, inflating and hashing run beside the writing.  Directories have not got
    their attributes yet: `Tree.settle`.  `literal`: it is no layer but an archive of a tree, in which names are
    names, links lead to what is in it, and the end is marked.
    """
    layer = Layer(Tree(rootfd, attic))
    source.check_type(owner)
    umask = os.umask(0)  # modes are the layer's
    try:
        with source.open() as stream, layer.tree, Plain(source, stream, limits, threads) as pieces:
            reader = Reader(pieces, limits, source)
            _Unpacking(layer, reader, owner, limits, literal).run()
            reader.drain()
    finally:
        os.umask(umask)
    return layer


class Plain:
    """The plain bytes of a layer in pieces, checked at their end; threads end with the `with` block."""

    def __init__(self, source: Source, stream: Any, limits: Limits, threads: bool) -> None:
        self._threads = threads
        self._made: list[Ahead] = []
        raw = verified(compress.read_pieces(stream), source.digest, source.size, "digest of blob", source)
        plain = self._ahead(limits.expand(raw, source))
        self._pieces = self._ahead(verified(plain, source.diff_id, None, "diff id of layer", source))

    def _ahead(self, pieces: Iterable[bytes]) -> Iterable[bytes]:
        if not self._threads:
            return pieces
        self._made.append(Ahead(pieces))
        return self._made[-1]

    def __enter__(self) -> Iterable[bytes]:
        return self._pieces

    def __exit__(self, *_: object) -> None:
        for one in reversed(self._made):
            one.__exit__()


def verified(
    pieces: Iterable[bytes], digest: str | None, size: int | None, what: str, subject: object
) -> Iterator[bytes]:
    """Pass pieces on; an Error at the end, or where there are too many, if they are not what was promised."""
    import hashlib

    algorithm, _, text = (digest or "sha256:").partition(":")
    if algorithm not in ("sha256", "sha512"):
        raise Error("unknown digest algorithm", digest)
    known = hashlib.new(algorithm)
    count = 0
    for piece in pieces:
        count += len(piece)
        if size is not None and count > size:
            raise Error("wrong size of blob", subject, f"more than {size} bytes")
        if text:
            known.update(piece)
        yield piece
    if size is not None and count != size:
        raise Error("wrong size of blob", subject, f"{count} bytes of {size}")
    if text and known.hexdigest() != text:
        raise Error(f"wrong {what}", subject, f"content has {algorithm}:{known.hexdigest()}, not {digest}")


class _Unpacking:
    """The work on one layer."""

    def __init__(self, layer: Layer, reader: Reader, owner: Owner, limits: Limits, literal: bool) -> None:
        self._keep_links = limits.keep_links
        self._skip_roots = limits.skip_roots
        self._attributes = Attributes(limits, reader.subject)
        self._literal = literal
        self._layer = layer
        self._tree = layer.tree
        self._reader = reader
        self._owner = owner
        # Hard links into lower layers: (the directory that they are in, their target), by `_place`.
        self._later = Shelf(layer.tree.root.attic)
        self._waits = False  # whether there are any
        self._known: dict[bytes, Dir] = {}  # directories by the names under which they were found
        self._make = {"f": self._file, "l": self._link, "h": self._hard, "c": self._node, "b": self._node,
                      "p": self._node}  # fmt: skip

    def run(self) -> None:
        for entry in self._reader:
            try:
                self._entry(entry)
            except OSError as error:
                raise Error("cannot unpack", entry.name or b".", error) from None
        if self._literal:
            self._check_whole()
            return
        self._tree.remove(self._tree.root, AUFS_LINKS)  # a file too, if somebody made it one
        self._layer.attributes = self._attributes.size
        for place, (directory, target) in self._later.items():
            node, name = self._tree.literal(words(directory)), place[PLACE:]
            # Some other thing may have taken its name, or one above it.
            if node is not None and place == _place(node, name) and node.get(name) is None:
                link = _inside(node, name), target
                self._layer.links.append(link, bytes_of(link))

    def _check_whole(self) -> None:
        if not self._reader.marked:
            self._reader.bad("the archive has no end")
        for place, (directory, target) in self._later.items():
            path = b"/".join((*words(directory), place[PLACE:]))
            raise Error("cannot unpack", path, f"there is no {quote(target)} to link to")

    def _entry(self, entry: Entry) -> None:
        parts = clean(entry.name)
        if not parts:
            if entry.type == "d":
                self._tree.root.meta = self._meta(entry)
            elif not self._skip_roots:
                raise Error("cannot unpack", entry.name or b".", "only a directory can be the root")
            return
        if WHITEOUT in entry.name and not self._literal:
            if mark(parts, self._layer, self._way, lambda why: Error("cannot unpack", entry.name, why)):
                return
        name = parts.pop()
        node = self._parent(parts)
        if self._waits and entry.type != "h":
            self._later.pop(_place(node, name))
        if entry.type == "d":
            kid = node.get(name)
            if kid is None and self._keep_links:
                kid = self._tree.leads_to(node, name)
            if kid is None:
                self._tree.make(node, name, self._meta(entry))
            else:
                kid.meta = self._meta(entry)
            return
        make = self._make[entry.type]
        try:
            make(entry, node, name)
        except FileExistsError:
            self._clear(node, name)
            make(entry, node, name)

    def _meta(self, entry: Entry) -> Meta:
        """What a directory gets at the end; it is kept until then."""
        xattrs = self._attributes.keep(entry.xattrs)[1] if entry.xattrs else {}
        return entry.mode, entry.uid, entry.gid, entry.mtime, xattrs

    def _parent(self, parts: list[bytes]) -> Dir:
        key = b"/".join(parts)
        node = self._known.get(key)
        if node is None:
            node = self._tree.find(parts, make=True)
            assert node is not None
            if node.path() == key:  # not through a link, which can be replaced
                if len(self._known) == KNOWN_MAX:
                    self._known.clear()
                self._known[key] = node
        return node

    def _way(self, parts: list[bytes]) -> list[bytes]:
        """Where a directory's name leads, as far as this layer's own links do."""
        node, missing = self._tree.resolve(parts)
        return [*words(node.path()), *missing]

    def _clear(self, node: Dir, name: bytes) -> None:
        """Take away what has a name, so that something else can have it."""
        if node.get(name) is not None:
            self._known.clear()
        self._tree.remove(node, name)

    # -- what is no directory ----------------------------------------------------------------

    def _file(self, entry: Entry, node: Dir, name: bytes) -> None:
        mode = entry.mode & 0o777
        if self._owner.single:
            mode |= 0o600  # or its attributes could not be set
        fd = os.open(name, _NEW, mode, dir_fd=self._tree.fd(node))
        try:
            if entry.sparse is not None:
                self._sparse(fd, entry)
            elif entry.size:
                for view in self._reader.data():
                    while (done := os.write(fd, view[: fs.PIECE])) < len(view):
                        view = view[done:]
            self._owner.file(fd, mode, entry.mode, entry.uid, entry.gid, entry.xattrs)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _sparse(self, fd: int, entry: Entry) -> None:
        """Write the pieces where they belong, and leave the holes."""
        os.ftruncate(fd, entry.size)
        views = self._reader.data()
        view = memoryview(b"")
        for offset, length in entry.sparse or ():
            while length:
                view = view or next(views)
                done = os.pwrite(fd, view[:length], offset)
                view, offset, length = view[done:], offset + done, length - done

    def _link(self, entry: Entry, node: Dir, name: bytes) -> None:
        if not entry.link:
            raise Error("cannot unpack", entry.name, "a link to nowhere")
        at = self._tree.fd(node)
        os.symlink(entry.link, name, dir_fd=at)
        self._owner.other(at, name, -1, entry.uid, entry.gid, entry.xattrs)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=at, follow_symlinks=False)

    def _hard(self, entry: Entry, node: Dir, name: bytes) -> None:
        """A hard link has no attributes of its own: its header's are not looked at."""
        parts = clean(entry.link)
        if not parts:
            raise Error("cannot unpack", entry.name, "a hard link to a directory")
        target, place = parts.pop(), _place(node, name)
        way, missing = self._tree.resolve(parts)  # as far as this layer's own links lead
        holder = None if missing else way
        if holder is node and target == name and (self._later.get(place) or self._tree.has_name(node, name)):
            return
        self._later.pop(place)
        if holder is not None:
            kid = holder.get(target)
            if kid is not None and kid.meta is not None:
                raise Error("cannot unpack", entry.name, "a hard link to a directory")
            if kid is None and link_at(self._tree, holder, target, node, name):
                return  # and what is only implied may be a link below
        self._clear(node, name)
        known = self._later.get(_place(holder, target)) if holder else None
        said = node.path(), known[1] if known else b"/".join((*words(way.path()), *missing, target))
        self._later.set(place, said, bytes_of(said))
        self._waits = True

    def _node(self, entry: Entry, node: Dir, name: bytes) -> None:
        kind = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[entry.type]
        at = self._tree.fd(node)
        if self._owner.stacked and entry.type == "c" and entry.device == (0, 0):
            self._owner.warn("whiteouts", "a device 0:0 only hides what is below: it is overlayfs's whiteout")
            self._clear(node, name)
            put(self._layer.whiteouts, [_inside(node, name)])
            return
        device = 0 if entry.type == "p" else os.makedev(*entry.device)
        try:
            os.mknod(name, kind | entry.mode & 0o777, device, dir_fd=at)
        except PermissionError:
            self._owner.warn("devices", "devices need root: each is an empty file")
            os.close(os.open(name, _NEW, 0, dir_fd=at))
            entry.mode = 0
        self._owner.other(at, name, entry.mode, entry.uid, entry.gid, entry.xattrs)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=at, follow_symlinks=False)


PLACE = 6  # bytes of a place before the name


def _place(node: Dir, name: bytes) -> bytes:
    """A name in a directory, whatever that is called: of another one that gets its name it is another."""
    return node.number.to_bytes(PLACE, "big") + name


def _inside(node: Dir, name: bytes) -> bytes:
    return b"/".join((*words(node.path()), name))


def link_at(
    tree: Tree, holder: Dir, target: bytes, node: Dir, name: bytes, other: Tree | None = None
) -> bool:
    """Give `name` the file of `target`, a link itself if it is one; False if there is no target.

    `other` is the tree of `holder`, if that is another one.
    """
    at = os.open(b".", os.O_PATH | os.O_CLOEXEC, dir_fd=(other or tree).fd(holder))
    try:
        os.link(target, name, src_dir_fd=at, dst_dir_fd=tree.fd(node), follow_symlinks=False)
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
    finally:
        os.close(at)
    return True
