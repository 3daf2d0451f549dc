"""oci-run of a prepared bundle running /bin/true, the interpreter sealed, beside runc

The same bundle for both: busybox with the specification that runc itself writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.measure import OURS, Side, as_installed
from tests.bench.verbs import prepared

BAR = 0.7
ROUNDS = 40


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    runc, bundle = prepared(work, "/bin/true")
    ours = [OURS["run"], "--root", f"{work}/oci-run", "run", "-b", str(bundle)]
    their = [runc, "--root", f"{work}/runc", "run", "-b", str(bundle)]
    with as_installed():
        yield {
            "oci-run run": Side(lambda i: [*ours, f"bench-{os.getpid()}-{i + 1}"]),
            "runc run": Side(lambda i: [*their, f"bench-{os.getpid()}-{i + 1}"]),
        }
