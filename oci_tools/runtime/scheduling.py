"""How the kernel schedules and bounds a process: policy, i/o priority, processors, memory nodes, limits.

runtime-spec, "Process: rlimits, scheduler, ioPriority, execCPUAffinity" and "Linux: memoryPolicy";
sched_setattr(2), ioprio_set(2), sched_setaffinity(2), set_mempolicy(2).  Applied by the
container side to itself, before it gives up its privileges.
"""

from __future__ import annotations

import os
from struct import pack

from oci_tools.errors import Error
from oci_tools.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}  # fmt: skip
_RLIMITS = {
    name: number
    for number, name in enumerate(
        "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME".split()
    )
}
_SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x1, "SCHED_FLAG_RECLAIM": 0x2, "SCHED_FLAG_DL_OVERRUN": 0x4,
    "SCHED_FLAG_KEEP_POLICY": 0x8, "SCHED_FLAG_KEEP_PARAMS": 0x10, "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}  # fmt: skip
CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
MODES = {
    "MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5, "MPOL_WEIGHTED_INTERLEAVE": 6,
}  # fmt: skip
MODE_FLAGS = {"MPOL_F_NUMA_BALANCING": 1 << 13, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_STATIC_NODES": 1 << 15}
PERSONALITIES = {"LINUX": 0x0, "LINUX32": 0x8}
_IOPRIO_WHO_PROCESS = 1
_MOST = 1024  # processors; more than there are is no error


def apply(process: dict[str, Any], linux: dict[str, Any]) -> None:
    """What the configuration asks for, the rest as it is."""
    if process.get("scheduler"):
        _scheduler(process["scheduler"])
    if process.get("ioPriority"):
        entry = process["ioPriority"]
        value = CLASSES[entry["class"]] << 13 | (entry.get("priority") or 0)
        _call("process.ioPriority", "ioprio_set", _IOPRIO_WHO_PROCESS, 0, value)
    if linux.get("personality"):
        _call("linux.personality", "personality", PERSONALITIES[linux["personality"]["domain"]])
    if linux.get("memoryPolicy"):
        _memory_policy(linux["memoryPolicy"])


def run_on(cpus: str | None) -> None:
    """`process.execCPUAffinity`: be moved to these processors, a list like 0-3,7."""
    if cpus:
        try:
            os.sched_setaffinity(0, numbers(cpus))
        except OSError as error:
            raise Error("config.json: process.execCPUAffinity: cannot use", cpus, error) from None


def run_anywhere() -> None:
    """As runc: not only on those processors that its caller has; the cgroup's are what counts."""
    try:
        os.sched_setaffinity(0, range(_MOST))
    except OSError:
        pass  # all that are there are allowed then


def numbers(text: str) -> list[int]:
    """The numbers of a list like 0-3,7 (cpuset(7), "List format")."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(last) < 1 << 16):
            raise Error("not a list of numbers, or of such high ones", text)
        found += range(int(first), int(last) + 1)
    return found


def set_rlimits(limits: list[dict[str, Any]]) -> None:
    """`process.rlimits`, by prlimit(2): the `resource` module is not built in."""
    for entry in limits:
        number = _RLIMITS.get(entry["type"].removeprefix("RLIMIT_"))
        if number is None:
            raise Error("config.json: process.rlimits: unknown type", entry["type"])
        values = pack("QQ", *(value & 0xFFFFFFFFFFFFFFFF for value in (entry["soft"], entry["hard"])))
        try:
            libc.call("prlimit64", 0, number, values, 0)
        except OSError as error:
            raise Error("cannot set rlimit", entry["type"], error) from None


def set_oom_score(pid: int, wanted: dict[str, Any]) -> None:
    """`process.oomScoreAdj`, with our rights: a mapped root has none to lower it, nor to write there at all."""
    score = wanted.get("oomScoreAdj")
    if score is None:
        return
    try:
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        try:
            if int(os.read(fd, 16)) != score:
                os.write(fd, str(score).encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise Error(f"cannot set oomScoreAdj to '{score}'", None, error) from None


def _scheduler(entry: dict[str, Any]) -> None:
    """struct sched_attr { u32 size, policy; u64 flags; s32 nice; u32 priority; u64 runtime, deadline, period }"""
    flags = sum(_SCHED_FLAGS[flag] for flag in entry.get("flags") or ())
    attr = pack(
        "IIQiIQQQ", 48, POLICIES[entry["policy"]], flags, entry.get("nice") or 0, entry.get("priority") or 0,
        entry.get("runtime") or 0, entry.get("deadline") or 0, entry.get("period") or 0,
    )  # fmt: skip
    _call("process.scheduler", "sched_setattr", 0, attr, 0)


def _memory_policy(entry: dict[str, Any]) -> None:
    mode = MODES[entry["mode"]] if "mode" in entry else _invalid("mode", "")
    for flag in entry.get("flags") or ():
        mode |= MODE_FLAGS[flag]
    try:
        nodes = numbers(entry["nodes"]) if entry.get("nodes") else []
    except Error:
        _invalid("node", entry["nodes"])
    if not nodes:
        return _call("linux.memoryPolicy: set_mempolicy", "set_mempolicy", mode, None, 0)
    size = (max(nodes) // 64 + 1) * 64
    mask = sum(1 << node for node in set(nodes)).to_bytes(size // 8, "little")
    _call("linux.memoryPolicy: set_mempolicy", "set_mempolicy", mode, mask, size + 1)


def _invalid(what: str, value: object) -> NoReturn:
    raise Error(f"config.json: linux.memoryPolicy: invalid memory policy {what}", str(value))


def _call(member: str, name: str, *args: int | bytes | None) -> None:
    try:
        libc.call(name, *args)
    except OSError as error:
        # sched_setattr(2): a deadline is for all processors, or those of a cpuset that is exclusive
        alone = name == "sched_setattr" and error.errno == 1
        hint = "process scheduler can't be used together with AllowedCPUs" if alone else None
        raise Error(f"config.json: {member}: cannot be set", None, error, hint) from None
