"""`events`: JSON lines of what a container uses and of kills for want of memory, as runc prints them.

    {"type":"stats","id":"c1","data":{...}}      at each interval, or once (--stats)
    {"type":"oom","id":"c1"}                     when the kernel has found no memory for it

Ends with the container.  The kernel wakes us: v1 by an eventfd (cgroup-v1 memory.rst, "oom_control"),
v2 by memory.events, which poll(2) takes.
"""

from __future__ import annotations

import os
import select
import sys
import time

from oci_tools import document
from oci_tools.errors import Error, Usage
from oci_tools.linux import process
from oci_tools.runtime import state, usage
from oci_tools.runtime.groups import of as groups_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.runtime.cgroup import Cgroup

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def main(args: Any, root: str) -> None:
    """The verb: once with --stats, else until the container ends."""
    interval = seconds(args.interval)
    known = state.load(root, args.id)
    groups = groups_of(known)
    pidfd = _open(known)
    if pidfd < 0:
        raise Error("cannot get events of container", args.id, "container not running")
    if groups is None:
        raise Error("cannot get events of container", args.id, "it has no cgroup")
    if args.stats:
        return _say("stats", args.id, usage.stats(groups))
    with OutOfMemory(groups) as watch:
        _follow(args.id, groups, pidfd, interval, watch)


def _follow(name: str, groups: Cgroup, pidfd: int, interval: float, watch: OutOfMemory) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    watch.register(poll)
    due = time.monotonic() + interval
    while True:
        ready = dict(poll.poll(max(0.0, due - time.monotonic()) * 1000))
        for _ in range(watch.times()):
            _say("oom", name)
        if pidfd in ready:
            return
        if time.monotonic() >= due:
            _say("stats", name, usage.stats(groups))
            due = time.monotonic() + interval


def _say(kind: str, name: str, data: Any = None) -> None:
    line = {"type": kind, "id": name, **({} if data is None else {"data": data})}
    sys.stdout.write(document.dumps(line).decode() + "\n")
    sys.stdout.flush()


def _open(known: dict[str, Any]) -> int:
    """A pidfd of the container's first process, or -1."""
    try:
        pidfd = os.pidfd_open(known["pid"])
    except OSError:
        return -1
    return pidfd if process.start_time(known["pid"]) == known["startTime"] else -1


class OutOfMemory:
    """Hears of it when the container's group is out of memory."""

    def __init__(self, groups: Cgroup) -> None:
        self.unified = groups.unified
        self.path = groups.path("memory")
        self.fds: list[int] = []
        self.count = 0

    def __enter__(self) -> OutOfMemory:
        if self.path is None:
            return self  # no such controller on this host: stats are all there is to tell
        try:
            if self.unified:
                self.fds = [os.open(f"{self.path}/memory.events", os.O_RDONLY | os.O_CLOEXEC)]
                self.count = self._kills()
            else:
                control = os.open(f"{self.path}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
                self.fds = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), control]
                with open(f"{self.path}/cgroup.event_control", "w", encoding="utf-8") as file:
                    file.write(f"{self.fds[0]} {control}")
        except OSError as error:
            raise Error("cannot watch the memory of cgroup", self.path, error) from None
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self.fds:
            os.close(fd)

    def register(self, poll: select.poll) -> None:
        if self.fds:
            poll.register(self.fds[0], select.POLLPRI if self.unified else select.POLLIN)

    def times(self) -> int:
        """How often it happened since the last question."""
        if not self.fds:
            return 0
        if not self.unified:
            try:
                woken = os.eventfd_read(self.fds[0])
            except BlockingIOError:
                return 0
            # The removal of the group wakes as well: then its files are gone.
            return woken if os.path.exists(f"{self.path}/memory.oom_control") else 0
        before, self.count = self.count, self._kills()
        return max(0, self.count - before)

    def _kills(self) -> int:
        try:
            text = os.pread(self.fds[0], 4096, 0).decode()
        except OSError:
            return self.count  # removed
        return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)


def seconds(text: str) -> float:
    """A duration in Go's words, like 5s or 1m30s; a plain number is seconds."""
    left, total = text, 0.0
    while left:
        digits = len(left) - len(left.lstrip("0123456789."))
        unit = len(left[digits:]) - len(left[digits:].lstrip("hms"))
        number, name = left[:digits], left[digits : digits + unit] or "s"
        if not number.replace(".", "", 1).isdigit() or name not in _UNITS:
            raise Usage("invalid duration", text)
        total, left = total + float(number) * _UNITS[name], left[digits + unit :]
    if total <= 0:
        raise Usage("invalid duration", text)
    return total
