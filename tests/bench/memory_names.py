"""oci-unpack of an image of a million directories to a flat archive: the most memory of all its processes"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oci_tools.image.layout import Layout
from tests.bench.measure import OURS, Side, together
from tests.bundle import many

LIMIT = 80
ROUNDS = 1
IDLE = 0.0
TAKE, UNIT = together, "MB"
COUNT = 1_000_000


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    with Layout.create(f"{work}/img") as layout:
        layout.tag("v1", many.image(layout, "directories", COUNT))
    yield {"oci-unpack": Side(lambda i: ["/bin/sh", "-c", f"exec {OURS['unpack']} {work}/img:v1 - > /dev/null"])}
