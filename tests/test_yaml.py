"""YAML as Kubernetes reads it, and what is written so that it is read as it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci_tools import yaml
from oci_tools.errors import Error


def read(text: str) -> Any:
    return yaml.documents(text.encode(), "x.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("22:22", "22:22"), ("2001-01-01", "2001-01-01"), ("0400", 0o400), ("0o17", 15), ("0x1f", 31), ("1_0", 10),
        ("yes", True), ("off", False), ("~", None), ("", None), ("1e3", 1000.0), ("-1.5", -1.5), ("'5'", "5"),
        ("1Gi", "1Gi"), ("500m", "500m"), (".inf", ".inf"), ("=", "="), ("{a: [1, x]}", {"a": [1, "x"]}),
    ],
)  # fmt: skip
def test_types_are_those_of_json(text: str, value: Any) -> None:
    assert read(f"a: {text}\n") == [{"a": value}]


def test_names_are_texts_and_merges_merge() -> None:
    assert read("on: 1\n1: 2\n") == [{"on": 1, "1": 2}]
    assert read("a: &a {x: 1, y: 1}\nb:\n  <<: *a\n  y: 2\n")[0]["b"] == {"x": 1, "y": 2}
    assert read("---\n---\na: 1\n---\n- b\n") == [{"a": 1}, ["b"]]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGES = "a: &a {" + ",".join(f"k{n}: 1" for n in range(1000)) + "}\nb: &b\n  <<: [" + ",".join(["*a"] * 199) + "]\nc:\n  <<: [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "more than 200000 values"), (MERGES, "more than 200000 values"),
        ("a: &a [*a]", "an alias of what it stands in"), ("a: 1\na: 2", "line 2: 'a' is there twice"),
        ("? [a]\n: 1", "a name that is no text"), ("a: !!python/object:os.system 1", "unknown tag"),
        ("a: !!timestamp 2001-01-01", "unknown tag"), ("[" * 5000, "nesting depth"), ("a: [1", "line 2: did not find"), ("a: \0", "not valid yaml"),
        ("a: !!int b", "not valid yaml"), ("a: *b", "undefined alias"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(Error) as error:
        read(text)
    assert str(error.value).startswith("cannot read 'x.yaml': not valid yaml") and why in str(error.value)
    with pytest.raises(Error, match="not utf-8"):
        yaml.documents(b"a: \xff", "x")
    with pytest.raises(Error, match="larger than"):
        yaml.documents(b" " * (yaml.MAX_BYTES + 1), "x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 64) | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]) | st.just("\n")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc1:-.~ yes0", max_size=5), inner),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.text("ab", min_size=1), JSON, min_size=1))
def test_what_is_written_is_read_the_same(value: dict[str, Any]) -> None:
    assert read(yaml.dumps([value])) == [value]


@given(st.from_regex(r"[0-9onyef.:+_xX-]{1,6}", fullmatch=True))
def test_texts_that_look_like_something_else_are_quoted(text: str) -> None:
    assert read(yaml.dumps([{"a": text}])) == [{"a": text}]
