"""A machine of the test's own for each test, and another host beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Commands
from tests.net.machines import Machine, Space, connect


@pytest.fixture
def machine(oci: Commands, tmp_path: Path) -> Iterator[Machine]:
    """A host: nothing that is done in it touches the real one."""
    made = Machine(oci, tmp_path)
    yield made
    made.close()


@pytest.fixture
def outside(machine: Machine) -> Space:
    """Another host."""
    return connect(machine)
