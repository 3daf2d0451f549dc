"""What a container may do: capabilities, --security-opt, devices, --privileged, from docker's words."""

from __future__ import annotations

from oci_tools import document
from oci_tools.container import labels, units
from oci_tools.errors import Usage
from oci_tools.linux import caps
from oci_tools.runtime import spec as specs

LABEL = ("user", "role", "type", "level")
PROFILE = "io.containers.seccomp.profile"  # an image's label, podman's
DEFAULT_LABEL = "system_u:system_r:container_t:s0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.host import Device, Host


def apply(spec: dict[str, Any], args: Args, host: Host) -> None:
    """Put what `args` allow and forbid in place."""
    if args.privileged:
        _privileged(spec, host)
    _capabilities(spec, args, host)
    for word in args.security_opt:
        _option(spec, word, host)
    qualified = [word for word in args.device if "=" in word and _is_of_vendor(word)]
    for word in args.device:
        if word not in qualified:
            _device(spec, word, host)
    if args.gpus is not None or qualified:
        from oci_tools.container import cdi

        known = cdi.Known(host, args.cdi_spec_dir or cdi.DIRECTORIES)
        cdi.inject(spec, qualified + (cdi.gpus(args.gpus, known) if args.gpus is not None else []), known)
    for word in args.device_cgroup_rule:
        _rules(spec).append(_rule(word))
    if args.read_only:
        spec["root"]["readonly"] = True


def filter_by_default(spec: dict[str, Any], args: Args, host: Host, image: dict[str, Any] | None = None) -> None:
    """Docker's seccomp profile, or by --seccomp-policy the image's, for a container that has none; after `apply`."""
    said = any(word.startswith(("seccomp=", "seccomp:")) for word in args.security_opt)
    if said or args.privileged or "seccomp" in spec["linux"]:
        return
    own = labels.of_image(image or {}).get(PROFILE) if args.seccomp_policy == "image" else None
    if own is None:
        _seccomp(spec, "builtin", host)
    else:
        _profile(spec, own, f"label {PROFILE}")


def _privileged(spec: dict[str, Any], host: Host) -> None:
    """Everything that root of the host could do: what protects the host is taken away."""
    specs.set_capabilities(spec, host.capabilities())
    linux = spec["linux"]
    spec["process"]["noNewPrivileges"] = False
    for name in ("maskedPaths", "readonlyPaths", "seccomp"):
        linux.pop(name, None)
    spec["process"].pop("apparmorProfile", None)
    for mount in spec["mounts"]:
        if mount.get("type") in ("sysfs", "cgroup", "proc"):
            mount["options"] = ["rw" if option == "ro" else option for option in mount.get("options", ())]
    if host.initial and not host.rootless:
        linux.setdefault("resources", {})["devices"] = [{"allow": True, "access": "rwm"}]
        linux["devices"] = [node(device, device.path) for device in host.devices("/dev")]


# -- capabilities -----------------------------------------------------------------------------


def _capabilities(spec: dict[str, Any], args: Args, host: Host) -> None:
    """ALL first, then what is dropped, then what is added: as docker reads them in any order."""
    add, drop = _names(args.cap_add, "--cap-add"), _names(args.cap_drop, "--cap-drop")
    if not add and not drop:
        return
    names = list(spec["process"].get("capabilities", {}).get("bounding", ()))
    if "ALL" in add:
        names = host.capabilities()
    if "ALL" in drop:
        names = []
    names = [name for name in names if name not in drop]
    names += [name for name in add if name not in names and name != "ALL"]
    specs.set_capabilities(spec, names)


def _names(words: list[str], option: str) -> list[str]:
    found = []
    for word in (each for said in words for each in said.split(",")):  # podman's users say several at once
        name = word.upper()
        if name != "ALL" and not name.startswith("CAP_"):
            name = f"CAP_{name}"
        if name != "ALL" and name not in caps.NAMES:
            raise Usage(f"unknown capability for {option}", word)
        found.append(name)
    return found


# -- --security-opt ---------------------------------------------------------------------------


def _option(spec: dict[str, Any], word: str, host: Host) -> None:
    key, separator, value = word.partition("=")
    if not separator:
        key, separator, value = word.partition(":")  # docker's older form
    if key in ("no-new-privileges", "writable-cgroups") and (value or "true") in ("true", "false"):
        wanted = (value or "true") == "true"
        if key == "no-new-privileges":
            spec["process"]["noNewPrivileges"] = wanted
        else:
            cgroups(spec, wanted)
    elif key == "seccomp" and value:
        _seccomp(spec, value, host)
    elif word == "systempaths=unconfined":
        for name in ("maskedPaths", "readonlyPaths"):
            spec["linux"].pop(name, None)
    elif key == "apparmor" and value:
        spec["process"].pop("apparmorProfile", None)
        if value != "unconfined":
            spec["process"]["apparmorProfile"] = value
    elif key == "label" and value:
        _label(spec, value, word, host)
    elif key in ("masked-paths", "readonly-paths") and separator:
        paths = [path for path in value.split(":") if path]
        _check_paths(paths, word)
        spec["linux"]["maskedPaths" if key == "masked-paths" else "readonlyPaths"] = paths
    elif key in ("mask", "unmask") and value:
        _masks(spec, value.split(":"), word, masked=key == "mask")
    elif key == "proc-opts" and value:
        for mount in spec["mounts"]:
            if mount.get("type") == "proc":
                mount["options"] = [*mount.get("options", ()), *value.split(",")]
    else:
        raise Usage("invalid value for --security-opt", word)


def cgroups(spec: dict[str, Any], writable: bool) -> None:
    """Whether it may divide its own group."""
    for mount in spec["mounts"]:
        if mount.get("type") == "cgroup":
            kept = [option for option in mount.get("options", ()) if option not in ("ro", "rw")]
            mount["options"] = ["rw" if writable else "ro", *kept]


def _masks(spec: dict[str, Any], paths: list[str], word: str, masked: bool) -> None:
    """Paths that are hidden, or patterns of those that are not to be hidden or read-only; ALL: none is (podman)."""
    linux = spec["linux"]
    if masked or paths != ["ALL"]:
        _check_paths(paths, word)
    if masked:
        linux["maskedPaths"] = [*dict.fromkeys([*linux.get("maskedPaths", ()), *paths])]
        return
    for name in ("maskedPaths", "readonlyPaths"):
        if name in linux:
            linux[name] = [each for each in linux[name] if paths != ["ALL"] and not _covers(paths, each)]


def _check_paths(paths: list[str], word: str) -> None:
    if any(not path.startswith("/") for path in paths):
        raise Usage("invalid value for --security-opt", word, "paths must be absolute")


def _covers(patterns: list[str], path: str) -> bool:
    return any(units.matches(pattern.rstrip("/") or "/", path) for pattern in patterns)


def _label(spec: dict[str, Any], value: str, word: str, host: Host) -> None:
    """SELinux: `disable`, or one part of the label user:role:type:level; where there is no SELinux, nothing."""
    if value == "disable":
        spec["process"].pop("selinuxLabel", None)
        return
    part, colon, text = value.partition(":")
    if part not in LABEL or not colon or not text:
        raise Usage("invalid value for --security-opt", word, hint="label=disable or label=user|role|type|level:VALUE")
    if host.selinux():
        parts = (spec["process"].get("selinuxLabel") or DEFAULT_LABEL).split(":", 3)
        parts[LABEL.index(part)] = text
        spec["process"]["selinuxLabel"] = ":".join(parts)


def _seccomp(spec: dict[str, Any], value: str, host: Host) -> None:
    """unconfined, builtin, or a file in docker's form or runtime-spec's.

    What a profile lets through depends on the capabilities, so they are settled before.
    """
    from oci_tools.runtime import default_seccomp

    if value == "unconfined":
        spec["linux"].pop("seccomp", None)
    elif value == "builtin":
        able = spec["process"].get("capabilities", {}).get("bounding", [])
        spec["linux"]["seccomp"] = default_seccomp.profile(able)
    else:
        _profile(spec, host.text(value), value)


def _profile(spec: dict[str, Any], text: str, subject: str) -> None:
    from oci_tools.runtime import default_seccomp

    able = spec["process"].get("capabilities", {}).get("bounding", [])
    spec["linux"]["seccomp"] = default_seccomp.resolve(document.loads(text, subject), able, subject=subject)


# -- devices -----------------------------------------------------------------------------------


def _rules(spec: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spec["linux"].setdefault("resources", {}).setdefault("devices", [])
    return found


def _is_of_vendor(word: str) -> bool:
    from oci_tools.container import cdi

    return cdi.is_qualified(word)


def _device(spec: dict[str, Any], word: str, host: Host) -> None:
    """HOST[:PLACE][:rwm]: the device, or all in that directory, may be used and has a node there."""
    source, _, rest = word.partition(":")
    place, _, access = rest.partition(":")
    if rest and not access and not place.startswith("/"):
        place, access = "", place
    place, access = place or source, access or "rwm"
    if access.strip("rwm") or len(access) > 3:
        raise Usage("invalid device mode", access, hint="letters of rwm")
    if not place.startswith("/"):
        raise Usage("invalid device", word, hint="/dev/NAME[:/dev/NAME][:rwm]")
    for device in host.devices(source):
        path = place + device.path[len(source) :]
        known = spec["linux"].setdefault("devices", [])
        known[:] = [each for each in known if each["path"] != path]
        known.append(node(device, path))
        rule = {
            "allow": True,
            "type": device.kind,
            "major": device.major,
            "minor": device.minor,
            "access": access,
        }
        _rules(spec).append(rule)


def node(device: Device, path: str) -> dict[str, Any]:
    """An entry of linux.devices."""
    return {
        "path": path,
        "type": device.kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode,
        "uid": device.uid,
        "gid": device.gid,
    }


def _rule(word: str) -> dict[str, Any]:
    """--device-cgroup-rule 'c 1:3 rwm': a kind, numbers or *, an access."""
    parts = word.split(" ")
    numbers = parts[1].split(":") if len(parts) == 3 else []
    good = len(numbers) == 2 and parts[0] in "abc" and not parts[2].strip("rwm")
    if not good or not all(
        each == "*" or (each.isascii() and each.isdigit() and len(each) < 10) for each in numbers
    ):
        raise Usage("invalid device cgroup rule", word, hint="'c 1:3 rwm'")
    rule: dict[str, Any] = {"allow": True, "type": parts[0], "access": parts[2]}
    for name, value in zip(("major", "minor"), numbers, strict=True):
        if value != "*":
            rule[name] = int(value)
    return rule
