"""Links that people wait for less: macvlan, ipvlan, and the VLANs that they may hang on, by pyroute2.

Its import takes 200 ms, which is why a bridge's part of a start is in `bridge.py`.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.linux.netlink import Rtnetlink, inside
from oci_tools.net import place, store
from oci_tools.net.conflist import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MODES = {"l2": 0, "l3": 1, "l3s": 2}


def plug(network: Network, record: dict[str, Any], fd: int) -> None:
    """Make a macvlan or ipvlan link in the namespace of a descriptor."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as kernel:
        try:
            master = _master(kernel, network)
            mode = network.get("mode", "bridge" if network.driver == "macvlan" else "l2")
            more = {"macvlan_mode": mode} if network.driver == "macvlan" else {"ipvlan_mode": _MODES[mode]}
            if network.driver == "macvlan":
                more["address"] = record["mac"]
            if network.get("mtu", 0):
                more["mtu"] = network.get("mtu", 0)
            # Before Linux 6.13 it is made here, where the name may be in use, and moved then.
            made = f"oci{os.urandom(4).hex()}"
            kernel.link("add", ifname=made, kind=network.driver, link=master, net_ns_fd=fd, **more)
            with inside(fd) as there:
                there.rename(there.links()[made], record["interface"])
        except NetlinkError as error:
            hint = "the kernel may not have it" if error.code in (95, 97) else None
            raise Error(f"cannot make a {network.driver} link for network", network.name, _words(error), hint) from None


def _master(kernel: Any, network: Network) -> int:
    """The index of the host's link that it hangs on: a VLAN of the name `eth0.50` is made if it is missing."""
    name = network.get("master", "") or _default()
    found: list[int] = kernel.link_lookup(ifname=name)
    if found:
        return found[0]
    base, dot, number = name.rpartition(".")
    under = kernel.link_lookup(ifname=base) if dot and number.isdigit() else []
    if not under:
        raise Error("no such interface", name)
    kernel.link("add", ifname=name, kind="vlan", link=under[0], vlan_id=int(number))
    fs.write(_mark(name), b"", 0o600, sync=False)
    made: int = kernel.link_lookup(ifname=name)[0]
    kernel.link("set", index=made, state="up")
    return made


def _mark(name: str) -> str:
    """The file that says that it is we who made a VLAN."""
    return f"{place.state()}/vlan.{name}"


def release(network: Network) -> None:
    """The VLAN that was made for a network goes with it, if no other network hangs on it."""
    name = network.get("master", "")
    if not name or not os.path.exists(_mark(name)) or any(one.get("master", "") == name for one in store.readable()):
        return
    from pyroute2 import IPRoute

    with IPRoute() as kernel:
        for index in kernel.link_lookup(ifname=name):
            kernel.link("del", index=index)
    os.unlink(_mark(name))


def _default() -> str:
    """The link of the host's default route."""
    with Rtnetlink() as kernel:
        links = {index: name for name, index in kernel.links().items()}
        for route in kernel.routes():
            if route.prefix == 0 and route.table == 254 and route.index in links:
                return links[route.index]
    raise Error("no interface to hang on", None, "the host has no default route", "--opt parent=NAME")


def _words(error: Any) -> str:
    return str(error.args[1] if len(error.args) > 1 else error).lower()
