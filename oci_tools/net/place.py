"""Where the room keeps what it knows, who may change it, and what a killed command left.

    $OCI_ROOT/networks/NAME.conflist    the networks
    $OCI_RUN/net/lock                   held while anything here or in the kernel is changed
    $OCI_RUN/net/doing                  "NETWORK CONTAINER" being attached or detached: whoever finds it with the lock
                                        held was not the one who wrote it, for that one is dead
    $OCI_RUN/net/on/NETWORK/            attachments (record.py), leases (lease.py), names (hosts.py) of a network
    $OCI_RUN/net/ports/                 published ports: ports.py
    $OCI_RUN/netns/ID                   the network namespace of a container

What is under $OCI_RUN is gone after a reboot, as the kernel's side of it is.  Names in the kernel carry an id of the
store: there may be several on a host.
"""

from __future__ import annotations

import os
from binascii import crc32

from oci_tools import fs
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


def state() -> str:
    return f"{fs.run()}/net"


def on(network: str) -> str:
    """What is known of those who are on a network."""
    return f"{state()}/on/{network}"


def networks() -> str:
    return f"{fs.root()}/networks"


def namespace(container: str) -> str:
    """Where the network namespace of a container is pinned."""
    return f"{fs.run()}/netns/{container}"


def store() -> str:
    """Eight hex digits that tell this store from others on the host."""
    return f"{crc32(os.fsencode(os.path.realpath(fs.root()))):08x}"


def table() -> str:
    """The nftables table of this store, of family inet."""
    return f"oci_{store()}"


def bridge(network: str, kind: str = "br") -> str:
    """What a network's bridge is called unless somebody says otherwise; of kind "mv" its other link of the host."""
    return f"{kind}-{store()[:6]}{crc32(network.encode()) & 0xFFFFFF:06x}"


class Change:
    """The right to change anything of the networks, for a `with` block; what a killed one left is repaired first."""

    def __init__(self) -> None:
        self._lock = fs.Lock(f"{state()}/lock")

    def __enter__(self) -> Self:
        if fs.HOLDER in os.environ:
            from oci_tools.net import within

            within.join()
        if not os.path.isdir(f"{state()}/on"):
            fs.make_private(f"{state()}/on")
            os.chmod(f"{state()}/on", 0o755)  # for resolvers, who are nobody; what is above it stays private
        self._lock.__enter__()
        try:
            _repair()
        except BaseException:
            self._lock.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__()


class Doing:
    """For a `with` block inside a Change: what is to be cleared if the block does not come to its end."""

    def __init__(self, network: str, container: str) -> None:
        self._what = f"{network} {container}"  # in a link: made with its text, or not at all

    def __enter__(self) -> Self:
        os.symlink(self._what, f"{state()}/doing")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            os.unlink(f"{state()}/doing")
        else:
            _repair()


def settle() -> None:
    """For who only looks: wait until nothing is half done."""
    if os.path.lexists(f"{state()}/doing"):
        with Change():
            pass


def _repair() -> None:
    """Clear what was not brought to its end; what cannot be cleared now stays known, and keeps nobody from his work."""
    try:
        left = os.readlink(f"{state()}/doing")
    except FileNotFoundError:
        return
    from oci_tools.net import detach

    try:
        detach.clear(*left.rsplit(" ", 1))  # a network's name may have spaces
    except Error:
        pass
    os.unlink(f"{state()}/doing")
