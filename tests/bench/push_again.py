"""oci-push of a 1 GB image that the registry has, beside skopeo"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench import peers
from tests.bench.measure import OURS, Side, need

LIMIT = 300.0
MEMORY = 60.0
ROUNDS = 7


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    skopeo, big = need("skopeo"), images.image("big")
    with peers.docker_registry(work) as host:
        env = {"OCI_ROOT": f"{work}/root"}
        ours = [OURS["push"], f"{big}:latest", f"{host}/big:1"]
        subprocess.run(ours, check=True, env={**env, "PATH": "/usr/bin:/bin"}, stdout=subprocess.DEVNULL)
        theirs = [skopeo, "copy", "-q", "--dest-tls-verify=false", f"oci:{big}:latest", f"docker://{host}/big:1"]
        yield {"oci-push": Side(lambda i: ours, env), "skopeo": Side(lambda i: theirs, {"HOME": str(work)})}
