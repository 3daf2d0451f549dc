"""What a bridge's switches are, told to who sets them all again: `sysctl --system` and systemd (sysctl.d(5)).

    /run/sysctl.d/10-oci-net-BRIDGE.conf

An administrator's own files, which come later, win.  Of the host's own network alone.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.net.conflist import Network

DIRECTORY = "/run/sysctl.d"


def keep(network: Network) -> None:
    """For a bridge that is being made."""
    if not _is_the_hosts():
        return
    four, six = (f"net/{family}/conf/{network.bridge}" for family in ("ipv4", "ipv6"))
    lines = [f"-{four}/route_localnet=1", f"-{four}/rp_filter=2", f"-{six}/accept_ra=0"]
    try:
        os.makedirs(DIRECTORY, exist_ok=True)
        fs.write(_path(network), "".join(f"{line}\n" for line in lines).encode(), 0o644, sync=False)
    except (OSError, Error):
        pass  # nobody looks for it where it cannot be


def forget(network: Network) -> None:
    if _is_the_hosts():
        try:
            os.unlink(_path(network))
        except OSError:
            pass


def _path(network: Network) -> str:
    return f"{DIRECTORY}/10-oci-net-{network.bridge}.conf"


def _is_the_hosts() -> bool:
    try:
        return os.path.samestat(os.stat("/proc/1/ns/net"), os.stat("/proc/thread-self/ns/net"))
    except OSError:
        return False
