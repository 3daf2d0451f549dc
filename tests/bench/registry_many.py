"""oci-pull of a small image from a repository of 10,000 manifests, beside the same from one of a single manifest"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import many, peers
from tests.bench.measure import OURS, Side

BAR = 1.1
ROUNDS = 21


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    many.layout(work / "store/many", 10_000)
    many.layout(work / "store/one", 1)
    env = {"OCI_ROOT": f"{work}/root"}
    with peers.our_registry(work / "store") as (host, _):
        yield {
            "among 10,000": Side(lambda i: [OURS["pull"], f"{host}/many:t0", f"{work}/many{i}"], env),
            "alone": Side(lambda i: [OURS["pull"], f"{host}/one:t0", f"{work}/one{i}"], env),
        }
