"""The container side of `exec`: a process that enters a container which runs already.

It joins cgroups and namespaces, and then becomes the payload by the same steps as the container's first one; those, and
what must not be done on the way, are in `child.py`.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.linux import process
from oci_tools.runtime import child, labels, pivot, scheduling, terminal
from oci_tools.runtime.caps import Wanted
from oci_tools.runtime.namespaces import become_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.runtime.sync import Channel


class Entry:
    """What a process needs that enters a container which runs already (`exec`)."""

    def __init__(self, wanted: dict[str, Any], state: dict[str, Any], target: int, flags: int) -> None:
        self.process = wanted
        self.state = state
        self.target = target  # a pidfd of the container's first process
        self.flags = flags  # of the namespaces to join
        self.root = -1  # the directory which that has as its root, where it is in our mount namespace
        self.linux: dict[str, Any] = {}  # the configuration's: its personality and memory policy are an exec's too
        self.caps = Wanted(wanted.get("capabilities"))
        self.seccomp: Any = None
        self.group = ""  # the cgroup2 directory in which it is born, and a descriptor of that
        self.group_fd = -1
        self.cgroup_files: list[int] = []
        self.hooks: list[dict[str, Any]] = []
        self.waiting: Any = None
        self.preserve = 0
        self.keep_groups = False


def enter(entry: Entry, channel: Channel) -> None:
    """Become another process of a running container.  Does not return."""
    try:
        child.seal_imports()
        child.reset_signals(child.ENDING)
        child.close_others(entry.preserve, channel, [
            *entry.cgroup_files, entry.target, *([entry.root] if entry.root >= 0 else ())
        ])  # fmt: skip
        channel.expect("go", "cannot enter the container")
        process.prctl(process.PR_SET_DUMPABLE, 0)  # before anybody inside can see us (CVE-2016-9962)
        process.prctl(process.PR_SET_PDEATHSIG, 9)
        affinity = entry.process.get("execCPUAffinity") or {}
        scheduling.run_on(affinity.get("initial"))
        child.join_cgroups(entry.cgroup_files)
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if entry.flags:
                process.setns(entry.target, entry.flags)
        except OSError as error:
            raise Error("cannot join the namespaces of the container", None, error) from None
        child.move(0, channel)  # the pid namespace is that of our children
        process.prctl(process.PR_SET_PDEATHSIG, 9)
        channel.expect("go", "cannot enter the container")  # or we could be heard before the news of us
        os.setsid()
        if entry.flags & process.CLONE_NEWUSER:
            become_root()
            process.prctl(process.PR_SET_PDEATHSIG, 9)
        if entry.root >= 0:
            pivot.enter(entry.root)
            os.close(entry.root)
        os.chdir("/")
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if entry.process.get("terminal"):
            terminal.adopt(terminal.make(root, entry.process, channel))
        home = child.home_of(entry.process, root)
        os.close(root)
        label = labels.Label(entry.process, proc)
        os.close(proc)
        scheduling.apply(entry.process, entry.linux)
        scheduling.run_on(affinity.get("final"))
        child.payload(entry, channel, entry.state, home, label)
    except BaseException as error:
        child.report(channel, error)
