"""A pytest plugin for the machine: only the tests that start commands, or are written for it.

The others say there what they say everywhere, ten times slower.
"""

from __future__ import annotations

import pytest

STARTING = {"oci", "plain", "box", "plain_box"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept, others = [], []
    for item in items:
        wanted = item.path.parent.name == "vm" or STARTING & set(getattr(item, "fixturenames", ()))
        (kept if wanted else others).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=others)
