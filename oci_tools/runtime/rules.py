"""What a schema cannot say about config.json, for a container on Linux.

runtime-spec 1.3, config.md and config-linux.md: values that exclude or need one
another, paths that must be absolute, names that the kernel must know ("unknown
properties are ignored, unknown values are errors").  The types are known to be right
when these rules run (`check.py`).  Never refused: an ociVersion, whatever its minor
(other runtimes tried, and broke everybody), and capabilities that cannot be granted,
which the specification only wants a warning for.
"""

from __future__ import annotations

from oci_tools.document import shown, step, wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

MAX_ID = (1 << 32) - 2  # 2^32 - 1 is -1: "leave it as it is" to setresuid(2)

RLIMITS = {
    "RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5, "RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10, "RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}  # fmt: skip

# What every mount understands; any other option is data for the file system (config.md, "Linux mount
# options"), and a bind mount has no file system to give it to.
MOUNT_OPTIONS = frozenset((
    "copy-symlink", "dest-nofollow", "src-nofollow",  # crun's
    "async", "bind", "defaults", "dirsync", "idmap", "iversion", "lazytime", "loud", "mand", "noiversion",
    "nolazytime", "nomand", "private", "rbind", "remount", "ridmap", "rprivate", "rshared", "rslave",
    "runbindable", "shared", "silent", "slave", "sync", "tmpcopyup", "unbindable",
    *(before + name for before in ("", "r") for name in (
        "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "atime", "noatime", "diratime",
        "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "symfollow", "nosymfollow",
    )),
))  # fmt: skip
THROTTLES = ("throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice")
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def check(spec: dict[str, Any], subject: str) -> None:
    """Raise Error, with the JSON path, for the first rule that is broken."""
    for rule in RULES:
        for path, what in rule(spec):
            raise wrong(subject, path, what)


def _linux_of(spec: dict[str, Any]) -> dict[str, Any]:
    linux: dict[str, Any] = spec.get("linux", {})
    return linux


def _types(spec: dict[str, Any]) -> set[str]:
    """The types of the namespaces that the container gets or joins."""
    return {each["type"] for each in _linux_of(spec).get("namespaces", ())}


def _absolute(path: str, value: str) -> Iterable[tuple[str, str]]:
    if not value.startswith("/"):
        yield path, f"expected an absolute path, got {shown(value)}"


def _environment(path: str, env: list[str]) -> Iterable[tuple[str, str]]:
    for at, entry in enumerate(env):
        if entry.find("=") < 1:
            yield f"{path}[{at}]", f"expected NAME=VALUE, got {shown(entry)}"


def _range(path: str, value: int | None, low: int, high: int) -> Iterable[tuple[str, str]]:
    if value is not None and not low <= value <= high:
        yield path, f"expected an integer from {low} to {high}, got {value}"


def _top(spec: dict[str, Any]) -> Iterable[tuple[str, str]]:
    if "windows" in spec or "vm" in spec:
        return
    if "root" not in spec:
        yield "root", "missing"
    elif not spec["root"]["path"]:
        yield "root.path", 'expected a path, got ""'
    for name in ("hostname", "domainname"):
        if len(spec.get(name, "").encode("utf-8", "surrogateescape")) > 64:
            yield name, f"expected at most 64 bytes, got {shown(spec[name])}"
    if "" in spec.get("annotations", ()):
        yield 'annotations[""]', "expected a name that is not empty"


def _process(spec: dict[str, Any]) -> Iterable[tuple[str, str]]:
    process = spec.get("process")
    if process is None or "windows" in spec:
        return
    yield from _absolute("process.cwd", process["cwd"])
    if not process.get("args"):
        yield "process.args", "expected at least one word" if "args" in process else "missing"
    yield from _environment("process.env", process.get("env", []))
    user = process.get("user", {})
    yield from _range("process.user.uid", user.get("uid"), 0, MAX_ID)
    yield from _range("process.user.gid", user.get("gid"), 0, MAX_ID)
    for at, gid in enumerate(user.get("additionalGids", ())):
        yield from _range(f"process.user.additionalGids[{at}]", gid, 0, MAX_ID)
    for name, size in process.get("consoleSize", {}).items():
        if name in ("height", "width"):
            yield from _range(f"process.consoleSize.{name}", size, 0, 65535)  # struct winsize


def _limits(spec: dict[str, Any]) -> Iterable[tuple[str, str]]:
    process = spec.get("process", {})
    seen = set()
    for at, limit in enumerate(process.get("rlimits", ())):
        path, name = f"process.rlimits[{at}]", limit["type"]
        if name not in RLIMITS:
            yield f"{path}.type", f"unknown limit {shown(name)}"
        if name in seen:
            yield f"{path}.type", f"second limit of type {shown(name)}"
        if limit["soft"] > limit["hard"]:
            yield f"{path}.soft", f"expected at most the hard limit {limit['hard']}, got {limit['soft']}"
        seen.add(name)
    yield from _range("process.oomScoreAdj", process.get("oomScoreAdj"), -1000, 1000)
    yield from _range("process.ioPriority.priority", process.get("ioPriority", {}).get("priority"), 0, 7)
    scheduler = process.get("scheduler", {})
    yield from _range("process.scheduler.nice", scheduler.get("nice"), -20, 19)
    real = scheduler.get("policy") in ("SCHED_FIFO", "SCHED_RR")
    yield from _range("process.scheduler.priority", scheduler.get("priority"), 0, 99 if real else 0)
    if scheduler.get("policy") != "SCHED_DEADLINE":
        for name in ("runtime", "deadline", "period"):
            if scheduler.get(name):
                yield f"process.scheduler.{name}", "only SCHED_DEADLINE takes it"


def _mounts(spec: dict[str, Any]) -> Iterable[tuple[str, str]]:
    mapped = bool(_linux_of(spec).get("uidMappings")) or "user" in _types(spec)
    for at, mount in enumerate(spec.get("mounts", ())):
        path, options = f"mounts[{at}]", mount.get("options", ())
        if not mount["destination"]:
            yield f"{path}.destination", 'expected a path, got ""'
        own = "uidMappings" in mount
        if own != ("gidMappings" in mount):
            yield f"{path}.{'gidMappings' if own else 'uidMappings'}", "missing"
        yield from _mappings(path, mount)
        bind = "bind" in options or "rbind" in options or mount.get("type") == "bind"
        if bind and not mount.get("source"):
            yield f"{path}.source", "missing"
        for i, option in enumerate(options):
            if option in ("idmap", "ridmap") and not own and not mapped:
                yield f"{path}.options[{i}]", f"{option} needs mappings of the mount or a user namespace"
            if bind and option not in MOUNT_OPTIONS and "=" not in option:
                yield f"{path}.options[{i}]", f"a bind mount takes no option {shown(option)} of a file system"


def _mappings(path: str, holder: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for name in ("uidMappings", "gidMappings"):
        for at, each in enumerate(holder.get(name, ())):
            if not each["size"]:
                yield f"{path}.{name}[{at}].size", "expected at least 1, got 0"
            for side in ("containerID", "hostID"):
                if each[side] + each["size"] > MAX_ID + 1:
                    yield f"{path}.{name}[{at}]", f"ids from {each[side]} on end before {each['size']} more"


def _hooks(spec: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for kind, hooks in spec.get("hooks", {}).items():
        if kind in HOOKS:
            for at, hook in enumerate(hooks):
                yield from _absolute(f"hooks.{kind}[{at}].path", hook["path"])
                yield from _environment(f"hooks.{kind}[{at}].env", hook.get("env", []))


def _namespaces(spec: dict[str, Any]) -> Iterable[tuple[str, str]]:
    linux, seen = _linux_of(spec), set()
    new_user = False
    for at, each in enumerate(linux.get("namespaces", ())):
        if each["type"] in seen:
            yield f"linux.namespaces[{at}].type", f"second namespace of type {shown(each['type'])}"
        seen.add(each["type"])
        if each.get("path"):
            yield from _absolute(f"linux.namespaces[{at}].path", each["path"])
        elif each["type"] == "user":
            new_user = True
    for name in ("uidMappings", "gidMappings"):
        if new_user and not linux.get(name):
            yield f"linux.{name}", "missing, and the new user namespace needs it"
        if linux.get(name) and "user" not in seen:
            yield f"linux.{name}", "needs a user namespace"
    yield from _mappings("linux", linux)
    for name in ("hostname", "domainname"):
        if spec.get(name) and "uts" not in seen:
            yield name, "needs a uts namespace"
    if linux.get("timeOffsets") and "time" not in seen:
        yield "linux.timeOffsets", "needs a time namespace"
    for clock in ("boottime", "monotonic"):
        offset = linux.get("timeOffsets", {}).get(clock, {})
        yield from _range(f"linux.timeOffsets.{clock}.nanosecs", offset.get("nanosecs"), 0, 999_999_999)
    if linux.get("netDevices") and "network" not in seen:
        yield "linux.netDevices", "unable to move network devices without a NET namespace"
    for name, device in linux.get("netDevices", {}).items():
        yield from _interface(f"linux.netDevices{step(name)}", name)
        if device.get("name"):
            yield from _interface(f"linux.netDevices{step(name)}.name", device["name"])


def _interface(path: str, name: str) -> Iterable[tuple[str, str]]:
    """A name that the kernel takes for a network device (dev_valid_name, IFNAMSIZ)."""
    bad = not name or name in (".", "..") or any(c in "/:" or c.isspace() for c in name)
    if bad or len(name.encode("utf-8", "surrogateescape")) > 15:
        yield path, f"expected the name of a network device, got {shown(name)}"


def _linux(spec: dict[str, Any]) -> Iterable[tuple[str, str]]:
    linux = _linux_of(spec)
    for name in ("maskedPaths", "readonlyPaths"):
        for at, path in enumerate(linux.get(name, ())):
            yield from _absolute(f"linux.{name}[{at}]", path)
    for name in linux.get("sysctl", ()):
        if any(part in ("", "..") for part in name.replace("/", ".", name.count("/")).split(".")):
            yield f"linux.sysctl{step(name)}", "expected the name of a kernel parameter"
    rdt = linux.get("intelRdt", {})
    for at, line in enumerate([*rdt.get("schemata", ()), rdt.get("l3CacheSchema", "")]):
        if "\n" in line:
            part = f"schemata[{at}]" if at < len(rdt.get("schemata", ())) else "l3CacheSchema"
            yield f"linux.intelRdt.{part}", f"expected one line, got {shown(line)}"
    if "/" in rdt.get("closID", "") or rdt.get("closID") in (".", ".."):
        yield "linux.intelRdt.closID", f"expected a name, got {shown(rdt['closID'])}"
    if "personality" in linux and "domain" not in linux["personality"]:
        yield "linux.personality.domain", "missing"
    if linux.get("personality", {}).get("flags"):
        yield "linux.personality.flags", "no flags are known"


def _devices(spec: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for at, device in enumerate(_linux_of(spec).get("devices", ())):
        path = f"linux.devices[{at}]"
        yield from _absolute(f"{path}.path", device["path"])
        if device["type"] != "p":
            for name, high in (("major", 4095), ("minor", 1_048_575)):  # 12 and 20 bits
                if name not in device:
                    yield f"{path}.{name}", "missing"
                yield from _range(f"{path}.{name}", device.get(name), 0, high)
        for name in ("uid", "gid"):
            yield from _range(f"{path}.{name}", device.get(name), 0, MAX_ID)


def _resources(spec: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for path, what in resources(_linux_of(spec).get("resources", {})):
        yield f"linux.resources.{path}", what


def resources(found: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """What is wrong with a `linux.resources`, as a configuration has it and `update` takes it."""
    for at, rule in enumerate(found.get("devices", ())):
        if rule.get("type", "a") not in ("", "a", "b", "c"):
            yield f"devices[{at}].type", f"expected one of a, b, c, got {shown(rule['type'])}"
        if rule.get("access", "").strip("rwm"):
            yield f"devices[{at}].access", f"expected letters of rwm, got {shown(rule['access'])}"
    memory, cpu = found.get("memory", {}), found.get("cpu", {})
    if 0 < memory.get("swap", 0) < memory.get("limit", 0):
        yield "memory.swap", f"expected at least the memory limit {memory['limit']}, got {memory['swap']}"
    yield from _range("memory.swappiness", memory.get("swappiness"), 0, 100)
    if cpu.get("quota", 0) > 0 and cpu.get("burst", 0) > cpu["quota"]:
        yield "cpu.burst", f"expected at most the quota {cpu['quota']}, got {cpu['burst']}"
    yield from _range("cpu.idle", cpu.get("idle"), 0, 1)
    for kind in THROTTLES:
        for at, entry in enumerate(found.get("blockIO", {}).get(kind, ())):
            if "rate" not in entry:
                yield f"blockIO.{kind}[{at}].rate", "missing"
    for name in found.get("unified", ()):
        if not name or "/" in name or name in (".", ".."):
            yield f"unified{step(name)}", "expected the name of a file of the cgroup"


def seccomp(spec: dict[str, Any]) -> Iterable[tuple[str, str]]:
    seccomp = _linux_of(spec).get("seccomp")
    if seccomp is None:
        return
    listener = seccomp.get("listenerPath")
    if seccomp.get("listenerMetadata") and not listener:
        yield "linux.seccomp.listenerMetadata", "needs listenerPath"
    if seccomp["defaultAction"] == "SCMP_ACT_NOTIFY":
        yield "linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY cannot be the default"
    default = seccomp.get("defaultErrnoRet")
    yield from _errno("linux.seccomp.defaultErrnoRet", seccomp["defaultAction"], default)
    for at, rule in enumerate(seccomp.get("syscalls", ())):
        path, action = f"linux.seccomp.syscalls[{at}]", rule["action"]
        if "errnoRet" in rule:
            yield from _errno(f"{path}.errnoRet", action, rule["errnoRet"])
        if action == "SCMP_ACT_NOTIFY":
            if not listener:
                yield f"{path}.action", "SCMP_ACT_NOTIFY needs listenerPath"
            for name in ("write", "sendmsg"):  # the runtime itself still needs them behind the filter
                if name in rule["names"]:
                    yield f"{path}.action", f"SCMP_ACT_NOTIFY cannot be used for the {name} syscall"
        for i, arg in enumerate(rule.get("args", ())):
            yield from _range(f"{path}.args[{i}].index", arg["index"], 0, 5)


def _errno(path: str, action: str, value: int | None) -> Iterable[tuple[str, str]]:
    """An error number: 16 bits beside the action, of which the kernel takes 4095 as an errno."""
    if value is None:
        return
    if action not in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        yield path, f"{action} takes no error number"
    yield from _range(path, value, 0, 4095 if action == "SCMP_ACT_ERRNO" else 65535)


RULES = (_top, _process, _limits, _mounts, _hooks, _namespaces, _linux, _devices, _resources, seccomp)
