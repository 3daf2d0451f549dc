"""oci-build of 20 RUN steps that are all in the cache, beside docker's classic builder"""

from tests.bench.build_steps import IDLE, MEMORY, sides as steps

__all__ = ["IDLE", "LIMIT", "MEMORY", "ROUNDS", "sides"]
LIMIT = 120  # ms
ROUNDS = 10


def sides(work):  # type: ignore[no-untyped-def]
    return steps(work, cached=True)
