"""A layer in overlayfs's form: its whiteouts are marks in its tree, and what the tree cannot say is data beside it.

What is said: `store.py`.  Any number of marks is found and made here (oci_tools/shelf.py); who stacks has those in
memory that are said.
"""

from __future__ import annotations

import os
import stat

from oci_tools.layer import store
from oci_tools.layer.tree import words
from oci_tools.shelf import Rows, Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
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
    tree = layer.tree
    marks = _marks(layer)
    hollow, whiteouts = Rows(tree.root.attic), Rows(tree.root.attic)
    for path, what in marks.items():  # a directory before what is in it
        if what == _GONE and not _within(path, marks, _HIDING) and _hide(tree, path, hollow):
            whiteouts.append(path, len(path))
    for path, what in marks.items():
        # What is removed and made again is opaque: only what the layer has is there.
        if what in _HIDING and path and not _within(path.rpartition(b"/")[0], marks, _HIDING):
            node = _literal(tree, words(path), hollow)
            if node is not None:
                os.setxattr(b"/proc/self/fd/%d" % tree.fd(node), store.OPAQUE[owner.trusted], b"y")
    tree.settle(owner)
    paths: tuple[Iterable[bytes], ...] = (
        (node.path() for _, node in tree.root.below() if node.meta is None and node.parent),
        hollow,
        whiteouts,
        (path for path in layer.opaques if not _within(path, marks, _REMOVED)),
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
        marks.set(path, _GONE if layer.tree.literal(words(path)) is None else _AGAIN)
    for path in layer.opaques:
        if marks.get(path) is None and not _within(path, marks, (_GONE,)):
            marks.set(path, _OPAQUE)
    return marks


def _within(path: bytes, marks: Shelf, kinds: tuple[int, ...]) -> bool:
    """Whether a path is one to which this is done, or in one."""
    if marks.get(path) in kinds or marks.get(b"") in kinds:
        return True
    end = path.find(b"/")
    while end >= 0 and marks.get(path[:end]) not in kinds:
        end = path.find(b"/", end + 1)
    return end >= 0


def _hide(tree: Tree, path: bytes, hollow: Rows) -> bool:
    """Make a whiteout, if the layer has nothing of that name, nor in the place of a directory above it."""
    parts = words(path)
    node = _literal(tree, parts[:-1], hollow)
    if node is None:
        return False
    try:
        os.mknod(parts[-1], stat.S_IFCHR, 0, dir_fd=tree.fd(node))
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
