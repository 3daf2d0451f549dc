"""`stats`: what containers use, from the files of their cgroups (v1 and v2) and of their network.

A line has: id, name, percent of a processor, bytes of memory, its limit, processes, bytes received,
sent, read, written.  Memory is without the file cache that goes at once when room is wanted, as docker
and kubectl count; what a controller that is not there would say is 0, no limit is "max".
"""

from __future__ import annotations

import os
import select
import time

from oci_tools.container import ending, names
from oci_tools.errors import Error
from oci_tools.runtime import state
from oci_tools.runtime.groups import of as groups_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.runtime.cgroup import Cgroup

INTERVAL = 1000  # milliseconds in which a processor's use is measured
_UNLIMITED = 1 << 62  # v1 says a number that no machine has


def lines(root: str, containers: list[str], once: bool) -> Iterator[str]:
    """A line for each container, or each that runs, every second; as long as one of them runs."""
    for container in containers:
        pidfd = ending.payload(root, container)
        if pidfd < 0:
            raise Error("cannot measure container", container, "it is not running")
        os.close(pidfd)
        if groups_of(state.load(root, container)) is None:
            raise Error("cannot measure container", container, "it has no cgroup")
    before: dict[str, tuple[int, int]] = {}
    last = False
    while not last:
        seen = _seen(root, containers)
        if not seen:
            return
        if before:
            last = once
            for container, found in seen.items():
                yield _line(container, found, before.get(container))
        before = {container: found["time"] for container, found in seen.items()}
        if not last:
            _pause(root, list(seen))


def _pause(root: str, containers: list[str]) -> None:
    """A second, or until one ends."""
    pidfds = [fd for fd in (ending.payload(root, container) for container in containers) if fd >= 0]
    poll = select.poll()
    for fd in pidfds:
        poll.register(fd, select.POLLIN)
    poll.poll(INTERVAL)
    for fd in pidfds:
        os.close(fd)


def _seen(root: str, containers: list[str]) -> dict[str, dict[str, Any]]:
    found = {}
    for container in containers or state.ids(root):
        try:
            known = state.load(root, container)
            groups = groups_of(known)
            if groups is not None and state.status(root, known) in ("created", "running"):
                found[container] = _of(groups, known["pid"])
        except (Error, OSError):
            continue  # it has just ended
    return found


def _line(container: str, found: dict[str, Any], before: tuple[int, int] | None) -> str:
    used, when = found["time"]
    share = 100 * (used - before[0]) / max(when - before[1], 1) if before else 0.0
    name = names.policy(container).get("name") or ""
    return "\t".join([container[:12], name, f"{share:.2f}", *(str(each) for each in found["rest"])])


def _of(groups: Cgroup, pid: int) -> dict[str, Any]:
    """`time`: nanoseconds of processors, and of the clock; `rest`: as they stand in a line."""
    memory = _memory_v2(groups) if groups.unified else _memory_v1(groups)
    used = _cpu_v2(groups) if groups.unified else _number(groups, "cpuacct", "cpuacct.usage")
    disk = _disk_v2(groups) if groups.unified else _disk_v1(groups)
    processes = _number(groups, "pids", "pids.current")
    return {"time": (used, time.monotonic_ns()), "rest": [*memory, processes, *_network(pid), *disk]}


def _text(groups: Cgroup, controller: str, file: str) -> str:
    try:
        with open(f"{groups.path(controller)}/{file}", encoding="utf-8") as opened:
            return opened.read()
    except OSError:
        return ""


def _number(groups: Cgroup, controller: str, file: str) -> int:
    return int(_text(groups, controller, file) or 0)


def _pairs(groups: Cgroup, controller: str, file: str) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in _text(groups, controller, file).splitlines())}


def _memory_v1(groups: Cgroup) -> tuple[int, int | str]:
    used = _number(groups, "memory", "memory.usage_in_bytes")
    used -= _pairs(groups, "memory", "memory.stat").get("total_inactive_file", 0)
    limit = _number(groups, "memory", "memory.limit_in_bytes")
    return max(used, 0), limit if 0 < limit < _UNLIMITED else "max"


def _memory_v2(groups: Cgroup) -> tuple[int, int | str]:
    used = _number(groups, "memory", "memory.current") - _pairs(groups, "memory", "memory.stat").get("inactive_file", 0)
    limit = _text(groups, "memory", "memory.max").strip() or "max"
    return max(used, 0), limit if limit == "max" else int(limit)


def _cpu_v2(groups: Cgroup) -> int:
    return _pairs(groups, "cpu", "cpu.stat").get("usage_usec", 0) * 1000


def _disk_v1(groups: Cgroup) -> tuple[int, int]:
    """Lines "MAJOR:MINOR Read BYTES"."""
    done = {"Read": 0, "Write": 0}
    for line in _text(groups, "blkio", "blkio.throttle.io_service_bytes").splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in done:
            done[words[1]] += int(words[2])
    return done["Read"], done["Write"]


def _disk_v2(groups: Cgroup) -> tuple[int, int]:
    """Lines "MAJOR:MINOR rbytes=N wbytes=N ..."."""
    done = {"rbytes": 0, "wbytes": 0}
    for line in _text(groups, "io", "io.stat").splitlines():
        for word in line.split()[1:]:
            key, _, value = word.partition("=")
            if key in done:
                done[key] += int(value)
    return done["rbytes"], done["wbytes"]


def _network(pid: int) -> tuple[int, int]:
    """Of all devices but loopback: proc_pid_net(5)."""
    received = sent = 0
    with open(f"/proc/{pid}/net/dev", encoding="utf-8") as file:
        for line in file.read().splitlines()[2:]:
            name, _, counts = line.partition(":")
            if name.strip() != "lo":
                fields = counts.split()
                received, sent = received + int(fields[0]), sent + int(fields[8])
    return received, sent


def killed_for_memory(groups: Cgroup) -> bool:
    """Whether a process of a container was killed because there was no more memory."""
    return bool(_pairs(groups, "memory", "memory.events" if groups.unified else "memory.oom_control").get("oom_kill"))
