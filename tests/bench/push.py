"""oci-push of a 1 GB image of four layers to a local docker-registry beside skopeo

Every run is into an empty registry of its own, which both would else mount from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import images
from tests.bench import peers
from tests.bench.measure import OURS, Side, need

BAR = 1.0
MEMORY = 60.0
ROUNDS = 3
IDLE = 1.0
ROOM = 3 << 29


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    skopeo, big = need("skopeo"), images.image("big")
    with ExitStack() as stack:

        def registry(name: str) -> str:
            place = work / name
            place.mkdir()
            return stack.enter_context(peers.docker_registry(place))

        def theirs(i: int) -> list[str]:
            to = f"docker://{registry(f'theirs{i}')}/big:1"
            return [skopeo, "copy", "-q", "--dest-tls-verify=false", f"oci:{big}:latest", to]

        yield {
            "oci-push": Side(lambda i: [OURS["push"], f"{big}:latest", f"{registry(f'ours{i}')}/big:1"], {"OCI_ROOT": f"{work}/root"}),
            "skopeo": Side(theirs, {"HOME": str(work)}),
        }
