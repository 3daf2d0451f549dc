"""`linux.resources` as cgroup files and values: pure functions, one for v1, one for v2.

runtime-spec, "Control groups"; cgroup-v1 and cgroup-v2 admin guides.  A plan is a list of
(controller, file, value) in the order in which the values must be written; nothing is
read or written here.
"""

from __future__ import annotations

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Plan = list[tuple[str, str, str]]


def plan_v1(resources: dict[str, Any]) -> Plan:
    """The writes for the v1 hierarchies."""
    plan: Plan = []

    def put(controller: str, file: str, value: Any) -> None:
        if value is not None:
            plan.append((controller, f"{controller}.{file}", str(value)))

    memory = resources.get("memory") or {}
    limit, swap = memory.get("limit"), memory.get("swap")
    if limit == -1 and swap is None:
        swap = -1
    # A new limit above the present memory+swap limit must wait for that one to be raised.
    pair = [("limit_in_bytes", limit), ("memsw.limit_in_bytes", swap)]
    for file, value in reversed(pair) if swap == -1 else pair:
        put("memory", file, value or None)
    put("memory", "soft_limit_in_bytes", memory.get("reservation"))
    put("memory", "kmem.tcp.limit_in_bytes", memory.get("kernelTCP"))
    put("memory", "swappiness", memory.get("swappiness"))
    if memory.get("disableOOMKiller"):
        put("memory", "oom_control", 1)

    cpu = resources.get("cpu") or {}
    put("cpu", "shares", cpu.get("shares") or None)
    put("cpu", "cfs_period_us", cpu.get("period") or None)
    put("cpu", "cfs_burst_us", cpu.get("burst"))
    put("cpu", "cfs_quota_us", cpu.get("quota") or None)
    put("cpu", "idle", cpu.get("idle"))
    put("cpu", "rt_period_us", cpu.get("realtimePeriod") or None)
    put("cpu", "rt_runtime_us", cpu.get("realtimeRuntime") or None)
    put("cpuset", "cpus", cpu.get("cpus") or None)
    put("cpuset", "mems", cpu.get("mems") or None)

    pids = (resources.get("pids") or {}).get("limit")
    put("pids", "max", None if pids is None else _unlimited(pids))
    _block_v1(resources.get("blockIO") or {}, put)
    for entry in resources.get("hugepageLimits") or ():
        put("hugetlb", f"{entry['pageSize']}.limit_in_bytes", entry["limit"])
        put("hugetlb", f"{entry['pageSize']}.rsvd.limit_in_bytes", entry["limit"])
    network = resources.get("network") or {}
    put("net_cls", "classid", network.get("classID"))
    for entry in network.get("priorities") or ():
        put("net_prio", "ifpriomap", f"{entry['name']} {entry['priority']}")
    for device, limits in (resources.get("rdma") or {}).items():
        put("rdma", "max", _rdma(device, limits))
    return plan


def _block_v1(block: dict[str, Any], put: Any) -> None:
    put("blkio", "weight", block.get("weight") or None)
    put("blkio", "leaf_weight", block.get("leafWeight") or None)
    for entry in block.get("weightDevice") or ():
        place = f"{entry['major']}:{entry['minor']}"
        if entry.get("weight"):
            put("blkio", "weight_device", f"{place} {entry['weight']}")
        if entry.get("leafWeight"):
            put("blkio", "leaf_weight_device", f"{place} {entry['leafWeight']}")
    for member, file in (
        ("throttleReadBpsDevice", "throttle.read_bps_device"),
        ("throttleWriteBpsDevice", "throttle.write_bps_device"),
        ("throttleReadIOPSDevice", "throttle.read_iops_device"),
        ("throttleWriteIOPSDevice", "throttle.write_iops_device"),
    ):
        for entry in block.get(member) or ():
            put("blkio", file, f"{entry['major']}:{entry['minor']} {entry['rate']}")


def fresh(file: str) -> str:
    """What the files of a new v2 group say."""
    return {"memory.max": "max", "cpu.max": "max 100000"}.get(file, "")


def plan_v2(resources: dict[str, Any], now: Callable[[str], str] = fresh) -> Plan:
    """The writes for the unified hierarchy; v1's numbers are converted as runc and crun do.

    now  what a file of the group says at present, "" if there is none: a change may name only one of two
         numbers of which v2 makes one, and which weights there are depends on the kernel's configuration
    """
    plan: Plan = []

    def put(controller: str, file: str, value: Any) -> None:
        if value is not None:
            plan.append((controller, f"{controller}.{file}", str(value)))

    memory = resources.get("memory") or {}
    limit, swap = memory.get("limit"), memory.get("swap")
    put("memory", "swap.max", _swap_v2(limit or now("memory.max"), swap))
    put("memory", "max", None if not limit else _unlimited(limit))
    put("memory", "low", None if not memory.get("reservation") else _unlimited(memory["reservation"]))

    cpu = resources.get("cpu") or {}
    put("cpu", "idle", cpu.get("idle"))
    if cpu.get("shares"):
        put("cpu", "weight", cpu_weight(cpu["shares"]))
    if cpu.get("burst") is not None:
        put("cpu", "max.burst", cpu["burst"])
    if cpu.get("quota") or cpu.get("period"):
        quota, _, period = now("cpu.max").partition(" ")
        quota = _unlimited(cpu["quota"]) if cpu.get("quota") else quota
        put("cpu", "max", f"{quota or 'max'} {cpu.get('period') or period or 100000}")
    put("cpuset", "cpus", cpu.get("cpus") or None)
    put("cpuset", "mems", cpu.get("mems") or None)

    pids = (resources.get("pids") or {}).get("limit")
    put("pids", "max", None if pids is None else _unlimited(pids))
    _block_v2(resources.get("blockIO") or {}, put, bool(now("io.bfq.weight")))
    for entry in resources.get("hugepageLimits") or ():
        put("hugetlb", f"{entry['pageSize']}.max", entry["limit"])
        put("hugetlb", f"{entry['pageSize']}.rsvd.max", entry["limit"])  # mmap then fails, instead of a use that kills
    for device, limits in (resources.get("rdma") or {}).items():
        put("rdma", "max", _rdma(device, limits))
    return plan + plan_unified(resources)


def plan_unified(resources: dict[str, Any], check: Callable[[str], None] = lambda file: None) -> Plan:
    """What `linux.resources.unified` says as it is, line by line; `check` raises for a file that cannot be written."""
    plan: Plan = []
    for file, value in (resources.get("unified") or {}).items():
        if "/" in file or "." not in file:
            raise Error("config.json: linux.resources.unified: not a cgroup file", file)
        check(file)
        plan += [(file.partition(".")[0], file, line) for line in str(value).splitlines()]
    return plan


def _block_v2(block: dict[str, Any], put: Any, bfq: bool) -> None:
    """BFQ's weights are v1's own; without that scheduler there are those of the cost model."""
    file, weight = ("bfq.weight", str) if bfq else ("weight", io_weight)
    if block.get("weight"):
        put("io", file, f"default {weight(block['weight'])}")
    for entry in block.get("weightDevice") or ():
        if entry.get("weight"):
            put("io", file, f"{entry['major']}:{entry['minor']} {weight(entry['weight'])}")
    for member, key in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        for entry in block.get(member) or ():
            put("io", "max", f"{entry['major']}:{entry['minor']} {key}={entry['rate']}")


def cpu_weight(shares: int) -> int:
    """cpu.shares [2, 262144] as cpu.weight [1, 10000], with 1024 -> 100 on a quadratic in log2.

    The kernel's defaults map to each other, which the older linear formula did not do.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    from math import ceil, log2

    exponent = log2(shares)
    return ceil(10 ** ((exponent * exponent + 125 * exponent) / 612 - 7 / 34))


def io_weight(weight: int) -> int:
    """blkio.weight [10, 1000] as io.weight [1, 10000]."""
    return 1 + (weight - 10) * 9999 // 990


def _swap_v2(limit: int | str, swap: int | None) -> str | None:
    """v1 counts memory and swap together, v2 swap alone; `limit` is the wanted one, or the present one's words."""
    if swap is None or swap == 0:
        return "max" if limit == -1 else None
    if swap == -1:
        return "max"
    limit = -1 if limit in ("", "max") else int(limit)
    if limit < 0:
        raise Error("config.json: linux.resources.memory.swap: needs linux.resources.memory.limit")
    if swap < limit:
        raise Error("config.json: linux.resources.memory.swap: less than linux.resources.memory.limit")
    return str(swap - limit)


def _unlimited(value: int) -> str:
    return "max" if value < 0 else str(value)


def _rdma(device: str, limits: dict[str, Any]) -> str:
    known = (("hca_handle", "hcaHandles"), ("hca_object", "hcaObjects"))
    words = [f"{key}={limits[member]}" for key, member in known if limits.get(member) is not None]
    return " ".join([device, *words])
