"""The words of `update` as `linux.resources`."""

from __future__ import annotations

import sys

from oci_tools import document
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NUMBERS = (
    ("memory", "limit", "memory"),
    ("memory_swap", "swap", "memory"),
    ("memory_reservation", "reservation", "memory"),
    ("cpu_period", "period", "cpu"),
    ("cpu_quota", "quota", "cpu"),
    ("cpu_share", "shares", "cpu"),
    ("pids_limit", "limit", "pids"),
    ("blkio_weight", "weight", "blockIO"),
)
_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def resources(args: Any) -> dict[str, Any]:
    """What is to be changed: a document of limits, or the options one by one."""
    if args.resources:
        found = _document(args.resources)
        if not isinstance(found, dict):
            raise Error("cannot read", args.resources, "not an object")
        return found
    wanted: dict[str, Any] = {}
    for option, member, part in _NUMBERS:
        text = getattr(args, option)
        if text is not None:
            wanted.setdefault(part, {})[member] = size(text, f"--{option.replace('_', '-')}")
    for option, member in (("cpuset_cpus", "cpus"), ("cpuset_mems", "mems")):
        if getattr(args, option) is not None:
            wanted.setdefault("cpu", {})[member] = getattr(args, option)
    return wanted


def _document(path: str) -> Any:
    return document.loads(sys.stdin.buffer.read(), "standard input") if path == "-" else document.load(path)


def size(text: str, option: str) -> int:
    """A number, or one with a unit of Docker's: 512k, 10m, 2g."""
    digits, unit = text.lower().removesuffix("b"), 1
    if digits[-1:] in _UNITS:
        digits, unit = digits[:-1], _UNITS[digits[-1]]
    if not digits.removeprefix("-").isdecimal():
        raise Usage(f"invalid value for {option}", text)
    return int(digits) * unit
