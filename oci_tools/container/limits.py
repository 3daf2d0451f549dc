"""Memory, processors, processes, ulimits and sysctls of a container, from docker's words."""

from __future__ import annotations

from oci_tools.container import units
from oci_tools.errors import Error, Usage
from oci_tools.runtime.rules import RLIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.host import Host

PERIOD = 100_000  # microseconds in which --cpus counts
UNLIMITED = (1 << 64) - 1
# option, least value, member of linux.resources.cpu
CPU = (
    ("shares", 2, "shares"), ("period", 1000, "period"), ("quota", 1000, "quota"),
    ("rt_period", 1, "realtimePeriod"), ("rt_runtime", 1, "realtimeRuntime"),
)  # fmt: skip
# option, member of linux.resources.blockIO, whether its value is a size
THROTTLES = (
    ("device_read_bps", "throttleReadBpsDevice", True), ("device_write_bps", "throttleWriteBpsDevice", True),
    ("device_read_iops", "throttleReadIOPSDevice", False), ("device_write_iops", "throttleWriteIOPSDevice", False),
)  # fmt: skip
# What belongs to an ipc namespace, and may be set where the container has its own (moby, ValidateSysctl).
IPC_SYSCTLS = frozenset(
    "kernel." + name
    for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)


def apply(spec: dict[str, Any], args: Args, host: Host) -> None:
    """Put the limits that `args` ask for in place."""
    _memory(spec, args)
    _cpu(spec, args, host)
    if args.pids_limit is not None:
        _resource(spec, "pids")["limit"] = args.pids_limit if args.pids_limit > 0 else -1
    if args.blkio_weight:
        if not 10 <= args.blkio_weight <= 1000:
            raise Usage("invalid value for --blkio-weight", args.blkio_weight, hint="10 to 1000")
        _resource(spec, "blockIO")["weight"] = args.blkio_weight
    _disks(spec, args, host)
    for word in args.cgroup_conf:
        name, value = units.pair(word, "--cgroup-conf")
        _resource(spec, "unified")[name] = value
    if args.rdt_class:
        spec["linux"]["intelRdt"] = {"closID": args.rdt_class}
    if args.oom_score_adj is not None:
        if not -1000 <= args.oom_score_adj <= 1000:
            raise Usage("invalid value for --oom-score-adj", args.oom_score_adj, hint="-1000 to 1000")
        spec["process"]["oomScoreAdj"] = args.oom_score_adj
    for word in args.ulimit:
        _ulimit(spec, word)
    for word in args.sysctl:
        _sysctl(spec, word)


def _resource(spec: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = spec.setdefault("linux", {}).setdefault("resources", {}).setdefault(name, {})
    return found


def _memory(spec: dict[str, Any], args: Args) -> None:
    limit = units.size(args.memory, "--memory") if args.memory else 0
    swap = units.signed(args.memory_swap, "--memory-swap") if args.memory_swap else 0
    if swap > 0 and not limit:
        raise Usage("--memory-swap needs --memory")
    if 0 < swap < limit:
        raise Usage("invalid value for --memory-swap", args.memory_swap, "it is less than --memory")
    if limit:
        memory = _resource(spec, "memory")
        memory["limit"] = limit
        memory["swap"] = swap or 2 * limit  # as much swap as memory, if nobody says otherwise
    elif swap:
        _resource(spec, "memory")["swap"] = swap
    if args.memory_reservation:
        low = units.size(args.memory_reservation, "--memory-reservation")
        if 0 < limit < low:
            raise Usage(
                "invalid value for --memory-reservation", args.memory_reservation, "it is more than --memory"
            )
        _resource(spec, "memory")["reservation"] = low
    if args.memory_swappiness is not None and args.memory_swappiness != -1:
        if not 0 <= args.memory_swappiness <= 100:
            raise Usage("invalid value for --memory-swappiness", args.memory_swappiness, hint="0 to 100")
        _resource(spec, "memory")["swappiness"] = args.memory_swappiness
    if args.oom_kill_disable:
        _resource(spec, "memory")["disableOOMKiller"] = True


def _cpu(spec: dict[str, Any], args: Args, host: Host) -> None:
    if args.cpus:
        if args.cpu_period or args.cpu_quota:
            raise Usage("--cpus excludes --cpu-period and --cpu-quota")
        share = units.thousandths(args.cpus, "--cpus")
        if not 10 <= share <= host.cpus() * 1000:
            raise Usage(
                "invalid value for --cpus", args.cpus, f"there are {host.cpus()}", f"0.01 to {host.cpus()}"
            )
        _resource(spec, "cpu").update(quota=share * PERIOD // 1000, period=PERIOD)
    for name, low, member in CPU:
        value = getattr(args, f"cpu_{name}")
        if value:
            if value < low and not (name == "quota" and value < 0):
                raise Usage(f"invalid value for --cpu-{name.replace('_', '-')}", value, hint=f"at least {low}")
            _resource(spec, "cpu")[member] = value
    if args.cpu_rt_period and args.cpu_rt_runtime and args.cpu_rt_runtime > args.cpu_rt_period:
        raise Usage("invalid value for --cpu-rt-runtime", args.cpu_rt_runtime, "it is more than --cpu-rt-period")
    for name in ("cpus", "mems"):
        value = getattr(args, f"cpuset_{name}")
        if value:
            if value.strip("0123456789,-"):
                raise Usage(f"invalid value for --cpuset-{name}", value, hint="a list like 0-3,7")
            _resource(spec, "cpu")[name] = value


def _disks(spec: dict[str, Any], args: Args, host: Host) -> None:
    """Weights and limits of single disks."""
    for word in args.blkio_weight_device:
        disk, text = _disk(word, "--blkio-weight-device", host)
        weight = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0
        if not 10 <= weight <= 1000:
            raise Usage("invalid value for --blkio-weight-device", word, hint="PATH:N, N from 10 to 1000")
        _resource(spec, "blockIO").setdefault("weightDevice", []).append({**disk, "weight": weight})
    for name, member, sized in THROTTLES:
        option = f"--{name.replace('_', '-')}"
        for word in getattr(args, name):
            disk, text = _disk(word, option, host)
            if not sized and not (text.isascii() and text.isdigit() and len(text) < 20):
                raise Usage(f"invalid value for {option}", word, hint="PATH:N")
            rate = units.size(text, option) if sized else int(text)
            _resource(spec, "blockIO").setdefault(member, []).append({**disk, "rate": rate})


def _disk(word: str, option: str, host: Host) -> tuple[dict[str, int], str]:
    """The device of PATH:VALUE by its numbers, and the value."""
    path, colon, text = word.rpartition(":")
    if not colon or not path.startswith("/dev/"):
        raise Usage(f"invalid value for {option}", word, hint="PATH:VALUE, with the path of a disk in /dev")
    found = host.devices(path)
    if len(found) != 1 or found[0].kind != "b":
        raise Error("cannot use device", path, "not a block device")
    return {"major": found[0].major, "minor": found[0].minor}, text


def _ulimit(spec: dict[str, Any], word: str) -> None:
    """NAME=SOFT[:HARD]; -1 is no limit."""
    name, text = units.pair(word, "--ulimit")
    kind = f"RLIMIT_{name.upper()}"
    if kind not in RLIMITS:
        raise Usage("invalid ulimit type", name)
    soft, colon, hard = text.partition(":")
    values = []
    for each in (soft, hard if colon else soft):
        if not (each == "-1" or (each.isascii() and each.isdigit() and len(each) < 20)):
            raise Usage("invalid ulimit", word, hint="NAME=SOFT[:HARD]")
        values.append(UNLIMITED if each == "-1" else int(each))
    if values[0] > values[1]:
        raise Usage("invalid ulimit", word, "the soft limit is more than the hard one")
    limits = spec["process"].setdefault("rlimits", [])
    limits[:] = [each for each in limits if each["type"] != kind]
    limits.append({"type": kind, "soft": values[0], "hard": values[1]})


def _sysctl(spec: dict[str, Any], word: str) -> None:
    """NAME=VALUE, of those that a namespace of the container's own holds."""
    name, value = units.pair(word, "--sysctl")
    own = {each["type"] for each in spec["linux"].get("namespaces", ())}
    if name in IPC_SYSCTLS or name.startswith("fs.mqueue."):
        needed = "ipc"
    elif name.startswith("net."):
        needed = "network"
    else:
        raise Error("cannot set sysctl", name, "it is not of the container alone")
    if needed not in own:
        raise Error("cannot set sysctl", name, f"the container has no {needed} namespace of its own")
    spec["linux"].setdefault("sysctl", {})[name] = value
