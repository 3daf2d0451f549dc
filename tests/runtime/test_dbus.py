"""The D-Bus client: beside Debian's dbus-daemon, and values as bytes and back."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci_tools.errors import Error
from oci_tools.runtime import dbus

US = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[str]:
    """Where a bus of the test's own listens."""
    path = tmp_path / "bus"
    words = ["dbus-daemon", "--session", "--nofork", f"--address=unix:path={path}", "--print-address"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as daemon:
        assert daemon.stdout is not None and daemon.stdout.readline()
        yield str(path)
        daemon.terminate()


@pytest.mark.needs("dbus-daemon")
def test_calls_and_answers(bus: str) -> None:
    with dbus.Bus(bus, direct=False) as us:
        names = us.call(*US, "ListNames")[0]
        assert "org.freedesktop.DBus" in names
        kind, features = us.call(
            US[0], US[1], "org.freedesktop.DBus.Properties", "Get", "ss", US[0], "Features"
        )[0]
        assert kind == "as" and all(isinstance(name, str) for name in features)
        assert us.call(*US, "GetConnectionUnixUser", "s", names[-1])[0] == os.geteuid()


@pytest.mark.needs("dbus-daemon")
def test_an_error_has_its_name(bus: str) -> None:
    with dbus.Bus(bus, direct=False) as us:
        with pytest.raises(dbus.Failed) as raised:
            us.call(*US, "GetNameOwner", "s", "org.example.Nobody")
        assert raised.value.name == "org.freedesktop.DBus.Error.NameHasNoOwner"
        assert us.call(*US, "GetId")  # it goes on


@pytest.mark.needs("dbus-daemon")
def test_a_signal_is_kept_until_somebody_waits_for_it(bus: str) -> None:
    with dbus.Bus(bus, direct=False) as us:
        us.call(*US, "AddMatch", "s", "type='signal',member='NameOwnerChanged'")
        us.call(*US, "RequestName", "su", "org.example.First", 0)
        us.call(*US, "GetId")
        us.call(*US, "RequestName", "su", "org.example.Second", 0)
        until = time.monotonic() + 30
        assert us.signal("NameOwnerChanged", until)[0] == "org.example.First"
        assert us.signal("NameOwnerChanged", until)[0] == "org.example.Second"
        with pytest.raises(TimeoutError):
            us.signal("NameOwnerChanged", time.monotonic() + 0.01)


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Error, match="cannot reach systemd at"):
        dbus.Bus(str(tmp_path / "none"), direct=True)


def test_signatures() -> None:
    assert dbus.split("ssa(sv)a(sa(sv))") == ["s", "s", "a(sv)", "a(sa(sv))"]
    assert dbus.split("a{sv}(ii)aay") == ["a{sv}", "(ii)", "aay"]
    assert dbus.split("") == []
    with pytest.raises(ValueError, match="signature"):
        dbus.split("a(s")


def test_bytes_as_the_specification_has_them() -> None:
    """ "Marshaling": a string is aligned to 4 and ends with a zero, an array's length does not count its padding."""
    writer = dbus.Writer()
    writer.put("y", 1)
    writer.put("s", "foo")
    writer.put("at", [5])
    assert bytes(writer.data) == b"\1\0\0\0\3\0\0\0foo\0\x08\0\0\0\5\0\0\0\0\0\0\0"
    writer = dbus.Writer()
    writer.put("v", ("i", -2))
    assert bytes(writer.data) == b"\1i\0\0\xfe\xff\xff\xff"


SIMPLE = {
    "y": st.integers(0, 255), "b": st.booleans(), "n": st.integers(-(2**15), 2**15 - 1), "u": st.integers(0, 2**32 - 1),
    "x": st.integers(-(2**63), 2**63 - 1), "t": st.integers(0, 2**64 - 1), "d": st.floats(allow_nan=False),
    "s": st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=9),
}  # fmt: skip


@st.composite
def values(draw: Any, depth: int = 3) -> tuple[str, Any]:
    shape = (
        draw(st.sampled_from("simple" if not depth else ["simple", "array", "struct", "variant"]))
        if depth
        else "simple"
    )
    if shape == "array":
        kind, value = draw(values(depth - 1))
        if kind == "y":
            return "ay", bytes([value] * draw(st.integers(0, 3)))
        return f"a{kind}", [value] * draw(st.integers(0, 3))
    if shape == "struct":
        parts = draw(st.lists(values(depth - 1), min_size=1, max_size=3))
        return f"({''.join(kind for kind, _ in parts)})", tuple(value for _, value in parts)
    if shape == "variant":
        return "v", draw(values(depth - 1))
    kind = draw(st.sampled_from(sorted(SIMPLE)))
    return kind, draw(SIMPLE[kind])


@given(st.lists(values(), max_size=4))
def test_what_is_written_is_read(listed: list[tuple[str, Any]]) -> None:
    writer = dbus.Writer()
    for kind, value in listed:
        writer.put(kind, value)
    reader = dbus.Reader(bytes(writer.data), "<")
    assert [(kind, reader.get(kind)) for kind, _ in listed] == listed
