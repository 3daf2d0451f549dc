"""What a container uses, as its control groups count it, in the form that runc's `events` has.

Engines parse that form (containerd's go-runc, cAdvisor), so its names are runc's, v1's terms also
for v2, and members without a value are left out where runc leaves them out.  Only files are read
here; a file that this kernel does not have counts as nothing.
"""

from __future__ import annotations

import os

from oci_tools.runtime.scheduling import numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.runtime.cgroup import Cgroup

UNLIMITED = (1 << 64) - 1  # how runc says v2's "max"
_TICK = 10**9 // os.sysconf("SC_CLK_TCK")  # nanoseconds
_CPUSET = (
    "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab",
    "memory_pressure", "sched_load_balance", "sched_relax_domain_level",
)  # fmt: skip
_BLOCK_V1 = {
    "ioServiceBytesRecursive": ("bfq.io_service_bytes_recursive", "throttle.io_service_bytes_recursive"),
    "ioServicedRecursive": ("bfq.io_serviced_recursive", "throttle.io_serviced_recursive"),
}

_OPERATIONS = {
    "rbytes": "Read", "wbytes": "Write", "dbytes": "Discard", "rios": "Read", "wios": "Write", "dios": "Discard",
}  # fmt: skip


def stats(groups: Cgroup) -> dict[str, Any]:
    """The `data` of a "stats" event."""
    found = _unified(groups.paths[""]) if groups.unified else _hierarchies(groups)
    return {**found, "intel_rdt": {}, "network_interfaces": None}


# -- v1 --------------------------------------------------------------------------------------


def _hierarchies(groups: Cgroup) -> dict[str, Any]:
    def path(controller: str) -> str:
        return groups.path(controller) or "/nonexistent"

    return {
        "cpu": _cpu_v1(path("cpuacct"), path("cpu")),
        "cpuset": _cpuset(path("cpuset"), "cpuset.cpus", "cpuset.mems"),
        "memory": _memory_v1(path("memory")),
        "pids": _pids(path("pids")),
        "blkio": _block_v1(path("blkio")),
        "hugetlb": _huge(path("hugetlb"), "usage_in_bytes"),
    }


def _cpu_v1(account: str, cpu: str) -> dict[str, Any]:
    ticks = _table(f"{account}/cpuacct.stat")
    rows = [line.split() for line in _text(f"{account}/cpuacct.usage_all").splitlines()[1:]]
    usage = {
        "total": _number(f"{account}/cpuacct.usage"),
        "percpu": [int(word) for word in _text(f"{account}/cpuacct.usage_percpu").split()],
        "percpu_kernel": [int(row[2]) for row in rows],
        "percpu_user": [int(row[1]) for row in rows],
    }
    times = {"kernel": ticks.get("system", 0) * _TICK, "user": ticks.get("user", 0) * _TICK}
    held = _table(f"{cpu}/cpu.stat")
    throttling = _some(
        periods=held.get("nr_periods"), throttledPeriods=held.get("nr_throttled"),
        throttledTime=held.get("throttled_time"),
    )  # fmt: skip
    return {"usage": {**_some(**usage), **times}, "throttling": throttling}


def _memory_v1(path: str) -> dict[str, Any]:
    raw = _table(f"{path}/memory.stat")

    def entry(part: str) -> dict[str, int]:
        at = f"{path}/memory.{part}"
        return _entry(_number(f"{at}limit_in_bytes"), _number(f"{at}usage_in_bytes"),
                      _number(f"{at}max_usage_in_bytes"), _number(f"{at}failcnt"))  # fmt: skip

    return {
        **_some(cache=raw.get("cache")),
        "usage": entry(""), "swap": entry("memsw."), "kernel": entry("kmem."), "kernelTCP": entry("kmem.tcp."),
        **_some(raw=raw),
    }  # fmt: skip


def _block_v1(path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for member, files in _BLOCK_V1.items():
        for file in files:
            rows = [line.replace(":", " ").split() for line in _text(f"{path}/blkio.{file}").splitlines()]
            found[member] = [_device(int(r[0]), int(r[1]), r[2], int(r[3])) for r in rows if len(r) == 4]
            if found[member]:
                break
    return _some(**found)


# -- v2 --------------------------------------------------------------------------------------


def _unified(path: str) -> dict[str, Any]:
    return {
        "cpu": _cpu_v2(path),
        "cpuset": _cpuset(path, "cpuset.cpus.effective", "cpuset.mems.effective"),
        "memory": _memory_v2(path),
        "pids": _pids(path),
        "blkio": _block_v2(path),
        "hugetlb": _huge(path, "current"),
    }


def _cpu_v2(path: str) -> dict[str, Any]:
    held = _table(f"{path}/cpu.stat")
    usage = _some(total=held.get("usage_usec", 0) * 1000)
    usage |= {"kernel": held.get("system_usec", 0) * 1000, "user": held.get("user_usec", 0) * 1000}
    throttling = _some(
        periods=held.get("nr_periods"), throttledPeriods=held.get("nr_throttled"),
        throttledTime=held.get("throttled_usec", 0) * 1000,
    )  # fmt: skip
    return {"usage": usage, "throttling": throttling, **_some(psi=_pressure(f"{path}/cpu.pressure"))}


def _memory_v2(path: str) -> dict[str, Any]:
    raw = _table(f"{path}/memory.stat")
    at = f"{path}/memory."
    usage, limit = _number(f"{at}current"), _number(f"{at}max")
    swap, most = _number(f"{at}swap.current"), _number(f"{at}swap.max")
    both = UNLIMITED if UNLIMITED in (limit, most) else limit + most  # v1 counts memory and swap together
    nothing = _entry(0, 0, 0, 0)
    return {
        **_some(cache=raw.get("file")),
        "usage": _entry(limit, usage, _number(f"{at}peak"), _table(f"{at}events").get("max", 0)),
        "swap": _entry(both, usage + swap, 0, _table(f"{at}swap.events").get("fail", 0)),
        "kernel": nothing, "kernelTCP": nothing, **_some(raw=raw, psi=_pressure(f"{at}pressure")),
    }  # fmt: skip


def _block_v2(path: str) -> dict[str, Any]:
    found: dict[str, Any] = {"ioServiceBytesRecursive": [], "ioServicedRecursive": []}
    for line in _text(f"{path}/io.stat").splitlines():
        place, *words = line.split()
        major, _, minor = place.partition(":")
        for key, _, value in (word.partition("=") for word in words):
            if key in _OPERATIONS:
                member = "ioServiceBytesRecursive" if key.endswith("bytes") else "ioServicedRecursive"
                found[member].append(_device(int(major), int(minor), _OPERATIONS[key], int(value)))
    return _some(**found, psi=_pressure(f"{path}/io.pressure"))


def _pressure(file: str) -> dict[str, Any]:
    """Pressure stall information, psi(7): "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"."""
    found: dict[str, Any] = {}
    for line in _text(file).splitlines():
        kind, *words = line.split()
        pairs = dict(word.partition("=")[::2] for word in words)
        found[kind] = {name: int(v) if name == "total" else float(v) for name, v in pairs.items()}
    return found


# -- both ------------------------------------------------------------------------------------


def _cpuset(path: str, cpus: str, mems: str) -> dict[str, Any]:
    texts = {"cpus": _text(f"{path}/{cpus}").strip(), "mems": _text(f"{path}/{mems}").strip()}
    lists = {name: numbers(text) for name, text in texts.items() if text}
    return {**lists, **{name: _number(f"{path}/cpuset.{name}") for name in _CPUSET}}


def _pids(path: str) -> dict[str, int]:
    limit = _number(f"{path}/pids.max")
    return _some(current=_number(f"{path}/pids.current"), limit=0 if limit == UNLIMITED else limit)


def _huge(path: str, usage: str) -> dict[str, Any]:
    """The page sizes that the group has files for."""
    found: dict[str, Any] = {}
    for name in _listed(path):
        size = name.removeprefix("hugetlb.").removesuffix(f".{usage}")
        if name == f"hugetlb.{size}.{usage}" and "." not in size:
            at = f"{path}/hugetlb.{size}."
            failed = _number(f"{at}failcnt") or _table(f"{at}events").get("max", 0)
            most = _number(f"{at}max_usage_in_bytes")
            found[size] = {**_some(usage=_number(at + usage), max=most), "failcnt": failed}
    return found


def _entry(limit: int, usage: int, most: int, failed: int) -> dict[str, int]:
    return {"limit": limit, **_some(usage=usage, max=most), "failcnt": failed}


def _device(major: int, minor: int, op: str, value: int) -> dict[str, Any]:
    return _some(major=major, minor=minor, op=op, value=value)


def _some(**members: Any) -> dict[str, Any]:
    """Those that say something: Go's "omitempty"."""
    return {name: value for name, value in members.items() if value}


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _text(path).strip()
    return UNLIMITED if text == "max" else int(text or 0)


def _table(path: str) -> dict[str, int]:
    """Lines of a name and a number."""
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].lstrip("-").isdigit()}


def _listed(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []
