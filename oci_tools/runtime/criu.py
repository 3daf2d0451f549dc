"""criu(8) as a service for one request: what the runtime asks of it, and what it is told meanwhile.

`criu swrk FD` speaks on a SOCK_SEQPACKET socket, each message one of protocol buffers (images/rpc.proto of criu):

    runtime                                   criu
      type, options ---------------------------->
      <----------------- NOTIFY, script, pid     it has come to a step; to "orphan-pts-master" with the
      NOTIFY, success --------------------------> master of the container's terminal
      <----- the type asked, success, results

Directories are given to it as our descriptors of them, which it opens through /proc/PID/fd.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, MSG_CMSG_CLOEXEC, SOCK_CLOEXEC, SOCK_SEQPACKET, socket, socketpair
from struct import unpack

from oci_tools import fs, protobuf
from oci_tools.errors import Error
from oci_tools.linux import process
from oci_tools.runtime import sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_tools.protobuf import Message

    Notified = Callable[[str, int, list[int]], None]

# criu_req_type
DUMP, RESTORE, PRE_DUMP, NOTIFY, _FEATURE_CHECK = 1, 2, 4, 6, 9
# Fields of criu_opts
(
    IMAGES, PID, LEAVE_RUNNING, EXT_UNIX_SK, TCP_ESTABLISHED, EVASIVE_DEVICES, SHELL_JOB, FILE_LOCKS, LOG_LEVEL,
    LOG_FILE, PAGE_SERVER, NOTIFY_SCRIPTS, ROOT, PARENT, TRACK_MEM, AUTO_DEDUP, WORK, LINK_REMAP,
) = range(1, 19)  # fmt: skip
SIBLING, INHERIT, CGROUPS_MODE, EXTERNAL, EMPTY_NAMESPACES, JOIN, FREEZER = 26, 27, 34, 37, 38, 39, 44
TCP_SKIP_IN_FLIGHT, LAZY_PAGES, ORPHAN_TERMINAL, CONFIG = 46, 48, 50, 51
LSM_PROFILE, LSM_MOUNT_CONTEXT = 53, 63
# Fields of criu_features
MEMORY_TRACKING, LAZY = 1, 2

_KNOWN = "criu"  # "PID STARTTIME"
_LONGEST = 1 << 16  # bytes of a message


class Failed(Exception):
    """It could not do it; its log says why, or these words of its."""


def program(wanted: str | None = None) -> str:
    """The path of criu: of the one that is `wanted`, by its path, or of the usual."""
    if wanted and "/" in wanted:
        if os.access(wanted, os.X_OK):
            return os.path.abspath(wanted)
        raise Error(f'exec: "{wanted}": executable file not found', hint="it is what --criu says")
    for directory in ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        if os.access(f"{directory}/criu", os.X_OK):
            return f"{directory}/criu"
    raise Error('exec: "criu": executable file not found in $PATH', hint="Debian has it in the package criu")


def environment() -> dict[str, str]:
    return {"HOME": "/nonexistent", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def pair() -> tuple[socket, socket]:
    """Our end, and criu's."""
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)


def spawn(theirs: socket, criu: str) -> int:
    """criu on its end of a pair; it has its log, so nothing of our streams."""
    quiet = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in range(3)]
    pid = os.posix_spawn(
        criu, [criu, "swrk", "3"], environment(), file_actions=[*quiet, (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)]
    )
    theirs.close()
    return pid


class Known:
    """A file in a container's directory that names criu while it works on it: `delete` ends one that nobody waits for.

    What asked it was killed, and it may wait for ever: for who should fetch memory of it, say.
    """

    def __init__(self, place: str, pid: int) -> None:
        self.path = f"{place}/{_KNOWN}"
        self.pid = pid

    def __enter__(self) -> None:
        fs.write(self.path, f"{self.pid} {process.start_time(self.pid)}".encode(), 0o600, sync=False)

    def __exit__(self, *_: object) -> None:
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass  # it was deleted meanwhile


def end(place: str) -> None:
    """End the criu that a container's directory names."""
    try:
        with open(f"{place}/{_KNOWN}", encoding="ascii") as file:
            pid, started = map(int, file.read().split())
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    from select import POLLIN, poll

    try:
        if process.start_time(pid) == started:
            process.pidfd_send_signal(pidfd, 9)
            waiting = poll()
            waiting.register(pidfd, POLLIN)
            waiting.poll(10_000)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def ask(sock: socket, pid: int, kind: int, options: Message, notified: Notified) -> Message:
    """What criu, `pid`, answers; `notified` hears of each step: its name, the first process's pid, descriptors."""
    sock.send(protobuf.dumps({1: kind, 2: options}))
    while True:
        answer, fds = _receive(sock, pid)
        if answer[1][0] != NOTIFY:
            return answer
        told = protobuf.loads(answer[5][0])
        notified(told[1][0].decode(), told.get(2, [0])[0], fds)
        sock.send(protobuf.dumps({1: NOTIFY, 3: True}))


def _receive(sock: socket, pid: int) -> tuple[Message, list[int]]:
    pidfd = os.pidfd_open(pid)
    try:
        if not sync.has_spoken(sock.fileno(), pidfd):  # killed: what it has forked waits with its socket
            raise Failed("it has ended")
    finally:
        os.close(pidfd)
    data, control, _, _ = sock.recvmsg(_LONGEST, 64, MSG_CMSG_CLOEXEC)
    fds = [fd for _, _, sent in control for fd in unpack(f"{len(sent) // 4}i", sent)]
    if not data:
        raise Failed("it has ended")
    answer = protobuf.loads(data)
    if not answer[2][0]:
        words = answer.get(9, [b""])[0].decode("utf-8", "replace").strip()
        errno = answer.get(7, [0])[0]
        raise Failed(words or (os.strerror(errno).lower() if errno else "it has left no word"))
    return answer, fds


def can(criu: str, feature: int) -> bool:
    """Whether criu and this kernel have a feature."""
    ours, theirs = pair()
    pid = spawn(theirs, criu)
    try:
        ours.send(protobuf.dumps({1: _FEATURE_CHECK, 5: {feature: True}}))
        answer, _ = _receive(ours, pid)
        return bool(protobuf.loads(answer.get(8, [b""])[0]).get(feature, [0])[0])
    except (Failed, OSError):
        return False
    finally:
        ours.close()
        os.waitpid(pid, 0)


def restored(answer: Message) -> int:
    """The pid of the first process, of the answer to RESTORE."""
    return int(protobuf.loads(answer[4][0])[1][0])
