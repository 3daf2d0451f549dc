"""A container joins a network: a namespace gets a link, addresses, routes, names and published ports.

Written down before it is made (record.py), under a Change; what fails is undone here, what is killed by the next
command.  `detach.py` is the way back.
"""

from __future__ import annotations

import os
import time

from oci_tools.errors import Error, Usage
from oci_tools.linux.netlink import Rtnetlink, inside
from oci_tools.net import address, bridge, detach, events, firewall, forwarding, hosts, lease, namespace, nft, place
from oci_tools.net import ports, rules, store
from oci_tools.net import record as records
from oci_tools.net.conflist import Network, check_interface

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Wanted:
    """How a container joins a network.

    container  its ID; namespace  the path of its network namespace; name  what it is called
    addresses  those it asks for; ports  mappings as `ports.parse` has them; interface  what its link is called
    servers    those that are asked for its names, if not the network's
    priority   of the networks of a container the one with the highest has the default route, of equals the first
    cni        whether a runtime of others asks for it, who will say which of his are still there
    """

    namespace = name = ""
    mac: str | None = None
    interface: str | None = None
    priority = 0
    cni = False
    addresses: list[str]
    aliases: list[str]
    ports: list[dict[str, Any]]
    servers: list[str]

    def __init__(self, container: str, **given: Any) -> None:
        if not records.is_id(container):
            raise Usage("invalid container id", container)
        self.container = container
        self.addresses, self.aliases, self.ports, self.servers = [], [], [], []
        self.__dict__.update(given)
        for alias in self.aliases:
            hosts.check(alias)
        if self.interface is not None:
            check_interface(self.interface)
        if self.mac is not None:
            self.mac = mac_address(self.mac)


def mac_address(text: str) -> str:
    """A MAC address in our spelling; Usage if it is none that a link can have."""
    parts = text.lower().replace("-", ":").split(":")
    if len(parts) != 6 or any(len(part) not in (1, 2) or set(part) - set("0123456789abcdef") for part in parts):
        raise Usage("invalid MAC address", text)
    if int(parts[0], 16) & 1:
        raise Usage("invalid MAC address", text, "it is one of a group")
    return ":".join(f"{int(part, 16):02x}" for part in parts)


def attach(network: Network, wanted: Wanted) -> dict[str, Any]:
    """Let a namespace join a network, and return the record of it.  Under a Change."""
    known = records.read(network.name, wanted.container)
    if known is not None:
        if records.is_alive(known):
            raise Error("container is attached to the network already", wanted.container[:12], network.name)
        detach.clear(network.name, wanted.container)
    if network.driver == "none" and network.ours:
        raise Error("cannot attach to network", network.name, "its driver is none: it has no links")
    fd = namespace.open_path(wanted.namespace)
    try:
        with place.Doing(network.name, wanted.container):
            try:
                return _attach(network, wanted, fd)
            except OSError as error:
                raise Error("cannot attach to network", network.name, error) from None
    finally:
        os.close(fd)


def _attach(network: Network, wanted: Wanted, fd: int) -> dict[str, Any]:
    if wanted.ports and (network.internal or network.borrows or network.get("vrf", "")):
        why = "internal" if network.internal else "of a bridge that is not ours" if network.borrows else "in a VRF"
        raise Error("cannot publish ports", wanted.container[:12], f"network {network.name} is {why}")
    records.make_directories(network.name)
    store.keep(network)
    others = _others(wanted.container)
    addresses = _addresses(network, wanted)
    made: dict[str, Any] = {
        "network": network.name, "container": wanted.container, "name": wanted.name, "aliases": wanted.aliases,
        "interface": wanted.interface or _interface(network, others), "host": "", "namespace": wanted.namespace,
        "inode": os.fstat(fd).st_ino, "mac": wanted.mac or _mac(addresses), "addresses": addresses,
        "gateways": [] if network.internal else [pool.gateway_text for pool in network.pools],
        "ports": ports.take(_bound(network, wanted.ports), network.name, wanted.container, addresses),
        "priority": wanted.priority, "servers": [address.same(each) for each in wanted.servers],
        "attached": time.time_ns(),
    }  # fmt: skip
    if wanted.cni:
        made["cni"] = True
    if network.get("metric", 0):
        made["metric"] = network.get("metric", 0)
    for name, versions in (("routed", network.versions("routed")), ("direct", firewall.direct(network))):
        if network.ours and versions:
            made[name] = versions
    if network.ours and network.driver == "bridge":
        made["host"] = f"veth{os.urandom(4).hex()}"
        records.write(made)
        if network.managed:
            _admit(network, made)  # before there is a link that could do what it forbids
        _plug(network, made, others, fd)
        if network.plugins[1:]:
            from oci_tools.net import foreign

            foreign.follow(network, made)
    else:
        from oci_tools.net import foreign

        records.write(made)
        foreign.plug(network, made, fd)
    hosts.add(made)
    if network.resolves:
        from oci_tools.net import resolver

        resolver.ensure(network)
    events.tell(network, "connect", made["container"])
    return made


def _others(container: str) -> list[dict[str, Any]]:
    """What it is attached to already; of an earlier namespace of that name nothing is left."""
    known = records.of_container(container)
    for one in known:
        if not records.is_alive(one):
            detach.clear(one["network"], container)
    return [one for one in known if records.is_alive(one)]


def _plug(network: Network, made: dict[str, Any], others: list[dict[str, Any]], fd: int) -> None:
    with Rtnetlink() as kernel, inside(fd) as there:
        bridge.plug(kernel, there, fd, network, made)
        default = has_default(network) and first(network, made, others)
        bridge.route(there, made, network.routes, default)


def has_default(network: Network) -> bool:
    """Whether a network brings a default route."""
    return not network.internal and bool(network.get("defaultRoute", True))


def first(network: Network, made: dict[str, Any], others: list[dict[str, Any]]) -> bool:
    """Whether a new attachment takes the default route from the others."""
    return all(one["priority"] < made["priority"] for one in others if one["gateways"])


def _addresses(network: Network, wanted: Wanted) -> list[str]:
    """An address of each of the network's subnets, leased; those of plugins of others are theirs."""
    if not network.ours:
        return _asked(network, wanted)
    asked = {address.number(each): each for each in wanted.addresses}
    found = []
    for pool in network.pools:
        this = next((each for number, each in asked.items() if pool.subnet.has(*number)), None)
        asked = {number: each for number, each in asked.items() if each != this}
        found.append(f"{lease.take(network, pool, wanted.container, this)}/{pool.subnet.prefix}")
    if asked:
        raise Error("address is in no subnet of the network", next(iter(asked.values())), network.name)
    return found


def _asked(network: Network, wanted: Wanted) -> list[str]:
    """What plugins of others will be asked for."""
    if wanted.addresses and not any(plugin.get("capabilities", {}).get("ips") for plugin in network.plugins):
        hint = "the capability ips in its conflist"
        raise Error("cannot ask for an address in network", network.name, "its plugins do not take one", hint)
    return [address.same(each) for each in wanted.addresses]


def _bound(network: Network, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ports on the address that the network has for those that name none."""
    return [{**each, "hostIP": each["hostIP"] or network.get("hostIP", "")} for each in wanted]


def _mac(addresses: list[str]) -> str:
    """One that goes with the address, so that neighbours who remember it are right."""
    data = address.packed(addresses[0].partition("/")[0])[-4:] if addresses else os.urandom(4)
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + data)


def _interface(network: Network, others: list[dict[str, Any]]) -> str:
    used, prefix = {one["interface"] for one in others}, network.get("interfacePrefix", "") or "eth"
    return next(f"{prefix}{at}" for at in range(len(used) + 1) if f"{prefix}{at}" not in used)


# -- the firewall -----------------------------------------------------------------------


def _admit(network: Network, made: dict[str, Any]) -> None:
    """Let its packets through: the network's chains if they are missing, its published ports."""
    script: list[dict[str, Any]] = []
    versions = [] if network.internal else sorted({pool.version for pool in network.pools})
    off = [version for version in versions if not forwarding.is_on(version)]
    for version in off:
        forwarding.mark(version)
    if not rules.is_whole():
        nft.apply(rules.everything())  # with this one's, since its record is written
    else:
        if off or not nft.has_chain(f"to-{network.bridge}"):
            script = [*rules.skeleton(), *firewall.network(place.table(), network)]
        script += firewall.ports(place.table(), "add", made["ports"], made)
        if script:
            nft.apply(script)
    for version in off:
        forwarding.turn_on(version)
    nft.forget(made["ports"])
