"""The end of a container, awaited by somebody who is not its parent.

Its exit code is in exit.json, which the process that looks after it writes.  If that one died, or there was
never one (a container of the runtime's own verbs), it is what the kernel says of a process that was
reaped while we held its pidfd (Linux 6.15), else unknown: never invented.
"""

from __future__ import annotations

import os
import select

from oci_tools import fs
from oci_tools.container import names, place
from oci_tools.errors import Error
from oci_tools.linux import inotify, process
from oci_tools.runtime import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_REAPED = 5000  # milliseconds in which the parent of a dead process should have heard of it; some look now and then
_LOOK = 1000  # milliseconds after which one that nobody looks after is looked at again
_NEWS = inotify.IN_MOVE_SELF | inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_DELETE | inotify.IN_DELETE_SELF


class Ending:
    """What there is to watch of a container for a `with` block, in which it is not removed at its end.

    watch   says when something changed in its directory
    pidfd   of its first process, -1 if none runs
    keeper  of the process that looks after it, -1 if there is none
    """

    def __init__(self, runtime: str, container: str) -> None:
        self.id = container
        self.path = names.place(container)
        self.runtime = runtime
        self.pidfd = self.keeper = -1
        self._seen: int | None = None  # what the kernel says how it ended

    def __enter__(self) -> Self:
        self.watch = inotify.Watch()
        self._held: fs.Lock | None = None
        if os.path.isdir(self.path):
            self.watch.add(self.path, _NEWS)
            # Whoever removes it has it alone, and is not waited for.
            self._held = fs.Lock(self.path, shared=True, timeout=0, make=False).__enter__()
        self.look()
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.__exit__()
        for fd in (self.pidfd, self.keeper):
            if fd >= 0:
                os.close(fd)
        if self._held:
            self._held.__exit__()

    def look(self) -> None:
        """Who is there now?"""
        if self.keeper < 0:
            self.keeper = place.keeper(self.id)
        if self.pidfd < 0:
            self.pidfd = payload(self.runtime, self.id)

    @property
    def over(self) -> bool:
        """Whether nobody is left who would still do something."""
        waits = names.policy(self.id).get("waits") and not names.was_started(self.id)
        return self.keeper < 0 and self.pidfd < 0 and not waits and not self._orphan()

    def _orphan(self) -> bool:
        """Whether its monitor was killed, and another one comes."""
        from oci_tools.container import detaching, keeping

        return detaching.is_orphan(self.runtime, self.id) and keeping.guarded(self.id)

    @property
    def told(self) -> bool:
        """Whether its end is written down, and what it wrote before; its keeper may wait until we have read it."""
        return self._held is not None and names.exit_code(self.id) is not None

    def code(self) -> int | None:
        """Wait for the end; the exit code, None if nobody knows it."""
        while True:
            code = names.exit_code(self.id) if self._held else None
            if code is not None:
                return code
            if self.over:
                return self._seen
            self.turn({})

    def release(self) -> None:
        """What is to be removed at its end may be: wait until it is."""
        removed = names.policy(self.id).get("rm")
        if self._held:
            self._held.__exit__()
            self._held = None
        if self.keeper >= 0 and removed:
            poll = select.poll()
            poll.register(self.keeper, select.POLLIN)
            poll.poll()

    def removed(self) -> None:
        """Wait until it is removed, by whoever."""
        if self._held:
            self._held.__exit__()
            self._held = None
        while os.path.isdir(self.path):
            self.turn({})

    def ends(self, timeout: float | None) -> bool:
        """Wait until its first process has ended; False if it has not in so many seconds."""
        if self.pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))

    def turn(self, more: dict[int, int]) -> dict[int, int]:
        """Wait until something happens to it, or to `more` descriptors by their events; what is ready."""
        poll = select.poll()
        for fd in (self.watch.fileno(), self.pidfd, self.keeper):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        for fd, events in more.items():
            poll.register(fd, events)
        alone = self.pidfd < 0 and self.keeper < 0
        ready = dict(poll.poll(_LOOK if alone else None))  # who has it guarded may be killed as well
        if self.watch.fileno() in ready:
            self.watch.drain()
        if self.pidfd in ready:
            if self.keeper < 0:
                self._seen = _code(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1
        if self.keeper in ready:
            os.close(self.keeper)
            self.keeper = -1
        self.look()
        return ready


def payload(runtime: str, container: str) -> int:
    """A pidfd of a container's first process, -1 if none runs."""
    try:
        known = state.load(runtime, container)
        pidfd = os.pidfd_open(known["pid"])
    except (Error, OSError):
        return -1
    if process.start_time(known["pid"]) == known["startTime"] != 0:
        return pidfd
    os.close(pidfd)
    return -1


def payload_runs(pidfd: int) -> bool:
    """Whether the process of a pidfd, which may be -1, has not ended."""
    if pidfd < 0:
        return False
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)


def told(pidfd: int, record: str) -> int | None:
    """How a process that is not our child has ended, negative by a signal: by the kernel, or by the `record` of whoever
    reaped it."""
    poll = select.poll()
    poll.register(pidfd, 0)
    poll.poll(_REAPED)
    status = process.pidfd_exit_status(pidfd)
    if status is None:
        try:
            with open(record, "rb", buffering=0) as file:
                status = int(file.read())
        except (OSError, ValueError):
            return None
    return os.waitstatus_to_exitcode(status)


def _code(pidfd: int) -> int | None:
    """The exit code of a process that has ended, from the kernel: with no parent of ours nobody else can say."""
    code = told(pidfd, "")
    return code if code is None or code >= 0 else 128 - code


def code(runtime: str, container: str) -> int:
    """Wait for the end of a container; an Error if it ended and nobody knows how."""
    with Ending(runtime, container) as ending:
        found = ending.code()
    if found is None:
        raise Error("the exit code is not known", container, "nobody was there when it ended")
    return found
