"""What the tests of containers share: one that is run of the busybox image, and that nothing of it is left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BUSYBOX = "docker.io/library/busybox:latest"


@pytest.fixture
def run(oci: Any, busybox: Path) -> Iterator[Any]:
    """`oci-run` with the busybox image in the store; a test removes what it keeps."""
    yield from running(oci, busybox)


@pytest.fixture
def plain_run(plain: Any, busybox: Path) -> Iterator[Any]:
    """The same as a plain user."""
    yield from running(plain, busybox)


def running(oci: Any, busybox: Path) -> Iterator[Any]:
    oci.preload(BUSYBOX, busybox)

    def run(*words: Any, code: int | None = 0, **more: Any) -> Any:
        return oci("run", *words, code=code, **more)

    yield run
    left = leftovers(Path(oci.cwd))
    for container in oci("run", "list", "-q").stdout.split():
        oci("run", "rm", "-f", container)  # no process may outlive a test that failed
    assert left == []


def leftovers(directory: Path) -> list[str]:
    places = "root/containers", "root/names", "root/layers/.roots", "root/layers/.new", "run/runtime"
    there = [directory / place for place in places if (directory / place).exists()]
    return sorted(str(place / name) for place in there for name in os.listdir(place))
