"""The names in a layer's archive: their components, and what some tell of lower layers.

    .wh.NAME       NAME of lower layers is not there: a whiteout (image-spec, layer.md)
    .wh..wh..opq   of the directory it is in, lower layers have nothing: an opaque whiteout
    .wh..wh.*      AUFS's own, left in old images: passed over, save that hard links into .wh..wh.plnk work
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from oci_tools.errors import Error
    from oci_tools.shelf import Rows

    class Marked(Protocol):
        """A layer, which collects what it tells of those below: paths as bytes."""

        whiteouts: Rows
        opaques: Rows


WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
AUFS = b".wh..wh."
AUFS_LINKS = b".wh..wh.plnk"


def clean(name: bytes) -> list[bytes]:
    """A name's components, without `.`; `..` takes the one before it back, and stops at the root."""
    parts = [part for part in name.split(b"/") if part and part != b"."]
    if b".." in parts:
        kept: list[bytes] = []
        for part in parts:
            if part != b"..":
                kept.append(part)
            elif kept:
                kept.pop()
        return kept
    return parts


def words(path: bytes) -> list[bytes]:
    """The components of a path that is clean; of the root none."""
    return path.split(b"/") if path else []


def mark(
    parts: list[bytes], layer: Marked, way: Callable[[list[bytes]], list[bytes]], wrong: Callable[[str], Error]
) -> bool:
    """Whether a name is none of the layer's tree; what it tells of lower layers is put down in the layer.

    `way` says where a directory's name leads through the layer's own links; a name that makes no sense is the Error
    that `wrong` makes of the reason.
    """
    for at, part in enumerate(parts[:-1]):
        if part.startswith(AUFS):
            return at > 0 or part != AUFS_LINKS
        if part.startswith(WHITEOUT):
            raise wrong("a name below a whiteout")
    name = parts[-1]
    if not name.startswith(WHITEOUT):
        return False
    if name == OPAQUE:
        put(layer.opaques, way(parts[:-1]))
    elif name.startswith(AUFS):
        return name != AUFS_LINKS or len(parts) > 1
    elif name[4:] in (b"", b".", b".."):
        raise wrong("a whiteout of nothing")
    else:
        put(layer.whiteouts, [*way(parts[:-1]), name[4:]])
    return True


def put(rows: Rows, parts: list[bytes]) -> None:
    path = b"/".join(parts)
    rows.append(path, len(path))
