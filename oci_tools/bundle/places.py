"""Names of files by where their bytes are, in an image's layers: for flat.py.

    names.add(path, b"LAYER ENTRY")
    for layer, entry, paths in names.places(): ...      the lowest layer first, in the order of its archive

Several names of one file come in the order in which they were added; they are to be taken before the next file is.
"""

from __future__ import annotations

from itertools import groupby

from oci_tools.shelf import Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci_tools.shelf import Attic


class Names:
    """Paths by keys that sort as they are wanted: layer, entry, how many were added before."""

    def __init__(self, attic: Attic) -> None:
        self._paths = Shelf(attic)
        self._count = 0

    def add(self, path: bytes, place: bytes) -> None:
        number, _, entry = place.partition(b" ")
        self._count += 1
        key = int(number) << 96 | int(entry) << 48 | self._count
        self._paths.set(key.to_bytes(16, "big"), path, len(path))

    def places(self) -> Iterator[tuple[int, int, Iterator[bytes]]]:
        for key, rows in groupby(self._paths.items(), lambda row: row[0][:10]):
            yield int.from_bytes(key[:4], "big"), int.from_bytes(key[4:], "big"), (path for _, path in rows)
