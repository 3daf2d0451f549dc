"""Devices of vendors: what `--device vendor.com/class=name` and --gpus change, as files of the host describe it.

Container Device Interface 1.1 (github.com/cncf-tags/container-device-interface, SPEC.md).  Its files lie in
/etc/cdi and /var/run/cdi as JSON or YAML:

    {"cdiVersion": "0.6.0", "kind": "vendor.com/class", "containerEdits": {...},
     "devices": [{"name": "gpu0", "containerEdits": {...}}]}

The edits of the file are made once, then those of each device that was asked for.  A device in the later
directory hides that of the earlier; two in one directory exclude one another.  A file that is wrong is as if
it were not there, unless a device is missing then.  What files say is checked whole, since who may write
there runs hooks as root: unknown members and members newer than `cdiVersion` are errors.
"""

from __future__ import annotations

from oci_tools import document
from oci_tools.container import mounts
from oci_tools.errors import Error, Usage
from oci_tools.runtime import check
from oci_tools.runtime import spec as specs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from oci_tools.container.host import Host

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")  # the later is the stronger
VERSIONS = ("0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0")
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
MAX_ANNOTATIONS = 256 << 10  # bytes of all of a thing's annotations together, as Kubernetes counts

_TEXTS: Any = ["text"]
_U32 = (0, (1 << 32) - 1)
_NUMBER = (0, (1 << 31) - 1)
# The members of a file, in the form of runtime/fields.py.
_EDITS: Any = {
    "env": _TEXTS,
    "deviceNodes": [{
        "": ("path",),
        "path": "text", "hostPath": "text", "type": frozenset(("", "b", "c", "u", "p")),
        "major": _NUMBER, "minor": _NUMBER, "fileMode": (0, 0o777), "permissions": "text", "uid": _U32, "gid": _U32,
    }],
    "netDevices": [{"": ("hostInterfaceName", "name"), "hostInterfaceName": "text", "name": "text"}],
    "mounts": [{
        "": ("hostPath", "containerPath"),
        "hostPath": "text", "containerPath": "text", "type": "text", "options": _TEXTS,
    }],
    "hooks": [{
        "": ("hookName", "path"),
        "hookName": frozenset(HOOKS), "path": "text", "args": _TEXTS, "env": _TEXTS, "timeout": (1, float("inf")),
    }],
    "additionalGids": [_U32],
    "intelRdt": {
        "closID": "text", "l3CacheSchema": "text", "memBwSchema": "text", "schemata": _TEXTS,
        "enableMonitoring": "bool", "enableCMT": "bool", "enableMBM": "bool",
    },
}  # fmt: skip
_FILE: Any = {
    "": ("cdiVersion", "kind", "devices"),
    "cdiVersion": "text", "kind": "text", "annotations": {"*": "text"}, "containerEdits": _EDITS,
    "devices": [{
        "": ("name", "containerEdits"),
        "name": "text", "annotations": {"*": "text"}, "containerEdits": _EDITS,
    }, 1],
}  # fmt: skip


def is_qualified(word: str) -> bool:
    """Whether a word is the name of such a device, vendor.com/class=name, and no path."""
    kind, equals, name = word.partition("=")
    return bool(equals) and not word.startswith("/") and _is_kind(kind) and _is_name(name)


def inject(spec: dict[str, Any], words: list[str], known: Known) -> None:
    """Change `spec` as the devices ask that these words name."""
    edits: list[tuple[str, dict[str, Any]]] = []
    used: list[str] = []
    for word in words:
        path, whole, device = known.device(word)
        if path not in used:
            used.append(path)
            edits.append((path, whole.get("containerEdits", {})))
        edits.append((path, device["containerEdits"]))
    for path, edit in edits:
        _apply(spec, edit, path, known.host)


def gpus(word: str, known: Known) -> list[str]:
    """What --gpus means: `all`, a number of them, or KEY=VALUE,... with count=, device=, driver=, capabilities=."""
    said: dict[str, str] = {}
    for field in _csv(word):
        key, equals, value = field.partition("=")
        key, value = (key, value) if equals else ("count", key)
        if key not in ("count", "device", "driver", "capabilities", "options") or not value or key in said:
            raise Usage("invalid value for --gpus", word, hint="all, a number, or device=NAME,...")
        said[key] = value
    if "device" in said and "count" in said:
        raise Usage("invalid value for --gpus", word, "count and device exclude one another")
    kind = known.kind_of_gpus(said.get("driver"))
    if "device" in said:
        return [f"{kind}={name}" for name in said["device"].split(",")]
    count = said.get("count", "1")
    if count in ("all", "-1"):
        return [f"{kind}=all"]
    if not (count.isascii() and count.isdigit() and 0 < int(count[:4]) < 1000):
        raise Usage("invalid value for --gpus", word, hint="all, a number, or device=NAME,...")
    return [f"{kind}={number}" for number in range(int(count))]


def _csv(text: str) -> list[str]:
    """Fields with commas between; one in double quotes may have commas itself."""
    fields, quoted = [""], False
    for c in text:
        if c == '"':
            quoted = not quoted
        elif c == "," and not quoted:
            fields.append("")
        elif c == "," and quoted:
            fields[-1] += c
        else:
            fields[-1] += c
    return fields


# -- the files ---------------------------------------------------------------------------------


class Known:
    """The devices that the files in these directories of a host describe."""

    def __init__(self, host: Host, directories: Sequence[str] = DIRECTORIES) -> None:
        self.host = host
        self._places = " or ".join(directories)
        self._devices: dict[str, list[tuple[str, dict[str, Any], dict[str, Any]]]] = {}
        self._bad: list[Error] = []
        for directory in directories:
            here: dict[str, list[tuple[str, dict[str, Any], dict[str, Any]]]] = {}
            for name in sorted(host.listed(directory)):
                path = f"{directory}/{name}"
                if not name.endswith((".json", ".yaml", ".yml")) or name.startswith("."):
                    continue
                try:
                    found = _read(path, host)
                except Error as error:
                    self._bad.append(error)
                    continue
                for device in found["devices"]:
                    here.setdefault(f"{found['kind']}={device['name']}", []).append((path, found, device))
            self._devices.update(here)

    def device(self, word: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """The file that describes a device, as its path and content, and the device in it."""
        found = self._devices.get(word, [])
        if len(found) > 1:
            raise Error("cannot use device", word, f"'{found[0][0]}' and '{found[1][0]}' both describe it")
        if not found:
            why = f" ({self._bad[0]})" if self._bad else ""
            raise Error("unresolvable CDI device", word, f"no file in {self._places} describes it{why}")
        return found[0]

    def kind_of_gpus(self, driver: str | None) -> str:
        """The kind of GPUs that there are, or those of one vendor."""
        kinds = {word.partition("=")[0] for word in self._devices}
        for kind in ("nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu", *sorted(kinds)):
            if kind.endswith("/gpu") and kind in kinds and kind.startswith(driver or ""):
                return kind
        why = f"no file in {self._places} describes any"
        raise Error("cannot use GPUs", None, why, "nvidia-ctk cdi generate")


def _read(path: str, host: Host) -> dict[str, Any]:
    """One file, checked."""
    text = host.text(path)
    found: dict[str, Any] = document.loads(text, path) if path.endswith(".json") else _yaml(text, path)
    check.fields(found, _FILE, path)
    for where, what in (*_unknown(found, _FILE, ""), *_rules(found)):
        raise document.wrong(path, where, what)
    return found


def _yaml(text: str, path: str) -> Any:
    from oci_tools import yaml

    found = next(iter(yaml.documents(text.encode("utf-8", "surrogateescape"), path)), None)
    devices = found.get("devices") if isinstance(found, dict) else None
    for device in devices if isinstance(devices, list) else ():
        if isinstance(device, dict) and type(device.get("name")) is int:  # `name: 0` is meant as a text
            device["name"] = str(device["name"])
    return found


def _unknown(value: Any, kind: Any, path: str) -> Iterator[tuple[str, str]]:
    """Members that the specification does not have."""
    if isinstance(kind, dict) and "*" not in kind:
        for name, item in value.items():
            if name not in kind or not name:
                yield path + document.step(str(name)), "unknown member"
            else:
                yield from _unknown(item, kind[name], path + document.step(name))
    elif isinstance(kind, list):
        for at, item in enumerate(value):
            yield from _unknown(item, kind[0], f"{path}[{at}]")


def _rules(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What the types do not say."""
    version = found["cdiVersion"].removeprefix("v")
    if version not in VERSIONS:
        yield "cdiVersion", f"unknown version {document.shown(found['cdiVersion'])}"
        return
    if not _is_kind(found["kind"]):
        yield "kind", f"expected vendor.com/class, got {document.shown(found['kind'])}"
        return
    for least, where in _newer(found):
        if VERSIONS.index(least) > VERSIONS.index(version):
            yield where, f"needs cdiVersion {least}, and it is {version}"
    yield from _annotations("annotations", found.get("annotations", {}))
    yield from _edits("containerEdits", found.get("containerEdits", {}))
    names = set()
    for at, device in enumerate(found["devices"]):
        path = f"devices[{at}]"
        if not _is_name(device["name"]) or device["name"] in names:
            yield f"{path}.name", f"invalid or second device name {document.shown(device['name'])}"
        names.add(device["name"])
        if not any(device["containerEdits"].values()):
            yield f"{path}.containerEdits", "it is empty"
        yield from _annotations(f"{path}.annotations", device.get("annotations", {}))
        yield from _edits(f"{path}.containerEdits", device["containerEdits"])


def _newer(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The versions of the specification that what is said needs, and where."""
    if "." in found["kind"].partition("/")[2]:
        yield "0.6.0", "kind"
    if found.get("annotations"):
        yield "0.6.0", "annotations"
    every = [("containerEdits", found.get("containerEdits", {}))]
    for at, device in enumerate(found["devices"]):
        if device["name"][:1].isdigit():
            yield "0.5.0", f"devices[{at}].name"
        if device.get("annotations"):
            yield "0.6.0", f"devices[{at}].annotations"
        every.append((f"devices[{at}].containerEdits", device["containerEdits"]))
    for path, edits in every:
        if edits.get("netDevices"):
            yield "1.1.0", f"{path}.netDevices"
        rdt = edits.get("intelRdt", {})
        if rdt.keys() & {"schemata", "enableMonitoring"}:
            yield "1.1.0", f"{path}.intelRdt"
        for name in ("intelRdt", "additionalGids"):
            if edits.get(name):
                yield "0.7.0", f"{path}.{name}"
        if any(node.get("hostPath") for node in edits.get("deviceNodes", ())):
            yield "0.5.0", f"{path}.deviceNodes"
        if any(mount.get("type") for mount in edits.get("mounts", ())):
            yield "0.4.0", f"{path}.mounts"


def _edits(path: str, edits: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for at, node in enumerate(edits.get("deviceNodes", ())):
        if node.get("permissions") != "none" and node.get("permissions", "").strip("rwm"):
            what = f"expected letters of rwm, got {document.shown(node['permissions'])}"
            yield f"{path}.deviceNodes[{at}].permissions", what
    for where, words in (("", edits), *((f".hooks[{at}]", hook) for at, hook in enumerate(edits.get("hooks", ())))):
        for at, word in enumerate(words.get("env", ())):
            if word.find("=") < 1:
                yield f"{path}{where}.env[{at}]", f"expected NAME=VALUE, got {document.shown(word)}"
    for kind in ("hostInterfaceName", "name"):
        names = [each[kind] for each in edits.get("netDevices", ())]
        if "" in names or len(names) != len(set(names)):
            yield f"{path}.netDevices", f"{kind}: empty, or there twice"


def _annotations(path: str, said: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Keys are names as Kubernetes has them, [DNS name/]name; all together are not too large."""
    for key in said:
        prefix, slash, name = key.rpartition("/")
        if not _is_word(name, "-_.") or len(name) > 63 or (slash and not _is_word(prefix.lower(), "-.")):
            yield f"{path}{document.step(key)}", "invalid name of an annotation"
    if len("".join((*said, *said.values())).encode("utf-8", "surrogateescape")) > MAX_ANNOTATIONS:
        yield path, f"larger than {MAX_ANNOTATIONS} bytes"


def _is_kind(text: str) -> bool:
    vendor, slash, name = text.partition("/")
    good = _is_word(vendor, "-_.") and _is_word(name, "-_.") and len(vendor) <= 253 and len(name) <= 63
    return bool(slash) and good and vendor[0].isalpha() and name[0].isalpha()


def _is_name(text: str) -> bool:
    return _is_word(text, "-_.:")


def _is_word(text: str, inner: str) -> bool:
    """Letters and digits, and inside these other characters."""
    plain = text.translate({ord(c): "x" for c in inner})
    return bool(text) and text.isascii() and plain.isalnum() and text[0].isalnum() and text[-1].isalnum()


# -- the edits ----------------------------------------------------------------------------------


def _apply(spec: dict[str, Any], edits: dict[str, Any], path: str, host: Host) -> None:
    process, linux = spec["process"], spec["linux"]
    process["env"] = specs.environment(process.get("env", []), edits.get("env", []))
    for node in edits.get("deviceNodes", ()):
        _device(spec, node, host)
    for each in edits.get("netDevices", ()):
        linux.setdefault("netDevices", {})[each["hostInterfaceName"]] = {"name": each["name"]}
    wanted = []
    for each in edits.get("mounts", ()):
        mount = {"destination": mounts.normal(each["containerPath"]), "source": each["hostPath"]}
        mount["type"] = each.get("type") or "none"
        wanted.append({**mount, "options": each.get("options") or ["bind"]})
    if wanted:
        mounts.place(spec, wanted)
    for hook in edits.get("hooks", ()):
        made = {name: value for name, value in hook.items() if name != "hookName"}
        spec.setdefault("hooks", {}).setdefault(hook["hookName"], []).append(made)
    if edits.get("intelRdt"):
        rdt = edits["intelRdt"]
        linux["intelRdt"] = {name: rdt[name] for name in rdt if name not in ("enableCMT", "enableMBM")}
    groups = [gid for gid in edits.get("additionalGids", ()) if gid]
    if groups:
        user = process.setdefault("user", {"uid": 0, "gid": 0})
        user["additionalGids"] = [*dict.fromkeys([*user.get("additionalGids", ()), *groups])]


def _device(spec: dict[str, Any], node: dict[str, Any], host: Host) -> None:
    """A device node, what is not said of it as the host's has it; it is the payload's user's."""
    made: dict[str, Any] = {"path": node["path"], "type": node.get("type") or ""}
    made.update(major=node.get("major", 0), minor=node.get("minor", 0))
    if not made["type"] or (not made["major"] and made["type"] != "p"):
        path = node.get("hostPath") or node["path"]
        found = host.devices(path)
        if len(found) != 1 or made["type"].replace("u", "c") not in ("", found[0].kind):
            raise Error("cannot use device", path, "it is of another kind")
        made.update(type=made["type"] or found[0].kind, major=found[0].major, minor=found[0].minor)
    if "fileMode" in node:
        made["fileMode"] = node["fileMode"]
    user = spec["process"].get("user", {})
    for name in ("uid", "gid"):
        if name in node or user.get(name):
            made[name] = node.get(name, user.get(name))
    devices = spec["linux"].setdefault("devices", [])
    devices[:] = [each for each in devices if each["path"] != made["path"]]
    if made["type"] == "p":
        made = {name: value for name, value in made.items() if name not in ("major", "minor")}
    devices.append(made)
    access = {"": "rwm", "none": ""}.get(node.get("permissions", ""), node.get("permissions"))
    if made["type"] in ("b", "c") and access:
        rule = {"allow": True, "type": made["type"], "major": made["major"], "minor": made["minor"], "access": access}
        spec["linux"].setdefault("resources", {}).setdefault("devices", []).append(rule)
