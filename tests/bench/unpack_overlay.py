"""oci-unpack --overlay of a known 1 GB image beside starting Python (the bar is 60 ms)"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench.measure import OURS, Side

BAR = 6.0
ROUNDS = 20


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    image = f"{images.image('big')}:latest"
    env = {"OCI_ROOT": f"{work}/root", "OCI_RUN": f"{work}/run"}
    subprocess.run([OURS["unpack"], "--overlay", image, f"{work}/first"], check=True, env=env, stdout=subprocess.DEVNULL)
    yield {
        "oci-unpack --overlay": Side(lambda i: [OURS["unpack"], "--overlay", image, f"{work}/bundle{i}"], env),
        "python3 -IS": Side(lambda i: ["/usr/bin/python3", "-ISc", "pass"]),
    }
