"""What is printed: tables for people at a terminal, tab-separated lines for programs, JSON, or a form of one's own.

`--format` takes what people use of docker's templates: {{.Name}}, {{.State.Status}}, {{json .Config}},
{{index .Labels "a"}}, {{join .List ","}}, {{upper .X}}, {{lower .X}}, {{len .X}}, `table` in front, and \\n \\t.
"""

from __future__ import annotations

import sys

from oci_tools import document
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from oci_tools.cli import Args

    Column = tuple[str, Callable[[dict[str, Any]], Any]]


def rows(
    args: Args, found: list[dict[str, Any]], columns: Sequence[Column], hosts: bool, key: str = "id"
) -> None:
    """Print records: `columns` are (name, what of the record); a record's "Host" comes first of several.

    With --quiet it is only the column `key`.
    """
    if getattr(args, "quiet", False):
        take = dict(columns)[key]
        print("".join(f"{text(take(each))}\n" for each in found), end="")
        return
    if args.json or args.format == "json":
        for each in found:
            print(document.dumps(each).decode())
        return
    if args.format:
        formatted(
            args.format,
            [{**each, **{_camel(name): text(take(each)) for name, take in columns}} for each in found],
        )
        return
    shown = [("host", lambda each: each["Host"]), *columns] if hosts else list(columns)
    if args.fields:
        known = dict(shown)
        wanted = args.fields.split(",")
        for name in wanted:
            if name not in known:
                raise Usage("no such field", name, hint=f"one of {', '.join(known)}")
        shown = [(name, known[name]) for name in wanted]
    lines = [[text(take(each)) for _, take in shown] for each in found]
    table([name for name, _ in shown], lines)


def table(names: Sequence[str], lines: list[list[str]]) -> None:
    """Aligned under a header for people, else a line a record with tabs."""
    if not sys.stdout.isatty():
        print("".join("\t".join(clean(each) for each in line) + "\n" for line in lines), end="")
        return
    whole = [
        [name.upper().replace("_", " ") for name in names],
        *([clean(each) for each in line] for line in lines),
    ]
    widths = [max(len(line[at]) for line in whole) for at in range(len(names))]
    for line in whole:
        print("   ".join(each.ljust(width) for each, width in zip(line, widths, strict=True)).rstrip())


def clean(value: str) -> str:
    """One field: what would break a line or a terminal is not shown as it is."""
    return value if value.isprintable() else "".join(c if c.isprintable() else " " for c in value)


def text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return document.dumps(value).decode()
    return str(value)


def _camel(name: str) -> str:
    return "".join(part.capitalize() if part != "id" else "ID" for part in name.split("_"))


# -- templates ---------------------------------------------------------------------------------


def formatted(template: str, found: list[dict[str, Any]]) -> None:
    """Print a template once for each record."""
    head, space, rest = template.partition(" ")
    if head == "table" and space:
        template = rest
    template = template.replace("\\t", "\t").replace("\\n", "\n")
    parts = _parts(template)
    lines = ["".join(part if isinstance(part, str) else text(part(each)) for part in parts) for each in found]
    if head == "table" and space and sys.stdout.isatty():
        table([_heading(word) for word in template.split("\t")], [line.split("\t") for line in lines])
        return
    for line in lines:
        print(line)


def _heading(word: str) -> str:
    return word.replace("{{", "").replace("}}", "").strip().lstrip(".")


def _parts(template: str) -> list[Any]:
    """Text and functions of a record, in turn."""
    found: list[Any] = []
    while "{{" in template:
        before, _, rest = template.partition("{{")
        inside, end, template = rest.partition("}}")
        if not end:
            raise Usage("invalid template", inside, "}} is missing")
        found += [before, _expression(inside.strip().strip("-").strip())]
    return [*found, template]


def _expression(said: str) -> Callable[[dict[str, Any]], Any]:
    name, _, rest = said.partition(" ")
    if name.startswith("."):
        return lambda record: _field(record, name)
    words = _words(rest)
    functions: dict[str, Callable[..., Any]] = {
        "json": lambda value: document.dumps(value).decode(),
        "upper": lambda value: text(value).upper(),
        "lower": lambda value: text(value).lower(),
        "title": lambda value: text(value).title(),
        "len": len,
        "join": lambda value, by: by.join(text(each) for each in value or ()),
        "split": lambda value, by: text(value).split(by),
        "println": lambda value: text(value) + "\n",
        "print": text,
        "index": _index,
    }
    if name not in functions:
        raise Usage("invalid template", said, "no such function", f"one of {', '.join(sorted(functions))}")
    return lambda record: functions[name](*(_value(record, word) for word in words))


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        try:
            value = value[int(key)] if isinstance(value, list) else (value or {}).get(str(key))
        except (IndexError, ValueError):
            return ""
    return value


def _words(said: str) -> list[str]:
    import shlex

    try:
        return list(shlex.split(said, posix=False))
    except ValueError as error:
        raise Usage("invalid template", said, str(error)) from None


def _value(record: dict[str, Any], word: str) -> Any:
    if word.startswith("."):
        return _field(record, word)
    return word[1:-1] if word[:1] in ('"', "'") and word[-1:] == word[:1] else word


def _field(record: Any, path: str) -> Any:
    value = record
    for name in path.split("."):
        if name and isinstance(value, dict):
            found = value.get(name)
            value = (
                found
                if found is not None
                else next((value[key] for key in value if key.lower() == name.lower()), None)
            )
        elif name:
            return None
    return value
