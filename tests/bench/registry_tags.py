"""1,000 tags listed by oci-registry to curl, its start included, beside Debian's docker-registry"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench import many, peers
from tests.bench.measure import OURS, PATH, Side, need

LIMIT = 50.0
MEMORY = 100.0
ROUNDS = 11
COUNT = 1000


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    curl = need("curl")
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
            "oci-registry": Side(lambda i: [curl, "-sf", f"http://{ours[0]}/v2/app/tags/list"], pid=ours[1]),
            "docker-registry": Side(lambda i: [curl, "-sf", f"http://{theirs[0]}/v2/app/tags/list"], pid=theirs[1]),
        }
