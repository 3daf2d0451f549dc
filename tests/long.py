"""How long tests may take: `tests/run --long` is for a person with an evening, everything else for a change's judge."""

from __future__ import annotations

import os

LONG = bool(os.environ.get("OCI_TEST_LONG"))


def rounds(few: int, many: int) -> int:
    """How often a loop goes round: few times where a change is judged, many with --long."""
    return many if LONG else few
