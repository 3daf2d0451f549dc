"""docker run --rm --network none through ocid beside dockerd"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.engines import both
from tests.bench.measure import Side

BAR = 0.5
ROUNDS = 20


def sides(work: Path) -> AbstractContextManager[dict[str, Side]]:
    return both(work, ["run", "--rm", "--network", "none", "busybox", "true"])
