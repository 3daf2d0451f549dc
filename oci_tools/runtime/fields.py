"""The members of config.json that this runtime reads, and the types of each, as one table.

runtime-spec 1.3: config.md and config-linux.md.  The table is the small twin of the
schema in `oci_tools/schemas/config.json` (importing jsonschema costs 100 ms, this costs
nothing): a generated test holds the verdicts of the two equal.  What a schema cannot
say is in `rules.py`; members that nobody knows are ignored, as the specification asks.

    "text"         a string that the kernel can take: no NUL, encodable
    "bool"         true or false
    (low, high)    an integer in this range, ends included
    frozenset      one of these words
    function       a string of which function(string) holds
    [K] or [K, n]  an array of K, of at least n
    {"*": K}       an object with any members, each K
    {name: K}      an object with these members; under "" the names of those required
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def rlimit(text: str) -> bool:
    """RLIMIT_ and capital letters."""
    name = text[7:]
    return text[:7] == "RLIMIT_" and name.isascii() and name.isalpha() and name.isupper()


def page_size(text: str) -> bool:
    """A size of huge pages, like 2MB."""
    number = text[:-2]
    return text[-2:] in ("KB", "MB", "GB") and number.isascii() and number.isdigit() and number[0] != "0"


def cpu_list(text: str) -> bool:
    """A list of processors, like 0-3,7."""
    return not text.strip("0123456789, -")


def memory_bandwidth(text: str) -> bool:
    """One line that starts with MB:."""
    return text[:3] == "MB:" and "\n" not in text


INT32 = (-(1 << 31), (1 << 31) - 1)
INT64 = (-(1 << 63), (1 << 63) - 1)
UINT16 = (0, (1 << 16) - 1)
UINT32 = (0, (1 << 32) - 1)
UINT64 = (0, (1 << 64) - 1)
ANY_INTEGER = (float("-inf"), float("inf"))

TEXTS: Any = ["text"]
MAP: Any = {"*": "text"}

HOOK: Any = {
    "": ("path",),
    "path": "text", "args": TEXTS, "env": TEXTS, "timeout": (1, float("inf")),
}  # fmt: skip
MAPPINGS: Any = [{
    "": ("containerID", "hostID", "size"),
    "containerID": UINT32, "hostID": UINT32, "size": UINT32,
}]  # fmt: skip
MOUNT: Any = {
    "": ("destination",),
    "destination": "text", "type": "text", "source": "text", "options": TEXTS,
    "uidMappings": MAPPINGS, "gidMappings": MAPPINGS,
}  # fmt: skip
CAPABILITIES: Any = {
    "bounding": TEXTS, "permitted": TEXTS, "effective": TEXTS, "inheritable": TEXTS, "ambient": TEXTS,
}  # fmt: skip
USER: Any = {
    "uid": UINT32, "gid": UINT32, "umask": UINT32, "additionalGids": [UINT32], "username": "text",
}  # fmt: skip
SCHEDULER: Any = {
    "": ("policy",),
    "policy": frozenset((
        "SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE",
    )),
    "nice": INT32, "priority": INT32, "runtime": UINT64, "deadline": UINT64, "period": UINT64,
    "flags": [frozenset((
        "SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX",
    ))],
}  # fmt: skip
PROCESS: Any = {
    "": ("cwd",),
    "args": TEXTS, "commandLine": "text", "cwd": "text", "env": TEXTS, "terminal": "bool",
    "consoleSize": {"": ("height", "width"), "height": UINT64, "width": UINT64},
    "user": USER, "capabilities": CAPABILITIES, "noNewPrivileges": "bool",
    "apparmorProfile": "text", "selinuxLabel": "text", "oomScoreAdj": ANY_INTEGER,
    "ioPriority": {
        "": ("class",),
        "class": frozenset(("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")), "priority": INT32,
    },
    "scheduler": SCHEDULER,
    "rlimits": [{"": ("type", "soft", "hard"), "type": rlimit, "soft": UINT64, "hard": UINT64}],
    "execCPUAffinity": {"initial": cpu_list, "final": cpu_list},
}  # fmt: skip

ACTION = frozenset((
    "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY",
))  # fmt: skip
ARCHITECTURES = frozenset("SCMP_ARCH_" + name for name in (
    "X86", "X86_64", "X32", "ARM", "AARCH64", "LOONGARCH64", "M68K", "MIPS", "MIPS64", "MIPS64N32",
    "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "S390", "S390X", "SH", "SHEB",
    "PARISC", "PARISC64", "RISCV64",
))  # fmt: skip
SECCOMP: Any = {
    "": ("defaultAction",),
    "defaultAction": ACTION, "defaultErrnoRet": UINT32, "listenerPath": "text", "listenerMetadata": "text",
    "flags": [frozenset("SECCOMP_FILTER_FLAG_" + name for name in (
        "TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV",
    ))],
    "architectures": [ARCHITECTURES],
    "syscalls": [{
        "": ("names", "action"),
        "names": ["text", 1], "action": ACTION, "errnoRet": UINT32,
        "args": [{
            "": ("index", "value", "op"),
            "index": UINT32, "value": UINT64, "valueTwo": UINT64,
            "op": frozenset("SCMP_CMP_" + name for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")),
        }],
    }],
}  # fmt: skip

THROTTLE: Any = [{"": ("major", "minor"), "major": INT64, "minor": INT64, "rate": UINT64}]
RESOURCES: Any = {
    "unified": MAP,
    "devices": [{
        "": ("allow",),
        "allow": "bool", "type": "text", "major": INT64, "minor": INT64, "access": "text",
    }],
    "pids": {"": ("limit",), "limit": INT64},
    "blockIO": {
        "weight": UINT16, "leafWeight": UINT16,
        "weightDevice": [{
            "": ("major", "minor"),
            "major": INT64, "minor": INT64, "weight": UINT16, "leafWeight": UINT16,
        }],
        "throttleReadBpsDevice": THROTTLE, "throttleWriteBpsDevice": THROTTLE,
        "throttleReadIOPSDevice": THROTTLE, "throttleWriteIOPSDevice": THROTTLE,
    },
    "cpu": {
        "cpus": "text", "mems": "text", "shares": UINT64, "quota": INT64, "burst": UINT64, "period": UINT64,
        "realtimePeriod": UINT64, "realtimeRuntime": INT64, "idle": INT64,
    },
    "hugepageLimits": [{"": ("pageSize", "limit"), "pageSize": page_size, "limit": UINT64}],
    "memory": {
        "limit": INT64, "reservation": INT64, "swap": INT64, "kernel": INT64, "kernelTCP": INT64,
        "swappiness": UINT64, "disableOOMKiller": "bool", "useHierarchy": "bool", "checkBeforeUpdate": "bool",
    },
    "network": {
        "classID": UINT32,
        "priorities": [{"": ("name", "priority"), "name": "text", "priority": UINT32}],
    },
    "rdma": {"*": {"hcaHandles": UINT32, "hcaObjects": UINT32}},
}  # fmt: skip

NAMESPACES = frozenset(("mount", "pid", "network", "uts", "ipc", "user", "cgroup", "time"))
OFFSET: Any = {"secs": INT64, "nanosecs": UINT32}
LINUX: Any = {
    "namespaces": [{"": ("type",), "type": NAMESPACES, "path": "text"}],
    "uidMappings": MAPPINGS, "gidMappings": MAPPINGS,
    "devices": [{
        "": ("type", "path"),
        "type": frozenset("cbup"), "path": "text", "fileMode": (0, 0o777),
        "major": INT64, "minor": INT64, "uid": UINT32, "gid": UINT32,
    }],
    "netDevices": {"*": {"name": "text"}},
    "resources": RESOURCES, "cgroupsPath": "text", "seccomp": SECCOMP, "sysctl": MAP,
    # The specification names four; engines also write their recursive forms (podman: rslave).
    "rootfsPropagation": frozenset((
        "private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable",
    )),
    "maskedPaths": TEXTS, "readonlyPaths": TEXTS, "mountLabel": "text",
    "intelRdt": {
        "closID": "text", "schemata": TEXTS, "l3CacheSchema": "text", "memBwSchema": memory_bandwidth,
        "enableMonitoring": "bool",
    },
    "memoryPolicy": {
        "mode": frozenset("MPOL_" + name for name in (
            "DEFAULT", "BIND", "INTERLEAVE", "WEIGHTED_INTERLEAVE", "PREFERRED", "PREFERRED_MANY", "LOCAL",
        )),
        "nodes": "text",
        "flags": [frozenset(("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"))],
    },
    "personality": {"domain": frozenset(("LINUX", "LINUX32")), "flags": TEXTS},
    "timeOffsets": {"boottime": OFFSET, "monotonic": OFFSET},
}  # fmt: skip

CONFIG: Any = {
    "": ("ociVersion",),
    "ociVersion": "text", "hostname": "text", "domainname": "text", "annotations": MAP,
    "root": {"": ("path",), "path": "text", "readonly": "bool"},
    "mounts": [MOUNT],
    "process": PROCESS,
    "hooks": {
        "prestart": [HOOK], "createRuntime": [HOOK], "createContainer": [HOOK], "startContainer": [HOOK],
        "poststart": [HOOK], "poststop": [HOOK],
    },
    "linux": LINUX,
}  # fmt: skip

# Sections for other systems: the schema knows them, this table does not.
FOREIGN = ("solaris", "windows", "vm", "zos", "freebsd")
