"""Where `ocid` listens: addresses as docker writes them, sockets of a service manager, and who may connect.

    unix:///run/oci/ocid.sock    a socket of mode 0660 and the group that --group names
    tcp://HOST:PORT              tcp://[::1]:PORT
    fd://                        every socket that systemd passes (sd_listen_fds(3)); fd://N: descriptor N
"""

from __future__ import annotations

import os
import socket

from oci_tools.errors import Error, Usage

_FIRST = 3  # SD_LISTEN_FDS_START
_BACKLOG = 1024


def passed() -> list[int]:
    """The descriptors that a service manager listens on for us; what we start shall not think so too."""
    count, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    return [*range(_FIRST, _FIRST + int(count))]


def listen(address: str, group: int = -1, given: list[int] | None = None) -> list[socket.socket]:
    """The listening sockets of one address (given: what a service manager passed)."""
    kind, found, rest = address.partition("://")
    try:
        if kind == "fd":
            if rest and not rest.isdecimal():
                raise ValueError("not fd://N")
            numbers = [int(rest)] if rest else given or []
            if not numbers:
                raise Error("cannot listen on", address, "no socket was passed")
            return [_opened(number) for number in numbers]
        if kind == "unix" and rest.startswith("/"):
            return [_unix(rest, group)]
        if kind == "tcp" and found:
            return [_tcp(rest)]
    except (ValueError, OverflowError) as error:
        raise Usage("cannot listen on", address, error) from None
    except OSError as error:
        raise Error("cannot listen on", address, error) from None
    raise Usage("invalid address", address, hint="unix:///PATH, tcp://HOST:PORT or fd://")


def _opened(number: int) -> socket.socket:
    sock = socket.socket(fileno=number)
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError(f"descriptor {number} does not listen")
    os.set_inheritable(number, False)
    return sock


def _unix(path: str, group: int) -> socket.socket:
    """A socket in the file system, in place of one on which nobody listens any more."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
            raise Error("cannot listen on", path, "somebody listens there")
        except ConnectionRefusedError:
            os.unlink(path)
        except FileNotFoundError:
            pass
    sock = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)  # nobody connects before it is the group's
    try:
        sock.bind(path)
    finally:
        os.umask(before)
    if group >= 0:
        os.chown(path, -1, group)
        os.chmod(path, 0o660)
    sock.listen(_BACKLOG)
    return sock


def _tcp(text: str) -> socket.socket:
    host, _, port = text.rpartition(":")
    if not port.isdecimal():
        raise ValueError("not HOST:PORT")
    host = host.strip("[]") or "0.0.0.0"
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, int(port)))
    sock.listen(_BACKLOG)
    return sock


def shown(sock: socket.socket) -> str:
    """The address of a listening socket, as `listen` takes it."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix://{name}"
    return f"tcp://[{name[0]}]:{name[1]}" if ":" in name[0] else f"tcp://{name[0]}:{name[1]}"
