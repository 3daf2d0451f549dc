"""Who uses a volume: the containers whose config.json mounts what is in it, running or not."""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools import volume as volumes
from oci_tools.errors import Busy, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


# Of a config.json: {destination: volume} as JSON, of all volumes that were asked for by name.
ANNOTATION = "io.oci-tools.volumes"


def named_in(spec: dict[str, Any]) -> set[str]:
    """The names of the volumes that a config.json mounts."""
    found = set(by_destination(spec).values())
    top = f"{volumes.directory()}/"
    for mount in spec.get("mounts") or ():
        source = mount.get("source") if isinstance(mount, dict) else None
        if isinstance(source, str) and source.startswith(top):
            found.add(source[len(top) :].partition("/")[0])
    return found


def by_destination(spec: dict[str, Any]) -> dict[str, str]:
    """Where a config.json mounts which volume."""
    text = (spec.get("annotations") or {}).get(ANNOTATION)
    said = document.loads(text, ANNOTATION) if isinstance(text, str) else {}
    return {place: name for place, name in said.items() if isinstance(name, str)} if isinstance(said, dict) else {}


def of(container: str) -> set[str]:
    """The volumes of one container."""
    place = f"{fs.root()}/containers/{container}"
    for path in f"{place}/config.json", f"{place}/bundle/config.json":
        if os.path.exists(path):
            try:
                spec = document.load(path)
            except Error:
                continue
            return named_in(spec) if isinstance(spec, dict) else set()
    return set()


def all_users() -> dict[str, list[str]]:
    """Volume -> the IDs of the containers that use it."""
    found: dict[str, list[str]] = {}
    try:
        containers = sorted(os.listdir(f"{fs.root()}/containers"))
    except FileNotFoundError:
        return found
    for container in containers:
        if not container.startswith("."):
            for name in of(container):
                found.setdefault(name, []).append(container)
    return found


def running(containers: Iterable[str]) -> list[str]:
    """Those of these containers that somebody looks after: their lock is held."""
    return [container for container in containers if _is_held(f"{fs.root()}/containers/{container}/lock")]


def _is_held(path: str) -> bool:
    try:
        with fs.Lock(path, timeout=0, make=False):
            return False
    except Busy:
        return True
    except Error:
        return False


def refuse_used(name: str, why: str, only_running: bool = False) -> None:
    """An Error if a container uses a volume, which names one."""
    found = all_users().get(name, [])
    if only_running:
        found = running(found)
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise Error(why, name, f"volume is in use by container {found[0][:12]}{more}")
