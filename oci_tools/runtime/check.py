"""Is this config.json one that can be run?  The hot path's own answer.

Two steps: `fields` reads the types (the table in `fields.py`), `rules.py` what types
cannot say.  One clear line names the JSON path of the first thing that is wrong:

    config.json: process.args[0]: expected a string, got 5

`oci-spec check` gives the same verdict with jsonschema and the same rules.  Not here:
what needs a look at the world (does the rootfs exist, is a namespace's path of its
type); the runtime finds that out by doing.
"""

from __future__ import annotations

from oci_tools.document import shown, step, wrong
from oci_tools.runtime.fields import CONFIG, FOREIGN, RESOURCES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Failure = tuple[str, str]  # the JSON path from here down, and what is wrong


def check(spec: Any, subject: str = "config.json") -> None:
    """Raise Error, with the JSON path, unless `spec` is a valid configuration for Linux."""
    from oci_tools.runtime import rules

    fields(spec, CONFIG, subject)
    if any(name in spec for name in FOREIGN):  # nobody is in a hurry with these
        from oci_tools import schema

        schema.check("config", spec, subject)
    rules.check(spec, subject)


def resources(found: Any, subject: str) -> None:
    """Raise Error, with the JSON path, unless `found` can be the `linux.resources` of a configuration."""
    from oci_tools.runtime import rules

    fields(found, RESOURCES, subject)
    for path, what in rules.resources(found):
        raise wrong(subject, path, what)


def fields(value: Any, kind: Any, subject: str) -> None:
    """Raise Error unless `value` is of this kind (the shapes are in `fields.py`)."""
    failure = _object(value, kind) if type(kind) is dict else _walk(value, kind)
    if failure is not None:
        raise wrong(subject, *failure)


# -- the reader of the table -------------------------------------------------------


def _walk(value: Any, kind: Any) -> Failure | None:
    """What is wrong with `value`, None if nothing is.

    Paths are put together on the way up, so that a good document pays nothing for them.
    """
    form = type(kind)
    if form is str:
        if kind == "text":
            return None if type(value) is str and _fits(value) else _not_text(value)
        return None if type(value) is bool else ("", f"expected true or false, got {shown(value)}")
    if form is tuple:
        if type(value) is int and kind[0] <= value <= kind[1]:
            return None
        return "", _integer(kind, value)
    if form is dict:
        return _object(value, kind)
    if form is list:
        return _array(value, kind)
    if form is frozenset:
        if type(value) is str and value in kind:
            return None
        return "", f"expected one of {', '.join(sorted(kind))}, got {shown(value)}"
    if type(value) is not str or not _fits(value):
        return _not_text(value)
    return None if kind(value) else ("", f"expected {_meaning(kind)}, got {shown(value)}")


def _object(value: Any, kind: dict[str, Any]) -> Failure | None:
    if type(value) is not dict:
        return "", f"expected an object, got {shown(value)}"
    every = kind.get("*")
    for name, item in value.items():
        inner = every or (kind.get(name) if name else None)
        if inner is not None:
            failure = _walk(item, inner)
            if failure is not None:
                return step(name) + failure[0], failure[1]
    for name in kind.get("", ()):
        if name not in value:
            return step(name), "missing"
    return None


def _array(value: Any, kind: list[Any]) -> Failure | None:
    if type(value) is not list:
        return "", f"expected an array, got {shown(value)}"
    if len(kind) > 1 and len(value) < kind[1]:
        return "", f"expected at least {kind[1]} item{'s' if kind[1] > 1 else ''}, got {shown(value)}"
    inner = kind[0]
    if inner == "text" and _texts(value):
        return None
    for at, item in enumerate(value):
        failure = _walk(item, inner)
        if failure is not None:
            return f"[{at}]{failure[0]}", failure[1]
    return None


def _texts(value: list[Any]) -> bool:
    """Are all of these good strings?  Said by one join, in C."""
    try:
        return _fits("".join(value))
    except TypeError:
        return False


def _fits(text: str) -> bool:
    """Can the kernel take this string?

    A JSON text may hold \\u0000, which would end a path early, and halves of surrogate
    pairs, which no encoding takes, except those that stand for single bytes.
    """
    if "\0" in text:
        return False
    if not text.isascii():
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return False
    return True


def _not_text(value: Any) -> Failure:
    if type(value) is str:
        return "", f"expected a string without NUL or half characters, got {shown(value)}"
    return "", f"expected a string, got {shown(value)}"


def _integer(kind: tuple[float, float], value: Any) -> str:
    low, high = kind
    if type(value) is not int:
        return f"expected an integer, got {shown(value)}"
    if high == float("inf"):
        return f"expected an integer of at least {low}, got {shown(value)}"
    return f"expected an integer from {low} to {high}, got {shown(value)}"


def _meaning(kind: Any) -> str:
    """The first line of a matcher's docstring is what it expects."""
    text = (kind.__doc__ or "another value").split("\n")[0].rstrip(".")
    return str(text[:1].lower() + text[1:])
