"""What a service manager gives to a service, handed on to a container: sockets, and the word "ready".

sd_listen_fds(3): the sockets are LISTEN_FDS descriptors from 3 on; the payload keeps them, with its own
pid in LISTEN_PID.  sd_notify(3): a socket of ours is mounted in the container, and of all that is
said to it READY=1 alone is passed on (a payload must not name another MAINPID), with the
payload's pid where this process does not stay.  runc does the same, with the same paths inside.
"""

from __future__ import annotations

import os
import select
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_DGRAM, SOL_SOCKET, socket
from struct import pack

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INSIDE = "/run/notify"
_NAME = "notify.sock"
_BARRIER = 30_000  # ms that the manager has to read what it was told


def descriptors() -> int:
    """How many sockets the service manager has given to this process, also by one that names none."""
    if os.environ.get("LISTEN_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    count = os.environ.get("LISTEN_FDS", "")
    return int(count) if count.isascii() and count.isdigit() else 0


def handed_on(spec: dict[str, Any], directory: str) -> dict[str, Any]:
    """The specification of a container that gets what this process got; its state is in `directory`."""
    wanted = spec["process"]
    env, added = [*(wanted.get("env") or ())], []
    count = descriptors()
    if count:
        env += [f"{name}={os.environ[name]}" for name in ("LISTEN_FDS", "LISTEN_FDNAMES") if name in os.environ]
    if os.environ.get("NOTIFY_SOCKET"):
        place = f"{directory}/notify"
        os.mkdir(place)
        os.chmod(place, 0o755)  # the payload may be anybody
        options = ["bind", "nosuid", "noexec", "nodev", "ro"]
        added = [{"destination": _INSIDE, "type": "bind", "source": place, "options": options}]
        env.append(f"NOTIFY_SOCKET={_INSIDE}/{_NAME}")
    return {**spec, "process": {**wanted, "env": env}, "mounts": [*(spec.get("mounts") or ()), *added]}


class Notify:
    """The socket on which a container says that it is ready."""

    def __init__(self, directory: str) -> None:
        """`directory`: of the container's state."""
        self.sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
        place = os.open(f"{directory}/notify", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = f"/proc/self/fd/{place}/{_NAME}"  # the path itself may be too long for a socket
            self.sock.bind(path)
            os.chmod(path, 0o777)
        except OSError as error:
            raise Error("cannot listen on", f"{directory}/notify/{_NAME}", error) from None
        finally:
            os.close(place)

    def fileno(self) -> int:
        return self.sock.fileno()

    def turn(self, pid: int | None = None) -> bool:
        """Read what was said; True once it was READY=1, which the manager then knows."""
        said = self.sock.recv(4096)
        if not any(line.startswith(b"READY=") for line in said.split(b"\n")):
            return False
        try:
            manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
            name = os.environ["NOTIFY_SOCKET"]
            manager.connect("\0" + name[1:] if name.startswith("@") else name)
            manager.send(b"READY=1\n")
            if pid:
                manager.send(b"MAINPID=%d\n" % pid)
                _wait_until_read(manager)
        except OSError as error:
            raise Error("cannot notify", os.environ["NOTIFY_SOCKET"], error) from None
        return True

    def wait(self, pid: int) -> None:
        """Until the payload is ready, or has ended."""
        pidfd = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(self, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if (self.fileno() in ready and self.turn(pid)) or pidfd in ready:
                return os.close(pidfd)


def _wait_until_read(manager: socket) -> None:
    """sd_notify_barrier(3): the manager closes our pipe once it has read all that came before."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    manager.sendmsg([b"BARRIER=1"], [(SOL_SOCKET, SCM_RIGHTS, pack("i", writer))])
    os.close(writer)
    poll = select.poll()
    poll.register(reader, 0)  # its end is told unasked
    poll.poll(_BARRIER)
    os.close(reader)
