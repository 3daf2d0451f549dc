"""A config.json in which one field has another value, run: what its check lets pass, the kernel may still refuse.

Whatever comes of it is the payload's end or one line, and nothing is left.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from oci_tools.errors import Error
from oci_tools.runtime import check, fields
from tests import test_schema as documents
from tests.long import rounds

pytestmark = pytest.mark.root


def merged(base: Any, value: Any, path: tuple[Any, ...]) -> Any:
    """`base` with what `value` has on the way to `path`; namespaces stay as they are beside the one that is changed."""
    if not isinstance(base, dict) or not isinstance(value, dict) or not path:
        return value
    made = dict(base)
    for name, item in value.items():
        made[name] = merged(base[name], item, path[1:]) if name == path[0] and name in base else base.get(name, item)
        if name == path[0] == "namespaces" and isinstance(item, list):
            said = [each.get("type") for each in item if isinstance(each, dict)]
            made[name] = item + [each for each in base[name] if each["type"] not in said]
    return made


def good(base: dict[str, Any]) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Each field's path, its value and the configuration with it: all that the check lets pass."""
    for path, value in documents.mutants(fields.CONFIG):
        spec = merged(base, value, path)
        try:
            check.check(spec)
        except Error:
            continue
        memory = spec.get("linux", {}).get("resources", {}).get("memory", {})
        if memory.get("disableOOMKiller") and memory.get("limit", -1) >= 0:
            continue  # the kernel then does as it is told: what needs more waits for ever
        yield path, value, spec


def test_every_value_that_the_check_lets_pass(box: Any) -> None:
    box.process["args"] = ["true"]
    base = copy.deepcopy(box.spec)
    every = list(good(base))
    for path, value, spec in random.Random(5).sample(every, rounds(40, len(every))):
        box.spec = spec
        done = box("run", code=None)
        said = [line for line in done.stderr.splitlines() if not line.startswith("oci-run: warning: ")]
        assert len(said) == (done.returncode != 0), (path, value, done)
        if said:
            assert done.returncode == 1 and said[0].startswith("oci-run: ") and said[0].isprintable(), (path, value, done)
    box.spec = base
    assert box.remains() == []
