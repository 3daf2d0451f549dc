"""What is remembered of an image with very many parts: bytes by digest, and which digests were seen.

Memory for a manifest is some hundred bytes however large it is, for a digest forty: an index may lead
to a hundred thousand manifests, and they to a million layers.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oci_tools.image.layout import Descriptor

ROOM = 1 << 20  # bytes that stay in memory; what comes after them goes into a file without a name
COST = 200  # bytes of memory for each that is kept
_LENGTH = 32  # bits of a place for the length; the rest is the offset
_CELL = 16  # bytes of a digest by which it is known here: nobody can find two that begin alike


def _raw(digest: str) -> bytes:
    return bytes.fromhex(digest.partition(":")[2])


class Kept:
    """Bytes by their digest."""

    def __init__(self) -> None:
        self._found: dict[bytes, bytes | int] = {}  # in memory, or where in the file: offset << 32 | length
        self._room = ROOM
        self._fd = -1
        self._end = 0

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def __contains__(self, digest: str) -> bool:
        return _raw(digest) in self._found

    def __len__(self) -> int:
        return len(self._found)

    def put(self, digest: str, data: bytes) -> None:
        key = _raw(digest)
        if key in self._found:
            return
        self._room -= len(data)
        if self._room >= 0:
            self._found[key] = data
            return
        directory = fs.root()
        try:
            if self._fd < 0:
                directory = fs.make_private(f"{fs.make_private(directory)}/cache")
                self._fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fs.write_all(self._fd, data)
        except OSError as error:
            raise Error("cannot write in", directory, error) from None
        self._found[key] = self._end << _LENGTH | len(data)
        self._end += len(data)

    def get(self, digest: str) -> bytes | None:
        found = self._found.get(_raw(digest))
        if not isinstance(found, int):
            return found
        return os.pread(self._fd, found & ((1 << _LENGTH) - 1), found >> _LENGTH)


class Documents:
    """(bytes, descriptor) of manifests and indexes, in their order, each once."""

    def __init__(self, pairs: Iterable[tuple[bytes, Descriptor]] = ()) -> None:
        self._kept = Kept()
        self._descriptors: list[Descriptor] = []
        for pair in pairs:
            self.append(pair)

    def append(self, pair: tuple[bytes, Descriptor]) -> None:
        data, descriptor = pair
        self._kept.put(descriptor["digest"], data)
        self._descriptors.append(descriptor)

    def get(self, digest: str) -> bytes | None:
        """The bytes of a digest, if they are here."""
        return self._kept.get(digest)

    def __contains__(self, digest: str) -> bool:
        return digest in self._kept

    def __len__(self) -> int:
        return len(self._descriptors)

    def __iter__(self) -> Iterator[tuple[bytes, Descriptor]]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, at: int) -> tuple[bytes, Descriptor]:
        descriptor = self._descriptors[at]
        data = self._kept.get(descriptor["digest"])
        assert data is not None
        return data, descriptor


class Digests:
    """A set of digests, at most half full: cells one behind the other, each where its hash says or in the next free."""

    def __init__(self) -> None:
        self._table = bytearray(1024 * _CELL)
        self._count = 0

    def __contains__(self, digest: str) -> bool:
        return self._find(_cell(digest))[1]

    def add(self, digest: str) -> None:
        if 2 * self._count * _CELL >= len(self._table):
            self._grow()
        self._count += self._put(_cell(digest))

    def _find(self, cell: bytes) -> tuple[int, bool]:
        """(where it is, or would be; whether it is)."""
        table, end = self._table, len(self._table)
        at = hash(cell) % (end // _CELL) * _CELL  # hash() has a secret, so nobody can fill one corner
        while any(there := table[at : at + _CELL]):
            if there == cell:
                return at, True
            at = (at + _CELL) % end
        return at, False

    def _put(self, cell: bytes) -> bool:
        at, known = self._find(cell)
        self._table[at : at + _CELL] = cell
        return not known

    def _grow(self) -> None:
        old = self._table
        self._table = bytearray(4 * len(old))
        for at in range(0, len(old), _CELL):
            if any(cell := bytes(old[at : at + _CELL])):
                self._put(cell)


def _cell(digest: str) -> bytes:
    cell = _raw(digest)[:_CELL]
    return cell if any(cell) else b"\xff" * _CELL  # nothing but zeros is a free cell
