"""Changes to a configuration, said in words or documents: what `oci-spec set` does.

    WORD    PATH=VALUE     set it; what is missing on the way is made
            PATH+=VALUE    add to the end of a list, or members to an object
            PATH-=VALUE    take all such items out of a list
            PATH-          take it out
    PATH    NAME{.NAME|[N]|[KEY]|[NAME=TEXT]}: members, the Nth of a list ([-1] is the last), a member
            with any name, the item of a list whose member NAME is TEXT
    VALUE   JSON, else the text itself; where config.json holds a string always the text, unless
            that is a JSON string in quotes

Merge documents are RFC 7386, patches RFC 6902 with the pointers of RFC 6901.  All are pure: a
new document comes back, the old one is left as it was.
"""

from __future__ import annotations

from oci_tools import document
from oci_tools.errors import Error, Usage
from oci_tools.runtime.fields import CONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Step = int | str | tuple[str, str]

_MISSING: Any = object()


def apply(spec: Any, word: str) -> Any:
    """One change, said in a word."""
    text, operator, value = _split(word)
    steps = parse(text)
    if not steps:
        raise Usage("no path in change", word)
    if operator == "-":
        return _changed(spec, steps, lambda old: _MISSING, word)
    kind = _kind(steps, CONFIG)
    if operator in ("+", "-="):
        old = _value(value, kind[0] if isinstance(kind, list) else kind)
        change = _added if operator == "+" else _taken
        return _changed(spec, steps, lambda known: change(known, old, word), word)
    return _changed(spec, steps, lambda old: _value(value, kind), word)


def _split(word: str) -> tuple[str, str, str]:
    """Path, operator ("=", "+", "-=" or "-") and value of a word."""
    depth = 0
    for at, c in enumerate(word):
        depth += (c == "[") - (c == "]")
        if c == "=" and depth <= 0:
            if at and word[at - 1] in "+-":
                return word[: at - 1], "+" if word[at - 1] == "+" else "-=", word[at + 1 :]
            return word[:at], "=", word[at + 1 :]
    if word.endswith("-"):
        return word[:-1], "-", ""
    raise Usage("not a change", word, hint="PATH=VALUE, PATH+=VALUE, PATH-=VALUE or PATH-")


def parse(text: str) -> list[Step]:
    """The steps of a path: a name, a number, or (name, text) for the item of which that holds."""
    steps: list[Step] = []
    rest = text
    while rest:
        if rest[0] == "[":
            inner, bracket, rest = rest[1:].partition("]")
            if not bracket:
                raise Usage("no ] in path", text)
            steps.append(_bracket(inner))
            if rest[:1] == ".":
                rest = rest[1:]
                if not rest:
                    raise Usage("empty name in path", text)
            continue
        ends = [at for at in (rest.find("."), rest.find("[")) if at >= 0]
        end = min(ends, default=len(rest))
        name, rest = rest[:end], rest[end:]
        if not name or rest == ".":
            raise Usage("empty name in path", text)
        steps.append(name)
        rest = rest.removeprefix(".")
    return steps


def _bracket(inner: str) -> Step:
    quoted = len(inner) > 1 and inner[0] == inner[-1] and inner[0] in "\"'"
    if quoted:
        return inner[1:-1]
    if inner.removeprefix("-").isdecimal() and inner.isascii():
        return int(inner)
    name, equals, text = inner.partition("=")
    return (name, text) if equals else inner


def _kind(steps: list[Step], kind: Any) -> Any:
    """What config.json holds at a path, as `fields.py` says; None if it does not."""
    for step in steps:
        if isinstance(kind, list):
            kind = kind[0] if not isinstance(step, str) else None
        elif isinstance(kind, dict):
            kind = kind.get("*") or (kind.get(step) if step else None)
        else:
            return None
    return kind


def _value(text: str, kind: Any) -> Any:
    is_text = kind == "text" or isinstance(kind, frozenset) or callable(kind)
    if is_text and not (len(text) > 1 and text[0] == text[-1] == '"'):
        return text
    try:
        return document.loads(text)
    except Error:
        return text


def _changed(value: Any, steps: list[Step], change: Any, word: str) -> Any:
    """`value` with what is at the path changed; what is missing on the way is made."""
    if not steps:
        return change(value)
    step, rest = steps[0], steps[1:]
    if value is _MISSING:
        value = {} if isinstance(step, str) else []
    if isinstance(value, dict) and isinstance(step, str):
        new = _changed(value.get(step, _MISSING), rest, change, word)
        if new is _MISSING:
            return {name: item for name, item in value.items() if name != step}
        return {**value, step: new}
    if not isinstance(value, list) or isinstance(step, str):
        raise Error("cannot change", word, f"{_path(step)} is looked for in {document.shown(value)}")
    at = _index(value, step, word)
    new = _changed(value[at] if at < len(value) else _MISSING, rest, change, word)
    return value[:at] + ([] if new is _MISSING else [new]) + value[at + 1 :]


def _path(step: Step) -> str:
    return (
        f"'{step}'"
        if isinstance(step, str)
        else f"item {'='.join(map(str, step if isinstance(step, tuple) else [step]))}"
    )


def _index(value: list[Any], step: int | tuple[str, str], word: str) -> int:
    if isinstance(step, tuple):
        name, text = step
        for at, item in enumerate(value):
            if isinstance(item, dict) and name in item and text in (item[name], document.shown(item[name])):
                return at
        raise Error("cannot change", word, f"no item with {name}={text}")
    if not -len(value) <= step <= len(value):
        raise Error("cannot change", word, f"there are {len(value)} items")
    return step if step >= 0 else step + len(value)


def _added(old: Any, value: Any, word: str) -> Any:
    if old is _MISSING:
        return [value]
    if isinstance(old, dict) and isinstance(value, dict):
        return {**old, **value}
    if not isinstance(old, list):
        raise Error("cannot change", word, f"{document.shown(old)} is no list")
    return [*old, value]


def _taken(old: Any, value: Any, word: str) -> Any:
    if not isinstance(old, list) or value not in old:
        raise Error("cannot change", word, "there is no such item")
    return [item for item in old if item != value]


# -- merge and patch -----------------------------------------------------------------------


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: members of `patch` replace, null takes out, objects merge."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def patch(target: Any, operations: Any) -> Any:
    """RFC 6902: a list of operations, all or none."""
    if not isinstance(operations, list):
        raise Error("cannot patch", None, f"expected a list of operations, got {document.shown(operations)}")
    for at, operation in enumerate(operations):
        try:
            target = _operate(target, operation)
        except Error as error:
            raise Error("cannot patch", None, f"operation {at}: {error}") from None
    return target


def _operate(target: Any, operation: Any) -> Any:
    if not isinstance(operation, dict):
        raise Error(f"expected an object, got {document.shown(operation)}")
    name = operation.get("op")
    if name not in ("add", "remove", "replace", "move", "copy", "test"):
        raise Error(f"unknown operation {document.shown(name)}")
    path = _member(operation, "path")
    if name == "remove":
        return _put(target, path, _MISSING)
    if name in ("move", "copy"):
        source = _member(operation, "from")
        value = _get(target, source)
        if name == "move":
            if path != source and path[: len(source)] == source:
                raise Error("cannot move a value into itself")
            target = _put(target, source, _MISSING)
        return _put(target, path, value, insert=True)
    if "value" not in operation:
        raise Error("value: missing")
    value = operation["value"]
    if name == "test":
        if not same(_get(target, path), value):
            raise Error(
                f"test of '/{'/'.join(path)}' failed", None, f"it is {document.shown(_get(target, path))}"
            )
        return target
    if name == "replace":
        _get(target, path)
    return _put(target, path, value, insert=name == "add")


def _member(operation: dict[str, Any], name: str) -> list[str]:
    """A JSON pointer as its parts (RFC 6901)."""
    text = operation.get(name)
    if not isinstance(text, str) or (text and text[0] != "/"):
        raise Error(f"{name}: expected a JSON pointer, got {document.shown(text)}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _get(value: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(value, list):
            value = value[_place(value, part, len(value))]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            raise Error(f"there is no '/{'/'.join(path)}'")
    return value


def _put(value: Any, path: list[str], new: Any, insert: bool = False) -> Any:
    """`value` with what is at the pointer replaced, inserted, or taken out."""
    if not path:
        if new is _MISSING:
            raise Error("cannot take out the whole document")
        return new
    part, rest = path[0], path[1:]
    if isinstance(value, list):
        at = _place(value, part, len(value) + (insert and not rest))
        if rest:
            return [*value[:at], _put(value[at], rest, new, insert), *value[at + 1 :]]
        skip = 0 if insert else 1
        return [*value[:at], *([] if new is _MISSING else [new]), *value[at + skip :]]
    if not isinstance(value, dict) or ((rest or new is _MISSING) and part not in value):
        raise Error(f"there is no '{part}'")
    if not rest and new is _MISSING:
        return {name: item for name, item in value.items() if name != part}
    return {**value, part: _put(value[part], rest, new, insert) if rest else new}


def _place(value: list[Any], part: str, end: int) -> int:
    if part == "-" and end > len(value):
        return len(value)
    good = part.isascii() and part.isdigit() and (part == "0" or part[0] != "0") and len(part) < 10
    if not good or int(part) >= end:
        raise Error(f"there is no item '{part}'")
    return int(part)


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1, but 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return bool(one == other)
