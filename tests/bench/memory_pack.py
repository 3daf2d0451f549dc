"""oci-pack of 500 MB beside umoci: the most memory of all its processes"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import pack
from tests.bench.measure import Side, together

BAR = 1.0
LIMIT = 80
ROUNDS = 1
IDLE = 1.0
TAKE, UNIT = together, "MB"


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    with pack.sides(work) as all_:
        yield {name: all_[name] for name in ("oci-pack", "umoci repack")}
