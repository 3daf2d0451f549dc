"""The size of what oci-pack makes of 300 MB beside gzip -6"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench.measure import OURS, Side, timed

BAR = 1.10
ROUNDS = 1
UNIT = "MB"


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    env, tree = {"OCI_ROOT": f"{work}/root"}, f"{work}/lib"
    words = [OURS["unpack"], f"{images.image('big')}:latest", "--path", "usr/lib", tree]
    subprocess.run(words, check=True, env=env, stdout=subprocess.DEVNULL)
    yield {
        "oci-pack": Side(lambda i: [OURS["pack"], tree, f"{work}/ours{i}:x"], env, str(work)),
        "tar | gzip -6": Side(lambda i: ["/bin/sh", "-c", f"mkdir tar{i} && tar -C {tree} -c . | gzip -6 > tar{i}/x"], {}, str(work)),
    }


def TAKE(side: Side, i: int, words: list[str] | None = None) -> float:
    """What one run wrote, in MB."""
    before = set(os.listdir(side.cwd))
    timed(side, i, words)
    [new] = set(os.listdir(side.cwd)) - before - {"root"}
    return sum(path.stat().st_size for path in Path(side.cwd, new).rglob("*") if path.is_file()) / 1e6
