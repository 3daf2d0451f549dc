"""The files of an image, as a list, without unpacking it: image-spec, layer.md.

    files = read(layout, manifest)          the tree after all layers; its root is a Dir
    places_above(layout, manifest, ...)     the same as Trees, whose files say where their bytes are
    Dir.get(name), Dir.items()              a Dir, or a File

Each layer is read into a tree of its own and then laid over what is below, in the order and with the
choices of layer/apply.py and layer/merge.py, which do the same with real files (a test holds them equal):
hard links into lower layers, whiteouts and opaque directories, directory upon directory.  Names are walked
component by component with the tree's root as `/`.
"""

from __future__ import annotations

from oci_tools.image import config as configs
from oci_tools.image import entries
from oci_tools.image.tree import HOLES_MAX, Dir, Layer, Loop, Tree, bad
from oci_tools.names import words
from oci_tools.shelf import Attic, Rows
from oci_tools.tar import Attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.tree import Path


def read(layout: Layout, manifest: dict[str, Any]) -> Dir:
    """The files of an image, after all its layers."""
    return _read(layout, _layers(layout, manifest), Attic()).root


def places_above(layout: Layout, manifest: dict[str, Any], keep: int, limits: Any) -> tuple[Tree, Tree]:
    """The files of the lowest `keep` layers, and of all, for who reads them later.

    Instead of a SHA-256 a file has b"LAYER ENTRY": its layer, of all, the lowest is 0, and which entry of
    its archive it is, the first is 1; its size and time are only there.
    """
    layers, attic = _layers(layout, manifest), Attic()
    below = _read(layout, layers[:keep], attic, None, limits)
    return below, _read(layout, layers[keep:], attic, below.copy() if keep else None, limits, keep)


def read_two(a: tuple[Layout, dict[str, Any]], b: tuple[Layout, dict[str, Any]]) -> tuple[Dir, Dir]:
    """The files of two images; the layers that both begin with are read once."""
    one, two, attic = _layers(*a), _layers(*b), Attic()
    same = 0
    while same < min(len(one), len(two)) and one[same][1] == two[same][1]:
        same += 1
    whole = _read(a[0], one[:same], attic)
    other = whole.copy() if same else None
    return _read(a[0], one[same:], attic, whole if same else None).root, _read(b[0], two[same:], attic, other).root


def _layers(layout: Layout, manifest: dict[str, Any]) -> list[tuple[Descriptor, str]]:
    diff_ids = configs.diff_ids(configs.load(layout, manifest))
    return list(zip(manifest["layers"], diff_ids, strict=True))


def _read(
    layout: Layout,
    layers: list[tuple[Descriptor, str]],
    attic: Attic,
    whole: Tree | None = None,
    limits: Any = None,
    first: int = 0,
) -> Tree:
    """`limits` are given where files are to say their places; `first` is the number of the first layer."""
    holes = whole.holes if whole else [HOLES_MAX]
    attributes = Attributes(limits or entries.Limits, None)
    for number, (blob, diff_id) in enumerate(layers, first):
        if limits is None:
            layer = entries.read(layout, blob, diff_id, holes, attic, attributes=attributes)
        else:
            layer = entries.read(layout, blob, diff_id, holes, attic, number, limits, attributes)
        if whole is None:  # of the lowest layer links may stand before what they link to
            whole = layer.tree
            whole.holes = holes
            _link(whole, layer)
        else:
            merge(whole, layer)
    return whole or Tree(attic, 0)


# -- layers over each other ----------------------------------------------------------------


def merge(lower: Tree, layer: Layer) -> None:
    """Put a layer over a tree; the layer's own is used up."""
    upper = layer.tree
    _link(lower, layer)
    for parts in map(words, layer.whiteouts):
        node = _below(lower, upper, parts[:-1])
        if node is not None:
            node.pop(parts[-1])
    for parts in map(words, layer.opaques):
        node = _below(lower, upper, parts)
        if node is not None:
            node.clear()
    through = Rows(lower.attic)
    _merge_all(lower, upper.root, lower.root, through)
    while len(through):  # what goes through links, once all that has its place is there
        again, through = through, Rows(lower.attic)
        for path, to in again:
            kid = upper.literal(words(path))
            assert kid is not None
            _merge_all(lower, kid, _there(lower, [*words(to), kid.name]), through)
    lower.add(upper.count)


def _merge_all(lower: Tree, above: Dir, below: Dir, through: Rows) -> None:
    levels = [_merged(lower, above, below, through)]
    while levels:
        pair = next(levels[-1], None)
        if pair is None:
            levels.pop()
        else:
            levels.append(_merged(lower, *pair, through))


def _merged(lower: Tree, above: Dir, below: Dir, through: Rows) -> Iterator[tuple[Dir, Dir]]:
    """Lay what is in a directory over another; what both have of directories is still to do, and given."""
    if not lower.has(below):  # what went through a link may have replaced it
        below = _there(lower, below.path())
    if above.meta is not None:
        below.meta = above.meta
    for name, kid in above.items():
        twin = below.get(name)
        if isinstance(kid, Dir) and isinstance(twin, Dir):
            yield kid, twin
        elif isinstance(kid, Dir) and kid.meta is None and twin is not None and twin[0] == "l":
            through.append((b"/".join(kid.path()), b"/".join(below.path())))
        else:
            if isinstance(kid, Dir):
                kid.parent = below
            lower.set(below, name, kid)


def _there(lower: Tree, parts: Path) -> Dir:
    """A directory that is made if there is none, or something else."""
    found = lower.find(parts, make=True)
    assert found is not None
    return found


def _below(lower: Tree, upper: Tree, parts: Path) -> Dir | None:
    """The lower directory that a mark in an upper layer is about, None if there is none.

    It goes through lower links as names do, but not through what the layer replaces anyhow.
    """
    below: Dir | None = lower.root
    above: Dir | None = upper.root
    for part in parts:
        kid = above.get(part) if above else None
        if kid is not None and not isinstance(kid, Dir):
            return None
        if kid is not None and kid.meta is not None:
            found = below.get(part) if below else None
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


def _link(lower: Tree, layer: Layer) -> None:
    """Make the hard links whose targets are in lower layers."""
    for path, to in layer.links:
        parts, target = words(path), words(to)
        node, holder = layer.tree.find(parts[:-1]), lower.find(target[:-1])
        found = holder.get(target[-1]) if holder else None
        if isinstance(found, Dir):
            bad(parts, "a hard link to a directory")
        if found is None or node is None or holder is None:
            bad(parts, f"no such file to link to: {to!r}")
        layer.tree.link(node, parts[-1], holder, target[-1])
