"""oci-build of COPY of 20,000 files, 500 MB, without the cache, beside docker's classic builder and buildah"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import peers
from tests.bench.measure import OURS, Side, as_installed, need

BAR = 0.5
ROUNDS = 3
IDLE = 2.0
ROOM = 3 << 29
MEMORY = 150
FILES, SIZE = 20_000, 25_000


@contextmanager
def sides(work: Path, cached: bool = False) -> Iterator[dict[str, Side]]:
    docker, buildah = need("docker"), need("buildah")
    context = work / "context"
    for n in range(200):
        (context / f"files/{n}").mkdir(parents=True)
        for m in range(FILES // 200):
            half = os.urandom(SIZE // 2)  # compresses by half, as programs do
            (context / f"files/{n}/{m}").write_bytes(half + bytes(SIZE - len(half)))
    (context / "Dockerfile").write_text("FROM scratch\nCOPY files /files\n")
    anew = [] if cached else ["--no-cache"]
    store = ["--root", f"{work}/buildah", "--runroot", f"{work}/buildah-run", "--storage-driver", "overlay"]
    keep = ["--layers"] if cached else ["--no-cache"]
    with peers.dockerd(work) as address, as_installed():
        their = [docker, "-H", address, "build", "-q", *anew, "-t", "x", str(context)]
        yield {
            "oci-build": Side(lambda i: [OURS["build"], *anew, "-t", f"{work}/img:x", str(context)], {"OCI_ROOT": f"{work}/root"}),
            "docker build": Side(lambda i: their, {"HOME": str(work), "DOCKER_BUILDKIT": "0"}),
            "buildah build": Side(
                lambda i: [buildah, *store, "build", "-q", "--isolation", "chroot", *keep, "-t", "x", str(context)],
                {"HOME": str(work)},
            ),
        }
