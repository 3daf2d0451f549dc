"""What a container may do, in words, read out of its config.json.

    record   {"level": "warning" or "note", "path": JSON path, "text": words}

A warning is what lets a container reach further than Docker's default would: into the host, its kernel, other
containers.  A note is what it can do, or what holds it.  Nothing is asked of the host, so that a config.json of
another one is read as well.  The tables of what is dangerous are in `explanation_tables.py`.
"""

from __future__ import annotations

import os

from oci_tools.document import shown, step
from oci_tools.runtime import explanation_tables as tables
from oci_tools.runtime import spec as specs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Said = Iterator[tuple[str, str, str]]

FIELDS = ("level", "path", "text")
WARNING, NOTE = "warning", "note"


def explain(spec: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Records of a checked config.json."""
    parts = (_process, _capabilities, _namespaces, _seccomp, _paths, _root, _mounts, _devices, _limits, _outside)
    for part in parts:
        for level, path, text in part(spec):
            yield {"level": level, "path": path, "text": text}


def _linux(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec.get("linux", {})
    return found


def _spaces(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["type"]: each for each in _linux(spec).get("namespaces", ())}


# -- the process -----------------------------------------------------------------------------------


def _process(spec: dict[str, Any]) -> Said:
    process = spec.get("process")
    if process is None:
        yield NOTE, "process", "there is none: it cannot be started"
        return
    user = process.get("user", {})
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    words = " ".join(shown(word) for word in process.get("args", ()))
    yield NOTE, "process.args", f"runs {words} in {shown(process['cwd'])}"
    if uid == 0 and "user" not in _spaces(spec):
        yield NOTE, "process.user", "as root, the same as root of the host: what follows is all that holds it"
    else:
        groups = [each for each in user.get("additionalGids", ()) if each != gid]
        yield NOTE, "process.user", f"as user {uid}, group {gid}" + (f", and in groups {groups}" if groups else "")
    if process.get("noNewPrivileges"):
        yield NOTE, "process.noNewPrivileges", "no program gives it more privileges, whatever its set-id bits"
    else:
        yield WARNING, "process.noNewPrivileges", "programs with set-id bits or capabilities give it more privileges"
    if process.get("oomScoreAdj", 0) < 0:
        yield WARNING, "process.oomScoreAdj", "when memory runs out, the host's processes are killed before it"
    if process.get("scheduler", {}).get("policy") in ("SCHED_FIFO", "SCHED_RR", "SCHED_DEADLINE"):
        yield WARNING, "process.scheduler", "its real-time processes come before those of the host"
    if not process.get("apparmorProfile") and not process.get("selinuxLabel"):
        yield NOTE, "process.apparmorProfile", "neither AppArmor nor SELinux confines it"
    for name, what in (("apparmorProfile", "AppArmor's profile"), ("selinuxLabel", "SELinux's label")):
        if process.get(name):
            level = WARNING if process[name] in ("unconfined", "kernel") or ":spc_t" in process[name] else NOTE
            yield level, f"process.{name}", f"{what} is {shown(process[name])}"


def _capabilities(spec: dict[str, Any]) -> Said:
    process = spec.get("process", {})
    sets = process.get("capabilities", {})
    bounding, mapped = sets.get("bounding", []), "user" in _spaces(spec)
    if not any(sets.values()):
        yield NOTE, "process.capabilities", "it has no capabilities, and can get none"
        return
    extra = [name for name in bounding if name not in specs.CAPABILITIES]
    missing = [name for name in specs.CAPABILITIES if name not in bounding]
    beside = ", ".join([*(f"+{name[4:]}" for name in extra), *(f"-{name[4:]}" for name in missing)])
    text = f"{len(bounding)} capabilities at most, {beside or 'those of Docker'}"
    yield NOTE, "process.capabilities.bounding", text
    for name in bounding:
        words = tables.CAPABILITIES.get(name)
        if words and mapped:
            yield NOTE, f"process.capabilities.bounding[{name}]", f"only over what its user namespace owns: {words}"
        elif words:
            yield WARNING, f"process.capabilities.bounding[{name}]", words
    for kind in ("inheritable", "ambient"):
        if sets.get(kind):
            text = "whatever it executes has them" if kind == "ambient" else "a program with inheritable ones gets them"
            yield WARNING, f"process.capabilities.{kind}", f"{text}: {', '.join(sets[kind])}"
    if not sets.get("effective") and bounding:
        yield NOTE, "process.capabilities.effective", "none at its start: only a set-id program could give it some"


# -- what it sees of the host ------------------------------------------------------------------------


def _namespaces(spec: dict[str, Any]) -> Said:
    spaces, linux = _spaces(spec), _linux(spec)
    for kind, (level, words) in tables.NAMESPACES.items():
        if kind not in spaces:
            yield level, "linux.namespaces", f"{words}: it has no {kind} namespace of its own"
        elif spaces[kind].get("path"):
            path = f"linux.namespaces[type={kind}].path"
            yield WARNING if spaces[kind]["path"].startswith("/proc/1/") else NOTE, path, (
                f"shares the {kind} namespace {shown(spaces[kind]['path'])} with whoever is in there"
            )
    own = [kind for kind in spaces if not spaces[kind].get("path")]
    if own:
        yield NOTE, "linux.namespaces", f"has namespaces of its own: {', '.join(own)}"
    for at, entry in enumerate(linux.get("uidMappings", ())):
        first, last = entry["containerID"], entry["containerID"] + entry["size"] - 1
        if entry["hostID"] == 0 and first == 0:
            yield WARNING, f"linux.uidMappings[{at}]", "its root is root of the host"
        else:
            yield NOTE, f"linux.uidMappings[{at}]", f"its users {first} to {last} are {entry['hostID']} and on outside"
    for name in linux.get("netDevices", {}):
        yield WARNING, f"linux.netDevices{step(name)}", "takes a network device of the host"


def _seccomp(spec: dict[str, Any]) -> Said:
    seccomp = _linux(spec).get("seccomp")
    if seccomp is None:
        yield WARNING, "linux.seccomp", "every system call is open to it: there is no filter"
        return
    allowed = {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"}
    rules = seccomp.get("syscalls", ())
    named = {name for rule in rules if rule["action"] in allowed for name in rule["names"]}
    always = {name for rule in rules if rule["action"] in allowed and not rule.get("args") for name in rule["names"]}
    if seccomp["defaultAction"] in allowed:
        refusing = [rule for rule in rules if rule["action"] not in allowed and not rule.get("args")]
        denied = {name for rule in refusing for name in rule["names"]}
        yield WARNING, "linux.seccomp.defaultAction", f"every system call is open to it but {len(denied)}"
        always = tables.CALLS.keys() - denied
    else:
        text = f"{len(named)} system calls are open to it, {len(named - always)} of these with some arguments only"
        yield NOTE, "linux.seccomp", text
    for name in sorted(always & tables.CALLS.keys()):
        needed, words = tables.CALLS[name]
        able = spec.get("process", {}).get("capabilities", {}).get("bounding", ())
        level = WARNING if needed is None or needed in able else NOTE
        yield level, f"linux.seccomp.syscalls[{name}]", words + (f", with {needed}" if needed else "")
    if seccomp.get("listenerPath"):
        yield NOTE, "linux.seccomp.listenerPath", f"an agent at {shown(seccomp['listenerPath'])} decides on some calls"


def _paths(spec: dict[str, Any]) -> Said:
    linux = _linux(spec)
    masked, readonly = linux.get("maskedPaths", ()), linux.get("readonlyPaths", ())
    if not any(each.get("type") == "proc" or each["destination"] == "/proc" for each in spec.get("mounts", ())):
        return
    for path, words in tables.MASKED.items():
        if not _beneath(path, masked):
            yield WARNING, "linux.maskedPaths", f"{words}: {path} is not masked"
    for path, words in tables.READONLY.items():
        if not _beneath(path, readonly) and not _beneath(path, masked):
            yield WARNING, "linux.readonlyPaths", f"{words}: {path} is not read-only"
    others = [path for path in masked if path not in specs.MASKED and "thermal_throttle" not in path]
    if others:
        yield NOTE, "linux.maskedPaths", f"it does not see {', '.join(others)} either"


def _beneath(path: str, places: Any) -> bool:
    return any(path == each.rstrip("/") or path.startswith(f"{each.rstrip('/')}/") for each in places)


# -- files and devices ---------------------------------------------------------------------------------


def _root(spec: dict[str, Any]) -> Said:
    root = spec.get("root", {})
    path = root.get("path", "")
    if os.path.normpath(path) == "/":
        yield WARNING, "root.path", "its root is that of the host"
    yield NOTE, "root.readonly", "its root file system is " + ("read-only" if root.get("readonly") else "writable")
    if _linux(spec).get("rootfsPropagation", "").endswith("shared"):
        yield WARNING, "linux.rootfsPropagation", "what it mounts, the host may see"


def _mounts(spec: dict[str, Any]) -> Said:
    for mount in spec.get("mounts", ()):
        path = f"mounts[destination={mount['destination']}]"
        options = mount.get("options", ())
        writable = "ro" not in options or "rw" in options[options.index("ro") :]
        if {"bind", "rbind"}.intersection(options):
            yield from _bind(path, mount.get("source", ""), mount["destination"], writable)
        elif writable and mount.get("type") in ("sysfs", "cgroup", "cgroup2"):
            words = "controls its own cgroup" if mount["type"] != "sysfs" else "changes settings of devices and drivers"
            yield NOTE if mount["type"] != "sysfs" else WARNING, path, f"it {words}: {mount['type']} is writable"
        elif mount.get("type") not in ("proc", "tmpfs", "devpts", "mqueue", "sysfs", "cgroup", "cgroup2", "overlay"):
            yield WARNING, path, f"the kernel reads a file system of type {shown(mount.get('type'))} for it"
        if any(option in ("shared", "rshared") for option in options):
            yield WARNING, path, "what it mounts there, the host sees"


def _bind(path: str, source: str, destination: str, writable: bool) -> Said:
    how = "reads and writes" if writable else "reads"
    place = os.path.normpath(source)
    for danger, words in tables.SOURCES.items():
        if place == danger or (danger.endswith("/*") and place.startswith(danger[:-1])):
            yield WARNING, path, f"{how} {shown(source)} of the host: {words}"
            return
    yield NOTE, path, f"{how} {shown(source)} of the host at {shown(destination)}"


def _devices(spec: dict[str, Any]) -> Said:
    linux = _linux(spec)
    for device in linux.get("devices", ()):
        path = f"linux.devices[path={device['path']}]"
        number = (device["type"].replace("u", "c"), device.get("major"), device.get("minor"))
        words = tables.DEVICES.get(number) or ("reads and writes a disk" if number[0] == "b" else None)
        text = f"{number[0]} {number[1]}:{number[2]}"
        yield WARNING if words else NOTE, path, f"{words}: {text}" if words else f"has the device {text}"
    everything = True  # as long as no rule says otherwise
    for rule in linux.get("resources", {}).get("devices", ()):
        whole = rule.get("type", "a") in ("", "a") and "major" not in rule and "minor" not in rule
        if whole and set(rule.get("access") or "rwm") >= set("rwm"):
            everything = rule["allow"]
    if "devices" not in linux.get("resources", {}):
        yield NOTE, "linux.resources.devices", "no rules: which devices it may use is the runtime's decision"
    elif everything:
        yield WARNING, "linux.resources.devices", "it may use every device of the host that it has a node of"


def _limits(spec: dict[str, Any]) -> Said:
    resources = _linux(spec).get("resources", {})
    memory, cpu, pids = resources.get("memory", {}), resources.get("cpu", {}), resources.get("pids", {})
    for path, value, what in (
        ("linux.resources.memory.limit", memory.get("limit", -1), "bytes of memory"),
        ("linux.resources.pids.limit", pids.get("limit", -1), "processes"),
    ):
        yield NOTE, path, f"at most {value} {what}" if value >= 0 else f"any number of {what}"
    if cpu.get("quota", -1) > 0 and cpu.get("period", 0) > 0:
        yield NOTE, "linux.resources.cpu.quota", f"at most {cpu['quota'] / cpu['period']:g} processors"
    else:
        yield NOTE, "linux.resources.cpu.quota", "any share of the processors"
    if memory.get("disableOOMKiller"):
        yield WARNING, "linux.resources.memory.disableOOMKiller", "it stops, and keeps its memory, when that runs out"
    for entry in spec.get("process", {}).get("rlimits", ()):
        path = f"process.rlimits[type={entry['type']}]"
        yield NOTE, path, f"{entry['type'][7:].lower()} is limited to {entry['soft']}, at most {entry['hard']}"
    for name, value in _linux(spec).get("sysctl", {}).items():
        yield NOTE, f"linux.sysctl{step(name)}", f"sets the kernel's {name} to {shown(value)}"


def _outside(spec: dict[str, Any]) -> Said:
    """What is run on the host for it, and what steers the runtime."""
    for kind, hooks in spec.get("hooks", {}).items():
        for at, hook in enumerate(hooks):
            inside = kind == "startContainer"
            where = "in the container" if inside else "on the host, as whoever runs the container"
            yield NOTE if inside else WARNING, f"hooks.{kind}[{at}]", f"runs {shown(hook['path'])} {where}"
    for name in spec.get("annotations", {}):
        if name.startswith(tables.ANNOTATIONS):
            yield WARNING, f"annotations{step(name)}", "changes what the runtime does"
