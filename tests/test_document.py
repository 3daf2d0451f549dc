"""`document` reads and writes exactly what the standard library's `json` does."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oci_tools import document
from oci_tools.errors import Error

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
# Text that is nearly JSON: its tokens in any order, cut and joined.
TOKENS = st.sampled_from(
    ['{', '}', '[', ']', ',', ':', '"a"', '"\\u00e9"', '"\\ud800"', '"\\x"', '"', '\\', '1', '-', '-0', '0.5', '1e9',
     '1E400', '01', '1.', '.5', 'true', 'false', 'null', 'NaN', 'Infinity', '-Infinity', 'nul', ' ', '\n', '\t', '\r',
     '\v', '\u00a0', '\ufeff', '\x00', '"\x01"', 'é', '/*', '//']
)  # fmt: skip
NEARLY = st.lists(TOKENS, max_size=12).map("".join)


FINITE = VALUES.filter(lambda value: "inf" not in repr(value))


def same(one: Any, other: Any) -> bool:
    """Equal, also in type, and NaN equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other) or one != one and other != other
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def agree(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(Error, match="not valid json"):
            document.loads(text)
    else:
        assert same(document.loads(text), expected)


@pytest.mark.parametrize(
    "unit", ["[],", "{},", '{"":1},', '{"a":[]},', "1000,", "1.5,", '"ab",', '"",', '"é",', r'"\ud83d\ude00",', '"\U0001f600",', "[[[0]]],",
             '{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6},', "null,", '"a long text that nobody else has",'],
)  # fmt: skip
def test_weight_is_no_less_than_it_takes(unit: str) -> None:
    for data in (f"[{unit * 20_000}0]".encode(), json.dumps({f"{at}{unit}": at for at in range(9000)}).encode(),
                 b'{"a": "' + unit.replace('"', "").replace("\\", "").encode() * 20_000 + b'"}'):  # fmt: skip
        document.loads(b"{}")
        tracemalloc.start()
        kept = document.loads(data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept
        assert peak + len(data) <= document.weight(data)


def test_weight_of_what_is_real() -> None:
    one = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": f"sha256:{'0' * 64}", "size": 1234,
           "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"}}  # fmt: skip
    data = json.dumps({"schemaVersion": 2, "manifests": [one] * 10_000}).encode()
    document.check_weight(data, "index", 32 << 20)
    with pytest.raises(Error, match="it would take .* MB of memory, more than 1"):
        document.check_weight(data, "index", 1 << 20)


@given(NEARLY | st.text(max_size=20))
@settings(max_examples=3000, deadline=None)
@example('{"a": 1, "a": 2}')
@example(' [1, 2] \n')
@example('[1] x')
@example("")
@example("\ufeff{}")
@example('"' + "\\u0000" + '"')
def test_reads_what_json_reads(text: str) -> None:
    agree(text)


@given(VALUES, st.sampled_from([None, 2]), st.booleans())
@settings(max_examples=500, deadline=None)
def test_reads_what_json_writes(value: Any, indent: int | None, ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii)
    assert same(document.loads(text), value)
    if "\\ud" not in text and not any("\ud800" <= c <= "\udfff" for c in text):
        assert same(document.loads(text.encode()), value)


@given(FINITE, st.booleans())
@settings(max_examples=500, deadline=None)
def test_writes_what_json_reads_without_a_space(value: Any, sort: bool) -> None:
    data = document.dumps(value, sort=sort)
    assert same(json.loads(data), json.loads(json.dumps(value, sort_keys=sort)))
    try:
        wanted = json.dumps(value, sort_keys=sort, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        wanted = json.dumps(value, sort_keys=sort, separators=(",", ":")).encode()
    assert data == wanted


def test_indented_is_for_people() -> None:
    assert document.dumps({"b": 1, "a": "é"}, indent=2, sort=True) == '{\n  "a": "é",\n  "b": 1\n}\n'.encode()


@pytest.mark.parametrize("data", [b"\xff", b'"\xc3"', b"\xfe\xff\x00{\x00}", b'{"a": "\xed\xa0\x80"}'])
def test_bytes_are_utf_8_or_refused(data: bytes) -> None:
    with pytest.raises(Error, match="cannot read 'x.json': not valid json: not utf-8 at byte"):
        document.loads(data, "x.json")


def test_depth_is_an_error_not_a_crash() -> None:
    with pytest.raises(Error, match="nested too deeply"):
        document.loads("[" * 1_000_000)


def test_what_others_may_write_but_we_may_not_is_an_error() -> None:
    with pytest.raises(Error, match="cannot write document"):
        document.dumps(document.loads("[1e999]"))


def test_errors_need_nothing_imported_before() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from oci_tools import document; document.loads('[1, ')"
    top = Path(document.__file__).parent.parent
    done = subprocess.run([sys.executable, "-IS", "-c", code, top], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("oci_tools.errors.Error: cannot read 'document': not valid json: ")


def test_a_file_that_is_missing_is_named(tmp_path: Any) -> None:
    with pytest.raises(Error) as caught:
        document.load(f"{tmp_path}/none.json")
    assert str(caught.value) == f"cannot read '{tmp_path}/none.json': no such file or directory"


# -- files that are none ------------------------------------------------------------------


def test_a_file_is_read_up_to_a_size(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"[" + b" " * 200_000 + b"]")
    assert document.load(f"{tmp_path}/x", 200_002) == []
    with pytest.raises(Error, match="cannot read '.*/x': larger than 200001 bytes"):
        document.load(f"{tmp_path}/x", 200_001)
    with pytest.raises(Error, match="cannot read '/dev/zero': larger than 100 bytes"):
        document.read("/dev/zero", 100)
    with pytest.raises(Error, match="cannot read '/dev/null': not valid json: no value"):
        document.load("/dev/null")
    with pytest.raises(Error, match=f"cannot read '{tmp_path}': is a directory"):
        document.load(str(tmp_path))


def test_a_pipe_is_read_to_its_end_but_no_writer_waited_for(tmp_path: Path) -> None:
    fifo = f"{tmp_path}/fifo"
    os.mkfifo(fifo)
    with pytest.raises(Error, match="cannot read '.*/fifo': nobody writes to this pipe"):
        document.read(fifo)
    with subprocess.Popen(["sh", "-c", f"exec > '{fifo}'; echo '['; read go; echo ']'"], stdin=subprocess.PIPE) as writer:
        held = os.open(fifo, os.O_RDONLY)  # now it has opened it too, and this one reads nothing
        assert writer.stdin
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
        assert document.load(fifo) == []
        os.close(held)
    reader, end = os.pipe()
    os.close(end)
    assert document.read(f"/dev/fd/{reader}") == b""  # of a command that had nothing to say
    os.close(reader)
