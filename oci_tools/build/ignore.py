"""`.dockerignore`: which files of a context are left out, exactly as moby's patternmatcher has it.

One pattern a line; the last one that matches a path, or a directory that it is in, says whether it is left out.

    #  at a line's beginning: a comment       !  at a pattern's: what matches is not left out
    *  any text without /       ?  any character but /       **  any text, / too       [a-z]  one of these

Whether a pattern is well formed is Go's `filepath.Match`'s to say, and so it is done here: `[]a]`, `[-x]`
and a backslash at the end are refused.
"""

from __future__ import annotations

import posixpath
import re

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


LARGEST = 1 << 20  # bytes of an ignore file
MOST = 50_000  # lines of it
TOGETHER = 1 << 15  # letters of expressions that are compiled at once


def lines(data: bytes) -> list[str]:
    """The patterns of an ignore file, tidied up."""
    if len(data) > LARGEST:
        raise Error(f"larger than {LARGEST} bytes")
    if data.count(b"\n") > MOST:
        raise Error(f"more than {MOST} lines")
    found = []
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n")):
        line = line.removeprefix("\ufeff") if not number else line
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        negated = pattern.startswith("!")
        if negated:
            pattern = pattern[1:].strip()
        if pattern:
            pattern = clean(pattern)
            if len(pattern) > 1 and pattern.startswith("/"):
                pattern = pattern[1:]
        found.append(f"!{pattern}" if negated else pattern)
    return found


def clean(path: str) -> str:
    """A path without `.`, `..` and double slashes where that can be, as Go's `filepath.Clean`."""
    if not path:
        return "."
    made = posixpath.normpath(path)
    return "/" + made.lstrip("/") if made.startswith("//") else made


class Patterns:
    """Patterns in their order; `excepts` whether there is one with `!`."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._groups: list[_Group] = []
        self._any = _Group(False)  # all those without `!`: where none matches, no exception has anything to say
        self.excepts = False
        for text in patterns:
            text = text.strip()
            if not text:
                continue
            text = clean(text)
            exclusion = text.startswith("!")
            if exclusion:
                if len(text) == 1:
                    raise Error('illegal exclusion pattern: "!"')
                text, self.excepts = text[1:], True
            check(text)
            if not self._groups or self._groups[-1].exclusion != exclusion:
                self._groups.append(_Group(exclusion))
            self._groups[-1].add(text)
            if not exclusion:
                self._any.add(text)
        self._none = [False] * len(self._groups)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def match(self, path: str) -> bool:
        """Whether a path, or a directory that it is in, matches."""
        return self.below(path, None)[0]

    def below(self, path: str, above: Sequence[bool] | None) -> tuple[bool, list[bool]]:
        """The same for who walks a tree: `above` is what came with the directory that the path is in.

        None where that is not known; what comes first is whether the path is left out.
        """
        parents = _parents(path) if above is None else ()
        if not (above and any(above)) and not (self._any.match(path) or any(map(self._any.match, parents))):
            return False, self._none
        matched = False
        found: list[bool] = []
        for number, group in enumerate(self._groups):
            hit = bool(above) and bool(above and above[number])
            if not hit and group.exclusion == matched:
                hit = group.match(path) or any(map(group.match, parents))
            found.append(hit)
            if hit:
                matched = not group.exclusion
        return matched, found

    def may_show(self, directory: str) -> bool:
        """Whether something in a directory ("": all) that is left out may still not be: an exception could name it."""
        groups = (group for group in self._groups if group.exclusion)
        return self.excepts and (not directory or any(group.may_be_in(directory) for group in groups))


def _parents(path: str) -> list[str]:
    """The directories that a path is in."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


class _Group:
    """Patterns that follow each other, all with `!` or none: which of them matches makes no difference.

    Those of the usual kinds are looked for together, so that a thousand of them take no longer than a few.
    """

    def __init__(self, exclusion: bool) -> None:
        self.exclusion = exclusion
        self._texts: list[str] = []
        self._exact: set[str] = set()
        self._begins: list[str] = []
        self._ends: list[str] = []
        self._ends_name: list[str] = []  # of a path of one name
        self._rules: list[str] = []
        self._ready: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], list[re.Pattern[str]]] | None = None

    def add(self, text: str) -> None:
        self._texts.append(text)
        self._ready = None
        kind, rule = translated(text)
        if kind == "exact":
            self._exact.add(text)
        elif kind == "prefix":
            self._begins.append(text[:-2])
        elif kind == "suffix":
            self._ends.append(text[2:])
            if text[2:3] == "/":
                self._exact.add(text[3:])
        elif not (found := _END.fullmatch(text)):
            self._rules.append(rule)
        elif found[1]:
            self._ends.append(found[2])
        else:
            self._ends_name.append(found[2])

    def match(self, path: str) -> bool:
        begins, ends, ends_name, rules = self._ready or self._made_ready()
        if path in self._exact or path.startswith(begins) or path.endswith(ends):
            return True
        if "/" not in path and path.endswith(ends_name):
            return True
        return any(rule.match(path) for rule in rules)

    def _made_ready(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], list[re.Pattern[str]]]:
        """What is looked for: expressions some at a time, as what compiles one takes many times its memory."""
        rules: list[re.Pattern[str]] = []
        some: list[str] = []
        size = 0
        for number, rule in enumerate(self._rules, 1):
            some.append(rule)
            size += len(rule)
            if size > TOGETHER or number == len(self._rules):
                rules.append(re.compile(f"(?:{'|'.join(some)})\\Z"))
                some, size = [], 0
        self._ready = tuple(self._begins), tuple(self._ends), tuple(self._ends_name), rules
        return self._ready

    def may_be_in(self, directory: str) -> bool:
        """Whether one may match something in a directory, as far as its part before a wildcard tells."""
        return any(_may_be_in(text, directory + "/") for text in self._texts)


_END = re.compile(r"(\*\*/)?\*([^*?\[\]\\/]+)")  # *TEXT, **/*TEXT


def _may_be_in(text: str, inside: str) -> bool:
    first = next((n for n, c in enumerate(text) if c in "*?[\\"), len(text))
    fixed = text[:first]
    if first == len(text):
        return text.startswith(inside)
    return inside.startswith(fixed) or fixed.startswith(inside)


def compiled(text: str) -> re.Pattern[str]:
    """A pattern as a regular expression of all of a path."""
    kind, rule = translated(text)
    return re.compile((rule if kind == "regexp" else re.escape(text)) + r"\Z")


def translated(text: str) -> tuple[str, str]:
    """How to match a pattern: "exact", "prefix", "suffix", or "regexp" with a regular expression."""
    out: list[str] = []
    kind, at, number = "exact", 0, 0
    while at < len(text):
        c = text[at]
        at += 1
        if c == "*" and text[at : at + 1] == "*":
            at += 1
            if text[at : at + 1] == "/":
                at += 1
            if at == len(text):
                if kind == "exact":
                    kind = "prefix"
                else:
                    out.append(".*")
                    kind = "regexp"
            else:
                out.append("(?:.*/)?")
                kind = "regexp"
            if not number:
                kind = "suffix"
        elif c == "*":
            out.append("[^/]*")
            kind = "regexp"
        elif c == "?":
            out.append("[^/]")
            kind = "regexp"
        elif c == "\\" and at < len(text):
            out.append(re.escape(text[at]))
            at += 1
            kind = "regexp"
        elif c == "[":
            end = _class_end(text, at)
            out.append("[" + text[at:end].replace("[", r"\[").replace("&&", r"&\&").replace("||", r"|\|") + "]")
            at = end + 1
            kind = "regexp"
        else:
            out.append(re.escape(c))
        number += 1
    return kind, "".join(out)


def _class_end(text: str, at: int) -> int:
    """Where the `]` of a class is whose `[` is before `at`; it is known to be well formed."""
    while text[at] != "]":
        at += 2 if text[at] == "\\" else 1
    return at


def check(text: str) -> None:
    """Refuse what Go's `filepath.Match` calls a bad pattern."""
    at = 0
    while at < len(text):
        c = text[at]
        at += 1
        if c == "\\":
            at += 1
            if at > len(text):
                raise _bad(text)
        elif c == "[":
            if text[at : at + 1] == "^":
                at += 1
            ranges = 0
            while True:
                if text[at : at + 1] == "]" and ranges:
                    at += 1
                    break
                at = _member(text, at)
                if text[at : at + 1] == "-":
                    at = _member(text, at + 1)
                ranges += 1


def _member(text: str, at: int) -> int:
    """Behind one character of a class."""
    c = text[at : at + 1]
    if not c or c in "-]":
        raise _bad(text)
    if c == "\\":
        at += 1
        if at >= len(text):
            raise _bad(text)
    if at + 1 >= len(text):
        raise _bad(text)
    return at + 1


def _bad(text: str) -> Error:
    return Error("syntax error in pattern", text)
