"""1,000 tags listed by oci-registry, with the start of a small client, beside Debian's docker-registry"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench import many, peers
from tests.bench.measure import OURS, PATH, Side
from tests.bench.registry_blobs import PROGRAM

LIMIT = 50.0
BAR = 1.0
MEMORY = 100.0
ROUNDS = 11
COUNT = 1000


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    many.layout(work / "ours/app", COUNT)
    with ExitStack() as stack:
        (work / "theirs").mkdir()
        ours = stack.enter_context(peers.our_registry(work / "ours"))
        theirs = stack.enter_context(peers.docker_registry_process(work / "theirs"))
        env = {"PATH": PATH, "OCI_ROOT": f"{work}/root"}
        words = [OURS["push"], f"{work}/ours/app:t0", f"{theirs[0]}/app:t0"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=env)
        tags = work / "theirs/registry/docker/registry/v2/repositories/app/_manifests/tags"
        for at in range(1, COUNT):  # as pushes would leave it
            subprocess.run(["cp", "-r", tags / "t0", tags / f"t{at}"], check=True)
        yield {
            "oci-registry": Side(lambda i: [PROGRAM, ours[0], "1", "/v2/app/tags/list"], pid=ours[1]),
            "docker-registry": Side(lambda i: [PROGRAM, theirs[0], "1", "/v2/app/tags/list"], pid=theirs[1]),
        }
