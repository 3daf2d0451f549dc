"""JSON documents: bytes to the specification's `dict` and back.

`import json` costs 10 ms because of `re`; the C scanner and encoder beneath it
cost nothing, so the hot verbs read and write through this module.  The reading
is `json.loads`'s (a test holds the two equal), less its tolerance for bytes
that are not UTF-8; the writing is compact, without ASCII escapes.
"""

from __future__ import annotations

import _json
import os
from stat import S_ISFIFO

from oci_tools.errors import Error

TYPE_CHECKING = False  # `import typing` costs 11 ms; checkers know this name
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Reading:
    """The context that the C scanner reads its options from."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__
    memo: dict[str, str] = {}


def scanner(pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """A scanner for `loads`; `pairs` makes the value of an object out of its pairs."""
    reading: Any = _Reading()
    reading.object_pairs_hook = pairs
    return _json.make_scanner(reading)


_SPACE = " \t\n\r"
_scan = scanner()


def loads(data: bytes | bytearray | str, subject: object = "document", scan: Any = None) -> Any:
    """The value of a JSON text; an Error that names `subject` when it is none (`scan`: a `scanner`)."""
    try:
        text = data if isinstance(data, str) else bytes(data).decode("utf-8")
        start = _skip(text, 0)
        value, end = (scan or _scan)(text, start)
        end = _skip(text, end)
    except SystemError:  # CPython 3.11's scanner cannot say what is wrong before this is imported
        import json.decoder  # noqa: F401

        return loads(data, subject, scan)
    except (ValueError, StopIteration, RecursionError) as error:
        raise Error("cannot read", subject, _why(error)) from None
    if end != len(text):
        raise Error("cannot read", subject, f"not valid json: extra data at character {end}")
    return value


def words(text: str, subject: object) -> list[str]:
    """A command's words as people say them in one: a JSON list, or one word; none for an empty text."""
    if not text.startswith("["):
        return [text] if text else []
    found = loads(text, subject)
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise Error("not a list of words", text, code=2)
    return found


MAX_WEIGHT = 52 << 20
_NARROW = bytes(range(0xC4))  # what UTF-8 up to U+00FF consists of


def weight(data: bytes) -> int:
    """Bytes of memory that reading a JSON text takes, at most: of the text itself, and of the values in it.

    A text that is written for it takes sixty times its size. Counted are (CPython's sizes) the bytes, the text out of
    them, a string as long, and what begins or follows each sign: objects, lists, members, elements, strings.
    """
    lead = b"" if data.isascii() else data.translate(None, _NARROW)  # first bytes of characters beyond U+00FF
    wide = 4 if b"\\u" in data or (lead and max(lead) >= 0xF0) else 2 if lead else 1  # bytes of a character
    members, strings = data.count(b":"), data.count(b'"') // 2
    return (
        len(data) * (1 + 2 * wide) + 80 * data.count(b"{") + 88 * data.count(b"[") + 104 * members
        + 40 * data.count(b",") + 56 * max(0, strings - members)
    )  # fmt: skip


def check_weight(data: bytes, subject: object, most: int = MAX_WEIGHT) -> None:
    """An Error if reading a JSON text may take more than so many bytes of memory."""
    if (found := weight(data)) > most:
        raise Error("cannot read", subject, f"it would take {found >> 20} MB of memory, more than {most >> 20}")


MOST = 64 << 20  # bytes of a file of which no less is said
_PIECE = 1 << 16  # bytes of a read(2): Python takes the memory before it reads


def load(path: str, most: int = MOST) -> Any:
    """The value of the JSON file at `path`."""
    return loads(read(path, most), path)


def read(path: str, most: int = MOST) -> bytes:
    """The bytes of a file that somebody names; an Error if they are more than `most`.

    A pipe, such as a shell's <(COMMAND), is read to its end, but nobody is waited for to open one for writing.
    """
    parts, left = [], most + 1
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            os.set_blocking(fd, True)
            while left and (data := os.read(fd, min(left, _PIECE))):
                parts.append(data)
                left -= len(data)
            if not parts and os.readlink(f"/proc/self/fd/{fd}").startswith("/") and S_ISFIFO(os.fstat(fd).st_mode):
                raise Error("cannot read", path, "nobody writes to this pipe")
        finally:
            os.close(fd)
    except OSError as error:
        raise Error("cannot read", path, error) from None
    if not left:
        raise Error("cannot read", path, f"larger than {most} bytes")
    return b"".join(parts)


def dumps(value: Any, indent: int | None = None, sort: bool = False) -> bytes:
    """A value as JSON: compact, or indented for people with a final newline."""
    if indent is not None:
        import json

        return json.dumps(value, indent=indent, ensure_ascii=False, sort_keys=sort).encode() + b"\n"
    try:
        return "".join(_encoder(_json.encode_basestring, sort)(value, 0)).encode()
    except UnicodeEncodeError:  # a file name that is not UTF-8: lone surrogates, escaped
        return "".join(_encoder(_json.encode_basestring_ascii, sort)(value, 0)).encode()
    except ValueError as error:  # an infinity, which `loads` takes from others
        raise Error("cannot write document", None, str(error).lower()) from None


# -- what is wrong with a document -------------------------------------------------


def wrong(subject: str, path: str, what: str) -> Error:
    """The one form of it: `config.json: process.args[0]: expected a string, got 5`."""
    path = path.lstrip(".")
    return Error(f"{subject}: {path}: {what}" if path else f"{subject}: {what}")


def step(name: str) -> str:
    """The step of a JSON path to a member of an object, quoted if it must be."""
    plain = name and name.isprintable() and not any(c in name for c in ".[]\"'= ")
    return f".{name}" if plain else f"[{shown(name)}]"


def shown(value: Any) -> str:
    """A value in a message, cut short."""
    try:
        text = dumps(value).decode()
    except (Error, ValueError, TypeError):
        text = repr(value)  # an infinity, or something that came from no JSON text
    return text if len(text) <= 60 else text[:57] + "..."


def _encoder(encode_string: Any, sort: bool) -> Any:
    # markers (finds cycles), default, encoder, indent, separators, sort_keys, skipkeys, allow_nan
    return _json.make_encoder({}, _refuse, encode_string, None, ":", ",", sort, False, False)


def _refuse(value: object) -> None:
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _skip(text: str, at: int) -> int:
    """The index of the first character from `at` on that is not JSON space."""
    while text[at : at + 1] and text[at] in _SPACE:
        at += 1
    return at


def _why(error: BaseException) -> str:
    if isinstance(error, StopIteration):
        return f"not valid json: no value at character {error.value}"
    if isinstance(error, RecursionError):
        return "not valid json: nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"not valid json: not utf-8 at byte {error.start}"
    return f"not valid json: {error}"
