"""A tree of files in memory, for files.py: directories, and what is known of each file.

    File    (type, mode, uid, gid, size, mtime in ns, what, xattrs); what is a file's SHA-256, a link's
            target, a device's "major:minor"
    Dir     its kids by name, the one it is in, its meta: (mode, uid, gid, mtime, xattrs)

Memory and time are what an attacker could ask for here: names, implied directories and steps are counted.
The files of directories that nobody looks at are kept as bytes, a fifth of their size.
"""

from __future__ import annotations

import marshal
from io import BytesIO

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    File = tuple[str, int, int, int, int, int, bytes, tuple[tuple[bytes, bytes], ...]]
    Meta = tuple[int, int, int, int, tuple[tuple[bytes, bytes], ...]]
    Path = list[bytes]

NODES_MAX = 2_000_000  # files and directories in all layers: a gigabyte in memory, if all are directories
STEPS_MAX = 200_000_000  # components of names that are walked
HOLES_MAX = 16 << 30  # bytes of holes in sparse files that are hashed, all together
LINKS_MAX = 40
ROWS = 500  # files in one piece of those bytes
AWAKE = 8_000  # names that are looked at, or have come, before those of other directories become bytes


class Dir:
    """A directory: what is in it, the one it is in, its attributes; no meta: only implied by a name."""

    __slots__ = ("_asleep", "_kids", "meta", "name", "parent")

    def __init__(self, name: bytes, parent: Dir | None, meta: Meta | None = None) -> None:
        self.name = name
        self.parent = parent
        self.meta = meta
        self._kids: dict[bytes, Dir | File] = {}
        self._asleep: bytes | None = None  # files as bytes, if they are no objects now
        _attic.came(self, 0)

    @property
    def kids(self) -> dict[bytes, Dir | File]:
        """What is in it, to be changed at once: before another directory is looked at."""
        if self._asleep is not None:
            rows = BytesIO(self._asleep)
            while rows.tell() < len(self._asleep):
                for name, known, size, mtime, what in marshal.load(rows):
                    kind, mode, uid, gid, xattrs = _attic.metas[known]
                    self._kids[name] = (kind, mode, uid, gid, size, mtime, what, xattrs)
            self._asleep = None
            _attic.came(self, len(self._kids))
        return self._kids

    def is_asleep(self) -> bool:
        return self._asleep is not None

    def sleep(self) -> None:
        """Let the files be bytes; what is known by identity stays."""
        others: dict[bytes, Dir | File] = {}
        packs, files = [], []
        for name, kid in self._kids.items():
            if isinstance(kid, Dir) or id(kid) in _attic.linked:
                others[name] = kid
                continue
            kind, mode, uid, gid, size, mtime, what, xattrs = kid
            files.append((name, _attic.meta((kind, mode, uid, gid, xattrs)), size, mtime, what))
            if len(files) == ROWS:
                packs.append(marshal.dumps(files))
                files = []
        if files:
            packs.append(marshal.dumps(files))
        self._kids, self._asleep = others, b"".join(packs)

    def path(self) -> Path:
        """The names that lead here from the root."""
        parts, node = [], self
        while node.parent:
            parts.append(node.name)
            node = node.parent
        return parts[::-1]


class _Attic:
    """Which directories are awake, of all trees; and what their files have in common."""

    def __init__(self) -> None:
        self.metas: list[tuple[Any, ...]] = []
        self.linked: dict[int, File] = {}  # by identity: files with several names, which are no regular ones
        self._known: dict[tuple[Any, ...], int] = {}
        self._awake: list[Dir] = []
        self._room = AWAKE

    def meta(self, what: tuple[Any, ...]) -> int:
        """The number of a file's type, mode, owner and attributes."""
        found = self._known.get(what)
        if found is None:
            found = self._known[what] = len(self.metas)
            self.metas.append(what)
        return found

    def came(self, node: Dir, count: int) -> None:
        """A directory is awake, with so many names in it; of large ones a few may be awake, else they take turns."""
        self._awake.append(node)
        self.grew(node, min(count + 1, AWAKE // 8 + 1))

    def grew(self, node: Dir, count: int) -> None:
        """There are so many names more in a directory; others may go to sleep."""
        self._room -= count
        if self._room < 0:
            for other in self._awake:
                if other is not node and not other.is_asleep():
                    other.sleep()
            self._awake = [node]
            self._room = AWAKE


_attic = _Attic()


def is_linked(file: File) -> bool:
    """Whether a file that is no regular one has several names; then it is one object in all of them."""
    return id(file) in _attic.linked


class Loop(Error):
    """A name leads through too many links."""


class Layer:
    """One layer as a tree, and what it says of those below (layer/apply.py)."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.whiteouts: list[Path] = []
        self.opaques: list[Path] = []
        self.links: list[tuple[Path, Path]] = []


def clean(name: bytes) -> Path:
    """A name's components, without `.`; `..` takes the one before it back, and stops at the root."""
    kept: Path = []
    for part in name.split(b"/"):
        if part == b"..":
            del kept[-1:]
        elif part and part != b".":
            kept.append(part)
    return kept


class Tree:
    """Directories that grow, counted."""

    def __init__(self) -> None:
        self.root = Dir(b"", None)
        self.count = 0
        self.holes = [HOLES_MAX]  # bytes that may still be hashed; shared by copies
        self._steps = 0

    def copy(self) -> Tree:
        """The same tree again, with directories of its own."""
        made = Tree()
        made.count, made.holes, made.root.meta = self.count, self.holes, self.root.meta
        waiting = [(self.root, made.root)]
        while waiting:
            node, twin = waiting.pop()
            for name, kid in node.kids.items():
                if isinstance(kid, Dir):
                    other = Dir(name, twin, kid.meta)
                    twin.kids[name] = other
                    waiting.append((kid, other))
                else:
                    twin.kids[name] = kid
        return made

    def put(self, node: Dir, name: bytes, what: Dir | File) -> None:
        self.add(1)
        self.set(node, name, what)

    def set(self, node: Dir, name: bytes, what: Dir | File) -> None:
        """The same with what is counted already."""
        node.kids[name] = what
        _attic.grew(node, 1)

    def link(self, node: Dir, name: bytes, what: File) -> None:
        """A second name of a file: both have the same."""
        if what[0] != "f":  # which is known by where its bytes are, or by what they are
            _attic.linked[id(what)] = what
        self.put(node, name, what)

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


def bad(parts: Path, why: str) -> NoReturn:
    raise Error("cannot read layer at", b"/".join(parts), why)
