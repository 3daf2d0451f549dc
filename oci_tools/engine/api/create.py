"""POST /containers/create: what a client asks for becomes `oci-run new`, and is kept to be told again.

    containers/ID/docker.json   {"version", "Config", "HostConfig", "NetworkingConfig", "Image": Id of the image,
                                 "Platform"}: as the client said it, completed by the image and by defaults
"""

from __future__ import annotations

import os
import re

from oci_tools import document, fs
from oci_tools.engine.api import endpoints, links, members, naming, validity, wording
from oci_tools.engine.api.answers import Refused, answer
from oci_tools.engine.api.container import OURS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api
    from oci_tools.engine.api.store import Image
    from oci_tools.http import Response

VERSION = 1
# What inspect says of a container that asked for nothing: moby's ContainerJSON, in its order.
HOST: dict[str, Any] = {
    "Binds": None, "ContainerIDFile": "", "LogConfig": {"Type": "json-file", "Config": {}}, "NetworkMode": "bridge",
    "PortBindings": None, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": False,
    "VolumeDriver": "", "VolumesFrom": None, "ConsoleSize": [0, 0], "CapAdd": None, "CapDrop": None,
    "CgroupnsMode": "private", "Dns": None, "DnsOptions": None, "DnsSearch": None, "ExtraHosts": None, "GroupAdd": None,
    "IpcMode": "private", "Cgroup": "", "Links": None, "OomScoreAdj": 0, "PidMode": "", "Privileged": False,
    "PublishAllPorts": False, "ReadonlyRootfs": False, "SecurityOpt": None, "UTSMode": "", "UsernsMode": "",
    "ShmSize": 67108864, "Runtime": "runc", "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0,
    "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": None, "BlkioDeviceReadBps": None,
    "BlkioDeviceWriteBps": None, "BlkioDeviceReadIOps": None, "BlkioDeviceWriteIOps": None,
    "CpuPeriod": 0, "CpuQuota": 0,
    "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": None,
    "DeviceCgroupRules": None, "DeviceRequests": None, "MemoryReservation": 0, "MemorySwap": 0,
    "MemorySwappiness": None, "OomKillDisable": False, "PidsLimit": None, "Ulimits": None, "CpuCount": 0,
    "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False,
    "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None, "Cmd": None, "Image": "", "Volumes": None,
    "WorkingDir": "", "Entrypoint": None, "OnBuild": None, "Labels": {},
}  # fmt: skip


_EMPTY = "config cannot be empty in order to create a container"


def create(api: Api, asked: Asked) -> Response:
    said = asked.json(members.CREATE, null=_EMPTY)
    validity.check(said)
    name = asked.query("name").removeprefix("/")
    if name:
        naming.check(name, "Invalid container name ({})")
    if not said.get("Image"):
        wordless = "no command specified" if _asked(said) else _EMPTY
        raise Refused(400, "no image specified" if said.get("Cmd") else wordless)
    for word in (said.get("HostConfig") or {}).get("VolumesFrom") or ():
        _need(api, word.partition(":")[0])
    image = api.store.find(said["Image"], asked.query("platform"))
    host = _host(said.get("HostConfig") or {})
    config = _config(said, image)
    networking = said.get("NetworkingConfig") or {}
    if asked.version < (1, 40) and not (said.get("HostConfig") or {}).get("IpcMode"):
        host["IpcMode"] = "shareable"  # as it was before that
    ends = networking.get("EndpointsConfig") or {}
    if asked.version < (1, 44) and len(ends) > 1:
        raise Refused(400, f"Container cannot be created with multiple network endpoints: {', '.join(sorted(ends))}")
    for key in ("PidMode", "IpcMode"):  # which container a name means is settled now
        kind, colon, word = (host.get(key) or "").partition(":")
        if kind == "container" and colon:
            _need(api, word)
            host[key] = f"container:{api.world.find(word).id}"
    try:
        words, mode = endpoints.words(host, networking, api.world, said.get("MacAddress") or "")
        host["NetworkMode"] = mode
        container, later = _make(api, name, image, said, host, words, asked.version < (1, 44))
    except Refused as error:  # the image is there: who hears a 404 would pull it
        message = re.sub("^no such container '(.*)'$", r"No such container: \1", error.message)
        raise Refused(400 if error.status == 404 else error.status, message) from None
    if not config["Hostname"]:
        joined = mode.partition(":")[2] if mode.startswith("container:") else ""
        config["Hostname"] = (api.world.find(joined).config.get("Hostname") if joined else "") or container[:12]
    if mode == "host" and not said.get("Hostname"):
        config["Hostname"] = os.uname().nodename
    kept = {
        "version": VERSION, "Config": config, "HostConfig": host, "NetworkingConfig": networking, "Image": image.id,
        "Platform": image.document.get("os") or "linux", **({"Refuses": later} if later else {}),
    }  # fmt: skip
    fs.write(f"{api.world.place}/{container}/{OURS}", document.dumps(kept), 0o600, sync=False)
    return answer({"Id": container, "Warnings": _warnings(said, mode)}, 201)


def _warnings(said: dict[str, Any], mode: str) -> list[str]:
    host, found = said.get("HostConfig") or {}, []
    if mode == "host" and host.get("PortBindings"):
        found.append("Published ports are discarded when using host network mode")
    if host.get("OomKillDisable") and not host.get("Memory"):
        found.append("OOM killer is disabled for the container, but no memory limit is set, this can result in the "
                     "system running out of resources.")  # fmt: skip
    if said.get("MacAddress"):
        found.append("The container-wide MacAddress field is now deprecated. It should be specified in "
                     "EndpointsConfig instead.")  # fmt: skip
    return found


def _need(api: Api, word: str) -> None:
    """Another container that is named: without it, a client has no image to pull."""
    try:
        api.world.find(word)
    except Refused as error:
        raise Refused(400, error.message) from None


def _make(
    api: Api, name: str, image: Image, said: dict[str, Any], host: dict[str, Any], network: list[str],
    flat: bool,
) -> tuple[str, str]:
    """The container, and why it will not start, where dockerd says that no sooner."""
    taken = {str(each.policy.get("name")) for each in api.world.all()}
    if name in taken:
        other = api.world.find(name).id
        raise Refused(
            409, f'Conflict. The container name "/{name}" is already in use by container "{other}". '
            "You have to remove (or rename) that container to be able to reuse that name.",
        )  # fmt: skip
    entry, operands = wording.command(said, image.config)
    name = name or naming.made(taken)
    told = image.config.get("Cmd") or image.config.get("Entrypoint") if not entry else entry != ["--entrypoint="]
    if not (operands or told):
        raise Refused(400, "no command specified")
    word = image.called(said["Image"])
    config, host, later = _asked(said), dict(host), ""
    while True:
        try:
            options = [
                "--pull=never",
                f"--name={name}",
                *wording.of(config, host, network, flat),
                *links.words(name, host, said.get("NetworkingConfig") or {}, api.world),
                *entry,
            ]
            return api.commands.run(["run", "new", *options, word, *operands]).strip(), later
        except Refused as error:
            blamed = (
                (place, member) for start, member in _LATER if error.message.startswith(start)
                for place in (config, host) if place.get(member)
            )  # fmt: skip
            place, member = next(blamed, ({}, ""))
            if not member:
                raise
            place[member] = None
            message = error.message.replace("'", "")
            later = later or (message[0].upper() + message[1:] if member == "GroupAdd" else message)


# What dockerd only finds when a container starts, by how our words for it begin, and where it was said.
_LATER = (
    ("unable to find user", "User"), ("invalid user", "User"), ("unable to find group", "User"),
    ("unable to find group", "GroupAdd"), ("could not select device driver", "DeviceRequests"),
    ("invalid device cgroup rule", "DeviceCgroupRules"), ("invalid device", "Devices"),
    ("cannot use device", "Devices"), ("invalid value for --dns ", "Dns"), ("invalid value for --ulimit", "Ulimits"),
    ("cannot set sysctl", "Sysctls"), ("invalid ulimit", "Ulimits"), ("invalid tmpfs option", "Tmpfs"),
    ("cannot log to the journal", "LogConfig"),
)  # fmt: skip


def _asked(said: dict[str, Any]) -> dict[str, Any]:
    """What the client itself asks for: the image's own is known to `oci-run`."""
    return {key: value for key, value in said.items() if key not in ("HostConfig", "NetworkingConfig")}


def _host(said: dict[str, Any]) -> dict[str, Any]:
    host = {**HOST, **{key: value for key, value in said.items() if value is not None or HOST.get(key) is None}}
    log = said.get("LogConfig") or {}
    host["LogConfig"] = {"Type": log.get("Type") or "", "Config": log.get("Config") or {}}
    restart = host["RestartPolicy"]
    host["RestartPolicy"] = {
        "Name": restart.get("Name") or "no", "MaximumRetryCount": restart.get("MaximumRetryCount") or 0,
    }  # fmt: skip
    if host["PortBindings"]:
        host["PortBindings"] = {
            port: [{"HostIp": each.get("HostIp") or "", "HostPort": each.get("HostPort") or ""} for each in ends or ()]
            for port, ends in host["PortBindings"].items()
        }
    for key in ("IpcMode", "CgroupnsMode", "ShmSize", "Runtime"):
        host[key] = host[key] or HOST[key]
    shares = host["Privileged"] or "host" in (host["IpcMode"], host["PidMode"])
    options = host["SecurityOpt"] or []
    if shares and not any(each.partition("=")[0] == "label" for each in options):
        host["SecurityOpt"] = [*options, "label=disable"]
    if host["MemorySwappiness"] == -1:
        host["MemorySwappiness"] = None
    host["PidsLimit"] = max(host["PidsLimit"] or 0, 0) or None
    if host["Memory"] and not host["MemorySwap"]:
        host["MemorySwap"] = 2 * host["Memory"]
    return host


def _config(said: dict[str, Any], image: Image) -> dict[str, Any]:
    """Config as inspect tells it: the image's where the client said nothing (moby's `merge`)."""
    own = _asked(said)
    config = {**CONFIG, **{key: value for key, value in own.items() if value is not None}}
    base = image.config
    for key in ("User", "WorkingDir", "StopSignal", "OnBuild", "Shell"):
        if base.get(key) and not own.get(key):
            config[key] = base[key]
    if not own.get("Entrypoint"):
        if own.get("Entrypoint") is None:
            config["Entrypoint"] = base.get("Entrypoint")
        if not own.get("Cmd"):
            config["Cmd"] = base.get("Cmd")
    elif own["Entrypoint"] == [""]:
        config["Entrypoint"] = None
    if config.get("WorkingDir"):
        config["WorkingDir"] = "/" + os.path.normpath(config["WorkingDir"]).lstrip("/")
    config["Env"] = _environment(base.get("Env") or [], own.get("Env") or [])
    config["Labels"] = {**(base.get("Labels") or {}), **(own.get("Labels") or {})}
    for key in ("ExposedPorts", "Volumes"):
        both = {**(base.get(key) or {}), **(own.get(key) or {})}
        config[key] = both or None
    if not config["ExposedPorts"]:
        del config["ExposedPorts"]
    check, theirs = own.get("Healthcheck") or {}, base.get("Healthcheck") or {}
    if theirs or check:
        config["Healthcheck"] = {**theirs, **{key: value for key, value in check.items() if value}}
    return config


def _environment(base: list[str], own: list[str]) -> list[str]:
    """The client's variables, then those of the image that it did not set; `NAME` alone takes one away."""
    names = {each.partition("=")[0] for each in own}
    if not any(each.startswith("PATH=") for each in [*base, *own]):
        base = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *base]
    return [*own, *(each for each in base if each.partition("=")[0] not in names)]


ROUTES: list[Route] = [("POST", "/containers/create", create)]
