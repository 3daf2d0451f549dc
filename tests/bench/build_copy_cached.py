"""oci-build of COPY of 20,000 files that did not change, beside docker's classic builder and buildah"""

from tests.bench.build_copy import IDLE, MEMORY, sides as copy

__all__ = ["BAR", "IDLE", "MEMORY", "ROUNDS", "sides"]
BAR = 0.3
ROUNDS = 5


def sides(work):  # type: ignore[no-untyped-def]
    return copy(work, cached=True)
