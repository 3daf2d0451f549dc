"""docker ps with 200 running containers through ocid beside dockerd"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.engines import both
from tests.bench.measure import Side

BAR = 1.0
ROUNDS = 20


def sides(work: Path) -> AbstractContextManager[dict[str, Side]]:
    return both(work, ["ps"], [["run", "-d", "--network", "none", "busybox", "sleep", "10000"]] * 200)
