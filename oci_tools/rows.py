"""Records on stdout, one a line: fields between tabs, or JSON."""

from __future__ import annotations

import sys

from oci_tools import cli
from oci_tools.errors import Usage, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def fields(args: cli.Args, default: str, known: Iterable[str]) -> list[str]:
    """The columns that are asked for, or these."""
    chosen: list[str] = (args.fields or default).split(",")
    for field in chosen:
        if field not in known:
            raise Usage("no such field", field, hint=f"one of {', '.join(known)}")
    return chosen


def show(rows: Iterable[dict[str, Any]], fields: list[str] | None) -> int:
    """Records, one a line: fields between tabs, `-` for nothing; without fields JSON.  How many there were."""
    from oci_tools import document

    count = 0
    lines = []
    for row in rows:
        count += 1
        if fields is None:
            lines.append(document.dumps(row).decode())
        else:
            cells = ("-" if row.get(field) is None else printable(str(row[field])) for field in fields)
            lines.append("\t".join(cells))
        if len(lines) == 10_000:
            say("\n".join(lines))
            lines.clear()
    if lines:
        say("\n".join(lines))
    return count


def say(text: str) -> None:
    """A line on stdout; in it whatever bytes file names have."""
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")
