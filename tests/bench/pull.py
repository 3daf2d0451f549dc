"""oci-pull of a 1 GB image of four layers from a local docker-registry beside skopeo

Every run is into a directory of its own; see pull_unpack.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench import peers
from tests.bench.measure import OURS, Side, need

BAR = 1.0
MEMORY = 60.0
ROUNDS = 5
IDLE = 1.0
ROOM = 3 << 29


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    skopeo = need("skopeo")
    with peers.docker_registry(work) as host:
        big = f"{host}/big:1"
        source = f"oci:{images.image('big')}:latest"
        subprocess.run([skopeo, "copy", "-q", "--dest-tls-verify=false", source, f"docker://{big}"], check=True)
        theirs = [skopeo, "copy", "-q", "--src-tls-verify=false", f"docker://{big}"]
        yield {
            "oci-pull": Side(lambda i: [OURS["pull"], big, f"{work}/ours{i}"], {"OCI_ROOT": f"{work}/root"}),
            "skopeo": Side(lambda i: [*theirs, f"oci:{work}/theirs{i}:1"], {"HOME": str(work)}),
        }
