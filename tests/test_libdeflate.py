"""Members of gzip: the binding and the system's library make the same bytes, which gzip reads."""

from __future__ import annotations

import gzip
import random
import sys

import pytest

from oci_tools import libdeflate
from oci_tools.libdeflate import Compressor, bound


def made(data: bytes, level: int) -> bytes:
    room = bytearray(bound(len(data)))
    with Compressor(level) as compressor:
        compressor.gzip(bytearray(b"another member before"), 21, bytearray(bound(21)))
        return bytes(room[: compressor.gzip(bytearray(data + b"what is left of another"), len(data), room)])


@pytest.mark.parametrize("level", [0, 1, 2, 6, 9, 12])
@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_all_ways_to_the_library_make_the_same(level: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(random.Random(size).choices(b"abcdefgh\0\xff", k=size))
    by_binding = made(data, level)
    assert gzip.decompress(by_binding) == data
    with monkeypatch.context() as patch:
        patch.setattr(libdeflate._Library, "load", lambda: None)
        assert made(data, level) == by_binding
    monkeypatch.setitem(sys.modules, "deflate", None)  # there is none
    assert made(data, level) == by_binding


@pytest.mark.parametrize("level", [0, 1, 2, 12])
def test_what_cannot_be_made_smaller_fits_too(level: int) -> None:
    data = random.Random(level).randbytes(1 << 20)
    assert gzip.decompress(made(data, level)) == data


def test_without_either_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deflate", None)
    monkeypatch.setattr("oci_tools.libdeflate.LIBRARY", "libdeflate-that-is-not-there.so")
    with pytest.raises(ImportError):
        Compressor(6)
