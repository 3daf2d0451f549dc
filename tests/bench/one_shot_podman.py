"""oci-run --network none IMAGE /bin/true beside podman run --rm --network none

podman with runc below it, since crun refuses the hybrid cgroup layout; stores of their own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench.measure import OURS, Missing, Side, as_installed, need

BAR = 0.5  # ours to choose: the one of 0.35 is docker's
ROUNDS = 15


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    if os.geteuid():
        raise Missing("root")
    podman, runc, busybox = need("podman"), need("runc"), images.image("busybox")
    store = work / "root/images"
    store.mkdir(parents=True)
    images.add(store, "docker.io/library/busybox:latest", busybox)
    theirs = [
        podman, "--root", f"{work}/storage", "--runroot", f"{work}/state", "--tmpdir", f"{work}/tmp", "--runtime", runc,
        "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--network-config-dir", f"{work}/networks",
    ]  # fmt: skip
    before = {*Path("/sys/fs/cgroup").glob("*/libpod_parent"), *Path("/sys/fs/cgroup").glob("libpod_parent")}
    try:
        subprocess.run([*theirs, "pull", "-q", f"oci:{busybox}:latest"], check=True, capture_output=True)
        image = subprocess.check_output([*theirs, "images", "-q"], text=True).split()[0]
        words = [*theirs, "run", "--rm", "--network", "none", image, "/bin/true"]
        with as_installed():
            yield {
                "oci-run": Side(lambda i: [OURS["run"], "--network", "none", "busybox", "/bin/true"], {"OCI_ROOT": f"{work}/root"}),
                "podman run": Side(lambda i: words, {"PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}),
            }
    finally:
        subprocess.run([*theirs, "system", "reset", "--force"], capture_output=True)
        for group in {*Path("/sys/fs/cgroup").glob("*/libpod_parent"), *Path("/sys/fs/cgroup").glob("libpod_parent")} - before:
            for directory, _, _ in os.walk(group, topdown=False):
                os.rmdir(directory)
