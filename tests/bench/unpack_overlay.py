"""oci-unpack --overlay of a known 1 GB image beside podman and docker create

The layers are in each one's store; a bundle, or a container that is not started, is made of them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench import peers
from tests.bench.measure import OURS, PATH, Side, need

BAR = 1.0
LIMIT = 60
ROUNDS = 15


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    podman, docker, skopeo, big = need("podman"), need("docker"), need("skopeo"), images.image("big")
    env = {"OCI_ROOT": f"{work}/root", "OCI_RUN": f"{work}/run"}
    theirs = {"HOME": str(work), "PATH": PATH, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    store = [podman, "--root", f"{work}/podman/root", "--runroot", f"{work}/podman/run"]

    def quiet(words: list[str], env: dict[str, str] = theirs) -> None:
        subprocess.run(words, check=True, env=env, stdout=subprocess.DEVNULL)

    quiet([OURS["unpack"], "--overlay", f"{big}:latest", f"{work}/first"], env)
    quiet([*store, "pull", "-q", f"oci:{big}:latest"])
    name = subprocess.run([*store, "images", "-q"], check=True, env=theirs, stdout=subprocess.PIPE, text=True).stdout.strip()
    quiet([skopeo, "copy", "-q", f"oci:{big}:latest", f"docker-archive:{work}/big.tar:big:latest"])
    try:
        with peers.dockerd(work) as address:
            quiet([docker, "-H", address, "load", "-q", "-i", f"{work}/big.tar"])
            yield {
                "oci-unpack --overlay": Side(lambda i: [OURS["unpack"], "--overlay", f"{big}:latest", f"{work}/bundle{i}"], env),
                "podman create": Side(lambda i: [*store, "create", "--network", "none", name, "/bin/true"], theirs),
                "docker create": Side(lambda i: [docker, "-H", address, "create", "--network", "none", "big", "/bin/true"], theirs),
            }
    finally:
        subprocess.run(["umount", f"{work}/podman/root/overlay"], stderr=subprocess.DEVNULL)
