"""oci-run on a network with 199 containers, beside the same on an empty one"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench import peers
from tests.bench.measure import OURS, Side, as_installed, need

BAR = 1.2
ROUNDS = 20


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    need("nft")
    store = work / "root/images"
    store.mkdir(parents=True)
    images.add(store, "docker.io/library/busybox:latest", images.image("busybox"))
    mine = {"OCI_ROOT": f"{work}/root"}
    env = {**os.environ, **mine}
    with peers.machine(), as_installed():
        for name in ("crowded", "empty"):
            subprocess.run([OURS["net"], "create", name], check=True, env=env, stdout=subprocess.DEVNULL)
        script = f"for i in $(seq 199); do ip netns add n$i; {OURS['net']} attach -p 80 crowded /run/netns/n$i; done"
        subprocess.run(["/bin/sh", "-ec", script], check=True, env=env, stdout=subprocess.DEVNULL)
        try:
            yield {
                name: Side(lambda i, name=name: [OURS["run"], "-p", "8080:80", "--network", name, "busybox", "true"], mine)
                for name in ("crowded", "empty")
            }
        finally:
            subprocess.run([OURS["net"], "rm", "-f", "crowded"], env=env, stdout=subprocess.DEVNULL)
