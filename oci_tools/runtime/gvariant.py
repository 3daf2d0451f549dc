"""Values in GVariant's text format, as annotations give them for properties of systemd's units.

The part of it that properties need: booleans, numbers with or without their type before them, strings in
either quote, arrays of one kind.  A value is (D-Bus signature, value).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TYPES = {
    "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "handle": "i", "uint32": "u", "int64": "x", "uint64": "t",
    "double": "d", "boolean": "b", "string": "s", "objectpath": "o", "signature": "g",
}  # fmt: skip
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"'}


def parse(text: str) -> tuple[str, Any]:
    """The value; ValueError if it is none."""
    kind, value, rest = _value(text.strip())
    if rest.strip():
        raise ValueError(text)
    return kind, value


def _value(text: str) -> tuple[str, Any, str]:
    """A value at the beginning, and what is behind it."""
    if text[:1] in ("'", '"'):
        return _string(text)
    if text[:1] == "[":
        return _array(text[1:].lstrip())
    size = next((at for at, c in enumerate(text) if not (c.isalnum() or c in "+-._")), len(text))
    word, rest = text[:size], text[size:]
    if word in ("true", "false"):
        return "b", word == "true", rest
    if word in _TYPES:
        kind = _TYPES[word]
        found, value, rest = _value(rest.lstrip())
        if (kind in "sog") != (found == "s") or (kind == "b") != (found == "b"):
            raise ValueError(text)
        return kind, float(value) if kind == "d" else value, rest
    if not word:
        raise ValueError(text)
    try:
        return "i", int(word, 0), rest
    except ValueError:
        return "d", float(word), rest


def _string(text: str) -> tuple[str, str, str]:
    found, at = "", 1
    while at < len(text) and text[at] != text[0]:
        if text[at] == "\\":
            at += 1
            found += _ESCAPES.get(text[at : at + 1]) or text[at : at + 1]
        else:
            found += text[at]
        at += 1
    if at >= len(text):
        raise ValueError(text)
    return "s", found, text[at + 1 :]


def _array(text: str) -> tuple[str, Any, str]:
    kind = "s"
    values: list[Any] = []
    while text[:1] != "]":
        inner, value, text = _value(text)
        if values and inner != kind:
            raise ValueError(text)
        kind = inner
        values.append(value)
        text = text.lstrip()
        if text[:1] == ",":
            text = text[1:].lstrip()
        elif text[:1] != "]":
            raise ValueError(text)
    return f"a{kind}", bytes(values) if kind == "y" else values, text[1:]
