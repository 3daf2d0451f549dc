"""docker exec true through ocid beside dockerd"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.engines import both
from tests.bench.measure import Side

BAR = 0.6
ROUNDS = 20


def sides(work: Path) -> AbstractContextManager[dict[str, Side]]:
    return both(work, ["exec", "one", "true"], [["run", "-d", "--name", "one", "--network", "none", "busybox", "sleep", "1000"]])
