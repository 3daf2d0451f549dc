"""memory of all processes of an ocid without containers beside dockerd's with containerd"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.containers import processes, total
from tests.bench.engines import both
from tests.bench.measure import Side

LIMIT = 60
BAR = 1.0
ROUNDS = 3
TAKE, UNIT = total, "MB"


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    with both(work, ["ps"]):
        yield {name: Side(lambda i, at=at: processes(f"{work}/{at}")) for name, at in (("ocid", "our"), ("dockerd", "their"))}  # type: ignore[misc]
