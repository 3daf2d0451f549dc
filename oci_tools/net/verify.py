"""Whether what was made of networks and of attachments to them is still there: an Error says what is not."""

from __future__ import annotations

import os

from oci_tools.errors import Error, missing
from oci_tools.linux.netlink import Rtnetlink, inside
from oci_tools.net import address, attach, lease, namespace, nft, plugins
from oci_tools.net.conflist import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def network(one: Network) -> None:
    """Whether a container could be attached."""
    if one.managed:
        if not nft.is_there():
            raise missing(nft.PROGRAM, "cannot read the firewall")
        nft.has_chain("admin")  # raises what the kernel says against it
    plugins.status(one, one.plugins[1:] if one.ours else one.plugins)


def attachment(one: Network, record: dict[str, Any]) -> None:
    """Whether a container has its link, addresses and routes, the host its bridge, rules and lease of it."""
    if one.ours:
        _link(one, record)
        _host(one, record)
        if "result" in record:
            plugins.check(one, one.plugins[1:], record)
    else:
        plugins.check(one, one.plugins, record)


def _link(one: Network, record: dict[str, Any]) -> None:
    fd = namespace.open_path(record["namespace"])
    try:
        with inside(fd) as there:
            link = there.link(record["interface"])
            if link is None or not link.up:
                raise Error("interface is missing or down", record["interface"])
            have = {each.attributes.get(2) or each.attributes.get(1) for each in there.addresses(link.index)}
            ways = {each.family for each in there.routes() if each.prefix == 0}
    finally:
        os.close(fd)
    for each in record["addresses"]:
        if address.packed(each.partition("/")[0]) not in have:
            raise Error("address is missing", each)
    for gateway in record["gateways"] if attach.has_default(one) else ():
        if address.FAMILY[address.number(gateway)[0]] not in ways:  # another network's is as good
            raise Error("default route is missing", gateway)


def _shim(one: Network, record: dict[str, Any]) -> None:
    """The host's own link beside a container's, and the way to it."""
    from oci_tools.net import links

    with Rtnetlink() as kernel:
        link = kernel.link(links.shim(one))
        ways = {each.destination for each in kernel.routes() if link is not None and each.index == link.index}
    if link is None or not link.up:
        raise Error("interface is missing or down", links.shim(one))
    versions = {address.number(each)[0] for each in one.host_addresses}
    for text in (each.partition("/")[0] for each in record["addresses"]):
        if address.number(text)[0] in versions and address.packed(text) not in ways:
            raise Error("the host's route is missing", text)


def _host(one: Network, record: dict[str, Any]) -> None:
    held = lease.held(one.name)
    for each in record["addresses"]:
        if held.get(each.partition("/")[0]) != record["container"]:
            raise Error("lease is missing", each)
    if one.driver != "bridge":
        if one.host_addresses:
            _shim(one, record)
        return
    with Rtnetlink() as kernel:
        port, bridge = kernel.link(record["host"]), kernel.link(one.bridge)
    for name, link in ((one.bridge, bridge), (record["host"], port)):
        if link is None or not link.up:
            raise Error("interface is missing or down", name)
    if one.managed and not nft.has_chain(f"to-{one.bridge}"):
        raise Error("the firewall lacks the network's rules", one.name)
