"""The first process of a container: whether it lives and is frozen, asked of descriptors that are kept.

A list of many containers asks this of each: one system call a question is what that may cost.
"""

from __future__ import annotations

import os
import select

from oci_tools.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Payload:
    """What state.json tells of; it lets go of its descriptors when nobody has it any more.

    pid  as we see it
    """

    def __init__(self, known: dict[str, Any]) -> None:
        self._pidfd = self._freezer = -1
        self.pid = int(known.get("pid") or 0)
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except (OSError, ValueError):
            return  # it has ended
        if process.start_time(self.pid) != known.get("startTime"):
            self._close()  # another process has the number by now
            return
        groups = known.get("cgroups") or {}
        paths = groups.get("paths") or groups
        for path, file in ((paths.get("freezer"), "freezer.state"), (paths.get(""), "cgroup.freeze")):
            if path and self._freezer < 0:
                try:
                    self._freezer = os.open(f"{path}/{file}", os.O_RDONLY | os.O_CLOEXEC)
                except OSError:
                    pass

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        for fd in (self._pidfd, self._freezer):
            if fd >= 0:
                os.close(fd)
        self._pidfd = self._freezer = -1

    @property
    def lives(self) -> bool:
        if self._pidfd < 0:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    @property
    def frozen(self) -> bool:
        try:
            return self._freezer >= 0 and os.pread(self._freezer, 16, 0).strip() in (b"1", b"FROZEN", b"FREEZING")
        except OSError:
            return False  # its cgroup has gone
