"""What is of a whole network in the kernel: taken away with it, put back when it was flushed.  Under a Change."""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.linux.netlink import Rtnetlink
from oci_tools.net import bridge, events, firewall, forwarding, nft, place, ports, record, rules, store, zone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.net.conflist import Network


def remove(name: str) -> None:
    """Forget a network that nothing is attached to: its conflist first, so that a kill leaves no half of one."""
    network: Network | None = None
    try:
        network = store.load(name)
    except Error:
        if not os.path.exists(store.path(name)):
            raise
    store.remove(name)
    if network is not None and network.managed:
        if nft.is_there() and nft.has_chain(f"to-{network.bridge}"):
            nft.apply(firewall.without(place.table(), network))
            if not any(nft.has_chain(f"to-{other.bridge}") for other in store.readable()) and nft.is_untouched():
                nft.apply(firewall.deleted(place.table()))
        bridge.remove(network)
    elif network is not None and network.ours:
        from oci_tools.net import links

        links.release(network)
    fs.remove_tree(place.on(name))
    if network is not None:
        events.tell(network, "destroy")


def reload() -> None:
    """The firewall as the networks and their attachments say, whatever is there now; one transaction.

    Bridges that lost their addresses get them back, and resolvers, and who holds ports, that ended are started.
    """
    for network in store.everywhere():
        attached = [one for one in record.of_network(network.name) if record.is_alive(one)]
        if attached and network.host_addresses:
            from oci_tools.net import links

            links.reach(network, attached)
        if not attached or not network.managed:
            continue
        with Rtnetlink() as kernel:
            bridge.ensure(kernel, network)
        zone.enter(network)
        for one in attached:
            ports.keep(one["ports"], one["addresses"])
        if network.resolves:
            from oci_tools.net import resolver

            resolver.ensure(network)
    nft.apply(rules.everything())
    for version, family in ((4, "ipv4"), (6, "ipv6")):
        if family in forwarding.guarded() and not forwarding.is_on(version):
            forwarding.turn_on(version)
