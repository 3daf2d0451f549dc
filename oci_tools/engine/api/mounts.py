"""What is mounted in a container, as `inspect` tells it: what was asked for, where it is in the specification."""

from __future__ import annotations

import os

from oci_tools import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oci_tools.engine.api.container import Container

_OWN = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
_VOLUME = "io.oci-tools.volume"  # of a mount: the volume whose files are elsewhere


def shown(one: Container) -> list[dict[str, Any]]:
    """`Mounts`: volumes, binds and tmpfs that somebody asked for as a mount, not what every container has."""
    asked = _asked(one)
    if one.host and not asked:
        return []
    found = []
    for mount in one.spec().get("mounts") or ():
        place = os.path.normpath(mount["destination"])
        options = mount.get("options") or []
        binds = "bind" in options or "rbind" in options
        if place in asked or (binds and place not in _OWN and not one.host):
            found.append(_shown(mount, place, asked.get(place, ""), binds))
    return found


def _asked(one: Container) -> dict[str, str]:
    """The places that a client named, and the mode that it said there."""
    host, found = one.host, {}
    for bind in host.get("Binds") or ():
        parts = bind.split(":")
        found[os.path.normpath(parts[1] if len(parts) > 1 else parts[0])] = parts[2] if len(parts) > 2 else ""
    for mount in host.get("Mounts") or ():
        found[os.path.normpath(mount.get("Target") or "/")] = ""
    for place in [*(one.config.get("Volumes") or ()), *(_places_of_others(one))]:
        found.setdefault(os.path.normpath(place), "")
    for place in host.get("Tmpfs") or ():  # which has its place, and no entry
        found.pop(os.path.normpath(place), None)
    return found


def _places_of_others(one: Container) -> list[str]:
    """What --volumes-from gave it: every volume of the store that is mounted."""
    if not one.host.get("VolumesFrom"):
        return []
    top = f"{fs.root()}/volumes/"
    return [
        mount["destination"]
        for mount in one.spec().get("mounts") or ()
        if str(mount.get("source") or "").startswith(top)
    ]


def _shown(mount: dict[str, Any], place: str, mode: str, binds: bool) -> dict[str, Any]:
    source = str(mount.get("source") or "")
    options = mount.get("options") or []
    top = f"{fs.root()}/volumes/"
    name = (mount.get("annotations") or {}).get(_VOLUME) or (
        source[len(top) :].partition("/")[0] if source.startswith(top) else ""
    )
    made: dict[str, Any] = {"Type": "volume" if name else "bind" if binds else "tmpfs"}
    if name:
        made["Name"] = name
    made.update(Source=source if binds or name else "", Destination=place)
    if name:
        made["Driver"] = "local"
    made.update(Mode=mode or ("z" if name else ""), RW="ro" not in options)
    made["Propagation"] = "" if name else propagation(options)
    return made


def propagation(options: Iterable[str]) -> str:
    """The one that some options of a mount say, if they do."""
    return next((each for each in options if each.endswith(("private", "shared", "slave"))), "")


def volumes(one: Container) -> list[str]:
    """The names of the volumes that it uses."""
    return [each["Name"] for each in shown(one) if each["Type"] == "volume"]
