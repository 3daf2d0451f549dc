"""Words of a Dockerfile: quotes, escapes, and all forms of variables, as BuildKit's frontend reads them.

    $NAME ${NAME} ${NAME:-word} ${NAME-word} ${NAME:+word} ${NAME+word} ${NAME:?word} ${NAME?word}
    ${NAME#pattern} ## % %%           the shortest or longest match taken away from an end
    ${NAME/pattern/text} //           the first, or every, match replaced

In patterns `*` is any text and `?` any character; a backslash takes their meaning away.  Unknown names are
empty, unless `skip_unset` leaves them as they stand.  Everything else is the text itself.
"""

from __future__ import annotations

import re

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SPECIAL = frozenset("@*#?-$!0")  # one-letter parameters of a shell
_MEANING = re.compile(r"""[$'"\\`]""")
_MANY = 10_000  # pieces that are one from then on
_PLAIN = re.compile(r"""[^$'"\\`{}/]*""")  # no sign, and no end of anything


class Words:
    """What became of a text.

    text      with everything replaced
    words     parted at spaces that are not quoted
    matched   the variables that were used, and `unmatched` those that are not set
    """

    __slots__ = ("matched", "text", "unmatched", "words")

    def __init__(self, text: str, words: list[str], matched: set[str], unmatched: set[str]) -> None:
        self.text = text
        self.words = words
        self.matched = matched
        self.unmatched = unmatched


def process(
    text: str,
    env: Mapping[str, str],
    escape: str = "\\",
    raw_quotes: bool = False,
    raw_escapes: bool = False,
    skip_unset: bool = False,
    skip_quotes: bool = False,
    parted: bool = True,
    parts: type[Parts] | None = None,
) -> Words:
    """Read a text; an Error that shows it where it is not well formed.

    raw_quotes, raw_escapes  keep quotes and escapes
    skip_unset               leaves variables as they are that are not set
    skip_quotes              quotes mean nothing
    parted                   words are wanted too
    parts                    parts them
    """
    if not parts and not _MEANING.search(text):
        return Words(text, text.split() if parted else [], set(), set())
    parts = parts or (Parts if parted else _Unparted)
    reading = _Reading(text, env, escape, raw_quotes, skip_unset, skip_quotes, parts)
    try:
        found, words = reading.until("", raw_escapes)
    except _Bad as error:
        raise Error(f"failed to process {quoted(text)}: {error}") from None
    return Words(found, words, reading.matched, reading.unmatched)


def quoted(text: str) -> str:
    """A text as messages show it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


class _Bad(Exception):
    pass


class Parts:
    """Words that grow: parted at spaces of plain text and of what variables hold, not of what was quoted."""

    def __init__(self) -> None:
        self._now: list[str] = []
        self._done: list[str] = []

    def plain(self, text: str) -> None:
        for c in text:
            if not c.isspace() or self._holds():
                self._now.append(c)
            elif self._now:
                self._end()

    def _holds(self) -> bool:
        """Whether a space belongs to the word before it."""
        return False

    def raw(self, text: str) -> None:
        self._now.append(text)

    def _end(self) -> None:
        word = "".join(self._now)
        if word:  # an empty quoted one is none of its own
            self._done.append(word)
            self._now = []

    def all(self) -> list[str]:
        self._end()
        return self._done


class WithHeredocs(Parts):
    """Words of which the name of a here-document is one with its sign: `<< NAME`, `<<- NAME`."""

    def _holds(self) -> bool:
        return "".join(self._now[-3:]).rstrip().removesuffix("-").endswith("<<")


class _Unparted(Parts):
    """No words, which may be very many: nobody wants them."""

    def plain(self, text: str) -> None:
        pass

    raw = plain


class _Reading:
    def __init__(
        self, text: str, env: Mapping[str, str], escape: str, raw_quotes: bool, skip_unset: bool, skip_quotes: bool,
        parts: type[Parts],
    ) -> None:  # fmt: skip
        self._text = text
        self._at = 0
        self._env = env
        self._escape = escape
        self._raw_quotes = raw_quotes
        self._skip_unset = skip_unset
        self._skip_quotes = skip_quotes
        self._parts = parts
        self._raw_escapes = False
        self.matched: set[str] = set()
        self.unmatched: set[str] = set()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        c = self._peek()
        self._at += 1
        return c

    def until(self, stop: str, raw_escapes: bool) -> tuple[str, list[str]]:
        """The text up to `stop`, which is passed, and its words; "" is the end."""
        before, self._raw_escapes = self._raw_escapes, raw_escapes
        out: list[str] = []
        done: list[str] = []
        parts = self._parts()
        while c := self._peek():
            if c == stop:
                self._at += 1
                break
            if c == "$":
                found = self._dollar()
                out.append(found)
                parts.plain(found)
            elif c in "'\"" and not self._skip_quotes:
                found = self._single() if c == "'" else self._double()
                out.append(found)
                parts.raw(found)
            elif c == self._escape:
                self._at += 1
                found = (c if self._raw_escapes else "") + self._next()
                out.append(found)
                parts.raw(found)
            else:
                found = _PLAIN.match(self._text, self._at + 1)[0]  # type: ignore[index]
                self._at += 1 + len(found)
                out.append(c + found)
                parts.plain(c + found)
                if len(out) > _MANY:
                    done.append("".join(out))
                    out.clear()
        else:
            if stop:
                raise _Bad(f"unexpected end of statement while looking for matching {stop}")
        self._raw_escapes = before
        return "".join([*done, *out]), parts.all()

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise _Bad("unexpected end of statement while looking for matching single-quote")
        found = self._text[self._at : end + 1]
        self._at = end + 1
        return found if self._raw_quotes else found[1:-1]

    def _double(self) -> str:
        self._at += 1
        out = ['"'] if self._raw_quotes else []
        while c := self._peek():
            if c == '"':
                self._at += 1
                if self._raw_quotes:
                    out.append(c)
                return "".join(out)
            if c == "$":
                out.append(self._dollar())
                continue
            self._at += 1
            if c == self._escape:
                if self._raw_escapes:
                    out.append(c)
                after = self._peek()
                if not after:
                    continue
                if after in ('"', "$", self._escape):
                    self._at += 1
                    c = after
                elif self._raw_escapes:
                    continue
            out.append(c)
        raise _Bad("unexpected end of statement while looking for matching double-quote")

    # -- variables ------------------------------------------------------------------------

    def _dollar(self) -> str:
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._value(name)
            return f"${name}" if value is None and self._skip_unset else value or ""
        self._at += 1
        if not self._peek():
            raise _Bad("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise _Bad("syntax error: bad substitution")
        name = self._name()
        sign = self._next()
        if not sign:
            raise _Bad("syntax error: missing '}'")
        if sign == "}":
            value = self._value(name)
            return f"${{{name}}}" if value is None and self._skip_unset else value or ""
        if sign == "/":
            return self._replace(name)
        modifier = sign
        if sign == ":":
            sign = self._next()
            modifier += sign
        if sign not in ("+-?" if modifier[0] == ":" else "+-?#%"):
            raise _Bad(f"unsupported modifier ({modifier}) in substitution")
        return self._modified(name, sign, modifier)

    def _modified(self, name: str, sign: str, modifier: str) -> str:
        word = self._part("}", sign in ("#", "%") and bool(sign), "syntax error: missing '}'")
        value = self._value(name)
        if value is None and self._skip_unset:
            return f"${{{name}{modifier}{word}}}"
        if sign and sign in "-+?":
            self.unmatched.discard(name)  # what becomes of it is said
        there = value is not None and not (modifier[0] == ":" and not value)
        if sign == "-":
            return (value or "") if there else word
        if sign == "+":
            return word if there else ""
        if sign == "?":
            if not there:
                raise _Bad(f"{name}: {word or ('is not allowed to be ' + ('unset' if value is None else 'empty'))}")
            return value or ""
        greedy = word.startswith(sign)
        return _trim(value or "", word[1:] if greedy else word, greedy, at_end=sign == "%")

    def _replace(self, name: str) -> str:
        every = self._peek() == "/"
        if every:
            self._at += 1
        pattern = self._part("/", True, "syntax error: missing '/' in ${}")
        text = self._part("}", True, "syntax error: missing '}'")
        value = self._value(name)
        if value is None and self._skip_unset:
            return f"${{{name}/{pattern}/{text}}}"
        return _pattern(pattern, True).sub(lambda _: text, value or "", count=0 if every else 1)

    def _part(self, stop: str, raw_escapes: bool, missing: str) -> str:
        try:
            return self.until(stop, raw_escapes)[0]
        except _Bad:
            raise _Bad(missing) if not self._peek() else _Bad("syntax error: bad substitution") from None

    def _value(self, name: str) -> str | None:
        value = self._env.get(name)
        (self.unmatched if value is None else self.matched).add(name)
        return value

    def _name(self) -> str:
        start, c = self._at, self._peek()
        if c.isdecimal():
            while self._peek().isdecimal():
                self._at += 1
        elif c and c in _SPECIAL:
            self._at += 1
        else:
            while (c := self._peek()) and (c == "_" or c.isalpha() or c.isdecimal()):
                self._at += 1
        return self._text[start : self._at]


def _pattern(text: str, greedy: bool) -> re.Pattern[str]:
    """A shell's pattern as a regular expression."""
    out, at = [], 0
    while at < len(text):
        c = text[at]
        at += 1
        if c == "*":
            out.append(".*" if greedy else ".*?")
        elif c == "?":
            out.append(".")
        elif c != "\\":
            out.append(re.escape(c))
        elif text[at : at + 1] not in ("}", "/") or at >= len(text):
            after = text[at : at + 1]
            at += 1
            if not after or after not in "*?\\":
                raise _Bad(f"invalid pattern ({text}) in substitution: invalid escape '\\{after}'")
            out.append(re.escape(after))
    return re.compile("".join(out))


def _trim(value: str, pattern: str, greedy: bool, at_end: bool) -> str:
    """Take a match away from the beginning or the end, the longest or the shortest one."""
    found = _pattern(pattern, greedy)
    if not at_end:
        match = found.match(value)
        return value[match.end() :] if match else value
    starts = range(len(value) + 1) if greedy else range(len(value), -1, -1)
    return next((value[:at] for at in starts if found.fullmatch(value, at)), value)
