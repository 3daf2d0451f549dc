"""oci-run -p 8080:80 IMAGE /bin/true on a bridge network, beside docker and podman run --rm

The daemon is a private one, already running, all three in one network namespace of their own.  The goal is 0.35.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench import peers
from tests.bench.measure import OURS, Side, as_installed, need

BAR = 0.5
ROUNDS = 20


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    docker, podman, skopeo, _ = need("docker"), need("podman"), need("skopeo"), need("nft")
    busybox, archive = images.image("busybox"), work / "busybox.tar"
    subprocess.run([skopeo, "copy", "-q", f"oci:{busybox}:latest", f"docker-archive:{archive}:busybox:latest"], check=True)
    store = work / "root/images"
    store.mkdir(parents=True)
    images.add(store, "docker.io/library/busybox:latest", busybox)
    home, mine = {"HOME": str(work)}, {"OCI_ROOT": f"{work}/root"}
    pods = [podman, "--root", f"{work}/podman/root", "--runroot", f"{work}/podman/run", "--tmpdir", f"{work}/podman/tmp",
            "--network-config-dir", f"{work}/podman/networks", "--cgroup-manager", "cgroupfs", "--runtime", need("runc")]  # fmt: skip
    tail = ["busybox", "/bin/true"]
    with peers.machine(), peers.dockerd(work, alone=False, bridged=True) as address, as_installed():
        subprocess.run([docker, "-H", address, "load", "-q", "-i", archive], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*pods, "load", "-q", "-i", archive], check=True, stdout=subprocess.DEVNULL)
        try:
            yield {
                "oci-run": Side(lambda i: [OURS["run"], "-p", "8080:80", *tail], mine),
                "docker run": Side(lambda i: [docker, "-H", address, "run", "--rm", "-p", "8081:80", *tail], home),
                "podman run": Side(lambda i: [*pods, "run", "--rm", "-p", "8082:80", *tail], home),
            }
        finally:
            subprocess.run(["umount", f"{work}/podman/root/overlay"], stderr=subprocess.DEVNULL)
