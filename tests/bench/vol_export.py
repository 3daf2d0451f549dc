"""oci-vol export of 1 GB in 15,700 files beside tar"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench.measure import BIN, OURS, PATH, Side, need

BAR = 1.1
ROUNDS = 5
IDLE = 0.5
ROOM = 2 << 30


def archive(work: Path) -> str:
    """All files of the large image in one tar file."""
    with open(work / "all.tar", "wb") as file:
        subprocess.run([OURS["unpack"], f"{images.image('big')}:latest", "-"], stdout=file, check=True)
    return f"{work}/all.tar"


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    tar, vol, env = need("tar"), f"{BIN}/oci-vol", {"OCI_ROOT": f"{work}/root", "PATH": PATH}
    subprocess.run([vol, "import", "x", archive(work)], env=env, check=True, stdout=subprocess.DEVNULL)
    there = f"{work}/root/volumes/x/_data"
    yield {  # tar reads no file that goes straight to /dev/null
        "oci-vol export": Side(lambda _: ["/bin/sh", "-c", f"{vol} export x | cat"], env),
        "tar": Side(lambda _: ["/bin/sh", "-c", f"{tar} --xattrs --numeric-owner -cSC {there} . | cat"], env),
    }
