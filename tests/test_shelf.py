"""Mappings that are on disk: as a dict is, however little there is room for."""

from __future__ import annotations

import resource
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oci_tools import shelf
from oci_tools.errors import Error
from oci_tools.shelf import Attic, Node, Rows, Shelf


class Thing(Node):
    __slots__ = ("what",)

    def __init__(self, name: bytes, parent: Any, what: Any, attic: Attic) -> None:
        super().__init__(name, parent, attic)
        self.what = what

    def said(self) -> Any:
        return self.what

    def node(self, name: bytes, said: Any) -> Thing:
        return Thing(name, self, said, self.attic)


NAMES = st.binary(max_size=3)
STEPS = st.lists(st.tuples(st.sampled_from(["set", "pop", "get", "clear"]), NAMES, st.integers(0, 9)), max_size=40)


@settings(deadline=None)
@given(STEPS, st.sampled_from([0, 1000, 1 << 20]), st.sampled_from([1, 2, 32]))
def test_it_is_a_dict(steps: list[tuple[str, bytes, int]], room: int, page: int) -> None:
    with patch.object(shelf, "ROOM", room), patch.object(shelf, "PAGE", page):
        found, beside, model = Shelf(attic := Attic()), Shelf(attic), dict[bytes, int]()
        for what, name, value in steps:
            beside.set(name, -value - 1)
            if what == "set":
                found.set(name, value)
                model[name] = value
            elif what == "pop":
                assert found.pop(name) == model.pop(name, None)
            elif what == "clear":
                found.clear()
                model.clear()
            assert found.get(name) == model.get(name)
            assert found.is_empty() == (not model)
        assert list(found.items()) == sorted(model.items())


def test_a_node_is_itself_as_long_as_somebody_has_it() -> None:
    with patch.object(shelf, "ROOM", 0):
        top = Thing(b"", None, None, Attic())
        kid = Thing(b"k", top, ("a", {}), top.attic)
        top.set(b"k", kid)
        kid.set(b"x", 1)
        assert top.get(b"k") is kid and next(top.items()) == (b"k", kid)
        kid.what = ("b", {})
        kid.changed()
        number = kid.number
        del kid
        again = top.get(b"k")
        assert (again.what, again.number, again.parent, again.get(b"x")) == (("b", {}), number, top, 1)


def test_large_attributes_are_kept_once() -> None:
    with patch.object(shelf, "ROOM", 0):
        top = Shelf(Attic())
        for name in (b"a", b"b", b"c"):
            top.set(name, (1, {b"user.x": b"v" * (5 if name == b"c" else 2000)}))
        a, b, c = (value for _, value in top.items())
        assert a == b == (1, {b"user.x": b"v" * 2000}) and a[1] is b[1]
        assert c == (1, {b"user.x": b"v" * 5})


def test_rows_come_as_they_were_put() -> None:
    with patch.object(shelf, "ROOM", 100):
        rows = Rows(Attic())
        for at in range(300):
            rows.append((at, b"x"))
        assert list(rows) == [(at, b"x") for at in range(300)] and len(rows) == 300


def test_a_full_disk_is_an_error() -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        with patch.object(shelf, "ROOM", 1 << 16), pytest.raises(Error, match="cannot write a temporary file: .*TMPDIR"):
            rows = Rows(Attic())
            for at in range(10_000):
                rows.append((at, bytes(1000)), 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
