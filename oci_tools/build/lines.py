"""A Dockerfile's text as statements: directives, comments, continuations, here-documents.

    # escape=`            directives, first of all: escape, syntax, check
    # a comment           also between the lines of one statement, where empty lines count for nothing too
    RUN <<EOF             a statement goes on behind the escape character at a line's end,
    ...                   here-documents follow their statement
    EOF

What the words of a statement mean is in `instructions.py`.
"""

from __future__ import annotations

import re

from oci_tools.build import words
from oci_tools.build.position import Reading, Text, Wrong, decoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LINE_MAX = 65535  # bytes of one line, as BuildKit has it
LINE_TOO_LONG = f"dockerfile line greater than max allowed size of {LINE_MAX}"
HEREDOC = 8 << 20  # bytes of one here-document
PIECE = 1 << 16
INSTRUCTIONS = 50_000  # of a Dockerfile
LARGEST = 2 << 20  # letters of all instructions: twice as many are in an image's configuration
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_DIRECTIVES = ("escape", "syntax", "check")
_HEREDOC = re.compile(r"(\d*)<<(-?)(\s*)([^<\s][^<]*)$")
_PLAIN_FLAG = re.compile(r"""--[^\s'"\\]*(?!\S)""")
_SPACE = re.compile(r"[\t\v\f\r ]+")
_LINES = re.compile(rb"(?:[^\n]{0,%d}\r?\n)*+" % (LINE_MAX - 1))
_COMMENT = re.compile(rb"(?m)^[ \t\v\f\r]*+#(.*)$")
_BARE_COMMENT = re.compile(rb"(?m)^[ \t\v\f\r]*+#[ \t\v\f\r]*+$")
_WITH_HEREDOCS = ("ADD", "COPY", "RUN")


class Heredoc:
    """One here-document: `content` is its lines, of which `chomp` takes leading tabs.

    apart   there is a space before its name
    """

    __slots__ = ("_place", "apart", "chomp", "expand", "fd", "name")

    def __init__(self, name: str, fd: int, expand: bool, chomp: bool, apart: bool) -> None:
        self.name = name
        self.fd = fd
        self.expand = expand
        self.chomp = chomp
        self.apart = apart
        self._place: tuple[bytes, int, int] = (b"", 0, 0)

    def closing(self) -> re.Pattern[bytes]:
        """The line behind it."""
        name = re.escape(self.name.encode("utf-8", "surrogateescape"))
        return re.compile(b"(?m)^" + (b"\t*+" if self.chomp else b"") + name + rb"\r?$")

    def at(self, data: bytes, start: int, end: int) -> None:
        """Where its lines are: it may be long, and is read when somebody wants it."""
        self._place = data, start, end

    @property
    def content(self) -> str:
        data, start, end = self._place
        return decoded(data[start:end].replace(b"\r\n", b"\n"))

    def chomped(self) -> str:
        """The content as it is meant."""
        return decoded(b"".join(self._pieces())) if self.chomp else self.content

    def _pieces(self) -> Iterator[bytes]:
        """The same in pieces of lines, as one line may be a tab."""
        data, at, end = self._place
        while at < end:
            after = data.index(b"\n", min(at + PIECE, end - 1), end) + 1
            yield re.sub(rb"(?m)^\t+", b"", data[at:after].replace(b"\r\n", b"\n"))
            at = after


class Statement:
    """One instruction in words.

    word      the instruction as it is written; `name` in capitals
    flags     its --flags, unquoted
    rest      what follows them
    text      all of it, in one line
    start     its first and `end` its last line, here-documents included
    comments  what the lines of comment right above say
    empty     it has empty lines within
    behind    letters of its first line before it, without the indentation: of ONBUILD
    """

    __slots__ = ("about", "behind", "empty", "end", "flags", "heredocs", "name", "rest", "start", "text", "word")

    def __init__(self, text: str, start: int, end: int, escape: str) -> None:
        self.text = text
        self.start = start
        self.end = end
        found = _SPACE.split(text.strip(), maxsplit=1)
        self.word = found[0]
        self.name = found[0].upper()
        self.flags: Sequence[str] = ()
        self.rest = ""
        if len(found) > 1:
            self.flags, self.rest = _flags(found[1])
        self.heredocs: Sequence[Heredoc] = ()
        self.about: tuple[bytes, int, int] = (b"", 0, 0)
        self.empty = False
        self.behind = 0

    def inner(self, escape: str) -> Statement:
        """The statement that ONBUILD has."""
        made = Statement(self.rest, self.start, self.end, escape)
        made.heredocs, made.behind = self.heredocs, len(self.word)
        return made

    @property
    def comments(self) -> Iterator[str]:
        data, start, end = self.about
        for found in _BARE_COMMENT.finditer(data, start, end):
            start = found.end()  # what is above an empty one is about something else
        return (decoded(found[1]).strip() for found in _COMMENT.finditer(data, start, end))

    def wrong(self, message: str, text: str | None = None, hint: str | None = None) -> Wrong:
        """An error here; `text` is what is pointed at."""
        return Wrong(message, self.start, self.end, text or (self.word if self.behind else None), hint, self.behind)


class Source:
    """A Dockerfile, read.

    statements  in their order
    escape      the escape character
    directives  name -> (value, line)
    """

    def __init__(self, data: bytes) -> None:
        self._text = Text(data)
        self._words = 0  # letters of statements so far
        self.escape = "\\"
        self.directives: dict[str, tuple[str, int]] = {}
        self.statements: list[Statement] = []
        self._reading()
        if not self.statements:
            raise Wrong("file with no instructions", max(len(self._text), 1))

    def _reading(self) -> None:
        head = True  # directives may still come
        reading = Reading(self._text)
        start = 0  # of the comments above
        while (line := self._line(reading)) is not None:
            line = line.lstrip()
            if head and not (reading.number == 1 and line.startswith("#!")):
                head = self._directive(line, reading.number)
                start = reading.end if head else start  # it is about no instruction
            if line.startswith("#") or not line:
                if not head:
                    reading.skip()
                continue
            about = self._text.data, start, reading.start
            if made := self._statement(line, reading):
                made.about = about
                self._heredocs(made, reading)
                self.statements.append(made)
                start = reading.end
                if len(self.statements) > INSTRUCTIONS:
                    raise made.wrong(f"more than {INSTRUCTIONS} instructions")

    def _statement(self, line: str, reading: Reading) -> Statement | None:
        """The statement that a line begins, up to its end; None for what is none."""
        number, empty = reading.number, False
        text, goes_on = self._cut(line)
        parts = [text]
        self._words += len(text)
        while goes_on and (following := self._line(reading)) is not None:
            bare = following.lstrip()
            if bare.startswith("#") or not bare:
                empty = reading.skip() or empty or not bare
                continue
            line, goes_on = self._cut(following)
            parts.append(line)
            self._words += len(line)
            if self._words > LARGEST:
                break
        text = "".join(parts)
        if self._words > LARGEST:
            raise Wrong(f"instructions of more than {LARGEST} letters, without here-documents", number)
        if not text.strip():
            if goes_on or reading.number > number:
                raise Wrong("unknown instruction: " + words.quoted(text), number)
            return None
        made = Statement(text, number, reading.number, self.escape)
        made.empty = empty
        return made

    def _line(self, reading: Reading) -> str | None:
        line = reading.line()
        if line is not None and len(line) > LINE_MAX - 1:
            raise Wrong(LINE_TOO_LONG, reading.number)
        return line if line is None else decoded(line)

    def _directive(self, line: str, number: int) -> bool:
        """Read a line that may be a directive; whether more can come."""
        found = _DIRECTIVE.match(line)
        if not found or (name := found[1].lower()) not in _DIRECTIVES:
            return False
        if name == "escape" and self._text.data.startswith(b"#!"):
            return False  # BuildKit passes over a script's first line for the others only
        if name in self.directives:
            raise Wrong(f"only one {name} parser directive can be used", number)
        self.directives[name] = (found[2] if name == "escape" else found[2].partition(" ")[0], number)
        if name == "escape":
            if found[2] not in ("\\", "`"):
                raise Wrong(f"invalid escape token '{found[2]}' does not match ` or \\", number, text=found[2])
            self.escape = found[2]
        return True

    def _cut(self, line: str) -> tuple[str, bool]:
        """A line without the escape character at its end; whether there was one."""
        bare = line.rstrip(" \t")
        if bare.endswith(self.escape) and not bare.endswith(self.escape * 2):
            return bare[:-1], True
        return line, False

    # -- here-documents -----------------------------------------------------------------------

    def _heredocs(self, made: Statement, reading: Reading) -> None:
        if "<<" not in made.text or not _may_have(made, self.escape):
            return
        for heredoc in heredocs_in(made.text, self.escape):
            start, data = reading.end + 1, self._text.data
            found = heredoc.closing().search(data, start)
            end = min(found.start() if found else len(data), start + HEREDOC + 1)
            whole = _LINES.match(data, start, end).end()  # type: ignore[union-attr]
            if end - whole >= LINE_MAX:
                raise Wrong(LINE_TOO_LONG, reading.number + data.count(b"\n", start, whole) + 1)
            if not found and heredoc.apart:
                continue  # `$((1 << 2))`
            if not found or end - start > HEREDOC:
                what = f"heredoc of more than {HEREDOC} bytes" if end - start > HEREDOC else "unterminated heredoc"
                raise made.wrong(what, text="<<")
            reading.to(end)
            reading.line()
            made.end = reading.number
            heredoc.at(self._text.data, start, end)
            made.heredocs = [*made.heredocs, heredoc]


def _may_have(made: Statement, escape: str) -> bool:
    if made.name == "ONBUILD":
        made = made.inner(escape) if made.rest else made
    if made.name not in _WITH_HEREDOCS:
        return False
    from oci_tools.build.instructions import json_words

    return json_words(made.rest, made) is None


def heredocs_in(text: str, escape: str) -> list[Heredoc]:
    """The here-documents that a line announces."""
    try:
        found = words.process(
            text, {}, escape, raw_quotes=True, raw_escapes=True, skip_unset=True, parts=words.WithHeredocs
        ).words
    except Exception:
        return []
    return [heredoc for word in found if (heredoc := heredoc_of(word))]


def heredoc_of(word: str) -> Heredoc | None:
    """The here-document that a word announces."""
    found = _HEREDOC.match(word)
    if not found:
        return None
    rest = found[4]
    try:
        parts = words.process(rest, {}, raw_quotes=True, skip_unset=True).words
        name = words.process(rest, {}, skip_unset=True).text
    except Exception:
        return None
    if len(parts) != 1 or not name:
        return None
    return Heredoc(name, int(found[1] or 0), name == parts[0], bool(found[2]), bool(found[3]))


# -- flags ---------------------------------------------------------------------------------------


def _flags(text: str) -> tuple[list[str], str]:
    """The --flags at a statement's beginning, their quotes and backslashes read; and what follows them."""
    if not text.lstrip().startswith("--"):
        return [], text.strip()
    found: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith("--", at):
            return found, text[at:].strip()
        plain = _PLAIN_FLAG.match(text, at)
        word, at = (plain[0], plain.end() + 1) if plain else _flag(text, at)
        if word == "--":
            return found, text[at:].strip()
        found.append(word)


def _flag(text: str, at: int) -> tuple[str, int]:
    """One flag from a place on, and the place behind it."""
    out: list[str] = []
    quote = ""
    while at < len(text):
        c = text[at]
        at += 1
        if quote and c == quote:
            quote = ""
        elif not quote and c in "'\"":
            quote = c
        elif c == "\\":
            out.append(text[at : at + 1])
            at += 1
        elif not quote and c.isspace():
            break
        else:
            out.append(c)
    return "".join(out), at


def parted(text: str, escape: str) -> list[str]:
    """Words of ENV, LABEL and ARG: parted at spaces, with their quotes and escapes still on."""
    if not (escape in text or '"' in text or "'" in text):
        return text.split()
    out: list[str] = []
    now: list[str] = []
    quote, blank, at = "", False, 0
    while at < len(text):
        c = text[at]
        at += 1
        if not quote and c.isspace():
            if now or blank:
                out.append("".join(now))
            now, blank = [], False
            continue
        if c == quote:
            quote = ""
        elif not quote and c in "'\"":
            quote, blank = c, True
        elif c == escape and quote != "'":
            if at == len(text):
                continue  # an escape at the very end is none
            now.append(c)
            c = text[at]
            at += 1
        now.append(c)
    if now or blank:
        out.append("".join(now))
    return out
