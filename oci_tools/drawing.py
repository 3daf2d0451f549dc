"""Pictures of text for people: trees, bars, curves; as wide as the terminal, without colours.

Where the locale is not UTF-8 they are drawn in ASCII.  Into a pipe goes the same, as wide as it needs to be.
"""

from __future__ import annotations

import os
import sys

from oci_tools.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Tree = tuple[str, Sequence["Tree"]]  # a line, and what hangs below it

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"
LEAST = 20  # columns: what is narrower is not drawn for


def width() -> int | None:
    """Columns of the terminal that standard output is; None if it is none."""
    try:
        return max(LEAST, os.get_terminal_size(1).columns or 80)
    except OSError:
        return None


def is_plain() -> bool:
    """Whether only ASCII can be shown."""
    return "utf" not in (getattr(sys.stdout, "encoding", None) or "").lower()


def fit(line: str, columns: int | None) -> str:
    """A line that is no wider, and harmless to a terminal."""
    line = printable(line)
    if columns is None or len(line) <= columns:
        return line
    return line[: columns - 3] + "..."


def tree(nodes: Iterable[Tree], columns: int | None, plain: bool, above: str = "") -> Iterator[str]:
    """The lines of trees, each below the one that it hangs on."""
    branch, last, bar = ("|- ", "`- ", "|  ") if plain else ("├─ ", "└─ ", "│  ")
    found = list(nodes)
    for at, (line, below) in enumerate(found):
        end = at == len(found) - 1
        yield fit(f"{above}{last if end else branch}{line}", columns)
        yield from tree(below, columns, plain, f"{above}{'   ' if end else bar}")


def bar(share: float, columns: int, plain: bool) -> str:
    """So much of 1, in so many columns."""
    share = min(1.0, max(0.0, share))
    if plain:
        full = round(share * columns)
        return "#" * full + "." * (columns - full)
    eighths = round(share * columns * 8)
    text = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    return text.ljust(columns)


def curve(values: Sequence[float], top: float, columns: int, plain: bool) -> str:
    """The latest values, one a column, the newest at the right; `top` is the highest that is drawn."""
    levels = ".:-=+*#@" if plain else _LEVELS
    latest = values[-columns:]
    steps = [min(len(levels) - 1, max(0, int(value / (top or 1) * len(levels)))) for value in latest]
    return "".join(levels[step] for step in steps).rjust(columns)


def size(number: float) -> str:
    """Bytes for people: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return ""
