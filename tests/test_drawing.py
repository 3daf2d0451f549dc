"""Trees, bars and curves of text, of any width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci_tools import drawing
from oci_tools.cmd.ctl import plotting

TREE = [("a", [("b", [("c", ())]), ("d", ())]), ("e", ())]


def test_trees() -> None:
    assert list(drawing.tree(TREE, None, False)) == ["├─ a", "│  ├─ b", "│  │  └─ c", "│  └─ d", "└─ e"]
    assert list(drawing.tree(TREE, None, True)) == ["|- a", "|  |- b", "|  |  `- c", "|  `- d", "`- e"]
    assert list(drawing.tree([("x" * 50, ())], 20, False)) == [f"└─ {'x' * 14}..."]
    assert drawing.fit("a\x1b[31mb\n", None) == "a\\x1b[31mb\\n"


@given(st.floats(-1, 2), st.integers(1, 80), st.booleans())
def test_bars_are_as_wide_as_said(share: float, columns: int, plain: bool) -> None:
    drawn = drawing.bar(share, columns, plain)
    assert len(drawn) == columns
    assert share > 0 or not drawn.strip(" .") and share <= 0
    assert share < 1 or set(drawn) == {"#" if plain else "█"}


@given(st.lists(st.floats(0, 400), max_size=100), st.integers(1, 60), st.booleans())
def test_curves_are_as_wide_as_said(values: list[float], columns: int, plain: bool) -> None:
    assert len(drawing.curve(values, 400, columns, plain)) == columns


def test_curves_and_sizes() -> None:
    assert drawing.curve([0, 50, 100], 100, 5, False) == "  ▁▅█"
    assert [drawing.size(number) for number in (0, 999, 1500, 123_456_789, 5e15)] == ["0 B", "999 B", "1.5 kB", "123 MB", "5000 TB"]


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_plot_fits(columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(drawing, "width", lambda: columns)
    monkeypatch.setattr(drawing, "is_plain", lambda: False)
    plot = plotting.Plot()
    one = {"id": "1", "name": "web" * 10, "cpu": "50.00", "memory": 5_000_000, "limit": 10_000_000}
    plot.show([one, {**one, "id": "2"}])
    plot.show([one])
    first, second = capsys.readouterr().out.split("\x1b[3A")
    for line in (first + second.partition("\x1b[1A")[0]).splitlines():
        assert len(line.replace("\x1b[K", "")) <= columns
    assert ("█" in first) == (columns >= 80)
    monkeypatch.setattr(drawing, "width", lambda: None)
    plotting.Plot().show([one])
    assert "\x1b" not in capsys.readouterr().out
