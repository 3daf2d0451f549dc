"""The report of what was measured: rows kept, a table and a drawing made of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.bench import growth, report


def row(ours: float, peer: float, **more: Any) -> dict[str, Any]:
    sides = [{"name": name, "median": median, "least": median, "peak": 9.0} for name, median in (("oci-x", ours), ("y <z> | w", peer))]
    asked = {"bar": 1.0, "limit": None, "memory": None}
    return {"title": "a thing", "unit": "ms", "sides": sides, "missed": False, "machine": "m", "date": "d", **asked, **more}


def test_rows_are_kept_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PLACE", tmp_path)
    report.keep({"slow": row(30, 20, missed=True), "small": row(5, 10, memory=60.0)})
    report.keep({"quick": row(10, 40, bar=None, limit=50)})
    text = (tmp_path / "report.md").read_text()
    assert [line.partition("**: ")[0] for line in text.splitlines() if line.startswith("| **")] == ["| **quick", "| **slow", "| **small"]
    assert "| 0.25 | 50 ms |" in text and "| 1.50 | 1 |" in text and "| 0.50 | 1, 60 MB |" in text
    assert text.count("**missed**") == 1 and text.count("y <z> \\| w ") == 3, "a pipe is no end of a cell"
    drawn = ET.parse(tmp_path / "report.svg").getroot()
    widths = [float(each.get("width", "")) for each in drawn if each.get("height") == "12"]
    assert widths[1] > widths[2] > widths[0]


def test_growth_is_drawn() -> None:
    assert growth.sizes(500) == [1, 10, 100, 500] and growth.sizes(1) == [1] and growth.sizes(100) == [1, 10, 100]
    drawn = ET.fromstring(growth.drawing({"files": [(1, 50.0), (100, 60.0)], "tags": [(1, 40.0), (1000, 400.0)]}))
    lines = [each.get("points", "") for each in drawn if each.tag.endswith("polyline")]
    assert len(lines) == 2
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in lines[1].split())
    assert x2 > x1 and y2 < y1, "more takes longer: up, and to the right"
