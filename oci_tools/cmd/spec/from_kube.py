"""oci-spec from-kube: a pod of Kubernetes -> the config.json of each of its containers.

A container is first what creates it at an engine (oci_tools/kube), then the words that the engine gives to `oci-run`,
then what `oci-spec new` makes of these that say something of the specification.
"""

from __future__ import annotations

import os

from oci_tools import cli, fs
from oci_tools.container import specification
from oci_tools.engine.api import wording
from oci_tools.errors import Error, Usage
from oci_tools.kube import objects
from oci_tools.kube import pod as pods
from oci_tools.kube.pod import Pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FACTS = {"status.podIP": "", "status.podIPs": "", "status.hostIP": "", "metadata.uid": ""}


def specs(args: cli.Args, new: cli.Command) -> list[dict[str, Any]]:
    """One for each container of the pod, or for the one that is named; `new` is `oci-spec new`."""
    known = objects.read(args.file, args.configmap)
    if len(known.pods) != 1:
        raise Error("cannot say what becomes of", args.file, f"it has {len(known.pods)} pods, and not one")
    one = Pod(known.pods[0], known)
    for line in known.ignored:
        cli.say("oci-spec", f"warning: {line}")
    facts = {**_FACTS, "spec.nodeName": os.uname().nodename}
    one.read_volumes(facts)
    named = [each for each in [*one.init, *one.containers] if each["name"] == args.container]
    if args.container and not named:
        names = ", ".join(each["name"] for each in [*one.init, *one.containers])
        raise Error("cannot find container", args.container, f"pod {one.name} has {names}")
    made = [_spec(one, each, facts, args, new) for each in named or one.containers]
    if args.volumes:
        _prepare(one, os.path.abspath(args.volumes))
    return made


def _spec(one: Pod, said: dict[str, Any], facts: dict[str, str], args: cli.Args, new: cli.Command) -> dict[str, Any]:
    body = pods.container(one, said, facts, args.pod or "")
    host = body["HostConfig"]
    host["Mounts"] = [_bound(mount, one, said, args.volumes) for mount in host["Mounts"]]
    if args.pod:
        network = [f"--network=container:{args.pod}"]
    else:
        network = ["--network=host"] if one.spec.get("hostNetwork") else []
        for member, name in (("PidMode", "hostPID"), ("IpcMode", "hostIPC")):
            host[member] = "host" if one.spec.get(name) else ""
        if not network:
            body["Hostname"] = one.spec.get("hostname") or one.name[:63].rstrip("-.")
    named = {pods.POD: one.name, pods.CONTAINER: said["name"]}
    host["Annotations"] = {**host["Annotations"], **named}
    entry, operands = wording.command(body)
    known = {name for option in new.options for name in cli.names(option)}
    words = [word for word in [*wording.of(body, host, network), *entry] if word.partition("=")[0] in known]
    values = cli.read(new, [*words, said["image"], *operands])
    if values is None:
        raise Usage(f"cannot say what container '{said['name']}' becomes", " ".join(words))
    return specification.new(cli.Args(values))


def _bound(mount: dict[str, Any], one: Pod, said: dict[str, Any], place: str | None) -> dict[str, Any]:
    """A mount of a volume as one of the directory that it is here."""
    options = {**(mount.get("BindOptions") or {}), "CreateMountpoint": True}  # nobody has to have made it yet
    if mount["Type"] == "bind":
        return {**mount, "BindOptions": options}
    if not place:
        raise Usage(f"{one.said(said)}: its volumes need a place", None, hint="--volumes DIR")
    below = (mount.get("VolumeOptions") or {}).get("Subpath")
    path = os.path.join(os.path.abspath(place), mount["Source"], *([below] if below else []))
    made = {name: value for name, value in mount.items() if name != "VolumeOptions"}
    return {**made, "Type": "bind", "Source": path, "BindOptions": options}


def _prepare(one: Pod, place: str) -> None:
    """The directories of its volumes, with the files in them; what is there already stays, but for these files."""
    try:
        for volume in one.volumes.values():
            if not volume.name:
                continue
            os.makedirs(f"{place}/{volume.name}", exist_ok=True)
            for path, (data, mode) in sorted(volume.files.items()):
                whole = f"{place}/{volume.name}/{path}"
                if path.endswith("/"):
                    os.makedirs(whole, exist_ok=True)
                    os.chmod(whole, mode)
                else:
                    os.makedirs(os.path.dirname(whole), exist_ok=True)
                    fs.write(whole, data, mode)
    except OSError as error:
        raise Error("cannot make volumes in", place, error) from None
