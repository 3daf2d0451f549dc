"""oci-unpack of a 120 MB Debian beside umoci

Every run is into a directory of its own, which goes only at the end: see pull_unpack.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench.measure import OURS, Side, need

IMAGE = "debian"
BAR = 0.5
ROUNDS = 7
IDLE = 0.5
ROOM = 512 << 20


@contextmanager
def sides(work: Path, name: str = IMAGE) -> Iterator[dict[str, Side]]:
    image = f"{images.image(name)}:latest"
    umoci = need("umoci")
    env = {"OCI_ROOT": f"{work}/root"}
    yield {
        "oci-unpack": Side(lambda i: [OURS["unpack"], image, f"{work}/ours{i}"], env),
        "umoci": Side(lambda i: [umoci, "unpack", "--image", image, f"{work}/theirs{i}"], {"HOME": str(work)}),
    }
