"""resources: quantities of Kubernetes (k8s.io/apimachinery/pkg/api/resource) -> limits of Docker's API, and back."""

from __future__ import annotations

from fractions import Fraction

from oci_tools import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_POWERS = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6, "m": -1, "u": -2, "n": -3}
_UNITS = {name: Fraction(1000) ** power for name, power in _POWERS.items()}
_UNITS |= {f"{name}i": Fraction(1024) ** power for name, power in _POWERS.items() if power > 0 and name != "k"}
_UNITS["Ki"] = Fraction(1024)
_MOST = Fraction(1 << 62)


def quantity(value: Any, where: str) -> Fraction:
    """`500m`, `1Gi`, `1e3`, 2: what a member of resources says; an Error names it."""
    text = str(value)
    number = text.rstrip("KkMGTPEmuni")
    unit = text[len(number) :]
    try:
        if type(value) not in (str, int, float) or len(text) > 40 or set("/_ ") & set(text):
            raise ValueError
        exponent = number.lower().partition("e")[2]
        if exponent and abs(int(exponent)) > 20:
            raise ValueError
        found = Fraction(number) * _UNITS[unit]
    except (ValueError, KeyError, ZeroDivisionError):
        raise document.wrong(where, "", f"expected a quantity, got {document.shown(value)}") from None
    if not 0 <= found < _MOST:
        raise document.wrong(where, "", f"out of range: {document.shown(value)}")
    return found


def limits(resources: dict[str, Any], where: str) -> dict[str, int]:
    """Members of HostConfig; what is asked for beside memory and processors has no meaning here."""
    made = {}
    for kind, resource, member in (
        ("limits", "memory", "Memory"), ("requests", "memory", "MemoryReservation"), ("limits", "cpu", "NanoCpus"),
        ("requests", "cpu", "CpuShares"),
    ):  # fmt: skip
        said = (resources.get(kind) or {}).get(resource)
        if said is None:
            continue
        found = quantity(said, f"{where}.{kind}.{resource}")
        if member == "CpuShares":  # as the kubelet has it: 1024 of a processor, at least 2
            found = max(Fraction(2), found * 1024)
        made[member] = int(found * 10**9) if member == "NanoCpus" else int(found)
    return made


def resources(host: dict[str, Any]) -> dict[str, Any]:
    """The same back, of a container's HostConfig."""
    made: dict[str, dict[str, str]] = {}
    if host.get("Memory"):
        made.setdefault("limits", {})["memory"] = _size(host["Memory"])
    if host.get("NanoCpus"):
        made.setdefault("limits", {})["cpu"] = f"{host['NanoCpus'] / 10**9:g}"
    if host.get("MemoryReservation"):
        made.setdefault("requests", {})["memory"] = _size(host["MemoryReservation"])
    if host.get("CpuShares"):
        made.setdefault("requests", {})["cpu"] = f"{-(-host['CpuShares'] * 1000 // 1024)}m"
    return made


def _size(number: int) -> str:
    """Bytes as people write them."""
    for unit, factor in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if number % factor == 0:
            return f"{number // factor}{unit}"
    return str(number)
