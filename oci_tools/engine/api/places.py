"""What a create request may not say of mounts: Binds, Mounts, Tmpfs and VolumesFrom, told as dockerd does.  Pure.

    Binds   [SOURCE:]TARGET[:OPTION,...]   SOURCE a path or the name of a volume; one option of each kind
"""

from __future__ import annotations

import os

from oci_tools.engine.api.answers import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_KINDS = (("ro", "rw"), ("z", "Z"), _PROPAGATION, ("nocopy",), ("consistent", "cached", "delegated"))
# What dockerd has no word for, and `oci-run -v` has, as podman.
_MORE = ("U", "O", "idmap", "ridmap", "exec", "noexec", "suid", "nosuid", "dev", "nodev")
_TYPES = ("bind", "volume", "tmpfs", "image")


def wrong(host: dict[str, Any]) -> Iterator[str]:
    """What is told with a 400; what dockerd tells with a 500 is raised."""
    taken: set[str] = set()
    for place in host.get("Tmpfs") or ():
        yield from _target(place)
    for mount in host.get("Mounts") or ():
        yield from _mount(mount)
        yield from _twice(mount.get("Target") or "", taken)
    for word in host.get("Binds") or ():
        yield from _bind(word, host.get("VolumeDriver") or "local")
        yield from _twice(word.split(":")[1 if ":" in word else 0], taken)
    for word in host.get("VolumesFrom") or ():
        _mode(word.partition(":")[2], 400)


def _twice(target: str, taken: set[str]) -> Iterator[str]:
    place = os.path.normpath(target)
    if place in taken:
        yield f"Duplicate mount point: {place}"
    taken.add(place)


def _target(path: str) -> Iterator[str]:
    if not path.startswith("/"):
        yield f"invalid mount path: '{path}' mount path must be absolute"
    elif not os.path.normpath(path).strip("/"):
        yield "invalid specification: destination can't be '/'"


def _mode(text: str, status: int = 500) -> list[str]:
    """The options of a bind, each of another kind."""
    options = text.split(",") if text else []
    known = all(each in _MORE or any(each in kind for kind in _KINDS) for each in options)
    if not known or any(sum(each in kind for each in options) > 1 for kind in _KINDS):
        raise Refused(status, f"invalid mode: {text}")
    return options


def _bind(word: str, driver: str) -> Iterator[str]:
    parts = word.split(":")
    if len(parts) > 3 or not all(parts[:2]):
        raise Refused(500, f"invalid volume specification: '{word}'")
    source, target = parts[0] if len(parts) > 1 else "", parts[min(len(parts), 2) - 1]
    options = _mode(parts[2] if len(parts) > 2 else "")
    kind = "bind" if source.startswith("/") else "volume"
    problems = list(_target(target))
    if kind == "volume" and any(each in _PROPAGATION for each in options):
        problems.append("field BindOptions must not be specified")
    if kind == "bind" and "nocopy" in options:
        problems.append("field VolumeOptions must not be specified")
    if problems:
        said = f'invalid mount config for type "{kind}": {problems[0]}'
        raise Refused(500, f"invalid volume specification: '{word}': {said}")
    if source and kind == "volume":
        yield from _name(source)
        if driver != "local":
            yield f'create {source}: error looking up volume plugin {driver}: plugin "{driver}" not found'


def _name(source: str) -> Iterator[str]:
    """What is wrong with a volume's name: a path of ocid's own directory, or too short."""
    if "/" in source or source[:1] == ".":
        yield (
            f'create {source}: "{source}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    if len(source) == 1:
        yield f"create {source}: volume name is too short, names should be at least two alphanumeric characters"


def _mount(mount: dict[str, Any]) -> Iterator[str]:
    kind, source = mount.get("Type") or "", mount.get("Source") or ""
    for key, of in (("BindOptions", "bind"), ("VolumeOptions", "volume"), ("TmpfsOptions", "tmpfs")):
        if mount.get(key) is not None and kind in ("bind", "volume", "tmpfs") and kind != of:
            yield f'{key} must not be specified on mount type "{kind}"'
    problem = next(_problems(mount, kind, source), "")
    if problem:
        yield f'invalid mount config for type "{kind}": {problem}'
    if kind == "volume" and source:
        yield from _name(source)


def _problems(mount: dict[str, Any], kind: str, source: str) -> Iterator[str]:
    if kind not in _TYPES:
        yield "mount type unknown"
    if not mount.get("Target"):
        yield "field Target must not be empty"
    yield from _target(mount.get("Target") or "")
    propagation = (mount.get("BindOptions") or {}).get("Propagation") or _PROPAGATION[0]
    if kind == "bind" and not source:
        yield "field Source must not be empty"
    elif kind == "bind" and propagation not in _PROPAGATION:
        yield f"invalid propagation mode: {propagation}"
    elif kind == "bind" and not source.startswith("/"):
        yield f"invalid mount path: '{source}' mount path must be absolute"
    elif kind == "tmpfs" and source:
        yield "field Source must not be specified"
    elif kind == "volume" and _leaves((mount.get("VolumeOptions") or {}).get("Subpath") or ""):
        yield "subpath must be a relative path within the volume"


def _leaves(path: str) -> bool:
    """Whether a path beneath something leads out of it, as far as its words say."""
    return path.startswith("/") or os.path.normpath(path).split("/")[0] == ".."
