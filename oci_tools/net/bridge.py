"""The kernel's side of a bridge network: the bridge, and a pair of links for each container.

Spoken in rtnetlink as `linux/netlink.py` has it, since people wait for it with every start; a test holds the outcome
equal to what pyroute2 makes.  What can be there already is looked at, not remembered: anybody may have removed it.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.linux.netlink import RTN_UNICAST, Link, Route, Rtnetlink
from oci_tools.net import address, forwarding, lasting, zone
from oci_tools.net.conflist import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ENOENT, _EEXIST, _ESRCH, _ENODEV, _EADDRNOTAVAIL = 2, 17, 3, 19, 99
MTU = 1500
KINDS = {"blackhole": 6, "unreachable": 7, "prohibit": 8}  # RTN_... of rtnetlink(7)


# -- the bridge ------------------------------------------------------------------------


def ensure(kernel: Rtnetlink, network: Network) -> Link:
    """The network's bridge with its addresses, made if it is missing."""
    found = kernel.link(network.bridge)
    if found is not None:
        if found.kind != "bridge":
            raise Error("cannot use interface", network.bridge, f"it is no bridge, network {network.name} needs one")
        if found.up or not network.managed:
            return found
        kernel.set_up(found.index, True)
    elif not network.managed:
        raise Error("no such bridge", network.bridge, f"network {network.name} is of one that somebody else makes")
    else:
        mac = bytes([0x02, 0x42]) + os.urandom(4)
        zone.enter(network)
        lasting.keep(network)
        kernel.new_bridge(network.bridge, mac, network.get("mtu", 0) or mtu(kernel))
        found = kernel.link(network.bridge)
        assert found is not None
        if network.get("vlan", 0) or network.get("vrf", ""):
            from oci_tools.net import segment

            try:
                segment.settle(network, found.index)
            except Error:
                remove(network)
                raise
    _address_bridge(kernel, network, found)
    return found


def _address_bridge(kernel: Rtnetlink, network: Network, link: Link) -> None:
    have = {(one.family, one.attributes.get(2) or one.attributes.get(1)) for one in kernel.addresses(link.index)}
    forwarding.bridge(network.bridge, any(pool.version == 6 for pool in network.pools))
    for pool in network.hosted:
        family, data = address.FAMILY[pool.version], address.packed(pool.gateway_text)
        if (family, data) not in have:
            kernel.give(link.index, family, data, pool.subnet.prefix)


def mtu(kernel: Rtnetlink) -> int:
    """The MTU of the link that the host's default route takes."""
    links = {route.index for route in kernel.routes() if route.prefix == 0 and route.index and route.table == 254}
    found = [size for index, size in kernel.sizes().items() if index in links]
    return min(found, default=MTU)


def remove(network: Network) -> None:
    """Take the bridge away, if it is there."""
    with Rtnetlink() as kernel:
        found = kernel.link(network.bridge)
        if found is not None and found.kind == "bridge":
            zone.leave(network)
            lasting.forget(network)
            kernel.delete(found.index)


# -- a container ------------------------------------------------------------------------


def plug(kernel: Rtnetlink, there: Rtnetlink, namespace: int, network: Network, record: dict[str, Any]) -> None:
    """Give a namespace its link to the bridge, with addresses; routes are `route`'s."""
    port = ensure(kernel, network)
    mac = bytes.fromhex(record["mac"].replace(":", ""))
    try:
        kernel.new_veth(record["host"], port.index, record["interface"], namespace, mac, port.mtu)
    except OSError as error:
        if error.errno == _EEXIST:
            raise Error("interface exists in the container", record["interface"]) from None
        raise
    if network.get("vlan", 0):
        from oci_tools.net import segment

        segment.join(kernel, network, port.index, record["host"])
    isolated, hairpin = not network.get("icc", True), forwarding.bridges_are_filtered()
    if isolated or hairpin:
        made = kernel.link(record["host"])
        assert made is not None
        kernel.set_port(made.index, isolated, hairpin)
    configure(there, record)


def configure(there: Rtnetlink, record: dict[str, Any]) -> None:
    """Addresses of a link that is in the namespace already; it and the loopback device are up."""
    loopback(there)
    link = there.link(record["interface"])
    assert link is not None
    for each in record["addresses"]:
        text, _, prefix = each.partition("/")
        version, value = address.number(text)
        broadcast = b""
        if version == 4 and int(prefix) < 31:
            broadcast = (value | ((1 << (32 - int(prefix))) - 1)).to_bytes(4, "big")
        there.give(link.index, address.FAMILY[version], address.packed(text), int(prefix), broadcast)
    there.set_up(link.index, True)


def loopback(there: Rtnetlink) -> None:
    """A namespace's own loopback device, up."""
    lo = there.link("lo")
    if lo is not None and not lo.up:
        there.set_up(lo.index, True)


def route(there: Rtnetlink, record: dict[str, Any], routes: list[dict[str, str]], default: bool) -> None:
    """The network's own routes, and the default ones if this is the network that has them."""
    link = there.link(record["interface"])
    assert link is not None
    for one in routes:
        to = address.Subnet.parse(one["dst"])
        kind = KINDS.get(one.get("type", ""), RTN_UNICAST)
        data = to.first.to_bytes(address.BITS[to.version] // 8, "big")
        if kind != RTN_UNICAST:
            there.route(Route(address.FAMILY[to.version], to.prefix, data, b"", 0, 254), kind=kind)
        elif to.prefix:
            gateway = address.packed(one["gw"]) if "gw" in one else _gateway(record, to.version)
            there.route(Route(address.FAMILY[to.version], to.prefix, data, gateway, link.index, 254))
    if default:
        for gateway_text in record["gateways"]:
            family = address.FAMILY[address.number(gateway_text)[0]]
            there.route(Route(family, 0, b"", address.packed(gateway_text), link.index, 254), record.get("metric", 0))


def _gateway(record: dict[str, Any], version: int) -> bytes:
    return next((address.packed(one) for one in record["gateways"] if address.number(one)[0] == version), b"")


def unplug(record: dict[str, Any]) -> None:
    """Take a container's pair of links away, from whichever end is there."""
    with Rtnetlink() as kernel:
        found = kernel.link(record["host"]) if record.get("host") else None
        if found is not None:
            try:
                kernel.delete_behind(found.index)
            except OSError as error:
                if error.errno != _ENODEV:  # gone with its namespace meanwhile
                    raise
