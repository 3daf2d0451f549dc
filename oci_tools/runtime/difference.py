"""What two config.json say differently, by what they mean and not by how they are written.

Not a difference: the order of what has none (capabilities, namespaces, variables, masked paths, limits), how system
calls are grouped into rules, mount options that a later one takes back, and whether nothing is said by an empty
list, by false, or by leaving it out.  The order of mounts, of hooks and of device rules is one.

    record   {"what": "A" added, "D" deleted or "C" changed, "path": JSON path, "old", "new": values}

The items of a list are named by what they are known by: `mounts[destination=/proc].options`.
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.document import step
from oci_tools.runtime.edit import same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Row = dict[str, Any]

FIELDS = ("what", "path", "old", "new")
_MISSING: Any = object()
_FAMILIES = (
    "suid", "dev", "exec", "atime", "diratime", "relatime", "strictatime", "symfollow", "mand", "iversion", "lazytime",
)  # fmt: skip


def diff(one: Any, other: Any) -> Iterator[Row]:
    """A record for each difference, in the order of the first document; values are as the documents have them."""
    for path, old, new in (*_walk(_meaning(one, ""), _meaning(other, ""), ""), *_orders(one, other)):
        what = "A" if old is _MISSING else "D" if new is _MISSING else "C"
        yield {
            "what": what,
            "path": path.lstrip("."),
            "old": None if old is _MISSING else _plain(old),
            "new": None if new is _MISSING else _plain(new),
        }


class _Named(dict[str, "Any"]):
    """A list that has become an object: its items by their names, each the last step of a path."""


def _walk(one: Any, other: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in [*one, *(name for name in other if name not in one)]:
            inner = path + (name if isinstance(one, _Named) or isinstance(other, _Named) else step(name))
            yield from _walk(one.get(name, _MISSING), other.get(name, _MISSING), inner)
    elif not same(one, other):
        yield path, one, other


def _plain(value: Any) -> Any:
    """A value for people: what was made an object is a list again."""
    if isinstance(value, _Named):
        return [_plain(item) for item in value.values()]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


# -- what is meant --------------------------------------------------------------------------------


def _meaning(value: Any, path: str) -> Any:
    """A value in the one form of what it means; what says nothing is left out."""
    if isinstance(value, dict):
        found = {name: _meaning(item, path + step(name)) for name, item in value.items()}
        return {name: item for name, item in found.items() if not _is_nothing(item)}
    if isinstance(value, list):
        return _list(value, path)
    return _normal(value) if path in _PATHS and isinstance(value, str) and value else value


def _normal(path: str) -> str:
    return os.path.normpath("/" + path.lstrip("/") if path.startswith("/") else path)


def _is_nothing(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {})


def _list(value: list[Any], path: str) -> Any:
    known = _LISTS.get(path)
    if known is None or not all(isinstance(item, known[0]) for item in value):
        return [_meaning(item, f"{path}[]") for item in value]
    form: Callable[[list[Any], str], Any] = known[1]
    return form(value, path)


def _set(value: list[Any], path: str) -> _Named:
    return _Named({f"[{document.shown(item)}]": item for item in value})


def _environment(value: list[str], path: str) -> _Named:
    """The last of a name is the one that counts."""
    return _Named({step(word.partition("=")[0]): word.partition("=")[2] for word in value})


def _by(*members: str) -> Callable[[list[Any], str], _Named]:
    """Items by what they are known by; where that is not unique, by their number too."""

    def form(value: list[Any], path: str) -> _Named:
        found = _Named()
        for item in value:
            said = [_key(item, member) for member in members]
            name = f"[{','.join(f'{member}={text}' for member, text in zip(members, said, strict=True))}]"
            count = 1
            while (f"{name}#{count}" if count > 1 else name) in found:
                count += 1
            found[f"{name}#{count}" if count > 1 else name] = _meaning(item, f"{path}[]")
        return found

    return form


def _key(item: dict[str, Any], member: str) -> str:
    value = item.get(member)
    if member in ("destination", "path") and isinstance(value, str):
        return _normal(value)
    return value if isinstance(value, str) else document.shown(value)


def _options(value: list[str], path: str) -> _Named:
    """Mount options: of those that exclude one another the last counts."""
    found: dict[str, str] = {}
    for option in value:
        if option != "defaults":
            family = _family(option)
            found.pop(family, None)
            found[family] = option
    return _set(sorted(found.values()), path)


def _family(option: str) -> str:
    recursive = "r" if option[:1] == "r" and option[1:] in _BOTH else ""
    name = option[len(recursive) :]
    if name in ("ro", "rw"):
        return f"{recursive}ro"
    positive = name.removeprefix("no")
    return recursive + (positive if positive in _FAMILIES else name)


_BOTH = frozenset(("ro", "rw", *_FAMILIES, *(f"no{name}" for name in _FAMILIES)))


def _calls(value: list[dict[str, Any]], path: str) -> _Named:
    """The rules of each system call, however they are grouped; of one call, any that fits, so that order is none."""
    found: dict[str, list[Any]] = {}
    for rule in value:
        said = {name: item for name, item in rule.items() if name not in ("names", "comment") and not _is_nothing(item)}
        if "args" in said:
            said["args"] = sorted(said["args"], key=_sorted)
        for name in rule.get("names") or ():
            rules = found.setdefault(str(name), [])
            if said not in rules:
                rules.append(said)
    return _Named({step(name): sorted(rules, key=_sorted) for name, rules in sorted(found.items())})


def _sorted(value: Any) -> bytes:
    return document.dumps(value, sort=True)


def _orders(one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """One mount may cover another, so that the order of two that are in both documents counts."""
    old, new = _places(one), _places(other)
    for at, place in enumerate(old):
        for before in old[:at]:
            related = _covers(before, place) or _covers(place, before)
            if related and place in new and before in new and new.index(place) < new.index(before):
                yield "mounts", [before, place], [place, before]


def _places(spec: Any) -> list[str]:
    mounts = spec.get("mounts") if isinstance(spec, dict) else None
    if not isinstance(mounts, list) or not all(isinstance(each, dict) for each in mounts):
        return []
    return [_key(each, "destination") for each in mounts]


def _covers(one: str, two: str) -> bool:
    return two == one or two.startswith(f"{one.rstrip('/')}/")


_PATHS = frozenset((".root.path", ".process.cwd", ".mounts[].destination"))
_NUMBERS = ("major", "minor")
# The lists that are more than lists: what their items must be, and what they become.
_LISTS: dict[str, tuple[type, Callable[[list[Any], str], Any]]] = {
    ".process.env": (str, _environment),
    ".mounts": (dict, _by("destination")),
    ".mounts[].options": (str, _options),
    ".linux.namespaces": (dict, _by("type")),
    ".linux.devices": (dict, _by("path")),
    ".linux.seccomp.syscalls": (dict, _calls),
    ".process.rlimits": (dict, _by("type")),
    ".linux.resources.hugepageLimits": (dict, _by("pageSize")),
    ".linux.resources.network.priorities": (dict, _by("name")),
    **{f".process.capabilities.{kind}": (str, _set)
       for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")},
    **{f".linux.{name}": (str, _set)
       for name in ("maskedPaths", "readonlyPaths", "seccomp.flags", "seccomp.architectures")},
    **{f".linux.resources.blockIO.{name}": (dict, _by(*_NUMBERS))
       for name in ("weightDevice", "throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice",
                    "throttleWriteIOPSDevice")},
    **{f"{where}{name}": (dict, _by("containerID"))
       for where in (".linux.", ".mounts[].") for name in ("uidMappings", "gidMappings")},
    ".process.user.additionalGids": (int, _set),
}  # fmt: skip
