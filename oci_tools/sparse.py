"""Files with holes in tar archives, for tar.py: GNU's three ways in pax headers, and its old one.

    pax 0.0    a record for each number: GNU.sparse.offset, GNU.sparse.numbytes
    pax 0.1    one record, GNU.sparse.map: offset,length,...
    pax 1.0    the data begins with decimal lines, count and pairs, filled up to a block
    old GNU    type "S": in the header four pairs at 386, each number 12 bytes; whether there is more at 482;
               the file's size at 483.  More is blocks of 21 pairs, whether there is more at 504

All unpackers of images refuse the old one in a layer, whatever their tar readers can do, so we
do too; in an archive that somebody packs it is what `tar -S` writes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # a tar.Reader and a tar.Entry: tar.py imports this module

BLOCK = 512


def from_pax(reader: Any, entry: Any, sparse: dict[bytes, bytes], pairs: list[int]) -> None:
    """What pax records say of a file: 0.0 in `pairs`, 0.1 and 1.0 in `sparse`."""
    entry.name = sparse.get(b"name") or entry.name
    version = (sparse.get(b"major", b"0"), sparse.get(b"minor", b"0"))
    size = sparse.get(b"realsize") if version[0] == b"1" else sparse.get(b"size")
    if version == (b"1", b"0"):
        entry.sparse = []  # read later, from the head of the data
    elif version[0] == b"0":
        if b"map" in sparse:
            pairs = [reader.decimal(number) for number in sparse[b"map"].split(b",") if number]
        if not pairs and size is None:
            return
        set_map(reader, entry, pairs, entry.size, reader.decimal(size or b"0"))
    else:
        reader.bad("a sparse file of unknown version", entry.name)
    if size is not None:
        entry.size = reader.decimal(size)


def set_map(reader: Any, entry: Any, pairs: list[int], stored: int, size: int) -> None:
    """Let a file have pieces: offsets and lengths in turn, of `stored` bytes in all."""
    entry.sparse = list(zip(pairs[::2], pairs[1::2], strict=False))
    end = 0
    for offset, length in entry.sparse:
        if offset < end or length < 0:
            reader.bad("a sparse file whose pieces overlap", entry.name)
        end = offset + length
    if len(pairs) % 2 or end > size or sum(pairs[1::2]) != stored:
        reader.bad("a sparse file whose pieces do not add up", entry.name)


def read_map(reader: Any, entry: Any, left: int, most: int) -> int:
    """Version 1.0's map, of at most `most` bytes, from the head of `left` bytes of data; what is left then."""
    text = b""

    def more() -> None:
        nonlocal text, left
        if left < BLOCK or len(text) > most:
            reader.bad("a sparse file without its map", entry.name)
        text += reader.take(BLOCK)
        left -= BLOCK

    while b"\n" not in text:
        more()
    count = reader.decimal(text.partition(b"\n")[0])
    if count > most:
        reader.bad("a sparse file with too many pieces", entry.name)
    while text.count(b"\n") < 1 + 2 * count:
        more()
    pairs = [reader.decimal(number) for number in text.split(b"\n", 1 + 2 * count)[1 : 1 + 2 * count]]
    set_map(reader, entry, pairs, left, entry.size)
    return left


def read_old(reader: Any, entry: Any, header: bytes, most: int) -> None:
    """The old way, for an entry whose size is that of its data; blocks that follow the header are taken."""
    stored = entry.size
    entry.size = reader.number(header[483:495], "size")
    pairs = _pairs(reader, header[386:482])
    more = header[482]
    while more:
        if 8 * len(pairs) > most:
            reader.bad("a sparse file with too many pieces", entry.name)
        block = reader.take(BLOCK)
        pairs += _pairs(reader, block[:504])
        more = block[504]
    set_map(reader, entry, pairs, stored, entry.size)


def _pairs(reader: Any, data: bytes) -> list[int]:
    """Numbers of 12 bytes each, as far as there are some."""
    found: list[int] = []
    for at in range(0, len(data), 24):
        if not data[at]:
            break
        found += [reader.number(data[at : at + 12], "offset"), reader.number(data[at + 12 : at + 24], "size")]
    return found
