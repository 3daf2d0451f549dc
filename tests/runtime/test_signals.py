"""Signals by the names that people type, the kernel's numbers behind them."""

from __future__ import annotations

import signal

import pytest

from oci_tools.errors import Error
from oci_tools.runtime import signals


def test_every_name_of_this_system() -> None:
    for known in signal.Signals:
        for text in (known.name, known.name.removeprefix("SIG"), known.name.lower(), str(int(known))):
            if not known.name.startswith("SIGRT"):
                assert signals.number(text) == known


@pytest.mark.parametrize(
    ("text", "number"),
    [("RTMIN", 34), ("SIGRTMIN+3", 37), ("rtmin+30", 64), ("RTMAX", 64), ("SIGRTMAX-5", 59), ("RTMAX-30", 34), ("64", 64),
     ("CLD", 17), ("IOT", 6), ("POLL", 29), ("009", 9)],
)  # fmt: skip
def test_names_of_more_kinds(text: str, number: int) -> None:
    assert signals.number(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "0", "65", "-9", "+9", "9.0", "KILLER", "SIG", "SIGSIGKILL", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMAX-31", "RTMIN+", "٩",
     "RTMIN+٣", " 9", "KILL\n"],
)  # fmt: skip
def test_what_names_none(text: str) -> None:
    with pytest.raises(Error, match="unknown signal"):
        signals.number(text)
