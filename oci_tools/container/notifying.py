"""--sdnotify (podman): who tells the service manager that started us, by $NOTIFY_SOCKET, that the container is ready.

    container   it does itself, by a socket of its own that is passed on (runtime/activation.py)
    conmon      we do, as soon as it runs; the main process is the one that stays with it
    healthy     the one that stays does, when its health check has succeeded
    ignore      nobody
"""

from __future__ import annotations

import os

from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_tools.container.place import Place


def begin(kind: str, held: Place) -> Callable[[Place | None], None]:
    """Let it be so for a container that is about to be started; what to call when it runs, with it if detached."""
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if kind == "healthy":
        if not held.policy.get("health"):
            raise Usage("--sdnotify=healthy is for detached containers with a health check")
        if address:
            held.note(notify=address)
    if kind != "conmon" or not address:
        return lambda _: None
    return lambda held: ready(address, keeper(held) if held else os.getpid())


def ready(address: str, pid: int) -> None:
    """Say that it is ready, and which process is to be watched."""
    from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket

    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        manager.connect("\0" + address[1:] if address.startswith("@") else address)
        manager.send(b"READY=1\nMAINPID=%d\n" % pid)
    except OSError:
        pass  # a manager that has gone wants to know nothing
    finally:
        manager.close()


def keeper(held: Place) -> int:
    """The pid of the process that stays with a detached container."""
    with open(f"{held.path}/lock", "rb", buffering=0) as file:
        return int(file.read() or b"0")
