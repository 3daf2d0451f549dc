"""A process of config.json in a chroot(2): for builds where no namespaces can be had.

Root within a container that has docker's usual filter and capabilities may not mount, and not unshare; it may change
its root directory.  Of config.json the root's path counts and `process`: ids, capabilities, limits, environment,
words.  What it says of namespaces, mounts and groups is for who has those.  It is no container: the payload sees the
processes and the network of whoever started it, and as root it could leave its root directory again.

Between the two is a process that is the reaper of all that the payload starts (prctl(2), PR_SET_CHILD_SUBREAPER):
with the payload all of it ends, daemons too.  So it does when the other end of a pipe is closed, however that comes.
"""

from __future__ import annotations

import _signal  # `signal` loads `enum`
import os
import select

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.linux import caps, process
from oci_tools.runtime import apart, child, entering, labels, seccomp, sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIGCHLD = 17


def possible() -> bool:
    """Whether this process may change its root directory and be others in it."""
    held = caps.capget()[0] if os.geteuid() == 0 else 0
    if not all(held >> caps.NAMES.index(name) & 1 for name in ("CAP_SYS_CHROOT", "CAP_SETUID", "CAP_SETGID")):
        return False
    return apart.succeeds(lambda: os.chroot("/"))


def run(bundle: str, life: int) -> int:
    """Run a bundle's process to its end, or until the pipe `life` has no other end any more: its exit code."""
    with open(f"{bundle}/config.json", "rb") as file:
        spec = document.loads(file.read(), f"{bundle}/config.json")
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    _signal.signal(_SIGCHLD, lambda *_: None)
    _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
    ours, theirs = sync.pair()
    pid = os.fork()
    if pid == 0:
        _become(spec, os.path.join(bundle, spec["root"]["path"]), theirs)
    theirs.close()
    try:
        message, _ = ours.receive()
        if message is None:
            raise Error("cannot run in a chroot", bundle, "its process ended unexpectedly")
        sync.start(ours)
        return _wait(pid, reader, life)
    finally:
        _end_all()


def _become(spec: dict[str, Any], rootfs: str, channel: sync.Channel) -> None:
    """The payload, from the fork on."""
    try:
        wanted = spec["process"]
        entry = entering.Entry(wanted, {}, -1, 0)
        if not caps.capget()[0] >> caps.NAMES.index("CAP_SETPCAP") & 1:
            entry.caps.bounding = -1  # it stays what it is
        if spec["linux"].get("seccomp"):
            entry.seccomp = seccomp.prepare(spec)
        label = labels.Label(wanted)
        child.seal_imports()
        os.setsid()
        os.chroot(rootfs)
        os.umask(0o022)
        os.makedirs(wanted["cwd"], exist_ok=True)
        os.chdir("/")
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        home = child.home_of(wanted, root)
        os.close(root)
        child.payload(entry, channel, {}, home, label)
    except BaseException as error:
        child.report(channel, error)


def _wait(pid: int, reader: int, life: int) -> int:
    """Until the payload has ended; who it left behind and ends meanwhile is reaped."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    poll.register(life, 0)  # POLLHUP
    while True:
        try:
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == pid:
                    code = os.waitstatus_to_exitcode(found[1])
                    return code if code >= 0 else 128 - code
        except ChildProcessError:
            raise Error("cannot wait for a process in a chroot", str(pid)) from None
        for fd, _ in poll.poll():
            if fd == life:
                return 137
            os.read(reader, 64)


def _end_all() -> None:
    """Kill all that is below this process; what is orphaned by that is below it again."""
    while True:
        killed = [pid for pid in _below() if _kill(pid)]
        try:
            if os.waitpid(-1, 0 if killed else os.WNOHANG)[0] == 0:
                return  # what is left belongs to others, and CAP_KILL is not here
        except ChildProcessError:
            return


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def _below() -> set[int]:
    """The children of this process, and theirs."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parents.setdefault(int(file.read().rpartition(b")")[2].split()[1]), []).append(int(name))
            except OSError:
                continue  # it has just gone
    found: set[int] = set()
    waiting = [os.getpid()]
    while waiting:
        new = parents.get(waiting.pop(), [])
        found.update(new)
        waiting += new
    return found
