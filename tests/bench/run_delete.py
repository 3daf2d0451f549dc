"""oci-run delete beside runc delete"""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.measure import Side
from tests.bench.verbs import Do, both

BAR = 1.0
ROUNDS = 25


def sides(work: Path) -> AbstractContextManager[dict[str, Side]]:
    def words(do: Do, runtime: list[str], id: str) -> list[str]:
        do("create", id)
        do("kill", id, "KILL")
        while b"stopped" not in subprocess.check_output([*runtime, "state", id]):
            pass
        return [*runtime, "delete", id]

    return both(work, words)
