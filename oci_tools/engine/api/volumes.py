"""Volumes, by `oci-vol`'s words."""

from __future__ import annotations

import os
import re

from oci_tools import document
from oci_tools.engine.api import filters, members, mounts, times
from oci_tools.engine.api.answers import Refused, answer, nothing
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api
    from oci_tools.http import Response

ANONYMOUS = "com.docker.volume.anonymous"
_FILTERS = "dangling driver label label! name".split()
_PASSWORD = re.compile(r"(?i)(^|,)(pass|passwd|password2?)=(?:[^,]|,,)*")  # a comma in it is said twice
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def records(api: Api) -> list[dict[str, Any]]:
    """volume.json of every volume, with its name: read as they lie there (volume/__init__.py)."""
    top = f"{api.world.root}/volumes"
    try:
        names = sorted(name for name in os.listdir(top) if name[0] != ".")
    except OSError:
        return []
    return [found for name in names if (found := record(api, name))]


def record(api: Api, name: str) -> dict[str, Any] | None:
    if not name or name[0] == "." or not _NAME.issuperset(name):
        return None
    try:
        found = document.load(f"{api.world.root}/volumes/{name}/volume.json")
    except Error:
        return None
    return {**found, "name": name} if isinstance(found, dict) else None


def shown(api: Api, found: dict[str, Any]) -> dict[str, Any]:
    """A volume as docker tells it."""
    labels = dict(found.get("labels") or {})
    if found.get("anonymous"):
        labels.setdefault(ANONYMOUS, "")
    created = found.get("created") or 0
    options = found.get("options") or {}
    return {
        "CreatedAt": times.exact(created // times.SECOND * times.SECOND) if isinstance(created, int) else created,
        "Driver": "local",
        "Labels": labels or None,
        "Mountpoint": f"{api.world.root}/volumes/{found['name']}/_data",
        "Name": found["name"],
        "Options": {key: _PASSWORD.sub(r"\1\2=********", value) for key, value in options.items()} or None,
        "Scope": "local",
    }


def users(api: Api) -> dict[str, list[str]]:
    """Volume -> the containers that use it."""
    found: dict[str, list[str]] = {}
    for one in api.world.all():
        for name in mounts.volumes(one):
            found.setdefault(name, []).append(one.id)
    return found


def ls(api: Api, asked: Asked) -> Response:
    wanted = filters.read(asked.query("filters"), _FILTERS)
    dangling = filters.flag(wanted, "dangling")
    used = users(api) if dangling is not None else {}
    found = []
    for each in records(api):
        if not filters.labels(wanted, shown(api, each)["Labels"]):
            continue
        if "name" in wanted and not any(filters.like(part, each["name"]) for part in wanted["name"]):
            continue
        if "driver" in wanted and "local" not in wanted["driver"]:
            continue
        if dangling is not None and dangling == (each["name"] in used):
            continue
        found.append(shown(api, each))
    return answer({"Volumes": found, "Warnings": None})


def create(api: Api, asked: Asked) -> Response:
    said = asked.json(members.VOLUME, needed=False)
    if (said.get("Driver") or "local") not in ("local", "default"):
        driver = said["Driver"]
        lost = f'error looking up volume plugin {driver}: plugin "{driver}" not found'
        raise Refused(404, f"create {said.get('Name') or ''}: {lost}")
    name = said.get("Name") or ""
    if len(name) == 1:
        short = "volume name is too short, names should be at least two alphanumeric characters"
        raise Refused(400, f"create {name}: {short}")
    there = record(api, name)
    if there is None:
        for key in said.get("DriverOpts") or ():
            if key not in ("type", "device", "o", "size"):
                raise Refused(400, f'create {name}: invalid option: "{key}"')
        words = [f"--label={key}={value}" for key, value in (said.get("Labels") or {}).items()]
        options = said.get("DriverOpts") or {}
        words += ["--opt-fd=0"] if options else []  # there may be passwords in them
        if name and not (len(name) > 1 and name[0] not in "_.-" and _NAME.issuperset(name)):
            raise Refused(
                400, f'create {name}: "{name}" includes invalid characters for a local volume name, only '
                '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path',
            )  # fmt: skip
        words += [name] if name else []
        name = api.commands.run(["vol", "create", *words], document.dumps(options)).strip() or name
        api.events.append("volume", "create", name, {"driver": "local"})
        there = record(api, name)
    return answer(shown(api, _there(there, name)), 201)


def _there(found: dict[str, Any] | None, name: str) -> dict[str, Any]:
    if found is None:
        raise Refused(404, f"get {name}: no such volume")
    return found


def inspect(api: Api, asked: Asked) -> Response:
    return answer(shown(api, _there(record(api, asked["name"]), asked["name"])))


def remove(api: Api, asked: Asked) -> Response:
    name = asked["name"]
    if record(api, name) is None:
        if asked.flag("force"):
            return nothing()
        raise Refused(404, f"get {name}: no such volume")
    using = users(api).get(name)
    if using:
        raise Refused(409, f"remove {name}: volume is in use - [{', '.join(using)}]")
    api.commands.run(["vol", "rm", name])
    api.events.append("volume", "destroy", name, {"driver": "local"})
    return nothing()


def prune(api: Api, asked: Asked) -> Response:
    """Anonymous volumes that nobody uses, with `all` named ones too."""
    wanted = filters.read(asked.query("filters"), ("all", "label", "label!"))
    everything = filters.flag(wanted, "all") or asked.version < (1, 42)
    used, deleted, reclaimed = users(api), [], 0
    for each in records(api):
        name = each["name"]
        if name in used or not (everything or each.get("anonymous")):
            continue
        if not filters.labels(wanted, each.get("labels")):
            continue
        size = taken(f"{api.world.root}/volumes/{name}/_data")
        try:
            api.commands.run(["vol", "rm", name])
        except Refused:
            continue
        deleted.append(name)
        reclaimed += size
    return answer({"VolumesDeleted": deleted, "SpaceReclaimed": reclaimed})


def taken(path: str) -> int:
    """Bytes of the files in a directory."""
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(f"{directory}/{name}").st_size
            except OSError:
                continue
    return total


ROUTES: list[Route] = [
    ("GET", "/volumes", ls),
    ("POST", "/volumes/create", create),
    ("POST", "/volumes/prune", prune),
    ("GET", "/volumes/{name}", inspect),
    ("DELETE", "/volumes/{name}", remove),
]
