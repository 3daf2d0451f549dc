"""volumes and volumeMounts of a pod -> volumes of the engine, the files that are put in them, and mounts.

    emptyDir                a volume POD_NAME, which goes with the pod; medium Memory: a tmpfs that all see
    configMap, secret, downwardAPI, projected
                            such a volume with these files in it, which nobody may write
    persistentVolumeClaim   the volume of that name, which stays
    hostPath                a directory, file or device of the engine's host
"""

from __future__ import annotations

from oci_tools import document
from oci_tools.kube import variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.kube.objects import Objects

    Files = dict[str, tuple[bytes, int]]  # path -> content, mode

LABEL = "io.kubernetes.volume"  # of a volume that goes with its pod: the kind it has there
INNER = "data"  # the directory of an emptyDir in its volume: one that everybody may write, as a volume itself is not
DATA = ("configMap", "secret", "downwardAPI", "projected")
_BINDS = ("", "Directory", "File", "Socket")
_DEVICES = ("CharDevice", "BlockDevice")
_PROPAGATION = {"HostToContainer": "rslave", "Bidirectional": "rshared"}


class Volume:
    """A volume of a pod.

    kind      of VolumeSource: emptyDir, hostPath and so on
    name      of the engine's volume, "" where it is none
    own       it goes with the pod
    options   of the driver
    files     what is in it, with directories as names that end in a slash
    path      of hostPath
    inner     where it begins in the engine's volume
    """

    def __init__(self, kind: str, said: dict[str, Any], name: str = "", own: bool = False) -> None:
        self.kind = kind
        self.said = said
        self.name = name
        self.own = own
        self.options: dict[str, str] = {}
        self.files: Files = {}
        self.path = ""
        self.inner = ""
        self.read_only = kind in DATA


def volumes(pod: dict[str, Any], known: Objects, facts: dict[str, str], where: str) -> dict[str, Volume]:
    """The volumes of a pod by their names in it."""
    made: dict[str, Volume] = {}
    for at, said in enumerate(pod["spec"].get("volumes") or ()):
        path, name = f"volumes[{at}]", said["name"]
        kinds = [each for each in said if each != "name"]
        if name in made:
            raise document.wrong(where, f"{path}.name", "another volume has this name")
        if len(kinds) != 1:
            raise document.wrong(where, path, f"expected one kind of volume, got {len(kinds)}")
        made[name] = _volume(kinds[0], said[kinds[0]], name, pod, known, facts, where, path)
    return made


def _volume(
    kind: str, said: dict[str, Any], name: str, pod: dict[str, Any], known: Objects, facts: dict[str, str],
    where: str, path: str,
) -> Volume:  # fmt: skip
    if kind == "persistentVolumeClaim":
        made = Volume(kind, said, said["claimName"])
        made.read_only = said.get("readOnly", False)
        made.options = claim_options(known.claims.get(made.name) or {})
        return made
    if kind == "hostPath":
        made = Volume(kind, said)
        made.path = said["path"]
        if not made.path.startswith("/") or ":" in made.path:
            raise document.wrong(where, f"{path}.hostPath.path", "expected an absolute path without a colon")
        return made
    made = Volume(kind, said, f"{pod['metadata']['name']}_{name}", own=True)
    if kind == "emptyDir":
        if said.get("medium") == "Memory":
            from oci_tools.kube import limits

            most = said.get("sizeLimit")
            size = f",size={int(limits.quantity(most, f'{where}: {path}.emptyDir.sizeLimit'))}" if most else ""
            made.options = {"type": "tmpfs", "device": "tmpfs", "o": f"mode=1777{size}"}
        else:
            made.inner = INNER
            made.files[f"{INNER}/"] = b"", 0o777
        return made
    if kind not in DATA:
        raise document.wrong(where, path, f"a volume of kind {document.shown(kind)} cannot be had here")
    sources = said.get("sources") or [] if kind == "projected" else [{kind: said}]
    for source in sources:
        for each, inner in source.items():
            default = said.get("defaultMode", 0o644)
            made.files.update(_files(each, inner, default, pod, known, facts, where, f"{path}.{kind}"))
    return made


def claim_options(annotations: dict[str, str]) -> dict[str, str]:
    """podman's annotations of a claim: what the volume is made of."""
    start = "volume.podman.io/"
    said = {name.removeprefix(start): value for name, value in annotations.items() if name.startswith(start)}
    made = {name: said[name] for name in ("type", "device") if said.get(name)}
    options = [f"{name}={said[name]}" for name in ("uid", "gid") if said.get(name)]
    options += [said["mount-options"]] if said.get("mount-options") else []
    return {**made, "o": ",".join(options)} if options else made


# -- files of ConfigMaps and the like ----------------------------------------------------------------


def _files(
    kind: str, said: dict[str, Any], default: int, pod: dict[str, Any], known: Objects, facts: dict[str, str],
    where: str, path: str,
) -> Files:  # fmt: skip
    if kind == "downwardAPI":
        made = {}
        for item in said.get("items") or ():
            container = _container_of(item, pod)
            value = variables.downward(item, container, pod, facts, where, path)
            made[_inside(item["path"], where, path)] = value.encode(), item.get("mode", default)
        return made
    if kind not in ("configMap", "secret"):
        raise document.wrong(where, path, f"{document.shown(kind)} cannot be had here")
    name = said.get("secretName") or said.get("name") or ""
    data = variables.data_of(known, "ConfigMap" if kind == "configMap" else "Secret", name, said, where, path)
    if data is None:
        return {}
    if "items" not in said:
        return {key: (value, default) for key, value in data.items()}
    made = {}
    for item in said["items"]:
        if item["key"] in data:
            made[_inside(item["path"], where, path)] = data[item["key"]], item.get("mode", default)
        elif not said.get("optional"):
            raise document.wrong(where, path, f"no key {document.shown(item['key'])} in it")
    return made


def _container_of(item: dict[str, Any], pod: dict[str, Any]) -> dict[str, Any]:
    name = (item.get("resourceFieldRef") or {}).get("containerName")
    found = [each for each in pod["spec"]["containers"] if each["name"] == name]
    return found[0] if found else {}


def _inside(path: str, where: str, subject: str) -> str:
    """A path beneath a volume."""
    if path.startswith("/") or not path or {"", ".", ".."} & set(path.rstrip("/").split("/")):
        raise document.wrong(where, subject, f"expected a path beneath the volume, got {document.shown(path)}")
    return path.rstrip("/")


# -- mounts ---------------------------------------------------------------------------------------


def mounts(
    container: dict[str, Any], known: dict[str, Volume], variables_: dict[str, str], where: str
) -> Iterator[tuple[Volume, dict[str, Any]]]:
    """Each volumeMount as a Mount of Docker's API, with its volume; what subPath names is noted in `files`."""
    for at, said in enumerate(container.get("volumeMounts") or ()):
        path = f"volumeMounts[{at}]"
        volume = known.get(said["name"])
        if volume is None:
            raise document.wrong(where, f"{path}.name", f"no volume {document.shown(said['name'])} in the pod")
        target = said["mountPath"]
        if not target.startswith("/") or ":" in target or "," in target:
            raise document.wrong(where, f"{path}.mountPath", "expected an absolute path without colon and comma")
        below = said.get("subPath") or variables.expand(said.get("subPathExpr", ""), variables_)
        below = _inside(below, where, f"{path}.subPath") if below else ""
        mount: dict[str, Any] = {"Target": target, "ReadOnly": volume.read_only or said.get("readOnly", False)}
        if volume.kind == "hostPath":
            mount.update(Type="bind", Source=f"{volume.path.rstrip('/')}/{below}".rstrip("/") or "/")
            if said.get("mountPropagation") in _PROPAGATION:
                mount["BindOptions"] = {"Propagation": _PROPAGATION[said["mountPropagation"]]}
        else:
            mount.update(Type="volume", Source=volume.name)
            options: dict[str, Any] = {"NoCopy": True} if volume.own else {}
            path = "/".join(part for part in (volume.inner, below) if part)
            if path:
                options["Subpath"] = path
                if path not in volume.files and not any(name.startswith(f"{path}/") for name in volume.files):
                    volume.files[f"{path}/"] = b"", 0o777 if volume.kind == "emptyDir" else 0o755
            if options:
                mount["VolumeOptions"] = options
        yield volume, mount


def is_device(volume: Volume) -> bool:
    return volume.kind == "hostPath" and volume.said.get("type") in _DEVICES


def is_made(volume: Volume) -> bool:
    """Whether what hostPath names is made where it is missing."""
    return volume.kind == "hostPath" and volume.said.get("type") in ("DirectoryOrCreate", "FileOrCreate")
