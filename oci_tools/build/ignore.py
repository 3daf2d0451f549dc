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


def lines(data: bytes) -> list[str]:
    """The patterns of an ignore file, tidied up."""
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
        self._patterns: list[_Pattern] = []
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
            self._patterns.append(_Pattern(text, exclusion))

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def exact(self, path: str) -> bool:
        """Whether a path itself matches, whatever directories it is in."""
        matched = False
        for pattern in self._patterns:
            if pattern.exclusion == matched and pattern.match(path):
                matched = not pattern.exclusion
        return matched

    def match(self, path: str) -> bool:
        """Whether a path, or a directory that it is in, matches."""
        return self.below(path, None)[0]

    def below(self, path: str, above: Sequence[bool] | None) -> tuple[bool, list[bool]]:
        """The same for who walks a tree: `above` is what came with the directory that the path is in.

        None where that is not known; what comes first is whether the path is left out.
        """
        matched = False
        found: list[bool] = []
        parents = _parents(path) if above is None else ()
        for number, pattern in enumerate(self._patterns):
            hit = bool(above) and bool(above and above[number])
            if not hit and pattern.exclusion == matched:
                hit = pattern.match(path) or any(pattern.match(parent) for parent in parents)
            found.append(hit)
            if hit:
                matched = not pattern.exclusion
        return matched, found

    def may_show(self, directory: str) -> bool:
        """Whether something in a directory that is left out may still not be: an exception could name it."""
        return self.excepts and any(one.exclusion and one.may_be_in(directory) for one in self._patterns)


def _parents(path: str) -> list[str]:
    """The directories that a path is in."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


class _Pattern:
    def __init__(self, text: str, exclusion: bool) -> None:
        self.text = text
        self.exclusion = exclusion
        self._kind, self._rule = compiled(text)

    def match(self, path: str) -> bool:
        if self._kind == "exact":
            return path == self.text
        if self._kind == "prefix":
            return path.startswith(self.text[:-2])
        if self._kind == "suffix":
            suffix = self.text[2:]
            return path.endswith(suffix) or (suffix[:1] == "/" and path == suffix[1:])
        assert self._rule is not None
        return self._rule.match(path) is not None

    def may_be_in(self, directory: str) -> bool:
        """Whether it may match something in a directory, as far as its part before a wildcard tells."""
        first = next((n for n, c in enumerate(self.text) if c in "*?[\\"), len(self.text))
        fixed, inside = self.text[:first], directory + "/"
        if first == len(self.text):
            return self.text.startswith(inside)
        return inside.startswith(fixed) or fixed.startswith(inside)


def compiled(text: str) -> tuple[str, re.Pattern[str] | None]:
    """How to match a pattern: "exact", "prefix", "suffix", or a regular expression."""
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
    if kind != "regexp":
        return kind, None
    return kind, re.compile("".join(out) + r"\Z")


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
