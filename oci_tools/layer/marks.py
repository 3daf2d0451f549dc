"""A layer in overlayfs's form: its whiteouts are marks in its tree, and what the tree cannot say is data beside it.

What is said: `store.py`.  Any number of marks is found and made here (oci_tools/shelf.py); who stacks has those in
memory that are said.
"""

from __future__ import annotations

import os
import stat

from oci_tools.layer import store
from oci_tools.names import words
from oci_tools.shelf import Rows, Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from oci_tools.layer.owner import Owner
    from oci_tools.layer.tree import Dir, Tree
    from oci_tools.layer.unpacked import Layer

# What is done to a path.
_GONE = 1  # removed
_AGAIN = 2  # removed, and made again as a directory
_OPAQUE = 3  # only what is in it below is
_REMOVED, _HIDING = (_GONE, _AGAIN), (_AGAIN, _OPAQUE)


def finish(layer: Layer, owner: Owner) -> dict[str, Any]:
    """Write a layer's whiteouts into its tree as overlayfs has them, and settle it; what to say beside it."""
    tree, attic = layer.tree, layer.tree.root.attic
    marks = _marks(layer)
    hollow, hiding, opaque = Rows(attic), Rows(attic), Rows(attic)
    within = _Within(marks, _HIDING)
    holder = b"/"  # the last directory that got a whiteout; this one is none
    for path, what in marks.items():  # a directory before what is in it
        parent, _, name = path.rpartition(b"/")
        if within(parent):
            continue
        if what in _HIDING:
            opaque.append(path, len(path))
        elif _hide(tree, parent, name, hollow) and parent != holder:
            holder = parent
            hiding.append(parent, len(parent))
    for path in opaque:
        # What is removed and made again is opaque: only what the layer has is there.
        node = _literal(tree, words(path), hollow)
        if node is not None:
            os.setxattr(b"/proc/self/fd/%d" % tree.fd(node), store.OPAQUE[owner.trusted], b"y")
    tree.settle(owner)
    removed = _Within(marks, _REMOVED)
    paths: tuple[Iterable[bytes], ...] = (
        (node.path() for _, node in tree.root.below() if node.meta is None and node.parent),
        hollow,
        hiding,
        (path for path in layer.opaques if marks.get(path) not in _REMOVED and not removed(path.rpartition(b"/")[0])),
    )
    return said(paths, tree.root.meta is not None, bool(layer.links))


def said(paths: Iterable[Iterable[bytes]], root: bool, links: bool = False) -> dict[str, Any]:
    """What to say of a layer, the paths in the order of `store.LISTS`."""
    room = 0 if links else store.ROOM
    lists = []
    for some in paths:
        found: list[str] = []
        lists.append(found)
        for path in some:
            room -= store.weight(path)
            if room < 0:
                return {**store.NOTHING, "root": root, "links": True}
            found.append(os.fsdecode(path))
    return {**dict(zip(store.LISTS, lists, strict=True)), "root": root, "links": links}


def _marks(layer: Layer) -> Shelf:
    """What the layer does to which path."""
    marks = Shelf(layer.tree.root.attic)
    for path in layer.whiteouts:
        marks.set(path, _GONE if layer.tree.literal(words(path)) is None else _AGAIN, len(path))
    gone = _Within(marks, (_GONE,))
    for path in layer.opaques:
        if marks.get(path) is None and not gone(path.rpartition(b"/")[0]):
            marks.set(path, _OPAQUE, len(path))
    return marks


class _Within:
    """Whether a directory is one to which something is done, or in one.

    Asked of the directories of paths that stand together, which are one and the same mostly.
    """

    def __init__(self, marks: Shelf, kinds: tuple[int, ...]) -> None:
        self._marks = marks
        self._kinds = kinds
        self._last = b"/", False  # no path

    def __call__(self, path: bytes) -> bool:
        if path != self._last[0]:
            self._last = path, any(self._marks.get(one) in self._kinds for one in _ways(path))
        return self._last[1]


def _ways(path: bytes) -> Iterator[bytes]:
    """A path and all directories it is in, the root's first."""
    yield b""
    end = path.find(b"/")
    while end >= 0:
        yield path[:end]
        end = path.find(b"/", end + 1)
    yield path


def _hide(tree: Tree, parent: bytes, name: bytes, hollow: Rows) -> bool:
    """Make a whiteout, if the layer has nothing of that name, nor in the place of a directory above it."""
    node = _literal(tree, words(parent), hollow)
    if node is None:
        return False
    try:
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=tree.fd(node))
    except FileExistsError:
        return False
    return True


def _literal(tree: Tree, parts: list[bytes], made: Rows) -> Dir | None:
    """The directory of a path in the layer itself; if there is nothing it is made, and put into `made`.

    None if something else is there, which hides what is below anyhow.
    """
    node = tree.root
    for part in parts:
        kid = node.get(part)
        if kid is None:
            if tree.has_name(node, part):
                return None
            kid = tree.make(node, part)
            path = kid.path()
            made.append(path, len(path))
        node = kid
    return node
