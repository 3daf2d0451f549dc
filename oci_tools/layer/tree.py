"""A tree of files that is being made, known by its directories.

Every directory is a `Dir` with its name and its parent; a descriptor of it is opened when it is
needed, from that of the nearest directory above it that is open, and not more than a few hundred are open at once.
That is the parent nearly always, and openat(2) with O_NOFOLLOW opens one name; what is further down is opened by
openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, or where that is missing by openat(2) again and again.
Names that a layer says are never joined: one with links in it is walked here, component by component, and a link's
target is walked in its turn, with the tree's root as `/`.  So nothing that a layer says, and no
link that an earlier one left, leads out of the tree (CVE-2021-29136, CVE-2025-47290 and their kin).
Nor does a link that somebody puts in a directory's place meanwhile, though nobody else should be able to: the tree
lies under a directory of mode 0700.

Attributes of directories are set at the very end (`settle`): times change with every
name put in, set-group-id directories would pass on their group, and read-only ones refuse names.
"""

from __future__ import annotations

import os
import struct

from oci_tools import fs, shelf
from oci_tools.errors import Error
from oci_tools.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from oci_tools.shelf import Attic, Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    Meta = tuple[int, int, int, int, dict[bytes, bytes]]

OPEN_MAX = 240  # descriptors of one tree; a process has 1024
LINKS_MAX = 40  # links on the way to one name, as in the kernel: path_resolution(7)
READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS  # and no link of /proc, which openat2 never follows here
STEP = 15  # names of at most 255 bytes are no more than PATH_MAX
_META = struct.Struct("<HIIq")
_NO_XATTRS: dict[bytes, bytes] = {}
_TIME_MAX = 1 << 63


class Dir(Node):
    """One directory, a shelf of the directories in it: an image may have millions.

    fd     its O_PATH descriptor, or -1
    meta   (mode, uid, gid, mtime in ns, xattrs) as the layer says, or None: only implied by a name
    """

    __slots__ = ("fd", "packed")

    def __init__(self, name: bytes, parent: Dir | None, meta: Meta | None = None, attic: Attic | None = None) -> None:
        super().__init__(name, parent, parent.attic if parent else attic or Attic())
        self.fd = -1
        self.packed = _pack(meta)

    def put(self, kid: Dir) -> None:
        xattrs = kid.packed[4] if isinstance(kid.packed, tuple) else None
        self.set(kid.name, kid, shelf.weight(xattrs) if xattrs else 0)

    @property
    def meta(self) -> Meta | None:
        return (*_META.unpack(self.packed), _NO_XATTRS) if isinstance(self.packed, bytes) else self.packed

    @meta.setter
    def meta(self, meta: Meta | None) -> None:
        self.packed = _pack(meta)
        self.changed()

    def said(self) -> Meta | bytes | None:
        return self.packed

    def node(self, name: bytes, said: Meta | bytes | None) -> Dir:
        made = Dir(name, self)
        made.packed = said
        return made

    def path(self) -> bytes:
        """Its path from the root, for messages and records."""
        parts, node = [], self
        while node.parent:
            parts.append(node.name)
            node = node.parent
        return b"/".join(reversed(parts))

    def below(self, deepest_first: bool = False) -> Iterator[tuple[int, Dir]]:
        """Itself and all directories in it, each with how deep it is; parents first, or last."""
        levels = [(self, self.items())]
        if not deepest_first:
            yield 0, self
        while levels:
            node, rest = levels[-1]
            _, kid = next(rest, (b"", None))
            if kid is not None:
                levels.append((kid, kid.items()))
                if not deepest_first:
                    yield len(levels) - 1, kid
            else:
                levels.pop()
                if deepest_first:
                    yield len(levels), node


def _pack(meta: Meta | None) -> Meta | bytes | None:
    if meta is not None and not meta[4] and -_TIME_MAX <= meta[3] < _TIME_MAX:
        return _META.pack(*meta[:4])
    return meta


class Tree:
    """The tree in the directory of which `rootfd` is a descriptor; a `with` block closes the others."""

    def __init__(self, rootfd: int, attic: Attic | None = None) -> None:
        self.root = Dir(b"", None, attic=attic)
        self.root.fd = rootfd
        self._open: dict[Dir, None] = {}  # those with descriptors, the oldest first; never the root

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all descriptors but the root's; they are opened again when they are needed."""
        for node in self._open:
            os.close(node.fd)
            node.fd = -1
        self._open.clear()

    def fd(self, node: Dir) -> int:
        """A descriptor of a directory, good until the next call."""
        if node.fd >= 0:
            return node.fd
        chain = []
        while node.fd < 0:
            chain.append(node)
            assert node.parent is not None
            node = node.parent
        at = node.fd
        while chain:
            below = chain[-STEP:]
            del chain[-STEP:]
            at = self._descend(at, below)
        return at

    def _descend(self, at: int, below: list[Dir]) -> int:
        """A descriptor of the first of some directories, each in the next one, and the last in that of `at`."""
        if len(below) > 1:
            path = b"/".join(node.name for node in reversed(below))
            try:
                self._keep(below[0], openat2(at, path, DIRECTORY, 0, BENEATH))
                return below[0].fd
            except OSError:  # before Linux 5.6, or a seccomp filter denies it; else openat says better what is wrong
                pass
        for node in reversed(below):
            self._keep(node, os.open(node.name, DIRECTORY, dir_fd=at))
            at = node.fd
        return at

    def _keep(self, node: Dir, fd: int) -> None:
        node.fd = fd
        self._open[node] = None
        if len(self._open) > OPEN_MAX:
            self._close(next(iter(self._open)))

    def _close(self, node: Dir) -> None:
        if node in self._open:
            del self._open[node]
            os.close(node.fd)
            node.fd = -1

    # -- names ---------------------------------------------------------------------------

    def find(self, parts: list[bytes], make: bool = False, start: Dir | None = None) -> Dir | None:
        """The directory of a name that is resolved with the root as `/`; None if it is none.

        With `make` what is missing is made, and what is no directory gives way to one.
        """
        node, missing = self.resolve(parts, start)
        if missing and not make:
            return None
        for part in missing:
            node = self.make(node, part)
        return node

    def resolve(self, parts: list[bytes], start: Dir | None = None) -> tuple[Dir, list[bytes]]:
        """How far there are directories on the way of a name, and the names that are missing then."""
        node = start or self.root
        waiting = parts[::-1]
        missing: list[bytes] = []
        links = 0
        while waiting:
            part = waiting.pop()
            if part == b"..":
                if missing:
                    missing.pop()
                else:
                    node = node.parent or node
                continue
            kid = None if missing else node.get(part)
            if kid is not None:
                node = kid
                continue
            target = None if missing else self._link(node, part)
            if target:
                links += 1
                if links > LINKS_MAX:
                    raise Error("cannot unpack", b"/".join(parts), "too many levels of symbolic links")
                if target.startswith(b"/"):
                    node = self.root
                waiting += [word for word in reversed(target.split(b"/")) if word and word != b"."]
            else:
                missing.append(part)
        return node, missing

    def literal(self, parts: list[bytes]) -> Dir | None:
        """The directory that has this very path, no link on it."""
        node: Dir | None = self.root
        for part in parts:
            node = node.get(part) if node else None
        return node

    def leads_to(self, node: Dir, name: bytes) -> Dir | None:
        """The directory that a name leads to; None if it is not there, none, or goes in circles."""
        try:
            return self.find([name], start=node)
        except Error:
            return None

    def _link(self, node: Dir, name: bytes) -> bytes | None:
        """Where a name points if it is a link; None if it is a file or nothing."""
        try:
            return os.readlink(name, dir_fd=self.fd(node))
        except OSError:
            return None

    def has_name(self, node: Dir, name: bytes) -> bool:
        """Whether anything in a directory has this name."""
        try:
            os.lstat(name, dir_fd=self.fd(node))
            return True
        except FileNotFoundError:
            return False

    def make(self, node: Dir, name: bytes, meta: Any = None) -> Dir:
        """Make a directory; what else has the name gives way."""
        fd = self.fd(node)
        mode = 0o755 if meta is None else meta[0] & 0o777 | 0o700
        try:
            os.mkdir(name, mode, dir_fd=fd)
        except FileExistsError:
            os.unlink(name, dir_fd=fd)
            os.mkdir(name, mode, dir_fd=fd)
        kid = Dir(name, node, meta)
        node.put(kid)
        return kid

    def remove(self, node: Dir, name: bytes) -> None:
        """Remove whatever has a name, if anything."""
        kid = node.pop(name)
        if kid is not None:
            self.forget(kid)
        fs.remove_at(self.fd(node), name)

    def has(self, node: Dir) -> bool:
        """Whether a directory is still in the tree."""
        while node.parent:
            if node.parent.get(node.name) is not node:
                return False
            node = node.parent
        return node is self.root

    def forget(self, node: Dir) -> None:
        """Close what is open of a directory that is taken out of the tree."""
        if not self._open:
            return
        for count, (_, below) in enumerate(node.below()):
            if count == OPEN_MAX:  # it is quicker to look at what is open
                for other in [other for other in self._open if _is_in(other, node)]:
                    self._close(other)
                break
            self._close(below)

    def adopt(self, node: Dir, kid: Dir, donor: Tree) -> None:
        """Take over a directory of another tree, which has been renamed to its place here."""
        donor.forget(kid)
        kid.parent = node
        node.put(kid)

    # -- attributes ------------------------------------------------------------------------

    def settle(self, owner: Any, keep_open: bool = False) -> None:
        """Give every directory that a layer describes its attributes; the lowest ones first.

        With `keep_open` their owner can still write in them: for a plain user, who has
        more to put in.
        """
        for _, node in self.root.below(deepest_first=True):
            if node.meta is None:
                continue
            mode, uid, gid, mtime, xattrs = node.meta
            try:
                fd = os.open(node.name or b".", READ, dir_fd=self.fd(node.parent) if node.parent else node.fd)
            except OSError as error:
                raise Error("cannot unpack", node.path() or b".", error) from None
            try:
                owner.directory(fd, mode | 0o700 if keep_open else mode, uid, gid, xattrs)
                os.utime(fd, ns=(mtime, mtime))
            finally:
                os.close(fd)

    # -- from one process to another -----------------------------------------------------------

    def dump(self) -> Iterator[tuple[int, bytes, Meta | bytes | None]]:
        """The directories as plain values: for each how deep it is, its name, its meta."""
        return ((depth, node.name, node.packed) for depth, node in self.root.below())

    def load(self, rows: Iterable[tuple[int, bytes, Meta | bytes | None]]) -> None:
        """Take in what `dump` gave."""
        way: list[Dir] = []
        for depth, name, packed in rows:
            del way[depth:]
            node = Dir(name, way[-1]) if way else self.root
            node.packed = node.attic.same(packed)
            if way:
                way[-1].put(node)
            way.append(node)


def _is_in(node: Dir | None, top: Dir) -> bool:
    while node is not None and node is not top:
        node = node.parent
    return node is not None


def new_root(path: str, roomy: bool = True) -> int:
    """An empty directory for a tree, `roomy` if it may have many files, and a descriptor of it.

    It takes over neither a set-group-id bit nor a default ACL of the directory that it is made in,
    which it would pass on to all that is made in it.
    """
    fs.remove_tree(path)
    if roomy:
        fs.make_roomy(path)
    else:
        os.mkdir(path, 0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(fd, os.geteuid(), os.getegid())
        try:
            os.removexattr(fd, "system.posix_acl_default")
        except OSError:
            pass
        os.fchmod(fd, 0o755)
    except BaseException:
        os.close(fd)
        raise
    return fd
