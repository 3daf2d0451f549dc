"""A layer's archive as it is, entry by entry: for who wants bytes out of it and no tree."""

from __future__ import annotations

from oci_tools import compress
from oci_tools.layer.ahead import Ahead
from oci_tools.tar import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.layer.apply import Source
    from oci_tools.layer.limits import Limits
    from oci_tools.tar import Entry

PIECE = 1 << 18


def read(source: Source, limits: Limits) -> Iterator[tuple[Entry, Reader]]:
    """The entries of a layer, not verified: it was read before.  The rest is not read if nobody asks."""
    with source.open() as stream, Ahead(limits.expand(compress.read_pieces(stream), source)) as pieces:
        reader = Reader(pieces, limits, source)
        for entry in reader:
            yield entry, reader


def archive(stream: Any, limits: Limits) -> Reader:
    """The entries of an archive that somebody packs, compressed or not; GNU tar's old sparse files too."""
    return Reader(limits.expand(compress.read_pieces(stream), "the archive"), limits, "the archive", True)


def plain(entry: Entry, reader: Reader) -> Iterator[bytes]:
    """A file's bytes with its holes as zeros."""
    if entry.sparse is None:
        for view in reader.data():
            yield bytes(view)
        return
    views, view, end = reader.data(), memoryview(b""), 0
    for offset, length in [*entry.sparse, (entry.size, 0)]:
        for at in range(end, offset, PIECE):
            yield bytes(min(PIECE, offset - at))
        end = offset + length
        while length:
            view = view or next(views)
            yield bytes(view[:length])
            view, length = view[length:], length - min(length, len(view))
