"""oci-run create beside runc create"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.measure import Side
from tests.bench.verbs import Do, both

BAR = 1.0
ROUNDS = 25


def sides(work: Path) -> AbstractContextManager[dict[str, Side]]:
    def words(do: Do, runtime: list[str], id: str) -> list[str]:
        return [*runtime, "create", id]

    return both(work, words)
