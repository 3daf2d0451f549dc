"""Links that people wait for less: macvlan, ipvlan, and the VLANs that they may hang on, by pyroute2.

Its import takes 200 ms, which is why a bridge's part of a start is in `bridge.py`.

The kernel keeps such links from the interface that they hang on.  Where a network has addresses for the host
(hostAddress) the host hangs a link of its own there, `mv-...`, and has a route to each container through it.
"""

from __future__ import annotations

import os
from errno import ESRCH

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.linux.netlink import Route, Rtnetlink, inside
from oci_tools.net import address, forwarding, place, store
from oci_tools.net.conflist import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MODES = {"l2": 0, "l3": 1, "l3s": 2}


class Kernel:
    """pyroute2's IPRoute for a `with` block; what the kernel refuses is an Error of `what`, of a network."""

    def __init__(self, what: str, network: Network) -> None:
        self._what, self._network = what, network

    def __enter__(self) -> Any:
        from pyroute2 import IPRoute

        self._kernel = IPRoute()
        return self._kernel

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        from pyroute2.netlink.exceptions import NetlinkError

        self._kernel.close()
        if isinstance(error, NetlinkError):
            words = str(error.args[1] if len(error.args) > 1 else error).lower()
            hint = "the kernel may not have it" if error.code in (95, 97) else None
            raise Error(self._what, self._network.name, words, hint) from None


def _links_of(network: Network) -> Kernel:
    return Kernel(f"cannot make a {network.driver} link for network", network)


def plug(network: Network, record: dict[str, Any], fd: int) -> None:
    """Make a macvlan or ipvlan link in the namespace of a descriptor."""
    with _links_of(network) as kernel:
        master, more = _master(kernel, network), _how(network)
        if network.driver == "macvlan":
            more["address"] = record["mac"]
        # Before Linux 6.13 it is made here, where the name may be in use, and moved then.
        made = f"oci{os.urandom(4).hex()}"
        kernel.link("add", ifname=made, kind=network.driver, link=master, net_ns_fd=fd, **more)
        with inside(fd) as there:
            there.rename(there.links()[made], record["interface"])
        if network.host_addresses:
            with Rtnetlink() as ours:
                _reach(kernel, ours, network, [record])


def _how(network: Network) -> dict[str, Any]:
    mode = network.get("mode", "bridge" if network.driver == "macvlan" else "l2")
    more = {"macvlan_mode": mode} if network.driver == "macvlan" else {"ipvlan_mode": _MODES[mode]}
    return {**more, **({"mtu": network.get("mtu", 0)} if network.get("mtu", 0) else {})}


# -- the host among them -----------------------------------------------------------------


def shim(network: Network) -> str:
    """What the host's own link beside a network's containers is called."""
    return place.bridge(network.name, "mv")


def reach(network: Network, records: list[dict[str, Any]]) -> None:
    """Have the host's own link, and its routes to these containers, if a network has addresses for the host."""
    if not network.host_addresses:
        return
    with _links_of(network) as kernel, Rtnetlink() as ours:
        _reach(kernel, ours, network, records)


def _reach(kernel: Any, ours: Rtnetlink, network: Network, records: list[dict[str, Any]]) -> None:
    name = shim(network)
    found = ours.link(name)
    if found is None:
        kernel.link("add", ifname=name, kind=network.driver, link=_master(kernel, network), **_how(network))
        found = ours.link(name)
        assert found is not None
    have = {(one.family, one.attributes.get(2) or one.attributes.get(1)) for one in ours.addresses(found.index)}
    asked = [(*address.number(each), address.packed(each)) for each in network.host_addresses]
    forwarding.beside(name, any(version == 6 for version, _, _ in asked))
    for version, _, data in asked:
        if (address.FAMILY[version], data) not in have:
            ours.give(found.index, address.FAMILY[version], data, address.BITS[version])
    if not found.up:
        ours.set_up(found.index, True)
    versions = {version for version, _, _ in asked}
    for each in (each for record in records for each in record["addresses"]):
        if address.number(each.partition("/")[0])[0] in versions:
            ours.route(_way(each, found.index))


def _way(text: str, index: int) -> Route:
    text = text.partition("/")[0]
    version, _ = address.number(text)
    return Route(address.FAMILY[version], address.BITS[version], address.packed(text), b"", index, 254)


def withdraw(network: Network, record: dict[str, Any]) -> None:
    """Take the host's routes to a container away."""
    if not network.host_addresses:
        return
    with Rtnetlink() as ours:
        found = ours.link(shim(network))
        if found is None:
            return
        for each in record["addresses"]:
            try:
                ours.route(_way(each, found.index), remove=True)
            except OSError as error:
                if error.errno != ESRCH:  # gone already
                    raise


# -- what they hang on -------------------------------------------------------------------


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
    """The host's own link goes with a network, and the VLAN that was made for it, if no other network hangs on it."""
    with Rtnetlink() as ours:
        found = ours.link(shim(network)) if network.host_addresses else None
        if found is not None and found.kind in ("macvlan", "ipvlan"):
            ours.delete(found.index)
    name = network.get("master", "")
    if not name or not os.path.exists(_mark(name)) or any(one.get("master", "") == name for one in store.readable()):
        return
    with _links_of(network) as kernel:
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

