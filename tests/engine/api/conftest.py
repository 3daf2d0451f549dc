"""An `ocid` for a module of tests; `engine` has no container at the beginning and the end of each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATH
from tests.daemon import Engine, started


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short directory: sockets have short names."""
    return tmp_path_factory.mktemp(f"a{os.getpid() % 1000}")


@pytest.fixture(scope="module")
def daemon(place: Path) -> Iterator[Engine]:
    if not shutil.which("docker", path=PATH):
        pytest.skip("needs docker; tests/run --setup installs it on Debian as root")
    yield from started(place)


@pytest.fixture
def engine(daemon: Engine) -> Iterator[Engine]:
    yield daemon
    daemon.clean()
