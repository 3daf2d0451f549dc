"""stats --plot: a line a container, its processors' time as a curve, its memory as a bar; redrawn where it stands."""

from __future__ import annotations

import sys

from oci_tools import drawing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UP, _CLEAR = "\x1b[{}A", "\x1b[K"
_KEPT = 200  # values of a curve


class Plot:
    """What was drawn last, and the values that curves are made of."""

    def __init__(self) -> None:
        self._seen: dict[str, list[float]] = {}
        self._drawn = 0

    def show(self, found: list[dict[str, Any]]) -> None:
        """Draw it; a terminal's earlier picture is replaced, into a pipe one follows the other."""
        columns = drawing.width()
        for each in found:
            values = self._seen.setdefault(each["id"], [])
            values.append(float(each["cpu"]))
            del values[:-_KEPT]
        lines = [drawing.fit(line, columns) for line in self.lines(found, columns or 80)]
        if columns is None:
            sys.stdout.write("".join(f"{line}\n" for line in [*([""] if self._drawn else []), *lines]))
        else:
            up = _UP.format(self._drawn) if self._drawn else ""
            gone = max(0, self._drawn - len(lines))
            sys.stdout.write(up + "".join(f"{line}{_CLEAR}\n" for line in [*lines, *[""] * gone]))
            sys.stdout.write(_UP.format(gone) if gone else "")
        sys.stdout.flush()
        self._drawn = len(lines)

    def lines(self, found: list[dict[str, Any]], columns: int) -> list[str]:
        """A head and a line for each; narrow terminals have no curves, and then no bars."""
        plain = drawing.is_plain()
        name = min(max([len("name"), *(len(each["name"]) for each in found)]), max(8, columns // 4))
        free = columns - name - len(" 100.0 %  100.0 MB of 100.0 MB") - 4
        wide = max(0, free // 2) if free >= 16 else 0
        top = max(100.0, *(value for values in self._seen.values() for value in values))
        head = f"{'name':{name}} {'cpu':>7} {'':{wide}} memory"
        return [head.rstrip(), *(self._line(each, name, wide, top, plain) for each in found)]

    def _line(self, each: dict[str, Any], name: int, wide: int, top: float, plain: bool) -> str:
        used, limit = each["memory"], each["limit"]
        words = [drawing.fit(each["name"], name).ljust(name), f"{float(each['cpu']):>5.1f} %"]
        if wide:
            words.append(drawing.curve(self._seen[each["id"]], top, wide, plain))
            words.append(drawing.bar(used / limit if limit else 0, wide, plain))
        return " ".join([*words, f"{drawing.size(used)} of {drawing.size(limit)}" if limit else drawing.size(used)])
