"""oci-run exec /bin/true beside runc exec"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.measure import Side
from tests.bench.verbs import Do, both

BAR = 1.0
ROUNDS = 25


def sides(work: Path) -> AbstractContextManager[dict[str, Side]]:
    def words(do: Do, runtime: list[str], id: str) -> list[str]:
        do("create", id)
        do("start", id)
        return [*runtime, "exec", id, "/bin/true"]

    return both(work, words)
