"""`RUN --mount=...`: type=bind|cache|tmpfs|secret|ssh, and what each may say.

Read twice, as BuildKit does: with the Dockerfile, when only what needs no variables is checked, and when
the step is built.
"""

from __future__ import annotations

import re

from oci_tools.build.position import meant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_KEYS = ("type", "from", "source", "target", "readonly", "readwrite", "required", "size", "id", "sharing", "mode",
         "uid", "gid", "env")  # fmt: skip
_ALL = (*_KEYS, *_ALIASES)
_BOOLEANS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


class Mount:
    """One mount.

    kind      of TYPES
    origin    `from`: a stage, an image, a named context
    source    path in it, or the secret
    target    place in the container
    readonly  whether it cannot be written
    id        of a cache, a secret or an agent
    sharing   of a cache; env: the variable that gets a secret
    """

    def __init__(self) -> None:
        self.kind = "bind"
        self.origin = self.source = self.target = self.id = self.sharing = ""
        self.readonly = True
        self.required = False
        self.size = 0
        self.mode: int | None = None
        self.uid: int | None = None
        self.gid: int | None = None
        self.env: str | None = None


def fields(text: str, statement: Any) -> list[str]:
    """Comma-separated values, quoted as in CSV."""
    import csv

    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise statement.wrong(f"failed to parse csv mounts: {error}", text) from None
    return rows[0] if rows else []


def read(text: str, statement: Any, expand: Callable[[str], str] | None = None) -> Mount:
    """The mount that a flag's value says; without `expand` only what needs no variables is looked at."""
    made = Mount()
    said = False  # whether it can be written
    for field in fields(text, statement):
        name, equals, value = field.partition("=")
        key = _ALIASES.get(name.lower(), name.lower())
        if not expand and (key != "from" or not equals):
            continue  # it may have variables
        if not expand and re.search(r"\$.", value):
            raise statement.wrong("'from' doesn't support variable expansion, define alias stage instead", field)
        if expand:
            value = expand(value)
        if not equals and key not in ("readonly", "readwrite", "required"):
            raise statement.wrong(f"invalid field '{field}' must be a key=value pair", field)
        said = said or key in ("readonly", "readwrite")
        _set(made, key, value if equals else "true", name, field, statement)
    if not expand:
        return made
    if not said:
        made.readonly = made.kind not in ("cache", "tmpfs")
    _check(made, statement, text)
    return made


def device(text: str, statement: Any) -> tuple[str, bool]:
    """The device that `RUN --device=[name=]VENDOR/CLASS=NAME[,required]` says, and whether it has to be there."""
    found, required = "", False
    for field in fields(text, statement):
        name, equals, value = field.partition("=")
        key = name.lower()
        if key == "required":
            if equals and value.lower() not in _BOOLEANS:
                raise statement.wrong(f"invalid value for required: {value}", field)
            required = not equals or _BOOLEANS[value.lower()]
        elif key == "name" and equals:
            if found:
                raise statement.wrong(f"device name already set to {found}", field)
            found = value
        elif not found:
            found = field
        elif equals:
            raise statement.wrong(f"unexpected key '{name}' in '{field}'", field, meant(name, ("name", "required")))
        else:
            raise statement.wrong(f"invalid field '{field}' must be a key=value pair", field)
    return found, required


def _set(made: Mount, key: str, value: str, name: str, field: str, statement: Any) -> None:
    if key not in _KEYS:
        raise statement.wrong(f"unexpected key '{name}' in '{field}'", field, meant(name, _ALL))
    if key == "type":
        made.kind = value.lower()
        if made.kind not in TYPES:
            raise statement.wrong(f'unsupported mount type "{value}"', field, meant(value, TYPES))
    elif key == "sharing":
        made.sharing = value.lower()
        if made.sharing not in SHARING:
            raise statement.wrong(f'unsupported sharing value "{value}"', field, meant(value, SHARING))
    elif key in ("readonly", "readwrite", "required"):
        if key == "required" and made.kind not in ("secret", "ssh"):
            raise statement.wrong(f"unexpected key '{name}' for mount type '{made.kind}'", field)
        if value.lower() not in _BOOLEANS:
            raise statement.wrong(f"invalid value for {name}: {value}", field)
        if key == "required":
            made.required = _BOOLEANS[value.lower()]
        else:
            made.readonly = _BOOLEANS[value.lower()] == (key == "readonly")
    elif key == "size":
        if made.kind != "tmpfs":
            raise statement.wrong(f"unexpected key '{name}' for mount type '{made.kind}'", field)
        size = _size(value)
        if size is None:
            raise statement.wrong(f"invalid value for {name}: {value}", field)
        made.size = size
    elif key in ("mode", "uid", "gid"):
        digits = "01234567" if key == "mode" else "0123456789"
        if not value or value.strip(digits) or int(value, 8 if key == "mode" else 10) >= 1 << 32:
            raise statement.wrong(f"invalid value {value} for {key}", field)
        setattr(made, key, int(value, 8 if key == "mode" else 10))
    elif key == "env":
        made.env = value
    else:
        setattr(made, {"from": "origin"}.get(key, key), value)


def _size(text: str) -> int | None:
    """Bytes: a number with a unit, as docker writes it."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([bkmgtp]?)(?:i?b)?", text.lower())
    return int(float(found[1]) * (1 << _UNITS[found[2]])) if found else None


def _check(made: Mount, statement: Any, text: str) -> None:
    kind = made.kind
    if kind not in ("secret", "ssh", "cache"):
        for name in ("mode", "uid", "gid"):
            if getattr(made, name) is not None:
                raise statement.wrong(f'{name} not allowed for "{kind}" type mounts', name)
    if kind == "secret":
        if made.origin:
            raise statement.wrong("secret mount should not have a from", text)
        if made.sharing:
            raise statement.wrong("secret mount should not define sharing", text)
        if not (made.source or made.target or made.id):
            raise statement.wrong("invalid secret mount. one of source, target required", text)
        if made.source and made.id:
            raise statement.wrong("both source and id can't be set", text)
    if made.sharing and kind != "cache":
        raise statement.wrong(f"invalid cache sharing set for {kind} mount", text)
    if not made.target and kind not in ("secret", "ssh"):
        raise statement.wrong(f"invalid mount target \"{made.target}\": {kind} mount needs a target", text)
