"""oci-run --network none IMAGE /bin/true beside docker run --rm --network none

The daemon is a private one, in a network namespace of its own, already running.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench import peers
from tests.bench.measure import OURS, Side, as_installed, need

BAR = 0.35
ROUNDS = 20


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    docker, busybox, archive = need("docker"), images.image("busybox"), work / "busybox.tar"
    words = [need("skopeo"), "copy", "-q", f"oci:{busybox}:latest", f"docker-archive:{archive}:busybox:latest"]
    subprocess.run(words, check=True)
    store = work / "root/images"
    store.mkdir(parents=True)
    images.add(store, "docker.io/library/busybox:latest", busybox)
    env = {"OCI_ROOT": f"{work}/root"}
    with peers.dockerd(work) as address, as_installed():
        subprocess.run([docker, "-H", address, "load", "-q", "-i", archive], check=True, stdout=subprocess.DEVNULL)
        their = [docker, "-H", address, "run", "--rm", "--network", "none", "busybox", "/bin/true"]
        yield {
            "oci-run": Side(lambda i: [OURS["run"], "--network", "none", "busybox", "/bin/true"], env),
            "docker run": Side(lambda i: their, {"HOME": str(work)}),
        }
