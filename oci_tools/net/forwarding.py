"""The kernel's switches in /proc/sys/net: forwarding, and those of a bridge.

Forwarding is for the whole host.  Where it was off before us, that is remembered in $OCI_RUN/net/guard4 (or 6), and
the firewall drops what is forwarded between interfaces that are not ours: the host does not become a router.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.linux import process
from oci_tools.net import place

_FILES = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
_FAMILIES = {4: "ipv4", 6: "ipv6"}


def is_on(version: int) -> bool:
    """Whether packets of IPv4 or IPv6 are forwarded."""
    return read(_FILES[version]) != "0"


def mark(version: int) -> None:
    """Remember that it is we who turn it on: before the guard is set, which is before it is turned on."""
    fs.write(f"{place.state()}/guard{version}", b"", 0o600, sync=False)


def turn_on(version: int) -> None:
    """Once the guard is in the firewall."""
    if version == 6:
        _keep_advertised_routes()
    write(_FILES[version], "1")


def guarded() -> list[str]:
    """The families whose forwarding we turned on."""
    return [family for version, family in _FAMILIES.items() if os.path.exists(f"{place.state()}/guard{version}")]


def _keep_advertised_routes() -> None:
    """A host that forwards takes no router's advertisements, which its own way out may be from, unless told so."""
    try:
        names = os.listdir("/proc/sys/net/ipv6/conf")
    except OSError:
        return
    for name in names:
        if read(f"ipv6/conf/{name}/accept_ra") == "1":
            write(f"ipv6/conf/{name}/accept_ra", "2")


def bridge(name: str, six: bool) -> None:
    """A bridge of ours: the host's 127.0.0.1 may be translated to a container, and nobody tells it of routes."""
    _set(f"ipv4/conf/{name}/route_localnet", "1")
    if read(f"ipv4/conf/{name}/rp_filter") == "1":  # answers may come another way: loose is enough
        _set(f"ipv4/conf/{name}/rp_filter", "2")
    if os.path.isdir(f"/proc/sys/net/ipv6/conf/{name}"):
        _set(f"ipv6/conf/{name}/accept_ra", "0")
        _set(f"ipv6/conf/{name}/disable_ipv6", "0" if six else "1")
    elif six:
        raise Error("cannot use IPv6", name, "this kernel has none")


def beside(name: str, six: bool) -> None:
    """A link of the host beside those of containers: it answers for its own addresses, not for all of the host's."""
    for switch, value in (("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "2")):
        _set(f"ipv4/conf/{name}/{switch}", value)
    if os.path.isdir(f"/proc/sys/net/ipv6/conf/{name}"):
        _set(f"ipv6/conf/{name}/accept_ra", "0")
        _set(f"ipv6/conf/{name}/disable_ipv6", "0" if six else "1")
    elif six:
        raise Error("cannot use IPv6", name, "this kernel has none")


def bridges_are_filtered() -> bool:
    """Whether br_netfilter shows frames on a bridge to the firewall, which then sends a container's own packets, to a
    port that it has published, back through the port they came from."""
    return read("bridge/bridge-nf-call-iptables") == "1"


def read(name: str) -> str:
    try:
        with open(f"/proc/sys/net/{name}", "rb", buffering=0) as file:
            return file.read(64).decode("ascii", "replace").strip()
    except OSError:
        return ""


def write(name: str, value: str) -> None:
    try:
        process.write(f"/proc/sys/net/{name}", value)
    except OSError as error:
        raise Error("cannot write", f"/proc/sys/net/{name}", error) from None


def _set(name: str, value: str) -> None:
    if read(name) != value:
        write(name, value)
