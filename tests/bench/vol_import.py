"""oci-vol import of 1 GB in 15,700 files beside tar

Every run makes a volume or directory of its own, which goes only at the end: see pull_unpack.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.measure import BIN, PATH, Side, need
from tests.bench.vol_export import archive

BAR = 1.1
ROUNDS = 5
IDLE = 0.5
ROOM = 2 << 30


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    tar, file, env = need("tar"), archive(work), {"OCI_ROOT": f"{work}/root", "PATH": PATH}

    def theirs(i: int) -> list[str]:
        (work / f"tar{i}").mkdir()
        return [tar, "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", file, "-C", f"{work}/tar{i}"]

    yield {
        "oci-vol import": Side(lambda i: [f"{BIN}/oci-vol", "import", f"v{i + 1}", file], env),
        "tar": Side(theirs, env),
    }
