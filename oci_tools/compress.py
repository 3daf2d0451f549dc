"""Streams of compressed bytes: gzip (RFC 1952), zstd (RFC 8878), plain.

Reading is exact: every member's checksum and size is judged, an early end is an Error, and so
is anything after the last member or frame that begins no other, zeros too: what other unpackers
refuse, an image must not be able to smuggle past them.  (ISA-L lets pass a table of distances that could
not be, in a block without any; its bytes are judged by checksum and digest as all are.)  Files are
found by their content, never by a name or media type.

Writing gives the same bytes for the same input on every machine, whatever its processors:

    gzip   a member without name or time for every MiB; libdeflate's levels (ISA-L's bytes depend on
           what the processor can do, zlib's on which zlib the system has), by default 1 to 3 by content
    zstd   one frame with checksum, in jobs of the library's own size

What these bytes are has a name, the compatibility level (COMPATIBILITY): it changes when they do, and what an
earlier one says can still be made.  Another version of a library may make others; `is_compatible` tries it.

Only this module imports isal and zstandard; gzip is written by libdeflate.py.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

PIECE = 256 << 10  # bytes: of one read, and at most of one piece of plain output
BLOCK_MAX = 128 << 10  # bytes of output of one zstd block
ZSTD_WINDOW = 128 << 20  # bytes: what the zstd tool takes without being asked to

# Lowest, highest, default; gzip's is by content.
LEVELS: dict[str, tuple[int, int, int | None]] = {"none": (0, 0, 0), "gzip": (1, 9, None), "zstd": (1, 19, 3)}
COMPATIBILITY = 2  # SUMS below are what it says
EARLIER: dict[int, dict[str, int]] = {1: {"gzip": 2}, COMPATIBILITY: {}}  # what was another default then

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
)


def kind(head: bytes) -> str:
    """What a stream is by its first bytes: "gzip", "zstd", "xz", "bzip2", "lz4", else "none"."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    # A zstd blob may begin with a skippable frame: 0x184D2A50 to 0x184D2A5F, little-endian.
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F:
        return "zstd"
    return "none"


# -- reading ---------------------------------------------------------------------------


def read_pieces(stream: Any, size: int = PIECE) -> Iterator[bytes]:
    """What is left of a stream, in pieces as they come."""
    while data := stream.read(size):
        yield data


def expand(pieces: Iterable[bytes], subject: object = "stream") -> Iterator[bytes]:
    """The plain bytes of compressed or plain ones, in pieces of at most PIECE bytes.

    All that is given is read to its end, whatever the reader does with what it gets.
    """
    source = iter(pieces)
    head = b""
    for piece in source:
        head += piece
        if len(head) >= 6:
            break
    name = kind(head)
    if name == "none":
        return _chain(head, source)
    if name == "gzip":
        return _inflate(_Input(head, source, subject), subject)
    if name == "zstd":
        return _zstd(_Input(head, source, subject), subject)
    raise Error("cannot read", subject, f"{name} compression is none of the image specification's")


def _chain(head: bytes, source: Iterable[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from source


class _Input:
    """The compressed bytes, from which headers and trailers are taken by length."""

    def __init__(self, head: bytes, source: Iterator[bytes], subject: object) -> None:
        self.data = head
        self._source = source
        self._subject = subject

    def more(self) -> bool:
        """Have at least one byte in `data`, if there is one."""
        while not self.data:
            piece = next(self._source, None)
            if piece is None:
                return False
            self.data = piece
        return True

    def take(self, n: int) -> bytes:
        while len(self.data) < n:
            piece = next(self._source, None)
            if piece is None:
                raise Error("cannot decompress", self._subject, "the stream ends early")
            self.data += piece
        taken, self.data = self.data[:n], self.data[n:]
        return taken

    def skip(self, n: int) -> None:
        while n:
            if not self.more():
                self.take(1)
            gone = min(n, len(self.data))
            self.data = self.data[gone:]
            n -= gone

    def skip_string(self) -> None:
        while not self.data or (end := self.data.find(b"\0")) < 0:
            self.data = b""
            if not self.more():
                self.take(1)
        self.data = self.data[end + 1 :]


def _inflate(given: _Input, subject: object) -> Iterator[bytes]:
    """The members of a gzip stream.

    Headers are read here, not by isal, whose reader of them fails where a header with flags is
    cut in two between calls (seen in isal 1.9); checksums therefore too.
    """
    from isal import igzip_lib, isal_zlib

    while given.more():
        _gzip_header(given, subject)
        crc = count = 0
        engine = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
        while not engine.eof:
            data = b""
            if engine.needs_input:
                if not given.more():
                    raise Error("cannot decompress", subject, "the stream ends early")
                data, given.data = given.data, b""
            try:
                piece = engine.decompress(data, PIECE)
            except igzip_lib.IsalError as error:  # type: ignore[misc]
                raise Error("cannot decompress", subject, _lower(error)) from None
            if piece:
                crc = isal_zlib.crc32(piece, crc)
                count += len(piece)
                yield piece
        given.data = engine.unused_data + given.data
        trailer = given.take(8)
        if trailer != crc.to_bytes(4, "little") + (count & 0xFFFFFFFF).to_bytes(4, "little"):
            raise Error("cannot decompress", subject, "wrong checksum")


def _gzip_header(given: _Input, subject: object) -> None:
    if given.take(1) != b"\x1f" or given.take(1) != b"\x8b":
        raise Error("cannot decompress", subject, "something that is not gzip follows the stream")
    method, flags = given.take(8)[:2]
    if method != 8 or flags & 0xE0:
        raise Error("cannot decompress", subject, "a header of an unknown kind")
    if flags & 4:
        given.take(int.from_bytes(given.take(2), "little"))
    if flags & 8:
        given.skip_string()
    if flags & 16:
        given.skip_string()
    if flags & 2:
        given.take(2)


def _zstd(given: _Input, subject: object) -> Iterator[bytes]:
    """The frames of a zstd stream; skippable ones (zstd:chunked keeps its index there) give nothing.

    The frames are cut into blocks here (RFC 8878, 3.1.1), because the library itself tells neither
    an early end, nor lets the output of one call be bounded: a block of 4 bytes gives 128 KiB.
    """
    import zstandard

    context = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    while given.more():
        magic = given.take(4)
        if kind(magic) != "zstd":
            raise Error("cannot decompress", subject, "something that is not zstd follows the stream")
        if magic != b"\x28\xb5\x2f\xfd":
            given.skip(int.from_bytes(given.take(4), "little"))
            continue
        engine = context.decompressobj()
        descriptor = given.take(1)[0]
        single, checksum = descriptor >> 5 & 1, 4 * (descriptor >> 2 & 1)
        size = (single, 2, 4, 8)[descriptor >> 6] + (0, 1, 2, 4)[descriptor & 3] + (1 - single)
        data = magic + bytes((descriptor,)) + given.take(size)
        last = False
        while not last:
            header = given.take(3)
            block = int.from_bytes(header, "little")
            last = bool(block & 1)
            data += header + given.take(1 if block & 6 == 2 else min(block >> 3, BLOCK_MAX + 1))
            if last:
                data += given.take(checksum)
            try:
                piece = engine.decompress(data)
            except zstandard.ZstdError as error:
                raise Error("cannot decompress", subject, _lower(error)) from None
            data = b""
            if piece:
                yield piece
        if not engine.eof:
            raise Error("cannot decompress", subject, "a frame does not end where it should")


# -- writing ---------------------------------------------------------------------------


def writer(stream: Any, name: str, level: int | None = None, threads: int | None = None) -> Any:
    """A stream that compresses what is written into `stream`; `close` ends it, not `stream`.

    What `stream` is given is good until its `write` returns.

    name    "gzip", "zstd" or "none"
    level   of LEVELS; None for the default
    threads how many processors work; the bytes do not depend on it
    """
    if name not in LEVELS:
        raise Error("unknown compression", name, hint=f"one of {', '.join(LEVELS)}")
    lowest, highest, default = LEVELS[name]
    level = default if level is None else level
    if level is not None and not lowest <= level <= highest:
        raise Error("unknown compression level", level, f"{name} has {lowest} to {highest}")
    threads = threads or len(os.sched_getaffinity(0))
    if name == "gzip":
        from oci_tools.libdeflate import Members

        return Members(stream, level, threads)
    return _Zstd(stream, level or 0, threads) if name == "zstd" else _Plain(stream)


class _Plain:
    """Leaving its `with` block frees what it holds; only `close` ends what is written.

    Who can put bytes in a place asks for `room`, and says then how many it has `filled`.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._room: memoryview | None = None

    def write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)

    def room(self) -> memoryview:
        """A place for the next bytes, good until anything else is called."""
        if self._room is None:
            self._room = memoryview(bytearray(PIECE))
        return self._room

    def filled(self, count: int) -> None:
        """So many bytes were put into the `room`."""
        self.write(self.room()[:count])

    def close(self) -> None:
        pass

    def __enter__(self) -> _Plain:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Zstd(_Plain):
    def __init__(self, stream: Any, level: int, threads: int) -> None:
        import zstandard

        super().__init__(stream)
        # With one worker or more the library cuts the input in jobs, with none it does not:
        # always at least one, so that the bytes are the same everywhere.
        context = zstandard.ZstdCompressor(level=level, write_checksum=True, threads=max(1, threads))
        self._engine = context.compressobj()

    def write(self, data: bytes | memoryview) -> None:
        self._stream.write(self._engine.compress(data))

    def close(self) -> None:
        self._stream.write(self._engine.flush())


# CRC-32 of what becomes of `_sample`, for every level from the lowest: compatibility levels 1 and 2.
SUMS = {
    "gzip": (
        0x96e5fa26, 0x755cf0d2, 0x0a4505c5, 0x0d960c90, 0xb6d5b483, 0x9db1fa41, 0x24965f11, 0xa989af5c, 0xa989af5c,
    ),
    "zstd": (
        0xbfb176f3, 0xaddc54c0, 0x3cc63c7a, 0x51374e58, 0x1989b88e, 0x6fbad27c, 0xb1728d4f, 0x432db50b, 0xe3c00c90,
        0xe3c00c90, 0xe3c00c90, 0xe3c00c90, 0x0904ba23, 0x0904ba23, 0x0904ba23, 0x712e0ad9, 0xffb98c88, 0x9b296b05,
        0x574a7fe1,
    ),
}  # fmt: skip


def is_compatible(name: str, level: int | None = None) -> bool:
    """Whether the libraries here make what COMPATIBILITY says; tells it by an example."""
    from oci_tools.libdeflate import BY_CONTENT

    lowest, _, default = LEVELS[name]
    level = default if level is None else level
    levels = BY_CONTENT if level is None else (level,)
    return name == "none" or all(_sum(name, each) == SUMS[name][each - lowest] for each in levels)


def _sum(name: str, level: int) -> int:
    import io
    import zlib

    found = io.BytesIO()
    with writer(found, name, level, 1) as stream:
        stream.write(_sample())
        stream.close()
    return zlib.crc32(found.getvalue())


def _sample() -> bytes:
    """Bytes that repeat themselves here and there."""
    return b"".join(b"%d %x\n" % (n, n * n * 2654435761 & 0xFFFFF) for n in range(4000))


def _lower(error: Exception) -> str:
    text = str(error).rpartition(": ")[2]
    return text[:1].lower() + text[1:]
