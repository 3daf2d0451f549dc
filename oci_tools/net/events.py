"""What happens to networks: a line each in $OCI_ROOT/events, in the form of Docker's events, after it was done.

It fails silently: nobody shall wait for room on a disk.  Not here: reading and rotating them, which is for who runs
containers.
"""

from __future__ import annotations

import os
import time

from oci_tools import document, fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.net.conflist import Network


def tell(network: Network, action: str, container: str | None = None) -> None:
    """create, destroy, connect, disconnect."""
    attributes = {"name": network.name, "type": network.driver, **({"container": container} if container else {})}
    now = time.time_ns()
    line = document.dumps({
        "Type": "network", "Action": action, "Actor": {"ID": network.id or network.name, "Attributes": attributes},
        "scope": "local", "time": now // 1_000_000_000, "timeNano": now,
    })  # fmt: skip
    try:
        how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(f"{fs.root()}/events", how, 0o600)
        try:
            os.write(fd, line + b"\n")
        finally:
            os.close(fd)
    except OSError:
        pass
