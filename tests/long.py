"""How long tests may take: `tests/run --long` is for a person with an evening, everything else for a change's judge."""

from __future__ import annotations

import os

LONG = bool(os.environ.get("OCI_TEST_LONG"))
SHARE = int(os.environ.get("OCI_TEST_SHARE") or 1)  # a machine in software, twenty times slower, goes round each so-manieth time


def rounds(few: int, many: int) -> int:
    """How often a loop goes round: few times where a change is judged, many with --long."""
    return max(few, many // SHARE) if LONG else few
