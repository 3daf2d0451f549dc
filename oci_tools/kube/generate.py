"""Containers as they are -> a pod that, played, makes the same again.

What a container has from its image is not said.  Of a pod that was played, each volume is what it was: an emptyDir,
or a ConfigMap or Secret with the files that are in it now.
"""

from __future__ import annotations

from binascii import b2a_base64

from oci_tools.kube import limits, pod, probes, security, volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RESTART = {"always": "Always", "unless-stopped": "Always", "on-failure": "OnFailure", "no": "Never", "": "Never"}
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # what docker gives to who has none
_OURS = (pod.POD, pod.NAMESPACE, pod.CONTAINER, pod.TYPE, pod.INIT, pod.UID)
_PROPAGATION = {"rslave": "HostToContainer", "slave": "HostToContainer",
                "rshared": "Bidirectional", "shared": "Bidirectional"}  # fmt: skip


class Seen:
    """What is known of a pod that is to be written.

    infra       the inspected infra container, or None
    containers  the inspected containers
    images      Id of an image -> its inspected Config
    kinds       volume -> the kind that it had in the pod
    files       volume -> path -> (content, mode), of kinds that are files
    """

    def __init__(self, infra: dict[str, Any] | None, containers: list[dict[str, Any]]) -> None:
        self.infra = infra
        self.containers = containers
        self.images: dict[str, dict[str, Any]] = {}
        self.kinds: dict[str, str] = {}
        self.files: dict[str, dict[str, tuple[bytes, int]]] = {}


def documents(seen: Seen, name: str, kind: str) -> list[dict[str, Any]]:
    """ConfigMaps and Secrets, and a Pod or Deployment `name`."""
    used: dict[str, dict[str, Any]] = {}
    before = [one for one in seen.containers if _labels(one).get(pod.INIT)]
    spec: dict[str, Any] = {}
    if before:
        spec["initContainers"] = [_container(one, seen, name, used, first=True) for one in before]
    spec["containers"] = [_container(one, seen, name, used) for one in seen.containers if one not in before]
    spec.update(_pod_spec(seen))
    if used:
        spec["volumes"] = [{"name": each, **said} for each, said in used.items()]
    first = seen.infra or seen.containers[0]
    labels = {key: value for key, value in _labels(first).items() if key not in _OURS} if seen.infra else {}
    made: dict[str, Any] = {"metadata": {"name": name, "labels": {"app": name, **labels}}, "spec": spec}
    notes = first["HostConfig"].get("Annotations")
    if notes:
        made["metadata"]["annotations"] = notes
    if kind == "deployment":
        labels = made["metadata"].pop("labels")
        made = {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                     "template": {"metadata": {**made["metadata"], "labels": labels}, "spec": spec}},
        }  # fmt: skip
    else:
        made = {"apiVersion": "v1", "kind": "Pod", **made}
    return [*_data(seen, used, name), made]


def service(seen: Seen, name: str) -> dict[str, Any] | None:
    """A Service of the published ports; None where there are none."""
    ports = [{"name": str(port["containerPort"]), "port": port["containerPort"], "targetPort": port["containerPort"],
              "protocol": port["protocol"]} for port in _published(seen.infra or seen.containers[0])]  # fmt: skip
    if not ports:
        return None
    spec = {"type": "NodePort", "selector": {"app": name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def claim(volume: dict[str, Any]) -> dict[str, Any]:
    """A volume of the engine as a PersistentVolumeClaim."""
    said = volume.get("Options") or {}
    notes = {f"volume.podman.io/{key}": said[key] for key in ("type", "device") if said.get(key)}
    if said.get("o"):
        notes["volume.podman.io/mount-options"] = said["o"]
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    meta = {"name": volume["Name"], **({"annotations": notes} if notes else {})}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


# -- the pod ----------------------------------------------------------------------------------------


def _labels(one: dict[str, Any]) -> dict[str, str]:
    return one["Config"].get("Labels") or {}


def _pod_spec(seen: Seen) -> dict[str, Any]:
    """What belongs to all containers: the infra's, else the first one's."""
    first = seen.infra or seen.containers[0]
    host = first["HostConfig"]
    made: dict[str, Any] = {"restartPolicy": _restart(seen)}
    if seen.infra:
        made["hostname"] = first["Config"]["Hostname"]
    for member, name in (("NetworkMode", "hostNetwork"), ("PidMode", "hostPID"), ("IpcMode", "hostIPC")):
        if host.get(member) == "host":
            made[name] = True
            made.pop("hostname", None)
    if seen.infra and any((one["HostConfig"].get("PidMode") or "").startswith("container:") for one in seen.containers):
        made["shareProcessNamespace"] = True
    aliases: dict[str, list[str]] = {}
    for each in host.get("ExtraHosts") or ():
        called, _, address = each.partition(":")
        aliases.setdefault(address, []).append(called)
    if aliases:
        made["hostAliases"] = [{"ip": ip, "hostnames": names} for ip, names in aliases.items()]
    options = [each.partition(":") for each in host.get("DnsOptions") or ()]
    dns = {
        "nameservers": host.get("Dns"), "searches": host.get("DnsSearch"),
        "options": [{"name": name, **({"value": value} if value else {})} for name, _, value in options],
    }  # fmt: skip
    if any(dns.values()):
        made["dnsConfig"] = {name: value for name, value in dns.items() if value}
    made.update(_context(seen))
    graces = [one["Config"].get("StopTimeout") for one in seen.containers]
    grace = next((each for each in graces if each is not None), None)
    return {**made, "terminationGracePeriodSeconds": grace} if grace is not None else made


def _context(seen: Seen) -> dict[str, Any]:
    said: dict[str, Any] = {}
    groups = next((one["HostConfig"]["GroupAdd"] for one in seen.containers if one["HostConfig"].get("GroupAdd")), ())
    numbers = [int(each) for each in groups if each.isdecimal()]
    if numbers:
        said["supplementalGroups"] = numbers
    sysctls = (seen.infra or seen.containers[0])["HostConfig"].get("Sysctls") or {}
    if sysctls:
        said["sysctls"] = [{"name": key, "value": value} for key, value in sysctls.items()]
    return {"securityContext": said} if said else {}


def _restart(seen: Seen) -> str:
    usual = [one for one in seen.containers if not _labels(one).get(pod.INIT)] or seen.containers
    return _RESTART.get((usual[0]["HostConfig"].get("RestartPolicy") or {}).get("Name", ""), "Never")


def _published(one: dict[str, Any]) -> list[dict[str, Any]]:
    made = []
    for port, bindings in (one["HostConfig"].get("PortBindings") or {}).items():
        number, _, protocol = port.partition("/")
        for each in bindings or [{}]:
            said: dict[str, Any] = {"containerPort": int(number), "protocol": (protocol or "tcp").upper()}
            if each.get("HostPort"):
                said["hostPort"] = int(each["HostPort"].partition("-")[0])
            if each.get("HostIp"):
                said["hostIP"] = each["HostIp"]
            made.append(said)
    return made


# -- a container --------------------------------------------------------------------------------------


def _container(
    one: dict[str, Any], seen: Seen, name: str, used: dict[str, dict[str, Any]], first: bool = False
) -> dict[str, Any]:
    config, host = one["Config"], one["HostConfig"]
    image = seen.images.get(one["Image"]) or {}
    called = _labels(one).get(pod.CONTAINER) or one["Name"].lstrip("/").replace("_", "-").replace(".", "-").lower()
    made: dict[str, Any] = {"name": called, "image": config["Image"], **_command(config, image)}
    if config.get("WorkingDir") and config["WorkingDir"] != image.get("WorkingDir"):
        made["workingDir"] = config["WorkingDir"]
    env = _variables(config, image)
    members = (
        ("env", env), ("ports", _ports(one, seen, image)), ("volumeMounts", _mounts(one, seen, name, used)),
        ("resources", limits.resources(host)), ("securityContext", security.context(config, host, image)),
        *_probes(config, image), ("tty", config.get("Tty")), ("stdin", config.get("OpenStdin")),
        ("stdinOnce", config.get("StdinOnce")),
    )  # fmt: skip
    made.update({member: found for member, found in members if found})
    if first and (host.get("RestartPolicy") or {}).get("Name") == "always":
        made["restartPolicy"] = "Always"
    return made


def _command(config: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """command and args, as far as the image does not say them: its Cmd counts only for its own Entrypoint."""
    entry, words = config.get("Entrypoint") or [], config.get("Cmd") or []
    made: dict[str, Any] = {}
    if entry and entry != (image.get("Entrypoint") or []):
        made["command"] = entry
        if words:
            made["args"] = words
    elif words and words != (image.get("Cmd") or []):
        made["args"] = words
    return {key: [word.replace("$(", "$$(") for word in value] for key, value in made.items()}


def _variables(config: dict[str, Any], image: dict[str, Any]) -> list[dict[str, str]]:
    given = [*(image.get("Env") or ()), _PATH]
    made = [each.partition("=") for each in config.get("Env") or () if each not in given]
    return [{"name": name, "value": value.replace("$(", "$$(")} for name, _, value in made]


def _ports(one: dict[str, Any], seen: Seen, image: dict[str, Any]) -> list[dict[str, Any]]:
    """Its published ports; in a pod those of the infra container that it says it listens on."""
    listening = one["Config"].get("ExposedPorts") or {}
    if not seen.infra:
        return _published(one)
    made = [each for each in _published(seen.infra) if _port(each) in listening]
    shown = {_port(each) for each in made}
    for port in listening:
        if port not in shown and port not in (image.get("ExposedPorts") or {}):
            number, _, protocol = port.partition("/")
            made.append({"containerPort": int(number), "protocol": protocol.upper()})
    return made


def _port(said: dict[str, Any]) -> str:
    return f"{said['containerPort']}/{said['protocol'].lower()}"


def _probes(config: dict[str, Any], image: dict[str, Any]) -> list[tuple[str, Any]]:
    check = config.get("Healthcheck") or {}
    if not check or check == (image.get("Healthcheck") or {}):
        return []
    made = [("livenessProbe", probes.probe(check))]
    before = config.get("StartupHealthCheck")
    if before:
        again = {**(probes.probe(before) or {}), "successThreshold": before.get("Successes") or 1}
        made.append(("startupProbe", again))
    return made


# -- volumes ----------------------------------------------------------------------------------------


def _mounts(one: dict[str, Any], seen: Seen, name: str, used: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """volumeMounts; the volumes that they are of are noted in `used`."""
    made = []
    for said in _asked(one["HostConfig"]):
        if said["Type"] == "tmpfs":
            called, source = f"tmp{len(used)}", {"emptyDir": {"medium": "Memory"}}
        elif said["Type"] == "bind":
            called, source = _path_name(said["Source"]), {"hostPath": {"path": said["Source"], **said["Kind"]}}
        else:
            called, source = _volume(said["Source"], seen, name)
        if used.setdefault(called, source) != source:
            called = f"{called}-{len(used)}"
            used[called] = source
        mount = {"name": called, "mountPath": said["Target"]}
        below = said["Subpath"] or ""
        if "emptyDir" in source:
            below = below.removeprefix(volumes.INNER).lstrip("/")
        if below:
            mount["subPath"] = below
        if said["ReadOnly"] and not {"configMap", "secret"} & set(source):
            mount["readOnly"] = True
        if said["Propagation"] in _PROPAGATION:
            mount["mountPropagation"] = _PROPAGATION[said["Propagation"]]
        made.append(mount)
    return made


def _asked(host: dict[str, Any]) -> list[dict[str, Any]]:
    """Mounts, Binds and Tmpfs in one form."""
    made = []
    for each in host.get("Mounts") or ():
        made.append({
            "Type": each["Type"], "Source": each.get("Source") or "", "Target": each["Target"],
            "ReadOnly": each.get("ReadOnly"), "Subpath": (each.get("VolumeOptions") or {}).get("Subpath"),
            "Propagation": (each.get("BindOptions") or {}).get("Propagation"), "Kind": {},
        })  # fmt: skip
    for bind in host.get("Binds") or ():
        source, target, *rest = bind.split(":")
        options = rest[0].split(",") if rest else []
        made.append({
            "Type": "bind" if source.startswith("/") else "volume", "Source": source, "Target": target,
            "ReadOnly": "ro" in options, "Subpath": None, "Kind": {"type": "DirectoryOrCreate"},
            "Propagation": next((each for each in options if each in _PROPAGATION), None),
        })  # fmt: skip
    for path in host.get("Tmpfs") or ():
        made.append({"Type": "tmpfs", "Source": "", "Target": path, "ReadOnly": False, "Subpath": None,
                     "Propagation": None, "Kind": {}})  # fmt: skip
    for each in host.get("Devices") or ():
        made.append({
            "Type": "bind", "Source": each["PathOnHost"], "Target": each["PathInContainer"], "Subpath": None,
            "ReadOnly": each.get("CgroupPermissions") == "r", "Propagation": None, "Kind": {"type": "CharDevice"},
        })  # fmt: skip
    return made


def _path_name(path: str) -> str:
    """A name for what is a path."""
    name = "".join(char if char.isascii() and char.isalnum() else "-" for char in path.lower()).strip("-")
    return f"host-{name}"[:63].rstrip("-") if name else "host"


def _volume(volume: str, seen: Seen, name: str) -> tuple[str, dict[str, Any]]:
    """Name and source of a volume of the engine: what it was in its pod, else a claim."""
    kind = seen.kinds.get(volume)
    if kind is None:
        return f"{volume.lower().replace('_', '-').replace('.', '-')}-pvc"[-63:].lstrip("-"), {
            "persistentVolumeClaim": {"claimName": volume}
        }
    called = volume.rpartition("_")[2]
    if kind == "emptyDir" or volume not in seen.files:
        return called, {"emptyDir": {"medium": "Memory"} if kind == "tmpfs" else {}}
    files = seen.files[volume]
    items = [{"key": _key(path), "path": path, "mode": mode} for path, (_, mode) in sorted(files.items())]
    member = {"secretName": f"{name}-{called}"} if kind == "secret" else {"name": f"{name}-{called}"}
    return called, {kind: {**member, "items": items}}


def _key(path: str) -> str:
    return path.replace("_", "__").replace("/", "_s")


def _data(seen: Seen, used: dict[str, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The ConfigMaps and Secrets of volumes that are files."""
    made = []
    for volume, files in sorted(seen.files.items()):
        called = volume.rpartition("_")[2]
        kind = next((each for each in ("configMap", "secret") if each in used.get(called, {})), None)
        if kind is None:
            continue
        meta = {"name": f"{name}-{called}"}
        coded = {_key(path): b2a_base64(data, newline=False).decode() for path, (data, _) in sorted(files.items())}
        if kind == "secret":
            made.append({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": coded})
            continue
        plain = {_key(path): data.decode() for path, (data, _) in files.items() if _is_text(data)}
        other = {key: value for key, value in coded.items() if key not in plain}
        said = {**({"data": plain} if plain else {}), **({"binaryData": other} if other else {})}
        made.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, **said})
    return made


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False
