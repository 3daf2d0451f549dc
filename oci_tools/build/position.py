"""The lines of a Dockerfile; and what is wrong in it, and where: FILE:LINE:COLUMN, and the text with a mark under it.

One line at a time is looked at: however many there are, they take no memory.
"""

from __future__ import annotations

import re

from oci_tools.errors import Error, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

AROUND = 2  # lines that are shown before and behind
WIDEST = 160  # columns of a line that is shown
_MARKS = 256  # lines from one place that is remembered to the next
_MARKED = re.compile(rb"(?:[^\n]*+\n){%d}" % _MARKS)
_NOTHING = re.compile(rb"(?:[ \t\v\f\r]{0,999}(?:#[^\n]{0,999})?\n)*+")
_EMPTY = re.compile(rb"(?m)^[ \t\v\f\r]*+$")


class Text:
    """The lines of a text without their ends, numbered from 0 on; what is no UTF-8 is in lone surrogates."""

    def __init__(self, data: bytes) -> None:
        self.data = data.removeprefix(b"\xef\xbb\xbf")
        self._marks: list[int] | None = None

    def __len__(self) -> int:
        return self.data.count(b"\n") + (not self.data.endswith(b"\n") and bool(self.data))

    def __getitem__(self, number: int) -> str:
        if self._marks is None:
            self._marks = [0]
            while found := _MARKED.match(self.data, self._marks[-1]):
                self._marks.append(found.end())
        at = self._marks[number // _MARKS]
        for _ in range(number % _MARKS):
            at = self.data.index(b"\n", at) + 1
        return decoded(self.data[at : self._end(at)].removesuffix(b"\r"))

    def _end(self, at: int) -> int:
        found = self.data.find(b"\n", at)
        return len(self.data) if found < 0 else found


class Reading:
    """A text that is read line by line: `number`, from 1 on, is that of the line now, `start` and `end` its bytes."""

    def __init__(self, text: Text) -> None:
        self._data = text.data
        self.number = 0
        self.start = self.end = 0
        self._next = 0

    def line(self) -> bytes | None:
        """The next line, None behind the last one."""
        if self._next >= len(self._data):
            return None
        self.start = self._next
        self.end = self._data.find(b"\n", self.start)
        if self.end < 0:
            self.end = len(self._data)
        self._next = self.end + 1
        self.number += 1
        return self._data[self.start : self.end].removesuffix(b"\r")

    def skip(self) -> bool:
        """Pass over what follows of empty lines and comments, very long ones aside; whether a line of it is empty."""
        start, end = self._next, _NOTHING.match(self._data, self._next).end()  # type: ignore[union-attr]
        self.to(end)
        return start < end and bool(_EMPTY.search(self._data, start, end - 1))

    def to(self, start: int) -> None:
        """The next line is the one that starts here."""
        self.number += self._data.count(b"\n", self._next, start)
        self._next = start


def decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class Wrong(Error):
    """An error at a place of the Dockerfile.

    start, end   its lines, counted from 1
    text         what is pointed at, found in these lines; None: the first word
    behind       letters of the first line, without its indentation, in which it is not
    file, lines  are put in by who knows them (`placed`)
    """

    def __init__(
        self, message: str, start: int, end: int | None = None, text: str | None = None, hint: str | None = None,
        behind: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(message, hint=hint)
        self.start = start
        self.end = max(end or start, start)
        self.text = text
        self.behind = behind
        self.file = ""
        self.lines: Sequence[str] | Text = []
        self.line, self.column = start, 1
        self.width = 0

    def placed(self, file: str, lines: Sequence[str] | Text) -> Wrong:
        """The same, knowing its file."""
        if not self.file:
            self.file, self.lines = file, lines
            self.line, self.column, self.width = self._find()
        return self

    def again(self, message: str) -> Wrong:
        """Another message of the same place."""
        return Wrong(message, self.start, self.end, self.text, behind=self.behind).placed(self.file, self.lines)

    def with_code(self, code: int) -> Wrong:
        """The same, with another exit code."""
        self.code = code
        return self

    def _find(self) -> tuple[int, int, int]:
        text = self.text or ""
        for find in (_word, str.find) if text else ():
            for number in range(self.start, min(self.end, len(self.lines)) + 1):
                line = self.lines[number - 1]
                behind = len(line) - len(line.lstrip()) + self.behind if number == self.start else 0
                if (at := find(line, text, behind)) >= 0:
                    return number, at + 1, len(text)
        line = self.lines[self.start - 1] if 0 < self.start <= len(self.lines) else ""
        return self.start, len(line) - len(line.lstrip()) + 1, len((line.split() or [""])[0])

    def message(self) -> str:
        """What is wrong, without its place."""
        return super().__str__()

    def __str__(self) -> str:
        return f"{printable(self.file)}:{self.line}:{self.column}: {self.message()}"

    def excerpt(self) -> str:
        """The lines around, with a mark; empty if nobody knows them."""
        if not 0 < self.line <= len(self.lines):
            return ""
        first, last = max(self.line - AROUND, 1), min(self.line + AROUND, len(self.lines))
        wide = len(str(last))
        shown = []
        for number in range(first, last + 1):
            line = self.lines[number - 1].expandtabs(1)[:WIDEST]
            shown.append(f"  {number:>{wide}} | {printable(line)}".rstrip())
            if number == self.line and self.column <= WIDEST:
                before, there = line[: self.column - 1], line[self.column - 1 :][: self.width]
                shown.append(f"  {'':>{wide}} | {' ' * _columns(before)}{'^' * max(_columns(there), 1)}")
        return "\n".join(shown) + "\n"


def _columns(text: str) -> int:
    """How wide a text is on a terminal where it can be shown."""
    from unicodedata import combining, east_asian_width

    return sum(1 + (east_asian_width(c) in "FW") for c in printable(text) if not combining(c))


def _word(line: str, text: str, start: int) -> int:
    """Where a text is in a line, and no part of a word, from a place on; -1: nowhere."""
    at = line.find(text, start)
    while at >= 0:
        end = at + len(text)
        if not _goes_on(line[at - 1 : at + 1]) and not _goes_on(line[end - 1 : end + 1]):
            break
        at = line.find(text, at + 1)
    return at


def _goes_on(pair: str) -> bool:
    """Whether a word goes on from the first to the second of two letters."""
    return len(pair) > 1 and all(c.isalnum() or c == "_" for c in pair)


def meant(word: str, known: Iterable[str]) -> str | None:
    """The hint that names the word that a person may have meant: less than half of its letters are other."""
    best, least = None, 3
    for one in sorted(known):
        distance = _distance(word.lower(), one.lower(), least)
        if distance < least and 0 < distance * 2 < len(one):
            best, least = one, distance
    return f"did you mean {best}?" if best else None


def _distance(a: str, b: str, limit: int) -> int:
    """Letters to change, add, take away or swap, to make one of the other; `limit` if it is as much or more."""
    if abs(len(a) - len(b)) >= limit:
        return limit
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            least = min(rows[-1][j] + 1, row[j - 1] + 1, rows[-1][j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                least = min(least, rows[-2][j - 2] + 1)
            row.append(least)
        rows.append(row)
    return rows[-1][-1]
