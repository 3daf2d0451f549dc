"""oci-pack of 500 MB that are new in a bundle, to gzip, beside umoci, and tar with gzip -6 and pigz

`oci-pack TREE` is the same work; `umoci insert`, which compares nothing, is nearly twice as fast as `umoci repack`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench.measure import OURS, Side, need

BAR = 0.5
ROUNDS = 3
IDLE = 1.0
ROOM = 3 << 29


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    umoci, pigz = need("umoci"), need("pigz")
    env = {"OCI_ROOT": f"{work}/root", "HOME": str(work)}

    def quiet(*words: str) -> None:
        subprocess.run(words, check=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **env}, stdout=subprocess.DEVNULL)

    big, base = f"{images.image('big')}:latest", f"{images.image('debian')}:latest"
    quiet(OURS["unpack"], big, f"{work}/big")
    quiet(OURS["unpack"], base, f"{work}/ours")
    quiet(umoci, "unpack", "--image", base, f"{work}/theirs")
    for name in ("ours", "theirs"):
        quiet("cp", "-r", images.image("debian").as_posix(), f"{work}/{name}-img")
        quiet("cp", "-a", f"{work}/big/rootfs/usr/lib", f"{work}/{name}/rootfs/new")
    tree = f"{work}/ours/rootfs/new"
    yield {
        "oci-pack": Side(lambda i: [OURS["pack"], f"{work}/ours", f"{work}/ours-img:x{i}"], env),
        "umoci repack": Side(lambda i: [umoci, "repack", "--image", f"{work}/theirs-img:x{i}", f"{work}/theirs"], env),
        "tar | gzip -6": Side(lambda i: ["/bin/sh", "-c", f"tar -C {tree} -c . | gzip -6 > {work}/tar{i}.gz"]),
        "tar | pigz": Side(lambda i: ["/bin/sh", "-c", f"tar -C {tree} -c . | {pigz} > {work}/pigz{i}.gz"]),
    }
