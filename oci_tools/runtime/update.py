"""The verb `update`, and its words as `linux.resources`."""

from __future__ import annotations

import sys

from oci_tools import document
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 1 << 20  # bytes of a document of limits
STDIN = "standard input"
_NUMBERS = (
    ("memory", "limit", "memory"),
    ("memory_swap", "swap", "memory"),
    ("memory_reservation", "reservation", "memory"),
    ("cpu_period", "period", "cpu"),
    ("cpu_quota", "quota", "cpu"),
    ("cpu_burst", "burst", "cpu"),
    ("cpu_share", "shares", "cpu"),
    ("cpu_idle", "idle", "cpu"),
    ("cpu_rt_period", "realtimePeriod", "cpu"),
    ("cpu_rt_runtime", "realtimeRuntime", "cpu"),
    ("kernel_memory_tcp", "kernelTCP", "memory"),
    ("pids_limit", "limit", "pids"),
    ("blkio_weight", "weight", "blockIO"),
)
_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def main(args: Any, root: str) -> None:
    """The verb: change what the words name, and nothing else."""
    from oci_tools.runtime import lifecycle

    lifecycle.limit(root, args.id, resources(args), schemata(args))


def resources(args: Any) -> dict[str, Any]:
    """What is to be changed, checked: a document of limits, or the options one by one."""
    from oci_tools.runtime import check

    wanted: dict[str, Any]
    if args.resources == "-":
        wanted, subject = document.loads(sys.stdin.buffer.read(MOST), STDIN), STDIN
    elif args.resources:
        wanted, subject = document.load(args.resources, MOST), args.resources
    else:
        wanted, subject = _named(args), "limits"
    check.resources(wanted, subject)
    return wanted


def _named(args: Any) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    for option, member, part in _NUMBERS:
        text = getattr(args, option)
        if text is not None:
            wanted.setdefault(part, {})[member] = size(text, f"--{option.replace('_', '-')}")
    for option, member in (("cpuset_cpus", "cpus"), ("cpuset_mems", "mems")):
        if getattr(args, option) is not None:
            wanted.setdefault("cpu", {})[member] = getattr(args, option)
    return wanted


def schemata(args: Any) -> list[str]:
    """Lines for the container's class of intelRdt."""
    return [line for line in (args.l3_cache_schema, args.mem_bw_schema) if line]


def size(text: str, option: str) -> int:
    """A number, or one with a unit of Docker's: 512k, 10m, 2g."""
    digits, unit = text.lower().removesuffix("b"), 1
    if digits[-1:] in _UNITS:
        digits, unit = digits[:-1], _UNITS[digits[-1]]
    if not digits.removeprefix("-").isdecimal():
        raise Usage(f"invalid value for {option}", text)
    return int(digits) * unit
