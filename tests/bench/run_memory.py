"""memory of what stays with each of 10 containers of oci-run -d, without any daemon, beside conmon"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench.containers import families, processes, total
from tests.bench.measure import OURS, PATH, Side, as_installed, need

LIMIT = 10
ROUNDS = 3
COUNT = 10
UNIT = "MB"


def TAKE(side: Side, i: int, words: list[str] | None = None) -> float:  # the frame's name for it
    """The memory of what stays with one container."""
    return total(side, i, words) / COUNT


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    podman, busybox = need("podman"), images.image("busybox")
    root = work / "root"
    (root / "images").mkdir(parents=True)
    images.add(root / "images", "docker.io/library/busybox:latest", busybox)
    ours = {"PATH": PATH, "HOME": str(work), "OCI_ROOT": str(root), "OCI_RUN": f"{work}/run"}
    theirs = [podman, "--root", f"{work}/podman", "--runroot", f"{work}/podman-run", "--tmpdir", f"{work}/podman-tmp",
              "--cgroup-manager", "cgroupfs", "--runtime", need("runc")]  # fmt: skip
    home = {"PATH": PATH, "HOME": str(work)}
    words = ["-d", "--network", "none", "busybox", "sleep", "10000"]
    with as_installed():
        try:
            subprocess.run([*theirs, "pull", "-q", f"oci:{busybox}:latest"], env=home, check=True, stdout=subprocess.DEVNULL)
            listed = subprocess.run([*theirs, "images", "-q"], env=home, check=True, capture_output=True, text=True)
            subprocess.run([*theirs, "tag", listed.stdout.split()[0], "localhost/busybox"], env=home, check=True)
            for _ in range(COUNT):
                subprocess.run([OURS["run"], *words], env=ours, check=True, stdout=subprocess.DEVNULL)
                subprocess.run([*theirs, "run", *words], env=home, check=True, stdout=subprocess.DEVNULL)
            yield {
                "oci-run -d": Side(lambda i: families(root)),
                "conmon": Side(lambda i: processes("conmon", f"{work}/podman")),
            }
        finally:
            made = [place.name for place in (root / "containers").glob("[0-9a-f]*")]
            subprocess.run([OURS["run"], "rm", "-f", *made], env=ours, stdout=subprocess.DEVNULL)
            subprocess.run([*theirs, "rm", "-fa", "-t", "0"], env=home, stdout=subprocess.DEVNULL)
