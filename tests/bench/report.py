"""What was measured, kept and shown: report.json, and made of it report.md with report.svg.

A row of report.json, under the benchmark's name:

    title, unit, bar, limit, memory   what the module says of itself
    machine, date                     where and when
    sides    [{"name", "median", "least", "peak"}], ours first; peak in MB
    missed   whether a bar was
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

PLACE = Path(__file__).resolve().parent
ROW, LEFT, WIDTH, ROOM = 18, 330, 420, 1.25  # pixels; the ratio at the right edge
HEAD = """# What was measured

Ours and each peer take turns in one run; medians, the least in brackets; below 1.00 we take less time (or memory) than
the peer. The bar is what we ask of ourselves. `tests/bench/run --report` measures again and writes this.

![ratios of ours to the peers](report.svg)

| benchmark | ours | peer | ratio | bar |
|---|---|---|---|---|
"""


def keep(rows: dict[str, Any]) -> None:
    """Put rows beside those that are kept, and draw all of them."""
    path = PLACE / "report.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known.update(rows)
    path.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    (PLACE / "report.md").write_text(table(known))
    (PLACE / "report.svg").write_text(drawing(known))


def table(rows: dict[str, Any]) -> str:
    lines = [HEAD]
    for name, row in sorted(rows.items()):
        ours, *peers = row["sides"]
        asked = [f"{row['limit']:g} {row['unit']}"] if row["limit"] else []
        asked += [f"{row['memory']:g} MB"] if row["memory"] else []
        mine = f"{_cell(ours['name'])} {_shown(ours, row['unit'])}" + (f", {ours['peak']:.0f} MB" if row["memory"] else "")
        for at, peer in enumerate(peers or [None]):
            bars = ", ".join(([f"{row['bar']:g}"] if peer and row["bar"] else []) + (asked if not at else []))
            theirs = f"{_cell(peer['name'])} {_shown(peer, row['unit'])}" if peer else ""
            ratio = f"{ours['median'] / peer['median']:.2f}" if peer else ""
            head = f"**{name}**: {row['title']}" if not at else ""
            lines.append(f"| {head} | {mine if not at else ''} | {theirs} | {ratio} | {bars} |\n")
        if row["missed"]:
            lines.append("| | **missed** | | | |\n")
    places = sorted({f"{row['date']}: {row['machine']}" for row in rows.values()})
    if (PLACE / "growth.svg").exists():
        lines.append("\nAs there is more to do (`tests/bench/run --growth --report`):\n\n![growth](growth.svg)\n")
    return "".join(lines) + "\nMeasured on:\n\n" + "".join(f"- {place}\n" for place in places)


def _cell(name: str) -> str:
    return name.replace("|", "\\|")


def _shown(side: dict[str, Any], unit: str) -> str:
    return f"{side['median']:.1f} ({side['least']:.1f}) {unit}"


def drawing(rows: dict[str, Any]) -> str:
    """A bar for each peer, as long as our part of its time; a stroke where it must end."""
    parts = []
    at = ROW
    for name, row in sorted(rows.items()):
        ours, *peers = row["sides"]
        for peer in peers:
            ratio = ours["median"] / peer["median"]
            colour = "#c0392b" if row["bar"] and ratio > row["bar"] else "#2e7d5b"
            label = escape(f"{name} / {peer['name']}"[:50])
            length = min(ratio, ROOM) / ROOM * WIDTH
            parts.append(
                f'<text x="{LEFT - 8}" y="{at + 13}" text-anchor="end">{label}</text>'
                f'<rect x="{LEFT}" y="{at + 3}" width="{length:.1f}" height="12" fill="{colour}"/>'
                f'<text x="{LEFT + length + 5:.1f}" y="{at + 13}">{ratio:.2f}</text>'
            )
            if row["bar"] and row["bar"] <= ROOM:
                mark = LEFT + row["bar"] / ROOM * WIDTH
                parts.append(f'<path d="M{mark:.1f} {at + 1}v16" stroke="#222" stroke-width="2"/>')
            at += ROW
    one = LEFT + WIDTH / ROOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 60}" height="{at + ROW}" '
        'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="#fff"/>\n'
        f'<path d="M{one:.1f} {ROW - 4}V{at + 4}" stroke="#999" stroke-dasharray="3 3"/>'
        f'<text x="{one:.1f}" y="12" text-anchor="middle">as long as the peer</text>\n' + "\n".join(parts) + "\n</svg>\n"
    )
