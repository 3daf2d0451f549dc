"""The handshake between the runtime and the container side, drawn once.

One SOCK_SEQPACKET pair; each message is one datagram, a JSON object with "op", and
descriptors beside it where noted.  Every step may instead be answered by "error"
(the child's exception, raised again by its parent) or by end of file (a side died).

    runtime (host)                                   container side (becomes pid 1)
      clone3 with the new namespaces ............... sets pdeathsig, joins paths, new session,
      makes cgroups, writes state.json, id maps      network, mounts as far as that can be done
      "go" + files of cgroups ---------------------> joins cgroups, the other mounts, devices
      <-------------------------------- "created"    only if there are runtime hooks
      runs prestart and createRuntime hooks
      "go" ----------------------------------------> createContainer hooks, console, pivot,
                                                     sysctl, masks, hostname, credentials,
      <---------------------- "console" + pty        finds the program
      <------------------------------------ "ready"  all is done but the exec

    With a user namespace nothing is done before "go", when ids are mapped; nor where others look for the network first.
    Two detours: a user namespace joined by path, and `exec`, make the real process beside the first ("moved" + its
    pidfd, answered by "go"); a seccomp filter that notifies gives "seccomp" + its listener.

    then, on the same pair for `run` (a created container waits as `starting.py` says):

      "start" -------------------------------------> startContainer hooks, close_range, execve
      <------------------------------------ (EOF)    the exec closed it: the payload runs

The container side holds no other descriptor of the host when it says "ready".
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_SEQPACKET, SOCK_STREAM
from _socket import SOL_SOCKET, socket, socketpair
from errno import ESRCH
from struct import pack, unpack

from oci_tools import document
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LIMIT = 1 << 17  # bytes of one message: a container side may be hostile once a hook has run


class Channel:
    """One end of the handshake."""

    def __init__(self, sock: socket) -> None:
        self.sock = sock

    def send(self, op: str, fds: list[int] | None = None, **members: Any) -> None:
        data = document.dumps({"op": op, **members})
        if fds:
            self.sock.sendmsg([data], [(SOL_SOCKET, SCM_RIGHTS, pack(f"{len(fds)}i", *fds))])
        else:
            os.write(self.fileno(), data)  # which any seccomp profile allows

    def go(self, fds: list[int] | None = None, **members: Any) -> None:
        """The runtime's word to go on.  Whoever has ended meanwhile may have said why: that is heard next."""
        try:
            self.send("go", fds, **members)
        except OSError:
            pass

    def receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        """The next message and its descriptors; None at end of file.  An "error" is raised."""
        try:
            data, control, _, _ = self.sock.recvmsg(LIMIT, 64, MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # it has ended without hearing our last word; what it had said comes next
            data, control, _, _ = self.sock.recvmsg(LIMIT, 64, MSG_CMSG_CLOEXEC)
        fds = [fd for _, _, sent in control for fd in unpack(f"{len(sent) // 4}i", sent)]
        if not data:
            return None, fds
        message = document.loads(data, "message of the container side")
        if message["op"] == "error":
            raise revive(message)
        return message, fds

    def expect(self, op: str, what: str, fds: list[int] | None = None) -> dict[str, Any]:
        """The container side's way to wait for the word `op`.  End of file is an Error that says `what`.

        fds  where descriptors that may come with it are put
        """
        if fds is None:
            data = os.read(self.fileno(), 4096)  # which any seccomp profile allows
        else:
            data, control, _, _ = self.sock.recvmsg(4096, 1024, MSG_CMSG_CLOEXEC)
            fds += [fd for _, _, sent in control for fd in unpack(f"{len(sent) // 4}i", sent)]
        if not data:
            raise Error(what, None, "the runtime ended unexpectedly")
        heard: dict[str, Any] = document.loads(data, "message of the runtime")
        if heard["op"] != op:
            raise Error(what, None, f"the runtime said {heard['op']} instead of {op}")
        return heard

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()


def pair() -> tuple[Channel, Channel]:
    """Both ends: the runtime's, the container side's."""
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    return Channel(ours), Channel(theirs)


def has_spoken(fd: int, pidfd: int) -> bool:
    """Wait until something can be read, or the process that was to say it has ended: others may hold its end open."""
    from select import POLLIN, poll

    both = poll()
    for each in (pidfd, fd):
        both.register(each, POLLIN)
    both.poll()
    both.unregister(pidfd)
    return bool(both.poll(0))


def send_descriptor(fd: int, path: str, name: bytes) -> None:
    """Send a descriptor to the engine that listens on a socket: a terminal's master, or a pidfd; as runc does."""
    try:
        sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        sock.connect(path)
        sock.sendmsg([name], [(SOL_SOCKET, SCM_RIGHTS, pack("i", fd))])
        sock.close()
    except OSError as error:
        raise Error("cannot send a descriptor to", path, error) from None


def opened_by_child(make: Callable[[], int]) -> int:
    """The descriptor that `make` returns in a fork of ours, which enters namespaces for it and ends with it.

    Its OSError is raised here, one of ESRCH if it was killed; so is an Error of its own.
    """
    ours, theirs = pair()
    child = os.fork()
    if child == 0:
        try:
            theirs.send("opened", [make()])
        except OSError as error:
            theirs.send("failed", errno=error.errno)
        except BaseException as error:
            theirs.send("error", **told(error))
        finally:
            os._exit(0)
    theirs.close()
    try:
        message, fds = ours.receive()
    finally:
        ours.close()
        os.waitpid(child, 0)
    if not fds:
        number = (message or {}).get("errno") or ESRCH
        raise OSError(number, os.strerror(number))
    return fds[0]


def told(error: BaseException) -> dict[str, Any]:
    """An exception as the members of an "error" message."""
    if isinstance(error, Error):
        cause = error.cause
        return {
            "what": error.what,
            "subject": None if error.subject is None else _text(error.subject),
            "cause": None if cause is None else [getattr(cause, "errno", None), _cause(cause)],
            "hint": error.hint,
            "code": error.code,
        }
    if isinstance(error, OSError):
        name = error.filename
        return {
            "what": "cannot set up the container",
            "subject": None if name is None else _text(name),
            "cause": [error.errno, _cause(error)],
            "hint": None,
            "code": 1,
        }
    what = "bug in the container side"
    return {"what": what, "subject": None, "cause": [None, _bug(error)], "hint": None, "code": 70}


def revive(message: dict[str, Any]) -> Error:
    """The exception that an "error" message tells of; an errno stays one."""
    cause: BaseException | str | None = None
    if message["cause"] is not None:
        errno, text = message["cause"]
        cause = OSError(errno, text) if errno else text
    return Error(message["what"], message["subject"], cause, message["hint"], message["code"])


def _text(subject: object) -> str:
    return os.fsdecode(subject) if isinstance(subject, bytes) else str(subject)


def _cause(cause: BaseException | str) -> str:
    return (cause.strerror or str(cause)) if isinstance(cause, OSError) else str(cause)


def _bug(error: BaseException) -> str:
    """Where a bug struck.  Not `traceback`: it would open source files by paths of the container."""
    where, tb = [], error.__traceback__
    while tb is not None:
        where.append(f"{os.path.basename(tb.tb_frame.f_code.co_filename)}:{tb.tb_lineno}")
        tb = tb.tb_next
    return f"{type(error).__name__}: {error} at {' '.join(where)}"


def start(channel: Channel) -> None:
    """Say "start"; end of file is the payload's exec, anything else an error."""
    try:
        channel.send("start")
    except OSError:
        raise Error("cannot start the container", None, "its process has ended") from None
    channel.receive()
    channel.close()
