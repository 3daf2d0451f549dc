"""What is remembered of an image with very many parts: bytes by digest, and which digests were seen.

An index may lead to a hundred thousand manifests, and they to a million layers: the first of them are in memory,
what comes after them is in files without a name.

    Kept        digest -> bytes
    Documents   (bytes, descriptor) of manifests, in their order
    Digests     a set of digests, always in memory: 32 to 128 bytes for each
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oci_tools.image.layout import Descriptor

ROOM = 1 << 20  # bytes that stay in memory; what comes after them goes into a file
FEW = 2000  # digests for which it is in memory where their bytes are
_LENGTH = 32  # bits of a place for the length; the rest is the offset
_CELL = 16  # bytes of a digest by which it is known here: nobody can find two that begin alike
_ROW = 2 * _CELL  # bytes of a row of a table: those, and the place
_BLOCK = 1 << 16  # bytes of a table that are read at once


def _raw(digest: str) -> bytes:
    return bytes.fromhex(digest.partition(":")[2])


class _File:
    """A file without a name, made when it is first needed."""

    def __init__(self) -> None:
        self._fd = -1

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    @property
    def fd(self) -> int:
        if self._fd < 0:
            directory = fs.root()
            try:
                directory = fs.make_private(f"{fs.make_private(directory)}/cache")
                self._fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise Error("cannot write in", directory, error) from None
        return self._fd

    def write(self, data: bytes, offset: int) -> None:
        try:
            view = memoryview(data)
            while view:
                count = os.pwrite(self.fd, view, offset)
                view, offset = view[count:], offset + count
        except OSError as error:
            raise Error("cannot write in", f"{fs.root()}/cache", error) from None


class _Pieces:
    """Bytes, one behind the other; each has a place: its offset << 32 | its length."""

    def __init__(self) -> None:
        self._memory = bytearray()  # from offset 0 on
        self._file = _File()  # from offset ROOM on
        self._end = ROOM

    def write(self, data: bytes) -> int:
        offset = len(self._memory)
        if offset + len(data) <= ROOM:
            self._memory += data
        else:
            offset, self._end = self._end, self._end + len(data)
            self._file.write(data, offset - ROOM)
        return offset << _LENGTH | len(data)

    def read(self, place: int) -> bytes:
        offset, length = place >> _LENGTH, place & ((1 << _LENGTH) - 1)
        if offset < ROOM:
            return bytes(self._memory[offset : offset + length])
        return os.pread(self._file.fd, length, offset - ROOM)


class _Places:
    """The place of each digest: a dict, or of many a table in a file, each in the row that its hash says or behind."""

    def __init__(self) -> None:
        self._few: dict[bytes, int] = {}
        self._count = 0
        self._file = _File()
        self._rows = 0

    def __len__(self) -> int:
        return self._count

    def get(self, cell: bytes) -> int | None:
        if not self._rows:
            return self._few.get(cell)
        _, row = self._find(cell)
        return int.from_bytes(row[_CELL:], "big") if any(row) else None

    def put(self, cell: bytes, place: int) -> None:
        """Of a digest that has none yet."""
        self._count += 1
        if not self._rows and self._count <= FEW:
            self._few[cell] = place
            return
        if 2 * self._count > self._rows:
            self._grow()
        at, _ = self._find(cell)
        self._file.write(cell + place.to_bytes(_CELL, "big"), at * _ROW)

    def _find(self, cell: bytes) -> tuple[int, bytes]:
        """(where it is, or would be; its row, or a free one)"""
        at = hash(cell) % self._rows  # hash() has a secret, so nobody can fill one corner
        while any(row := os.pread(self._file.fd, _ROW, at * _ROW)) and row[:_CELL] != cell:
            at = (at + 1) % self._rows
        return at, row

    def _grow(self) -> None:
        old, rows = self._file, self._rows
        known = list(self._few.items())
        self._few = {}
        self._file, self._rows = _File(), max(8 * FEW, 4 * rows)
        self._file.write(bytes(1), self._rows * _ROW - 1)  # all before it are zeros too
        for cell, place in known:
            self._move(cell, place.to_bytes(_CELL, "big"))
        for start in range(0, rows * _ROW, _BLOCK):
            block = os.pread(old.fd, _BLOCK, start)
            for at in range(0, len(block), _ROW):
                if any(block[at : at + _CELL]):
                    self._move(block[at : at + _CELL], block[at + _CELL : at + _ROW])

    def _move(self, cell: bytes, place: bytes) -> None:
        self._file.write(cell + place, self._find(cell)[0] * _ROW)


class Kept:
    """Bytes by their digest."""

    def __init__(self) -> None:
        self._places = _Places()
        self._pieces = _Pieces()

    def __contains__(self, digest: str) -> bool:
        return self._places.get(_cell(digest)) is not None

    def __len__(self) -> int:
        return len(self._places)

    def put(self, digest: str, data: bytes) -> None:
        """What is kept already stays."""
        if digest not in self:
            self._places.put(_cell(digest), self._pieces.write(data))

    def get(self, digest: str) -> bytes | None:
        place = self._places.get(_cell(digest))
        return None if place is None else self._pieces.read(place)


class Documents:
    """(bytes, descriptor) of manifests and indexes, in their order, each once."""

    def __init__(self, pairs: Iterable[tuple[bytes, Descriptor]] = ()) -> None:
        self._kept = Kept()
        self._descriptors = _Pieces()
        self._order = bytearray()  # places of the descriptors, of 8 bytes
        for pair in pairs:
            self.append(pair)

    def append(self, pair: tuple[bytes, Descriptor]) -> None:
        data, descriptor = pair
        self._kept.put(descriptor["digest"], data)
        self._order += self._descriptors.write(document.dumps(descriptor)).to_bytes(8, "big")

    def get(self, digest: str) -> bytes | None:
        """The bytes of a digest, if they are here."""
        return self._kept.get(digest)

    def __contains__(self, digest: str) -> bool:
        return digest in self._kept

    def __len__(self) -> int:
        return len(self._order) // 8

    def __iter__(self) -> Iterator[tuple[bytes, Descriptor]]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, at: int) -> tuple[bytes, Descriptor]:
        at += len(self) if at < 0 else 0
        if not 0 <= at < len(self):
            raise IndexError(at)
        place = int.from_bytes(self._order[8 * at : 8 * at + 8], "big")
        descriptor = document.loads(self._descriptors.read(place))
        data = self._kept.get(descriptor["digest"])
        assert data is not None
        return data, descriptor


class Digests:
    """A set of digests, at most half full: cells one behind the other, each where its hash says or in the next free."""

    def __init__(self) -> None:
        self._table = bytearray(1024 * _CELL)
        self._count = 0

    def __len__(self) -> int:
        return self._count

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
