"""memory of what stays with each of 50 running containers: our monitors under ocid beside containerd's shims"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.containers import mean, monitors, processes
from tests.bench.engines import both
from tests.bench.measure import Side

LIMIT = 3
BAR = 1.0
ROUNDS = 3
TAKE, UNIT = mean, "MB"


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    with both(work, ["ps"], [["run", "-d", "--network", "none", "busybox", "sleep", "10000"]] * 50):
        yield {
            "ocid": Side(lambda i: monitors(work / "our/root")),
            "containerd-shim": Side(lambda i: processes("containerd-shim", f"{work}/their")),
        }
