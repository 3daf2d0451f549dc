"""oci-pull --unpack of a 120 MB Debian from a local docker-registry, ready to run, beside docker, podman, skopeo and umoci

Every run is into directories of its own, which go only at the end: the file system is
slow for a while after a large removal, for whoever comes next.  So each round of docker has
a daemon of its own, started before.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import images
from tests.bench import peers
from tests.bench.measure import OURS, Missing, Side, need

IMAGE = "debian"
BAR = 0.5
ROUNDS = 5
IDLE = 0.5
ROOM = 512 << 20


@contextmanager
def sides(work: Path, name: str = IMAGE, rounds: int = ROUNDS) -> Iterator[dict[str, Side]]:
    if os.geteuid():
        raise Missing("root")
    skopeo, umoci, podman, docker = (need(each) for each in ("skopeo", "umoci", "podman", "docker"))
    with ExitStack() as until:
        until.enter_context(peers.network())
        host = until.enter_context(peers.docker_registry(work))
        ref, source = f"{host}/{name}:1", f"oci:{images.image(name)}:latest"
        subprocess.run([skopeo, "copy", "-q", "--dest-tls-verify=false", source, f"docker://{ref}"], check=True)
        daemons = []
        for i in range(rounds + 1):
            (work / f"docker{i}").mkdir()
            daemons.append(until.enter_context(peers.dockerd(work / f"docker{i}", alone=False)))
        until.callback(unmount, work)

        def ours(i: int) -> list[str]:
            return [OURS["pull"], "--unpack", f"{work}/ours{i}/bundle", ref, f"{work}/ours{i}/img"]

        def umocis(i: int) -> list[str]:
            place = f"{work}/theirs{i}"
            copy = f"{skopeo} copy -q --src-tls-verify=false docker://{ref} oci:{place}/img:1"
            return ["/bin/sh", "-c", f"mkdir {place} && {copy} && {umoci} unpack --image {place}/img:1 {place}/bundle"]

        def podmans(i: int) -> list[str]:
            place = f"{work}/podman{i}"
            return [podman, "--root", f"{place}/root", "--runroot", f"{place}/run", "pull", "-q", "--tls-verify=false", ref]

        env = {"OCI_ROOT": f"{work}/root", "OCI_RUN": f"{work}/run", "HOME": str(work), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
        yield {
            "oci-pull --unpack": Side(ours, env),
            "skopeo, umoci": Side(umocis, env),
            "podman": Side(podmans, env),
            "docker": Side(lambda i: [docker, "-H", daemons[i + 1], "pull", "-q", ref], env),
        }


def unmount(work: Path) -> None:
    """What podman leaves mounted: its own store, on itself."""
    for place in sorted(work.glob("podman*/root/overlay")):
        subprocess.run(["umount", place], stderr=subprocess.DEVNULL)
