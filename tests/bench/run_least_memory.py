"""The smallest memory limit with which busybox's true runs in a prepared bundle, beside runc

Found by halving, in steps of 256 KiB; a limit counts if three runs of three succeed.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.measure import OURS, Side, as_installed, spawned
from tests.bench.verbs import prepared

BAR = 1.0
ROUNDS = 3
IDLE = 0.0
UNIT = "MiB"
STEP = 1 << 18  # bytes


def TAKE(side: Side, i: int, words: list[str] | None = None) -> float:  # the frame's name for it
    """That limit, in MiB."""
    if words is None:
        return 0.0
    low, high = 0, 64  # in steps: fails, succeeds
    while high - low > 1:
        middle = (low + high) // 2
        if all(_runs(side, words, middle * STEP, f"{i}-{middle}-{n}") for n in range(3)):
            high = middle
        else:
            low = middle
    return high * STEP / (1 << 20)


def _runs(side: Side, words: list[str], limit: int, id: str) -> bool:
    bundle = Path(words[words.index("-b") + 1])
    spec = json.loads((bundle / "config.json").read_text())
    spec["linux"]["resources"]["memory"] = {"limit": limit}
    (bundle / "config.json").write_text(json.dumps(spec))
    status = os.waitpid(spawned(side, [*words, f"bench-{os.getpid()}-{id}"]), 0)[1]
    if status:
        subprocess.run([*words[:3], "delete", "--force", f"bench-{os.getpid()}-{id}"], capture_output=True)
    return status == 0


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    runc, bundle = prepared(work, "/bin/true")
    with as_installed():
        yield {
            name: Side(lambda i, program=program, name=name: [program, "--root", f"{work}/{name}", "run", "-b", str(bundle)])
            for name, program in (("oci-run", OURS["run"]), ("runc", runc))
        }  # fmt: skip
