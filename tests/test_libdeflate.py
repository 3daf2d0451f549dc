"""Members of gzip: the binding and the system's library make the same bytes, which gzip reads."""

from __future__ import annotations

import gzip
import random
import sys

import pytest

from oci_tools.libdeflate import Compressor


def made(data: bytes, level: int) -> bytes:
    with Compressor(level) as compressor:
        compressor.gzip(b"another member before")
        return bytes(compressor.gzip(data))


@pytest.mark.parametrize("level", [0, 1, 2, 6, 9, 12])
@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_the_library_alone_makes_the_same(level: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(random.Random(size).choices(b"abcdefgh\0\xff", k=size))
    by_binding = made(data, level)
    monkeypatch.setitem(sys.modules, "deflate", None)  # there is none
    assert made(data, level) == by_binding
    assert gzip.decompress(by_binding) == data


def test_without_either_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deflate", None)
    monkeypatch.setattr("oci_tools.libdeflate.LIBRARY", "libdeflate-that-is-not-there.so")
    with pytest.raises(ImportError):
        Compressor(6)
