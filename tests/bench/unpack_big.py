"""oci-unpack of a 1 GB image of four layers beside umoci"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import unpack
from tests.bench.measure import Side

BAR = 0.35
ROUNDS = 3
IDLE = 1.0
ROOM = 2 << 30


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    with unpack.sides(work, "big") as both:
        yield both
