"""A tree of files in memory, for files.py: directories, and what is known of each file.

    File    (type, mode, uid, gid, size, mtime in ns, what, link, xattrs); what is a file's SHA-256, a link's
            target, a device's "major:minor"; link is a number that all names of a file have, if it has several, or 0
    Dir     a shelf of what is in it, the one it is in, its meta: (mode, uid, gid, mtime, xattrs)

Memory and time are what an attacker could ask for here: names, implied directories and steps are counted, and what
there are too many of is on disk (oci_tools/shelf.py).
"""

from __future__ import annotations

from oci_tools import shelf
from oci_tools.errors import Error
from oci_tools.shelf import Attic, Node, Rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

    File = tuple[str, int, int, int, int, int, bytes, int, tuple[tuple[bytes, bytes], ...]]
    Meta = tuple[int, int, int, int, tuple[tuple[bytes, bytes], ...]]
    Path = list[bytes]

NAMES_MAX = 10_000_000  # files and directories in all layers
STEPS_MAX = 20  # components of names that are walked, for each name that there may be
HOLES_MAX = 16 << 30  # bytes of holes in sparse files that are hashed, all together
LINKS_MAX = 40


class Dir(Node):
    """A directory: what is in it, the one it is in, its attributes; no meta: only implied by a name."""

    __slots__ = ("_meta",)

    def __init__(self, name: bytes, parent: Dir | None, meta: Meta | None = None, attic: Attic | None = None) -> None:
        super().__init__(name, parent, parent.attic if parent else attic or Attic())
        self._meta = meta

    @property
    def meta(self) -> Meta | None:
        return self._meta

    @meta.setter
    def meta(self, meta: Meta | None) -> None:
        self._meta = meta
        self.changed()

    def said(self) -> Meta | None:
        return self._meta

    def node(self, name: bytes, said: Meta | None) -> Dir:
        return Dir(name, self, said)

    def path(self) -> Path:
        """The names that lead here from the root."""
        parts, node = [], self
        while node.parent:
            parts.append(node.name)
            node = node.parent
        return parts[::-1]


def side_by_side(a: Dir | None, b: Dir | None) -> Iterator[tuple[bytes, Any, Any]]:
    """What is in two directories, sorted by name: the name, and what each has, None for nothing."""
    nothing: tuple[bytes | None, Any] = (None, None)
    ours, theirs = (iter(one.items() if one else ()) for one in (a, b))
    x, y = next(ours, nothing), next(theirs, nothing)
    while x[0] is not None or y[0] is not None:
        if y[0] is None or (x[0] is not None and x[0] < y[0]):
            yield x[0], x[1], None  # type: ignore[misc]
            x = next(ours, nothing)
        elif x[0] is None or y[0] < x[0]:
            yield y[0], None, y[1]
            y = next(theirs, nothing)
        else:
            yield x[0], x[1], y[1]
            x, y = next(ours, nothing), next(theirs, nothing)


class Loop(Error):
    """A name leads through too many links."""


class Layer:
    """One layer as a tree, and what it says of those below (layer/apply.py): paths as bytes."""

    def __init__(self, attic: Attic, names: int) -> None:
        self.tree = Tree(attic, names)
        self.whiteouts = Rows(attic)
        self.opaques = Rows(attic)
        self.links = Rows(attic)  # (path, target)


class Tree:
    """Directories that grow, counted: `names` is how many names there may be."""

    def __init__(self, attic: Attic, names: int) -> None:
        self.attic = attic
        self._names = names
        self.root = Dir(b"", None, attic=attic)
        self.count = 0
        self.holes = [HOLES_MAX]  # bytes that may still be hashed; shared by copies
        self._steps = 0

    def copy(self) -> Tree:
        """The same tree again, with directories of its own."""
        made = Tree(self.attic, self._names)
        made.count, made.holes, made.root.meta = self.count, self.holes, self.root.meta
        levels = [(made.root, self.root.items())]
        while levels:
            twin, rest = levels[-1]
            for name, kid in rest:
                if isinstance(kid, Dir):
                    other = Dir(name, twin, kid.meta)
                    made.set(twin, name, other)
                    levels.append((other, kid.items()))
                    break
                made.set(twin, name, kid)
            else:
                levels.pop()
        return made

    def literal(self, parts: Path) -> Dir | None:
        """The directory that has this very path, no link on it."""
        node: Any = self.root
        for part in parts:
            node = node.get(part) if isinstance(node, Dir) else None
        return node if isinstance(node, Dir) else None

    def put(self, node: Dir, name: bytes, what: Dir | File) -> None:
        self.add(1)
        self.set(node, name, what)

    def set(self, node: Dir, name: bytes, what: Dir | File) -> None:
        """The same with what is counted already."""
        more, xattrs = (0, what.meta and what.meta[4]) if isinstance(what, Dir) else (len(what[6]), what[8])
        node.set(name, what, more + shelf.weight(xattrs) if xattrs else more)

    def link(self, node: Dir, name: bytes, holder: Dir, target: bytes) -> None:
        """A second name of a file: both have the same."""
        what = holder.get(target)
        if not what[7]:
            what = (*what[:7], self.attic.next_number(), what[8])
            self.set(holder, target, what)
        self.put(node, name, what)

    def add(self, count: int) -> None:
        self.count += count
        if self.count > self._names:
            raise Error("image has too many files", None, f"more than {self._names}", "--limit names=N")

    def find(self, parts: Path, make: bool = False, start: Dir | None = None) -> Dir | None:
        """The directory of a name, through links; None if it is none.  See layer/tree.py."""
        node, missing = self.resolve(parts, start)
        if missing and not make:
            return None
        for part in missing:
            made = Dir(part, node)
            self.put(node, part, made)
            node = made
        return node

    def resolve(self, parts: Path, start: Dir | None = None, whole: bool = True) -> tuple[Dir, Path]:
        """How far there are directories on the way of a name, and the names that are missing then, if `whole` all."""
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
            kid = None if missing else node.get(part)
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
            else:
                missing.append(part)
                if not whole:
                    break
        return node, missing

    def has(self, node: Dir) -> bool:
        """Whether a directory is still in the tree."""
        steps = 0
        while node.parent:
            steps += 1
            if node.parent.get(node.name) is not node:
                break
            node = node.parent
        self._walk(steps)
        return node is self.root

    def _walk(self, steps: int) -> None:
        self._steps += steps
        if self._steps > STEPS_MAX * self._names:
            raise Error("image has too many files", None, "its names are walked for too long", "--limit names=N")


def bad(parts: Path, why: str) -> NoReturn:
    raise Error("cannot read layer at", b"/".join(parts), why)
