"""Names of files by where their bytes are, in an image's layers: for flat.py, in thirty bytes each.

    names.add(path, b"LAYER ENTRY")
    for layer, found in names.of_layers():
        for entry, paths in found: ...         in the order of the layer's archive

Several names of one file come in the order in which they were added.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator


class Names:
    """Paths, most of them in the directory of the one before."""

    def __init__(self) -> None:
        self._directories: list[bytes] = []
        self._names = bytearray()
        self._layers: dict[int, tuple[array[int], array[int], array[int]]] = {}  # entry, directory, where the name ends

    def add(self, path: bytes, place: bytes) -> None:
        from array import array

        directory, slash, name = path.rpartition(b"/")
        directory += slash
        if not self._directories or self._directories[-1] != directory:
            self._directories.append(directory)
        self._names += name + b"\0"
        number, _, entry = place.partition(b" ")
        rows = self._layers.setdefault(int(number), (array("I"), array("I"), array("I")))
        for row, value in zip(rows, (int(entry), len(self._directories) - 1, len(self._names) - 1), strict=True):
            row.append(value)

    def of_layers(self) -> Iterator[tuple[int, Iterator[tuple[int, Iterator[bytes]]]]]:
        for number in sorted(self._layers):
            yield number, self._of(number)

    def _of(self, number: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        from array import array

        rows, _, _ = self._layers[number]
        first = array("I", [0]) * (max(rows) + 1)  # of each entry, one more than the row of its first name; 0 is none
        more = array("I", [0]) * len(rows)  # of each row the same of the entry's next name
        for at in range(len(rows) - 1, -1, -1):
            more[at], first[rows[at]] = first[rows[at]], at + 1
        for entry, at in enumerate(first):
            if at:
                yield entry, self._paths(number, at - 1, more)

    def _paths(self, number: int, at: int, more: array[int]) -> Iterator[bytes]:
        _, directories, ends = self._layers[number]
        while at >= 0:
            start = self._names.rfind(b"\0", 0, ends[at]) + 1
            yield self._directories[directories[at]] + bytes(self._names[start : ends[at]])
            at = more[at] - 1
