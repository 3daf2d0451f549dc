"""What a Dockerfile offers, without building it: its targets, and what one of them can be given.

    targets   a line for each stage: name, what it is based on, "default" or nothing, description
    outline   of the target, a line for each of: `arg` name, value, description; `secret`, `ssh` name, "required" or
              nothing; `cache` id

As JSON they are as BuildKit's subrequests `frontend.targets` and `frontend.outline` give them, with places and source.
A description is the comment right above that begins with the name.
"""

from __future__ import annotations

import posixpath

from oci_tools import document
from oci_tools.build import mounts, results
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.build.dockerfile import Dockerfile, Stage
    from oci_tools.build.graph import Graph
    from oci_tools.build.instructions import Instruction
    from oci_tools.build.scope import Scope

Said = dict[str, "Any"]


def description(one: Instruction, name: str) -> str:
    begin = f"{name} "
    found = (line for line in one.statement.comments if name and line.startswith(begin))
    return next(found, begin)[len(begin) :].strip()


# -- targets -----------------------------------------------------------------------------------------


def targets(dockerfile: Dockerfile) -> Said:
    last = len(dockerfile.stages) - 1
    made = [_target(stage, stage.number == last) for stage in dockerfile.stages]
    return {"targets": made, "sources": [results.data(dockerfile)]}


def _target(stage: Stage, default: bool) -> Said:
    name = stage.start.written[1] or stage.name
    said = {"name": name, "default": default, "description": description(stage.start, name), "base": stage.start.base,
            "platform": stage.start.platform, "location": _at(stage.start)}  # fmt: skip
    return {key: value for key, value in said.items() if value}


def _at(one: Instruction) -> Said:
    return results.location(one.statement)


# -- outline -----------------------------------------------------------------------------------------


def outline(dockerfile: Dockerfile, scope: Scope, graph: Graph) -> Said:
    """Of the target and the stages that it needs."""
    args: dict[str, Said] = {}
    others: dict[str, dict[str, Said]] = {"secrets": {}, "ssh": {}, "cache": {}}
    for one in dockerfile.globals:
        _args(one, scope, args)
    for stage in graph.needed:
        env: dict[str, str] = {}
        for one in stage.instructions:
            if one.name == "ARG":
                _args(one, scope, args, env)
            elif one.name == "ENV":
                env.update({name: _expanded(scope, one, value, dict(env)) for name, value in one.pairs})
            elif one.name == "RUN":
                for text in one.mounts:
                    _mount(one, text, lambda word: _expanded(scope, one, word, env), others)  # noqa: B023
    name = graph.target.start.written[1]
    said: Said = {"name": name, "description": description(graph.target.start, name), "args": list(args.values())}
    said.update((kind, list(found.values())) for kind, found in others.items())
    said["sources"] = [results.data(dockerfile)]
    return {key: value for key, value in said.items() if value}


def _args(one: Instruction, scope: Scope, found: dict[str, Said], env: dict[str, str] | None = None) -> None:
    for name, default in one.pairs:
        if name in scope.platform:
            continue
        value = scope.given.get(name, scope.globals.get(name, "") if default is None else default)
        if default is not None and name not in scope.given:
            value = _expanded(scope, one, default, env if env is not None else scope.globals)
        if env is not None:
            env[name] = value
        said = {"name": name, "description": description(one, name), "value": value}
        known = found.setdefault(name, {"name": name})
        known.update((key, text) for key, text in said.items() if text)
        known["location"] = _at(one)


def _expanded(scope: Scope, one: Instruction, text: str, env: dict[str, str]) -> str:
    try:
        return scope.expand(one, text, env)
    except Error:
        return text


def _mount(one: Instruction, text: str, expand: Any, found: dict[str, dict[str, Said]]) -> None:
    mount = mounts.read(text, one.statement, expand)
    if mount.kind == "secret":
        name, kind = mount.id or mount.source or posixpath.basename(mount.target), "secrets"
    elif mount.kind == "ssh":
        name, kind = mount.id or "default", "ssh"
    elif mount.kind == "cache":
        found["cache"].setdefault(mount.id or mount.target, {"ID": mount.id or mount.target, "location": _at(one)})
        return
    else:
        return
    known = found[kind].setdefault(name, {"name": name, "location": _at(one)})
    if mount.required:
        known["required"] = True


# -- as text -----------------------------------------------------------------------------------------


def lines(said: Said) -> Iterator[str]:
    for one in said.get("targets", ()):
        default = "default" if one.get("default") else ""
        yield _line(one.get("name", ""), one["base"], default, one.get("description", ""))
    for one in said.get("args", ()):
        yield _line("arg", one["name"], one.get("value", ""), one.get("description", ""))
    for kind, members in (("secret", "secrets"), ("ssh", "ssh")):
        for one in said.get(members, ()):
            yield _line(kind, one["name"], "required" if one.get("required") else "")
    for one in said.get("cache", ()):
        yield _line("cache", one["ID"])


def _line(*fields: str) -> str:
    return "\t".join(field.replace("\t", " ").replace("\n", " ") for field in fields) + "\n"


def text(said: Said) -> str:
    return document.dumps(said, indent=2).decode() + "\n"
