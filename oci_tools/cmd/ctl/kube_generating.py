"""kube generate: pods, containers and volumes of an engine as a YAML file of Kubernetes."""

from __future__ import annotations

import io
import tarfile

from oci_tools import yaml
from oci_tools.cmd.ctl import kube_making, kube_removing, running
from oci_tools.cmd.ctl.containers import filters
from oci_tools.cmd.ctl.engine import Engine, Refused, part
from oci_tools.errors import Error
from oci_tools.kube import generate as writing
from oci_tools.kube import pod, volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args


def generate(args: Args, engines: list[Engine]) -> None:
    """A file of what is named; containers that are no pod's are one pod."""
    engine = running.one(engines)
    made: list[dict[str, Any]] = []
    alone: list[dict[str, Any]] = []
    for word in args.name:
        found = kube_removing.of_pod(engine, word)
        if found:
            whole = [_inspected(engine, each["Id"]) for each in found]
            _write(engine, sorted(whole, key=lambda one: one["Created"]), word, args, made)
        elif (one := _inspected(engine, word, needed=False)) is not None:
            alone.append(one)
        else:
            made.append(writing.claim(_volume_named(engine, word)))
    if alone:
        name = alone[0]["Name"].lstrip("/").lower().replace("_", "-")
        _write(engine, alone, f"{name}-pod", args, made)
    text = f"# oci-ctl kube generate; oci-ctl kube play makes the same again\n{yaml.dumps(made)}"
    if args.filename in (None, "-"):
        print(text, end="")
        return
    try:
        with open(args.filename, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Error("cannot write", args.filename, error) from None


def _inspected(engine: Engine, name: str, needed: bool = True) -> Any:
    try:
        return engine.get(f"/containers/{part(name)}/json")
    except Refused as error:
        if error.status != 404 or needed:
            raise
        return None


def _volume_named(engine: Engine, name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = engine.get(f"/volumes/{part(name)}")
        return found
    except Refused as error:
        if error.status == 404:
            raise Error("cannot find", name, "there is no pod, container or volume of this name") from None
        raise


def _write(engine: Engine, found: list[dict[str, Any]], name: str, args: Args, made: list[dict[str, Any]]) -> None:
    """The documents of one pod."""
    infra = next((one for one in found if one["Config"]["Labels"].get(pod.TYPE) == pod.SANDBOX), None)
    seen = writing.Seen(infra, [one for one in found if one is not infra])
    for one in seen.containers:
        seen.images.setdefault(one["Image"], kube_making.image(engine, one["Image"]))
    if infra:
        query = {"filters": filters([f"label={pod.POD}={name}"])}
        for volume in engine.get("/volumes", query).get("Volumes") or ():
            kind = (volume.get("Labels") or {}).get(volumes.LABEL, "emptyDir")
            seen.kinds[volume["Name"]] = "tmpfs" if (volume.get("Options") or {}).get("type") == "tmpfs" else kind
            if kind in ("configMap", "secret"):
                seen.files[volume["Name"]] = _files(engine, infra["Id"], f"{pod.PLACE}/{volume['Name']}")
    made += writing.documents(seen, name, args.type)
    service = writing.service(seen, name) if args.service else None
    made += [service] if service else []


def _files(engine: Engine, container: str, path: str) -> dict[str, tuple[bytes, int]]:
    """The files of a directory of a container: path beneath it -> content, mode."""
    data = engine.ask("GET", f"/containers/{container}/archive", {"path": path}).read()
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for entry in tar:
            opened = tar.extractfile(entry) if entry.isfile() else None
            if opened:
                found[entry.name.partition("/")[2]] = opened.read(), entry.mode & 0o777
    return found
