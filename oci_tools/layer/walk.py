"""A tree of files as it is: every name in it, with what lstat(2) says, in one order.

The order is that of paths compared component by component, as bytes: a directory comes before what
is in it, and that before the directory's next sibling.  Archives are written in it, snapshots
too, and two walks of it can be compared as they go, however large the trees are.

Directories are opened one from the other without following links; however deep the tree is, few
descriptors are open.  What somebody else removes meanwhile is passed over.
"""

from __future__ import annotations

import os
import stat
from itertools import chain, islice

from oci_tools.errors import Error
from oci_tools.layer.tree import Dir, Tree
from oci_tools.shelf import Attic, Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Found:
    """One name: its path from the root, what it is, and how to get at it until the walk goes on."""

    __slots__ = ("at", "name", "path", "seen")

    def __init__(self, path: bytes, at: int, name: bytes, seen: os.stat_result) -> None:
        self.path = path
        self.at = at  # a descriptor of the directory it is in
        self.name = name
        self.seen = seen

    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.seen.st_mode)


def walk(rootfd: int, enters: Callable[[Found], bool] | None = None) -> Iterator[Found]:
    """Every name below a directory; not what is in directories which `enters` says no to."""
    with Tree(rootfd) as tree:
        levels = [(tree.root, b"", _names(tree, tree.root, 0))]
        while levels:
            node, prefix, rest = levels[-1]
            name = next(rest, None)
            if name is None:
                levels.pop()
                tree.forget(node)
                continue
            try:
                at = tree.fd(node)
                seen = os.lstat(name, dir_fd=at)
            except FileNotFoundError:
                continue
            path = prefix + name
            found = Found(path, at, name, seen)
            yield found
            if stat.S_ISDIR(seen.st_mode) and (enters is None or enters(found)):
                kid = Dir(name, node)
                levels.append((kid, path + b"/", _names(tree, kid, len(levels))))


def _names(tree: Tree, node: Dir, depth: int) -> Iterator[bytes]:
    try:
        return names(tree.fd(node), MOST >> min(depth // 2, 6))
    except (FileNotFoundError, NotADirectoryError):
        return iter(())
    except OSError as error:
        raise Error("cannot read directory", node.path() or b".", error) from None


MOST = 1 << 14  # names of a directory that are in memory at once


def names(fd: int, most: int = MOST) -> Iterator[bytes]:
    """The names in a directory as they are now, sorted; if there are more than `most` they are on disk meanwhile."""
    with os.scandir(b"/proc/self/fd/%d" % fd) as entries:
        found = [entry.name for entry in islice(entries, most + 1)]
        if len(found) <= most:
            found.sort()
            return iter(found)
        shelf = Shelf(Attic())
        for name in chain(found, (entry.name for entry in entries)):
            shelf.set(name, True)
    shelf.attic.sleep()
    return (name for name, _ in shelf.items())


def order(path: bytes) -> bytes:
    """A key by which paths sort as `walk` gives them."""
    return path.replace(b"/", b"\0")
