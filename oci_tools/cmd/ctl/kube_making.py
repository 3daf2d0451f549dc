"""What a pod needs on an engine: volumes and what is put in them, a network, the image of its infra container."""

from __future__ import annotations

import io
import os
import tarfile

from oci_tools.cmd.ctl.engine import Engine, Refused, part
from oci_tools.errors import Error
from oci_tools.kube.pod import PLACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oci_tools.kube.volumes import Volume

IMAGE = ("localhost/oci-pause", "1")
NETWORK = "oci-kube"


def kind_of(volume: Volume) -> str:
    """What `generate` says of a volume again."""
    if volume.kind != "projected":
        return {"downwardAPI": "configMap"}.get(volume.kind, volume.kind)
    return "secret" if any("secret" in each for each in volume.said.get("sources") or ()) else "configMap"


def volume(engine: Engine, name: str, options: dict[str, str], labels: dict[str, str]) -> bool:
    """Have a volume; False if there is one already."""
    if any(each["Name"] == name for each in engine.get("/volumes", {"filters": {"name": [name]}}).get("Volumes") or ()):
        return False
    engine.post("/volumes/create", None, {"Name": name, "DriverOpts": options, "Labels": labels})
    return True


def network(engine: Engine) -> None:
    """Have the network of pods, on which they find each other by name."""
    found = engine.get("/networks", {"filters": {"name": [NETWORK]}})
    if not any(each["Name"] == NETWORK for each in found):
        try:
            engine.post("/networks/create", None, {"Name": NETWORK, "Driver": "bridge", "CheckDuplicate": True})
        except Refused as error:
            if error.status != 409:  # somebody else has just made it
                raise


def image(engine: Engine, name: str) -> dict[str, Any]:
    """The Config of an image; empty if it is not there."""
    try:
        return engine.get(f"/images/{part(name)}/json").get("Config") or {}
    except Refused as error:
        if error.status != 404:
            raise
        return {}


def pause(engine: Engine) -> str:
    """The image of infra containers: one program that does nothing, brought to the engine."""
    name = ":".join(IMAGE)
    if not image(engine, name):
        from oci_tools.container import init

        machines = {"amd64": "x86_64", "arm64": "aarch64"}
        arch = engine.get("/version")["Arch"]
        tar = _packed([(f"{PLACE[1:]}/", b"", 0o755, 0), ("pause", init.pause(machines.get(arch, arch)), 0o755, 0)])
        query = {"fromSrc": "-", "repo": IMAGE[0], "tag": IMAGE[1], "changes": ['ENTRYPOINT ["/pause"]']}
        headers = [("Content-Type", "application/x-tar")]
        for said in engine.lines(engine.ask("POST", "/images/create", query, tar, headers)):
            if "error" in said:
                raise Error("cannot make image", name, str(said["error"]))
    return name


def touch(engine: Engine, path: str) -> None:
    """FileOrCreate: where the engine is on this host."""
    if not engine.name.startswith("unix:"):
        raise Error("cannot make file", path, "the engine is on another host")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
    except OSError as error:
        raise Error("cannot make file", path, error) from None


def archive(prepared: Iterable[Volume], group: int | None) -> bytes:
    """What is put in volumes, each beneath its name; fsGroup owns it, and what is made in it."""
    found: list[tuple[str, bytes, int, int]] = []
    for one in prepared:
        above = {path[: at + 1] for path in one.files for at, char in enumerate(path) if char == "/"} - set(one.files)
        found += [(f"{one.name}/{path}", b"", 0o755, group or 0) for path in sorted(above)]
        for path, (data, mode) in sorted(one.files.items()):
            more = 0 if not group else 0o2000 if path.endswith("/") else 0o040
            found.append((f"{one.name}/{path}", data, mode | more, group or 0))
    return _packed(found)


def _packed(files: Iterable[tuple[str, bytes, int, int]]) -> bytes:
    """A tar of (path, content, mode, group); a path with a slash at its end is a directory."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, data, mode, group in files:
            entry = tarfile.TarInfo(path)
            entry.type = tarfile.DIRTYPE if path.endswith("/") else tarfile.REGTYPE
            entry.size, entry.mode, entry.gid = len(data), mode, group
            tar.addfile(entry, io.BytesIO(data))
    return made.getvalue()
