"""YAML read with suspicion, and written: the one importer of PyYAML.

What comes out is what JSON could say, as Kubernetes reads it (sigs.k8s.io/yaml): texts, numbers, true and false, null,
lists, objects with names that are texts.  A date is a text.  A name that is there twice is refused, and so is a
document that is more than MAX_NODES values once its aliases are written out: ten lines of aliases of aliases are
thousands of millions ("billion laughs"), and an alias of what it stands in has no end.
"""

from __future__ import annotations

import re

import yaml

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAX_BYTES = 4 << 20
MAX_NODES = 200_000
_TAGS = "tag:yaml.org,2002:"
_PLAIN = frozenset(f"{_TAGS}{name}" for name in "map seq str int float bool null merge".split())
# Of YAML 1.1 as JSON has it: without dates, and without numbers to the base 60 (22:22 is a port, and a text).
_RESOLVERS = (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)", "tTfFyYnNoO"),
    ("int", r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    ("merge", r"<<", "<"),
    ("null", r"(?:~|null|Null|NULL|)", "~nN\0"),
)  # fmt: skip


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader without implicit types of its own."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """A dumper that quotes what either we or YAML 1.1 would take for something else than a text."""

    ignore_aliases = staticmethod(lambda data: True)


def _text(dumper: Any, text: str) -> Any:
    """Texts of several lines as such."""
    plain = "\n" in text and not any(line != line.rstrip() for line in text.split("\n"))
    return dumper.represent_scalar(f"{_TAGS}str", text, style="|" if plain else None)


_Dumper.add_representer(str, _text)
for _name, _pattern, _first in _RESOLVERS:
    for _char in _first:
        for _class in _Loader, _Dumper:
            _class.add_implicit_resolver(f"{_TAGS}{_name}", re.compile(f"(?:{_pattern})$"), [_char.replace("\0", "")])


def documents(data: bytes, subject: str) -> list[Any]:
    """The documents of a stream, less empty ones; an Error names `subject` and the line."""
    if len(data) > MAX_BYTES:
        raise Error("cannot read", subject, f"larger than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
        loader = _Loader(text)
        return [value for value in _values(loader, subject) if value is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = str(getattr(error, "problem", None) or "").split("\n")[0]
        where = f" in line {mark.line + 1}" if mark else ""
        raise Error("cannot read", subject, f"not valid yaml{where}" + (f": {problem}" if problem else "")) from None
    except UnicodeDecodeError as error:
        raise Error("cannot read", subject, f"not valid yaml: not utf-8 at byte {error.start}") from None
    except RecursionError:
        raise Error("cannot read", subject, "not valid yaml: nested too deeply") from None
    except (ValueError, OverflowError) as error:  # of a number
        raise Error("cannot read", subject, f"not valid yaml: {str(error).lower()}") from None


def dumps(values: list[Any]) -> str:
    """Documents as YAML, in the order of their members."""
    return str(yaml.dump_all(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def _values(loader: Any, subject: str) -> Iterator[Any]:
    try:
        while loader.check_node():
            node = loader.get_node()
            _check(node, subject)
            yield loader.construct_document(node)
    finally:
        loader.dispose()


def _check(root: Any, subject: str) -> None:
    """Types that JSON has, names once, and an end: each node is looked at once, what it weighs is remembered."""
    weights: dict[int, int] = {}
    open_: set[int] = set()

    def weigh(node: Any) -> int:
        if id(node) in weights:
            return weights[id(node)]
        if id(node) in open_:
            raise _wrong(subject, node, "an alias of what it stands in")
        if node.tag not in _PLAIN:
            raise _wrong(subject, node, f"unknown tag {node.tag.replace(_TAGS, '!!')}")
        open_.add(id(node))
        inner = node.value if isinstance(node.value, list) else ()
        names = [pair[0] for pair in inner if isinstance(pair, tuple)]
        _check_names(names, subject)
        weight = 1 + sum(weigh(part) for pair in inner for part in (pair if isinstance(pair, tuple) else (pair,)))
        if weight > MAX_NODES:
            raise _wrong(subject, node, f"more than {MAX_NODES} values")
        open_.discard(id(node))
        weights[id(node)] = weight
        return weight

    weigh(root)


def _check_names(names: list[Any], subject: str) -> None:
    seen = set()
    for name in names:
        if not isinstance(name.value, str):
            raise _wrong(subject, name, "a name that is no text")
        if name.tag == f"{_TAGS}merge":
            continue
        if name.value in seen:
            raise _wrong(subject, name, f"'{name.value}' is there twice")
        seen.add(name.value)
        name.tag = f"{_TAGS}str"  # `1: x` and `on: x` are names as well


def _wrong(subject: str, node: Any, what: str) -> Error:
    return Error("cannot read", subject, f"not valid yaml in line {node.start_mark.line + 1}: {what}")
