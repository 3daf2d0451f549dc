"""Can a runtime do what a config.json asks for?  Judged by what the runtime's `features` prints.

runtime-spec, "Features Structure": a member that is missing says nothing, and is held against nobody; an
empty one says "none".  Values that nobody knows may stand there, for the runtime may be newer than we are.
"""

from __future__ import annotations

from oci_tools.document import shown, step, wrong
from oci_tools.runtime import check as checking
from oci_tools.runtime.rules import HOOKS, MOUNT_OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Found = Iterator[tuple[str, str]]

_TEXTS: Any = ["text"]
_ABLE: Any = {"enabled": "bool"}
_FEATURES: Any = {
    "": ("ociVersionMin", "ociVersionMax"),
    "ociVersionMin": "text", "ociVersionMax": "text", "hooks": _TEXTS, "mountOptions": _TEXTS,
    "linux": {
        "namespaces": _TEXTS, "capabilities": _TEXTS,
        "cgroup": {"v1": "bool", "v2": "bool", "systemd": "bool", "systemdUser": "bool", "rdma": "bool"},
        "seccomp": {
            **_ABLE, "actions": _TEXTS, "operators": _TEXTS, "archs": _TEXTS,
            "knownFlags": _TEXTS, "supportedFlags": _TEXTS,
        },
        "apparmor": _ABLE, "selinux": _ABLE, "netDevices": _ABLE,
        "intelRdt": {**_ABLE, "schemata": "bool", "monitoring": "bool"},
        "memoryPolicy": {"modes": _TEXTS, "flags": _TEXTS},
        "mountExtensions": {"idmap": _ABLE},
    },
}  # fmt: skip


def check(spec: dict[str, Any], features: Any, subject: str, name: str) -> None:
    """Raise Error, with the JSON path, for the first thing in `spec` that a runtime with these features cannot do.

    subject  what the message calls the configuration
    name     and the document of features
    """
    checking.fields(features, _FEATURES, name)
    for path, what in unsupported(spec, features):
        raise wrong(subject, path, what)


def unsupported(spec: dict[str, Any], features: dict[str, Any]) -> Found:
    """(JSON path, what about it) of everything that such a runtime cannot do; both documents have the right types."""
    yield from _version(spec["ociVersion"], features)
    for kind in HOOKS:
        if spec.get("hooks", {}).get(kind):
            yield from _listed(f"hooks.{kind}", kind, features.get("hooks"), "hooks")
    linux, able = spec.get("linux", {}), features.get("linux", {})
    yield from _mounts(spec, features, able)
    for at, space in enumerate(linux.get("namespaces", ())):
        yield from _listed(f"linux.namespaces[{at}].type", space["type"], able.get("namespaces"), "namespaces")
    for kind, names in spec.get("process", {}).get("capabilities", {}).items():
        for at, name in enumerate(names):
            yield from _listed(f"process.capabilities.{kind}[{at}]", name, able.get("capabilities"), "capability")
    yield from _cgroups(linux, able.get("cgroup", {}))
    yield from _seccomp(linux.get("seccomp"), able.get("seccomp", {}))
    yield from _others(spec, linux, able)


def _listed(path: str, name: str, known: list[str] | None, what: str) -> Found:
    if known is not None and name not in known:
        yield path, f"the runtime does not support {what} {shown(name)}"


def _enabled(path: str, wanted: Any, feature: dict[str, Any], what: str, member: str = "enabled") -> Found:
    if wanted and feature.get(member) is False:
        yield path, f"the runtime does not support {what}"


def _version(said: str, features: dict[str, Any]) -> Found:
    """Only another major version is another document: minor ones add, and nobody may refuse them for it."""
    major = said.partition(".")[0]
    known = (features["ociVersionMin"].partition(".")[0], features["ociVersionMax"].partition(".")[0])
    if all(each.isdecimal() for each in (major, *known)) and not int(known[0]) <= int(major) <= int(known[1]):
        what = f"the runtime reads {features['ociVersionMin']} to {features['ociVersionMax']}, not {shown(said)}"
        yield "ociVersion", what


def _mounts(spec: dict[str, Any], features: dict[str, Any], able: dict[str, Any]) -> Found:
    idmap = able.get("mountExtensions", {}).get("idmap", {})
    known = features.get("mountOptions")
    for at, mount in enumerate(spec.get("mounts", ())):
        for number, option in enumerate(mount.get("options", ())):
            if option in ("idmap", "ridmap"):
                yield from _enabled(f"mounts[{at}].options[{number}]", True, idmap, "idmapped mounts")
            elif option in MOUNT_OPTIONS:  # anything else is data for the file system
                yield from _listed(f"mounts[{at}].options[{number}]", option, known, "mount option")
        for name in ("uidMappings", "gidMappings"):
            yield from _enabled(f"mounts[{at}].{name}", mount.get(name), idmap, "idmapped mounts")


def _cgroups(linux: dict[str, Any], able: dict[str, Any]) -> Found:
    resources, path = linux.get("resources", {}), linux.get("cgroupsPath", "")
    if path.count(":") == 2 and not path.startswith("/"):
        yield from _enabled("linux.cgroupsPath", True, able, "systemd's cgroups", "systemd")
    yield from _enabled("linux.resources.unified", resources.get("unified"), able, "cgroup v2", "v2")
    yield from _enabled("linux.resources.rdma", resources.get("rdma"), able, "limits of rdma", "rdma")


def _seccomp(wanted: dict[str, Any] | None, able: dict[str, Any]) -> Found:
    if wanted is None:
        return
    yield from _enabled("linux.seccomp", True, able, "seccomp")
    yield from _listed("linux.seccomp.defaultAction", wanted["defaultAction"], able.get("actions"), "action")
    for at, name in enumerate(wanted.get("architectures", ())):
        yield from _listed(f"linux.seccomp.architectures[{at}]", name, able.get("archs"), "architecture")
    for at, name in enumerate(wanted.get("flags", ())):
        known = able.get("supportedFlags", able.get("knownFlags"))
        yield from _listed(f"linux.seccomp.flags[{at}]", name, known, "flag")
    for at, rule in enumerate(wanted.get("syscalls", ())):
        path = f"linux.seccomp.syscalls[{at}]"
        yield from _listed(f"{path}.action", rule["action"], able.get("actions"), "action")
        for number, arg in enumerate(rule.get("args", ())):
            yield from _listed(f"{path}.args[{number}].op", arg["op"], able.get("operators"), "operator")


def _others(spec: dict[str, Any], linux: dict[str, Any], able: dict[str, Any]) -> Found:
    process = spec.get("process", {})
    rdt = linux.get("intelRdt", {})
    for path, value, name, member in (
        ("process.apparmorProfile", process.get("apparmorProfile"), "apparmor", "enabled"),
        ("process.selinuxLabel", process.get("selinuxLabel"), "selinux", "enabled"),
        ("linux.mountLabel", linux.get("mountLabel"), "selinux", "enabled"),
        ("linux.intelRdt", rdt, "intelRdt", "enabled"),
        ("linux.intelRdt.schemata", rdt.get("schemata"), "intelRdt", "schemata"),
        ("linux.intelRdt.enableMonitoring", rdt.get("enableMonitoring"), "intelRdt", "monitoring"),
    ):
        what = name if member == "enabled" else f"{member} of {name}"
        yield from _enabled(path, value, able.get(name, {}), what, member)
    policy, policy_able = linux.get("memoryPolicy", {}), able.get("memoryPolicy", {})
    if policy.get("mode"):
        yield from _listed("linux.memoryPolicy.mode", policy["mode"], policy_able.get("modes"), "memory policy")
    for at, flag in enumerate(policy.get("flags", ())):
        yield from _listed(f"linux.memoryPolicy.flags[{at}]", flag, policy_able.get("flags"), "flag")
    for name in linux.get("netDevices", {}):
        yield from _enabled(f"linux.netDevices{step(name)}", True, able.get("netDevices", {}), "network devices")
