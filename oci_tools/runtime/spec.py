"""config.json: the default one, one made from an image's configuration, one read from a bundle.

runtime-spec config.md and config-linux.md; image-spec conversion.md; the default is in
effect what Docker gives a container (moby, daemon/pkg/oci/defaults.go), with the two
differences that `default` names.  Whether a config.json is right is said by `check.py`.
Documents are plain dicts with the specification's names.
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.runtime import check as checking
from oci_tools.runtime import user as users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.runtime.user import Read

VERSION = "1.3.0"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_CONFIG = 16 << 20  # bytes of a config.json

CAPABILITIES = tuple("CAP_" + name for name in (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP",
    "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
))  # fmt: skip
# What tells about, or reaches, the host through /proc and /sys.  GHSA-6fw5-f8r9-fgfm (interrupts and
# thermal throttling) and GHSA-jq35-85cj-fj4p (powercap) are side channels.
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
    "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# null, zero, random, urandom, tty, console: (major, minor)
DEVICES = ((1, 3), (1, 5), (1, 8), (1, 9), (5, 0), (5, 1))


def read(path: str) -> bytes:
    """The bytes of a config.json, or of the one of a bundle."""
    if os.path.isdir(path):
        path = os.path.join(path, "config.json")
    return document.read(path, MAX_CONFIG)


def load(bundle: str, config: str | None = None) -> dict[str, Any]:
    """The checked config.json of a bundle, or `config` in its place: there is a process, and who it runs as is said."""
    path = config or os.path.join(bundle, "config.json")
    data = document.read(path, MAX_CONFIG)
    spec: dict[str, Any] = document.loads(data, path)
    checking.check(spec)
    if "process" not in spec:
        raise document.wrong("config.json", "process", "missing")
    spec["process"]["user"] = {"uid": 0, "gid": 0, **spec["process"].get("user", {})}
    return spec


def write(args: Any, _: str) -> None:
    """`oci-run spec`: a new config.json with what runc's has: a terminal, a read-only root, three capabilities."""
    path = os.path.join(args.bundle, "config.json")
    made = default(args.rootless)
    made["process"].update(terminal=True, env=[PATH, "TERM=xterm"])
    made["root"]["readonly"] = True
    set_capabilities(made, ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"))
    if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):  # as others: on v1 they leave it out
        made["linux"]["namespaces"] = [each for each in made["linux"]["namespaces"] if each["type"] != "cgroup"]
    try:
        with open(path, "xb") as file:
            file.write(document.dumps(made, indent=4))
    except FileExistsError:
        raise Error("cannot write", path, "file exists", "remove it first") from None
    except OSError as error:
        raise Error("cannot write", path, error) from None


def default(rootless: bool = False, maps: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a container gets when nobody says otherwise.

    Two differences from Docker: no_new_privs is on (the safer default; `oci-spec set
    process.noNewPrivileges=false`), and the time namespace, which changes nothing until
    offsets are given, is left to the one-shot containers of `container/`, because runtimes
    that Debian ships refuse it.  `rootless` is for a user who is not root on the host.
    """
    spec: dict[str, Any] = {
        "ociVersion": VERSION,
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [PATH],
            "cwd": "/",
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "container",
        "mounts": _mounts(),
        "linux": {
            "namespaces": [{"type": kind} for kind in ("mount", "network", "uts", "pid", "ipc", "cgroup")],
            "resources": {"devices": _device_rules()},
            "maskedPaths": [*MASKED, *_throttles()],
            "readonlyPaths": list(READONLY),
        },
    }
    set_capabilities(spec, CAPABILITIES)
    return make_rootless(spec, maps=maps) if rootless else spec


def make_rootless(
    spec: dict[str, Any], uid: int | None = None, gid: int | None = None, maps: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Change a specification so that a plain user can run it: one id, inside and outside.

    A user namespace that maps root to that user, or what `maps` say, {"uidMappings", "gidMappings"};
    gid 5 for terminals may not be mapped in it;
    /sys is bound, since a new one needs a network namespace of one's own on a host that
    hides nothing of it; cgroups belong to somebody else.
    """
    linux = spec["linux"]
    others = [each for each in linux["namespaces"] if each["type"] != "user"]
    linux["namespaces"] = [*others, {"type": "user"}]
    for name, host in (("uidMappings", os.geteuid() if uid is None else uid),
                       ("gidMappings", os.getegid() if gid is None else gid)):  # fmt: skip
        linux[name] = maps[name] if maps else [{"containerID": 0, "hostID": host, "size": 1}]
    terminals = any(e["containerID"] <= 5 < e["containerID"] + e["size"] for e in linux["gidMappings"])
    linux.pop("resources", None)
    kept = []
    for mount in spec["mounts"]:
        if mount.get("type") == "sysfs":
            mount = {
                "destination": mount["destination"],
                "type": "none",
                "source": "/sys",
                # recursively: with a delegated cgroup below, "ro" alone would leave that writable (CVE-2023-25809)
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro", "rro"],
            }
        elif mount.get("type") == "cgroup":
            continue
        elif mount.get("type") == "devpts" and not terminals:
            mount = {**mount, "options": [o for o in mount["options"] if not o.startswith("gid=")]}
        kept.append(mount)
    spec["mounts"] = kept
    return spec


def set_capabilities(spec: dict[str, Any], names: tuple[str, ...] | list[str]) -> None:
    """Give the process these capabilities, as execve(2) would: a user other than root gets
    none at once, only the bound of what a file may give.  Inheritable stays empty
    (CVE-2022-29162)."""
    process = spec["process"]
    process["capabilities"] = {"bounding": list(names)}
    if process.get("user", {}).get("uid", 0) == 0:
        process["capabilities"].update(effective=list(names), permitted=list(names))


def _mounts() -> list[dict[str, Any]]:
    plain = ["nosuid", "noexec", "nodev"]
    entries = (
        ("/proc", "proc", "proc", plain),
        ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", "devpts",
         ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/sys", "sysfs", "sysfs", [*plain, "ro"]),
        ("/sys/fs/cgroup", "cgroup", "cgroup", ["ro", *plain]),
        ("/dev/mqueue", "mqueue", "mqueue", plain),
        ("/dev/shm", "tmpfs", "shm", [*plain, "mode=1777", "size=65536k"]),
    )  # fmt: skip
    return [
        {"destination": where, "type": kind, "source": source, "options": list(options)}
        for where, kind, source, options in entries
    ]


def _device_rules() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for major, minor in DEVICES:
        rules.append({"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"})
    return rules


def _throttles(cpus: str = "/sys/devices/system/cpu") -> list[str]:
    """The thermal counters of each processor that has some."""
    try:
        names = [name for name in os.listdir(cpus) if name[:3] == "cpu" and name[3:].isdigit()]
    except OSError:
        return []
    paths = [f"{cpus}/{name}/thermal_throttle" for name in sorted(names, key=lambda name: int(name[3:]))]
    return [path for path in paths if os.path.exists(path)]


# -- from an image -------------------------------------------------------------------

_TEXT_LIST: Any = ["text"]
_IMAGE: Any = {
    "architecture": "text", "os": "text", "variant": "text", "os.version": "text", "os.features": _TEXT_LIST,
    "author": "text", "created": "text",
    "config": {
        "User": "text", "Env": _TEXT_LIST, "Entrypoint": _TEXT_LIST, "Cmd": _TEXT_LIST, "WorkingDir": "text",
        "StopSignal": "text", "ExposedPorts": {"*": {}}, "Volumes": {"*": {}},
    },
}  # fmt: skip
_ANNOTATION = "org.opencontainers.image."


def from_image(
    image: dict[str, Any], rootfs: int | str | Read | None, base: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The specification that an image's configuration asks for (image-spec, conversion.md).

    rootfs  where a user's name is looked up: the tree, as a descriptor or path, or a
            function that reads a file of it (None if absent); None: numbers only
    base    what is changed and returned; `default()` if None

    Labels do not become annotations, though conversion.md would have it: annotations
    steer runtimes and engines, and an image is a stranger's (CVE-2026-53488).
    """
    image = image_config(image)
    config: dict[str, Any] = image["config"]
    spec = default() if base is None else base
    process = spec["process"]
    process["env"] = environment(process.get("env", []), config.get("Env", []))
    args = config.get("Entrypoint", []) + config.get("Cmd", [])
    if args:
        process["args"] = args
    process["cwd"] = directory(config.get("WorkingDir", ""))
    set_user(spec, users.resolve(config.get("User", ""), rootfs))
    spec.setdefault("annotations", {}).update(_annotations(image, config))
    return spec


def set_user(spec: dict[str, Any], user: dict[str, Any]) -> None:
    """Run the process as this user; capabilities follow, as they do for Docker."""
    process = spec["process"]
    process["user"] = user
    set_capabilities(spec, process.get("capabilities", {}).get("bounding", []))


def image_config(image: dict[str, Any]) -> dict[str, Any]:
    """An image's configuration with its types checked; nulls, which Go writes for "nothing", left out."""
    subject = "image config"
    if not isinstance(image, dict):
        raise document.wrong(subject, "", f"expected an object, got {document.shown(image)}")
    image = {name: value for name, value in image.items() if value is not None}
    config = image.get("config", {})
    if isinstance(config, dict):
        config = {name: value for name, value in config.items() if value is not None}
    image["config"] = config
    checking.fields(image, _IMAGE, subject)
    for at, entry in enumerate(config.get("Env", ())):
        if entry.find("=") < 1:
            what = f"expected NAME=VALUE, got {document.shown(entry)}"
            raise document.wrong(subject, f"config.Env[{at}]", what)
    return image


def environment(base: list[str], more: list[str]) -> list[str]:
    """`base` with the variables of `more` set in place or added."""
    values = {entry.partition("=")[0]: entry for entry in base}
    for entry in more:
        values[entry.partition("=")[0]] = entry
    return list(values.values())


def directory(path: str) -> str:
    """A working directory as an absolute path; whether it leads anywhere is seen inside the container."""
    return "/" + os.path.normpath("/" + path).lstrip("/")


def _annotations(image: dict[str, Any], config: dict[str, Any]) -> dict[str, str]:
    names = ("os", "architecture", "variant", "os.version", "author", "created")
    said = {name: image.get(name) for name in names}
    said["os.features"] = ",".join(image.get("os.features", ()))
    said["stopSignal"] = config.get("StopSignal")
    said["exposedPorts"] = ",".join(config.get("ExposedPorts", ()))
    return {_ANNOTATION + name: value for name, value in said.items() if value}
