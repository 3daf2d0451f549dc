"""oci-image ls of a layout of 5,000 tags, beside umoci list"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import many
from tests.bench.measure import OURS, Side, need

LIMIT = 300.0
ROUNDS = 11


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    umoci = need("umoci")
    many.layout(work / "img", 5000)
    yield {
        "oci-image": Side(lambda i: [OURS["image"], "ls", f"{work}/img"]),
        "umoci": Side(lambda i: [umoci, "list", "--layout", f"{work}/img"]),
    }
