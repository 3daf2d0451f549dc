"""Compressed streams: read exactly or refused, written the same everywhere."""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import zstandard
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from oci_tools import compress
from oci_tools.libdeflate import MEMBER
from oci_tools.errors import Error

DATA = random.Random(1).randbytes(300_000) + b"x" * 3_000_000 + b"end"
SKIPPABLE = b"\x51\x2a\x4d\x18" + struct.pack("<I", 5) + b"index"


def expand(data: bytes, size: int = compress.PIECE) -> bytes:
    return b"".join(compress.expand(compress.read_pieces(io.BytesIO(data), size)))


class Sink:
    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data


def pack(data: bytes, kind: str, level: int | None = None, threads: int | None = None, step: int = 1 << 16) -> bytes:
    sink = Sink()
    with compress.writer(sink, kind, level, threads) as writer:
        for at in range(0, len(data), step):
            writer.write(data[at : at + step])
        writer.close()
    return bytes(sink.data)


def named_member(data: bytes) -> bytes:
    """A gzip member with every optional field in its header."""
    plain = gzip.compress(data)
    head = plain[:3] + bytes([2 | 4 | 8 | 16]) + plain[4:10]
    head += struct.pack("<H", 5) + b"extra" + b"name\0" + b"comment\0"
    return head + struct.pack("<H", zlib.crc32(head) & 0xFFFF) + plain[10:]


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (gzip.compress(b"", mtime=0), "gzip"),
        (zstandard.compress(b""), "zstd"),
        (SKIPPABLE, "zstd"),
        (b"\xfd7zXZ\0\0", "xz"),
        (b"BZh9", "bzip2"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"name\0", "none"),
        (b"", "none"),
        (b"\x28", "none"),
    ],
)
def test_kinds_are_found_by_their_first_bytes(head: bytes, kind: str) -> None:
    assert compress.kind(head) == kind


@pytest.mark.parametrize("size", [1, 7, 4096, compress.PIECE])
def test_gzip_members_one_after_the_other(size: int) -> None:
    data = DATA[299_000:303_000] if size == 1 else DATA
    blob = gzip.compress(data) + gzip.compress(b"") + named_member(b"two") + named_member(b"")
    assert expand(blob, size) == data + b"two"


@pytest.mark.parametrize("size", [1, 7, 4096, compress.PIECE])
def test_zstd_frames_and_skippable_ones(size: int) -> None:
    data = DATA[299_000:303_000] if size == 1 else DATA
    stream = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    unsized = stream.compress(data) + stream.flush()
    blob = SKIPPABLE + zstandard.compress(data) + SKIPPABLE + unsized + zstandard.compress(b"") + SKIPPABLE
    assert expand(blob, size) == data + data


@pytest.mark.parametrize("data", [b"", b"a", b"tar", DATA])
def test_plain_bytes_stay(data: bytes) -> None:
    assert expand(data) == data


@pytest.mark.parametrize("make", [gzip.compress, zstandard.ZstdCompressor(write_checksum=True).compress])
@pytest.mark.parametrize("spoil", ["cut", "cut early", "zeros", "garbage", "half", "changed sum", "changed data"])
def test_what_is_not_exact_is_refused(make: Any, spoil: str) -> None:
    blob = make(DATA)
    spoilt = {
        "cut": blob[:-1],
        "cut early": blob[: len(blob) // 2],
        "zeros": blob + bytes(512),
        "garbage": blob + b"garbage",
        "half": blob + blob[:3],
        "changed sum": blob[:-6] + bytes([blob[-6] ^ 1]) + blob[-5:],
        "changed data": blob[:200_000] + bytes([blob[200_000] ^ 1]) + blob[200_001:],
    }[spoil]
    if make is not gzip.compress and spoil == "changed sum":
        spoilt = blob[:-2] + bytes([blob[-2] ^ 1]) + blob[-1:]
    with pytest.raises(Error, match="cannot decompress 'stream': "):
        expand(spoilt)


def test_other_compressions_are_named() -> None:
    import lzma

    with pytest.raises(Error, match="xz compression is none of the image specification's"):
        expand(lzma.compress(b"data"))


@pytest.mark.parametrize("make", [gzip.compress, zstandard.compress])
def test_what_expands_a_thousand_times_comes_in_pieces(make: Any) -> None:
    blob = make(bytes(64 << 20))
    sizes = [len(piece) for piece in compress.expand(iter([blob]))]
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= compress.PIECE


def test_a_gzip_name_without_end_costs_no_square_time() -> None:
    head = b"\x1f\x8b\x08\x08" + bytes(6)
    with pytest.raises(Error, match="ends early"):
        expand(head + b"n" * (8 << 20))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.binary(max_size=300), max_size=5), st.sampled_from(["gzip", "zstd", "none"]), st.integers(1, 64))
def test_what_is_written_is_read(parts: list[bytes], kind: str, size: int) -> None:
    data = b"".join(parts)
    assume(kind != "none" or compress.kind(data) == "none")
    assert expand(pack(data, kind, step=100), size) == data


@pytest.mark.parametrize(("kind", "level"), [("gzip", None), ("gzip", 1), ("gzip", 6), ("zstd", None), ("zstd", 12)])
def test_bytes_depend_neither_on_threads_nor_on_pieces(kind: str, level: int | None) -> None:
    blobs = {pack(DATA, kind, level, threads, step) for threads, step in ((1, 1 << 20), (2, 77_777), (5, 4096))}
    assert len(blobs) == 1
    assert expand(blobs.pop()) == DATA


ALL = [(kind, level) for kind in ("gzip", "zstd") for level in range(compress.LEVELS[kind][0], compress.LEVELS[kind][1] + 1)]


def test_bytes_are_what_the_compatibility_level_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has other libraries, and other bytes, is told so; here they are these, or SUMS needs another level."""
    assert [each for each in ALL if not compress.is_compatible(*each)] == []
    assert compress.is_compatible("none") and compress.is_compatible("gzip")
    monkeypatch.setattr(compress, "_sample", lambda: b"other")
    assert [each for each in ALL if compress.is_compatible(*each)] == []


@pytest.mark.needs("qemu-x86_64")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="needs x86-64")
@pytest.mark.parametrize("processor", ["Haswell", "Nehalem", "core2duo"])
def test_bytes_do_not_depend_on_the_processor(processor: str) -> None:
    """Not on AVX2, nor on SSE 4.2."""
    code = (
        f"import sys; sys.path[:0] = {[str(compress.__file__).rpartition('/oci_tools/')[0], *sys.path]}\n"
        f"from oci_tools import compress\n"
        f"print(all(compress.is_compatible(*each) for each in {ALL[:9] + ALL[9:15]}))"
    )
    done = subprocess.run(["qemu-x86_64", "-cpu", processor, sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_each_member_of_gzip_has_the_level_that_suits_it() -> None:
    made = random.Random(5)
    text = b"".join(b"%d a line of text that is the same but for a number\n" % n for n in range(MEMBER // 50))[:MEMBER]
    words = bytes(made.choices(b"abcdefghijklmnop", k=MEMBER))
    noise = made.randbytes(MEMBER)
    expected = pack(words, "gzip", 1) + pack(text, "gzip", 3) + pack(noise, "gzip", 1) + pack(b"few", "gzip", 2)
    assert pack(words + text + noise + b"few", "gzip") == expected


@pytest.mark.parametrize("size", [0, 1, MEMBER - 1, MEMBER, MEMBER + 1, MEMBER * 5 // 2])
def test_gzip_members_end_anywhere(size: int) -> None:
    data = DATA[:size]
    blob = pack(data, "gzip")
    assert gzip.decompress(blob) == data
    assert blob[4:8] == bytes(4) and blob[3] == 0, "neither time nor name"


def test_gzip_is_no_larger_than_the_tools() -> None:
    with open(os.__file__, "rb") as file:
        data = file.read() * 3 + DATA[:100_000]
    assert len(pack(data, "gzip")) <= 1.10 * len(gzip.compress(data, 6))
    assert len(pack(data, "gzip", 6)) <= len(gzip.compress(data, 6))


@pytest.mark.parametrize(("kind", "level"), [("gzip", 0), ("gzip", 10), ("zstd", 20), ("none", 1), ("lzma", None)])
def test_unknown_levels_and_kinds(kind: str, level: int | None) -> None:
    with pytest.raises(Error, match="unknown compression"):
        compress.writer(Sink(), kind, level)


def test_a_full_disk_ends_a_writer_and_its_threads() -> None:
    class Full:
        def write(self, data: bytes) -> None:
            if len(data) > 100:
                raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"), compress.writer(Full(), "gzip") as writer:
        for _ in range(100):
            writer.write(DATA)


def test_reading_stops_at_an_error_of_the_source() -> None:
    def broken() -> Iterator[bytes]:
        yield gzip.compress(DATA)[:1000]
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        list(compress.expand(broken()))
