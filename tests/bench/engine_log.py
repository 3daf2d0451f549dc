"""a container that writes 20 MB of lines, from its start to its end, json-file of ocid beside dockerd's"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.engines import both
from tests.bench.measure import Side

BAR = 1.0
ROUNDS = 5
FLOOD = f"yes {'0123456789' * 8} | head -c 20000000"


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    with both(work, []) as found:
        for side in found.values():
            docker = shlex.join(side.words(0))
            options = "--log-driver json-file --log-opt max-size=1g --network none"
            script = f"id=$({docker} run -d {options} busybox sh -c '{FLOOD}') && {docker} wait $id && {docker} rm $id"
            side.words = lambda i, script=script: ["/bin/sh", "-c", script]  # type: ignore[misc]
        yield found
