"""The network of a plain user's shared namespaces (container/shared.py), entered by who changes something of networks.

    $OCI_SHARED_BY          the pid of their holder, for who is inside all of them but the network
    $OCI_RUN/shared.pasta   that of pasta, the way out, which has whatever is published; 0 if its ports were said

pasta is started when the network is first entered.  Ports that are published inside are held by sockets (holder.py),
which pasta sees and has the host's ports for.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.linux import process
from oci_tools.net import userland

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

def resolv_conf() -> str:
    """Where the host's is."""
    path = os.path.realpath("/etc/resolv.conf")
    return f"{fs.run()}/shared.host/{os.path.basename(path)}" if fs.HOLDER in os.environ else path


def forget() -> None:
    """There is a new holder, without a way out."""
    try:
        os.unlink(f"{fs.run()}/shared.pasta")
    except FileNotFoundError:
        pass


def join(published: list[dict[str, Any]] | None = None) -> None:
    """Enter the network, for good, where we are inside and not yet there.

    published  the ports of the host that it has, if nobody was there before; else whatever is published
    """
    pid = os.environ.get(fs.HOLDER)
    if not pid:
        return  # root, or there already
    record = f"{fs.run()}/shared.pasta"
    with fs.Lock(f"{fs.run()}/shared.lock"):
        served = _served(record)
        if published and served is not None:
            raise Error("cannot publish ports", None, "the namespaces are there already")
        if not served:
            served = userland.share(record, int(pid), published or [])
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        process.setns(fd, process.CLONE_NEWNET)
    except OSError as error:
        raise Error("cannot enter the network of process", pid, error) from None
    finally:
        os.close(fd)
    del os.environ[fs.HOLDER]
    if served != "0":
        os.environ[userland.SHARED] = served


def _served(record: str) -> str | None:
    """What the record says, None if there is none; empty where somebody has ended pasta, whose device goes with it."""
    try:
        with open(record, encoding="utf-8") as file:
            pasta = file.read().strip()
    except FileNotFoundError:
        return None
    return pasta if pasta == "0" or userland.is_pasta(pasta) else ""
