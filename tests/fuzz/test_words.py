"""What others say, changed at random: refused with an Error or taken, never a traceback.  The corpus is where it begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import words
from tests.long import rounds

CORPUS = Path(__file__).parent / "corpus"


def inputs(target: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


@st.composite
def changed(draw: st.DrawFn, target: str) -> bytes:
    """A piece of the corpus with some bytes other, gone, twice, or of another piece."""
    data = bytearray(draw(st.sampled_from(inputs(target))))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(("other", "gone", "twice", "piece", "new")))
        size = draw(st.integers(1, 8))
        if how == "other":
            data[at : at + size] = draw(st.binary(min_size=size, max_size=size))
        elif how == "gone":
            del data[at : at + size]
        elif how == "twice":
            data[at:at] = data[at : at + 40]
        elif how == "piece":
            other = draw(st.sampled_from(inputs(target)))
            data[at:at] = other[at % (len(other) + 1) :][:60]
        else:
            data[at:at] = draw(st.sampled_from((b"\0", b"\xff", b"-1", b"null", b"{}", b"[]", b"1e999", b"\\u0000", b"$", b"\n", b":", b"/")))
    return bytes(data)


@pytest.mark.parametrize("target", words.TARGETS)
def test_what_it_begins_with(target: str) -> None:
    assert inputs(target)
    for data in inputs(target):
        words.TARGETS[target](data)


@pytest.mark.parametrize("target", words.TARGETS)
def test_changed_at_random(target: str) -> None:
    @settings(max_examples=rounds(150, 20_000), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(changed(target))
    def search(data: bytes) -> None:
        words.TARGETS[target](data)

    search()
