"""oci-build of 20 RUN steps without the cache, beside docker's classic builder

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

BAR = 0.3
ROUNDS = 3
IDLE = 1.0
MEMORY = 150


@contextmanager
def sides(work: Path, cached: bool = False) -> Iterator[dict[str, Side]]:
    docker, busybox, archive = need("docker"), images.image("busybox"), work / "busybox.tar"
    words = [need("skopeo"), "copy", "-q", f"oci:{busybox}:latest", f"docker-archive:{archive}:busybox:latest"]
    subprocess.run(words, check=True)
    store = work / "root/images"
    store.mkdir(parents=True)
    images.add(store, "docker.io/library/busybox:latest", busybox)
    (work / "context").mkdir()
    steps = "".join(f"RUN echo {n} > /{n}\n" for n in range(20))
    (work / "context/Dockerfile").write_text(f"FROM busybox\n{steps}")
    more = ["--network", "none", *([] if cached else ["--no-cache"]), "-t"]
    with peers.dockerd(work) as address, as_installed():
        subprocess.run([docker, "-H", address, "load", "-q", "-i", archive], check=True, stdout=subprocess.DEVNULL)
        their = [docker, "-H", address, "build", "-q", *more, "x", f"{work}/context"]
        yield {
            "oci-build": Side(lambda i: [OURS["build"], *more, f"{work}/img:x", f"{work}/context"], {"OCI_ROOT": f"{work}/root"}),
            "docker build": Side(lambda i: their, {"HOME": str(work), "DOCKER_BUILDKIT": "0"}),
        }
