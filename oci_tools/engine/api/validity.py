"""What a create request may not say, told as dockerd does: clients show its words, and their tests look for them.

Pure.  What is not refused here may still be by `oci-run`, whose words are told then.
"""

from __future__ import annotations

import os
import signal

from oci_tools.engine.api import places, wording
from oci_tools.engine.api.answers import Refused
from oci_tools.linux import caps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_MILLISECOND = 1_000_000
_LEAST = 6 << 20  # bytes: dockerd lets no container have less
_MODES = (  # of which namespaces there may be which words beside container:ID
    ("IpcMode", "IPC", ("none", "private", "shareable", "host")),
    ("PidMode", "PID", ("host",)),
    ("UTSMode", "UTS", ("host",)),  # container:ID as podman has it: containers of a pod have one name
    ("UsernsMode", "user namespace", None),
    ("CgroupnsMode", "cgroup namespace", ("private", "host")),
)


def check(said: dict[str, Any]) -> None:
    """Refuse with a 400 what dockerd refuses at once."""
    host = said.get("HostConfig") or {}
    parts = _process(said), _health(said.get("Healthcheck") or {}), limits(host), _modes(host), places.wrong(host)
    for part in (*parts, _others(said, host), _rights(host), _ports(host)):
        for message in part:
            raise Refused(400, message)


def _process(said: dict[str, Any]) -> Iterator[str]:
    for each in said.get("Env") or ():
        if not each or each.startswith("="):
            yield f"invalid environment variable: {each}"
    place = said.get("WorkingDir") or "/"
    if not place.startswith("/"):
        yield f"the working directory '{place}' is invalid, it needs to be an absolute path"
    word = str(said.get("StopSignal") or "TERM").upper()
    names = {each.name for each in signal.Signals} | {"SIGRTMIN", "SIGRTMAX"}
    number = int(word) if word.isdecimal() else 0
    if not 0 < number < 65 and f"SIG{word.removeprefix('SIG').partition('+')[0].partition('-')[0]}" not in names:
        yield f"invalid signal: {said['StopSignal']}"


def _health(check: dict[str, Any]) -> Iterator[str]:
    for key in ("Interval", "Timeout", "StartPeriod", "StartInterval"):
        if check.get(key) and check[key] < _MILLISECOND:
            yield f"{key} in Healthcheck cannot be less than 1ms"
    if (check.get("Retries") or 0) < 0:
        yield "Retries in Healthcheck cannot be negative"


def limits(host: dict[str, Any], update: bool = False) -> Iterator[str]:
    """What is wrong with the resources of a container that is to be made, or of an update."""
    memory, swap = host.get("Memory") or 0, host.get("MemorySwap") or 0
    if memory and memory < _LEAST:
        yield "Minimum memory limit allowed is 6MB"
    if 0 < (host.get("MemoryReservation") or 0) < _LEAST:
        yield "Minimum memory reservation allowed is 6MB"
    if memory > 0 and 0 < swap < memory:
        yield "Minimum memoryswap limit should be larger than memory limit, see usage"
    if swap > 0 and not memory and not update:
        yield "You should always set the Memory limit when using Memoryswap limit, see usage"
    if 0 < memory < (host.get("MemoryReservation") or 0):
        yield "Minimum memory limit can not be less than memory reservation limit, see usage"
    for key, called in (("CpuPeriod", "CPU Period"), ("CpuQuota", "CPU Quota")):
        if (host.get("NanoCpus") or 0) > 0 and (host.get(key) or 0) > 0:
            yield f"Conflicting options: Nano CPUs and {called} cannot both be set"
    count = os.cpu_count() or 1
    if not 0 <= (host.get("NanoCpus") or 0) <= count * 1_000_000_000:
        yield f"Range of CPUs is from 0.01 to {count:.2f}, as there are only {count} CPUs available"
    if (host.get("ShmSize") or 0) < 0:
        yield "SHM size can not be less than 0"
    if not -1000 <= (host.get("OomScoreAdj") or 0) <= 1000:
        yield f"Invalid value {host['OomScoreAdj']}, range for oom score adj is [-1000, 1000]"
    if host.get("CpuPeriod") and not 1000 <= host["CpuPeriod"] <= 1_000_000:
        yield "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
    if 0 < (host.get("CpuQuota") or 0) < 1000:
        yield "CPU cfs quota can not be less than 1ms (i.e. 1000)"
    if not -1 <= (0 if host.get("MemorySwappiness") is None else host["MemorySwappiness"]) <= 100:
        yield f"Invalid value: {host['MemorySwappiness']}, valid memory swappiness range is 0-100"
    for key in ("CpusetCpus", "CpusetMems"):
        _available(key, host.get(key) or "")
    if host.get("IOMaximumIOps") or host.get("IOMaximumBandwidth"):
        yield "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps"


def _available(key: str, asked: str) -> None:
    """Refuse processors or memory nodes that are not there."""
    if not asked:
        return
    kind, called, word = ("cpu", "CPUs", "cpus") if key == "CpusetCpus" else ("node", "memory nodes", "mems")
    with open(f"/sys/devices/system/{kind}/online", encoding="utf-8") as file:
        online = file.read().strip()
    if not _numbers(asked, word) <= _numbers(online, word):
        raise Refused(400, f"Requested {called} are not available - requested {asked}, available: {online}")


def _numbers(text: str, word: str) -> set[int]:
    """0-3,7"""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        last = last or first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) <= 1 << 16):
            raise Refused(400, f"Invalid value {text} for cpuset {word}: invalid format: {text}")
        found.update(range(int(first), int(last) + 1))
    return found


def _modes(host: dict[str, Any]) -> Iterator[str]:
    for key, called, words in _MODES:
        mode = host.get(key) or ""
        if mode == "container:" and words:
            yield f"invalid {called} mode: {mode}"
        if key == "CgroupnsMode" and mode.startswith("container:"):
            yield f"invalid {called} mode: {mode}"
        if mode and words and mode not in words and not mode.startswith(("container:", "ns:")):
            yield f"invalid {called} mode: {mode}"


def _others(said: dict[str, Any], host: dict[str, Any]) -> Iterator[str]:
    network = host.get("NetworkMode") or ""
    if network in ("container", "container:"):
        yield "Invalid network mode: invalid container format container:<name|id>"
    if network.startswith("container:") and said.get("Hostname"):
        yield "conflicting options: hostname and the network mode"
    if host.get("UTSMode") == "host" and said.get("Hostname"):
        yield "conflicting options: hostname and the UTS mode"
    for key in host.get("StorageOpt") or ():
        if key != "size":
            raise Refused(500, f"Storage opt {key} not supported")
    if (host.get("Isolation") or "default") != "default":
        raise Refused(500, f"Invalid isolation: \"{host['Isolation']}\" - linux only supports 'default'")
    wording.restart(host.get("RestartPolicy") or {})
    for each in host.get("ExtraHosts") or ():
        if ":" not in each and "=" not in each:
            yield f'bad format for add-host: "{each}"'
    if (host.get("Runtime") or "runc") not in ("runc", "oci-run", "io.containerd.runc.v2"):
        yield f"unknown or invalid runtime name: {host['Runtime']}"
    if "" in (host.get("Annotations") or {}):
        yield "invalid Annotations: the empty string is not permitted as an annotation key"
    for each in host.get("SecurityOpt") or ():
        if each.partition("=")[0] == "systempaths":
            raise Refused(500, f'invalid --security-opt 2: "{each}"')


def _rights(host: dict[str, Any]) -> Iterator[str]:
    for key in ("CapAdd", "CapDrop"):
        for each in host.get(key) or ():
            name = f"CAP_{each.upper().removeprefix('CAP_')}"
            if name != "CAP_ALL" and name not in caps.NAMES:
                yield f'invalid {key}: unknown capability: "{name}"'


def _ports(host: dict[str, Any]) -> Iterator[str]:
    for port, bindings in (host.get("PortBindings") or {}).items():
        number, _, _ = port.partition("/")
        for text, ranges in ((number, False), *(((each.get("HostPort") or ""), True) for each in bindings or ())):
            ends = text.split("-", 1) if ranges else [text]
            if text and not all(each.isascii() and each.isdecimal() and int(each) < 1 << 16 for each in ends):
                yield f'invalid port specification: "{text}"'
