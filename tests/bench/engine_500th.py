"""docker run -d through an ocid with 499 running containers, beside the same with none"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests import images
from tests.bench.engines import ours
from tests.bench.measure import Side, as_installed, need

BAR = 1.3
ROUNDS = 20
RUN = ["run", "-d", "--network", "none", "busybox", "sleep", "10000"]


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    docker, found = need("docker"), {}
    with ExitStack() as stack:
        stack.enter_context(as_installed())
        for name, count in (("the 500th", 499), ("the first", 0)):
            place = work / name.replace(" ", "")
            address = stack.enter_context(ours(place))
            (place / "root/images").mkdir(mode=0o700, exist_ok=True)
            images.add(place / "root/images", "docker.io/library/busybox:latest", images.image("busybox"))
            call = [docker, "-H", address]
            stack.callback(_clean, call, 0)
            for _ in range(count):
                subprocess.run([*call, *RUN], check=True, stdout=subprocess.DEVNULL)
            found[name] = Side(lambda i, call=call, count=count: [*_clean(call, count), *RUN])  # type: ignore[misc]
        yield found


def _clean(call: list[str], kept: int) -> list[str]:
    """Remove all but the first of the containers."""
    listed = subprocess.run([*call, "ps", "-aq"], capture_output=True, text=True, check=True).stdout.split()
    for at in range(0, len(listed) - kept, 50):
        subprocess.run([*call, "rm", "-f", *listed[at : min(at + 50, len(listed) - kept)]], stdout=subprocess.DEVNULL)
    return call
