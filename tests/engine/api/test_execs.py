"""What is known of execs, and for how long."""

from __future__ import annotations

import time

import pytest

from oci_tools.engine.api import execs
from oci_tools.engine.api.answers import Refused


def test_execs_that_ended_long_ago_are_forgotten_and_those_of_containers_that_are_no_more() -> None:
    known, there = execs.Execs(), {"a", "b"}
    run, old, fresh, waiting, gone = (execs.Exec("b" if name == "gone" else "a", {}) for name in ("run", "old", "fresh", "waiting", "gone"))
    run.begun = True
    old.code = fresh.code = 0
    old.ended, fresh.ended = time.monotonic() - 1000, time.monotonic()
    for one in (run, old, fresh, waiting, gone):
        known.add(one, there.__contains__)
    there.remove("b")
    known._swept = time.monotonic() - 1000
    last = execs.Exec("a", {})
    known.add(last, there.__contains__)
    for one in (run, fresh, waiting, last):
        assert known.find(one.id) is one
    for one in (old, gone):
        with pytest.raises(Refused):
            known.find(one.id)
