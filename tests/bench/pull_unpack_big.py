"""oci-pull --unpack of a 1 GB image of four layers from a local docker-registry, ready to run, beside docker, podman, skopeo and umoci"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import pull_unpack
from tests.bench.measure import Side

BAR = 0.35
ROUNDS = 3
IDLE = 1.0
ROOM = 2 << 30


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    with pull_unpack.sides(work, "big", ROUNDS) as all_:
        yield all_
