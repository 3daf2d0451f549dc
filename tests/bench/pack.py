"""oci-pack of a 1 GB tree to gzip beside umoci, and tar with gzip -6"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench.measure import OURS, Side, need

BAR = 0.5
ROUNDS = 3
IDLE = 0.5


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    umoci = need("umoci")
    env = {"OCI_ROOT": f"{work}/root", "HOME": str(work)}
    source = f"{images.image('big')}:latest"
    subprocess.run([OURS["unpack"], source, f"{work}/bundle"], check=True, env=env, stdout=subprocess.DEVNULL)
    tree = f"{work}/bundle/rootfs"

    def theirs(i: int) -> list[str]:
        """umoci packs all of a tree as what is new in an empty image."""
        place = f"{work}/theirs{i}"
        for words in (["init", "--layout", place], ["new", "--image", f"{place}:x"]):
            subprocess.run([umoci, *words], check=True, stdout=subprocess.DEVNULL)
        return [umoci, "insert", "--image", f"{place}:x", tree, "/"]

    yield {
        "oci-pack": Side(lambda i: [OURS["pack"], tree, f"{work}/ours{i}:x"], env),
        "umoci insert": Side(theirs, {"HOME": str(work)}),
        "tar | gzip -6": Side(lambda i: ["/bin/sh", "-c", f"tar -C {tree} -c . | gzip -6 > {work}/tar{i}.gz"]),
    }
