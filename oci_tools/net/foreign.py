"""Networks that are not a bridge of ours: links of macvlan and ipvlan, and plugins of others.

What they answer is kept in the attachment's record, for the day when it ends.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error, Usage
from oci_tools.linux.netlink import inside
from oci_tools.net import address, bridge, store
from oci_tools.net import record as records
from oci_tools.net.conflist import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def plug(network: Network, record: dict[str, Any], fd: int) -> None:
    """Give a namespace its link; the record gets what came of it, and is written."""
    if network.ours:
        from oci_tools.net import links

        links.plug(network, record, fd)
        with inside(fd) as there:
            bridge.configure(there, record)
            others = [one for one in records.of_container(record["container"]) if one["network"] != network.name]
            from oci_tools.net import attach

            default = attach.has_default(network) and attach.first(network, record, others)
            bridge.route(there, record, network.routes, default)
        records.write(record)
        return
    from oci_tools.net import plugins

    result = plugins.add(network, network.plugins, record, None)
    with inside(fd) as there:
        bridge.loopback(there)
    _learn(record, result)
    records.write(record)


def follow(network: Network, record: dict[str, Any]) -> None:
    """The plugins of others that come after ours in a list; they get what ours has made."""
    from oci_tools.net import plugins

    record["result"] = plugins.result(network, record, network.version)
    records.write(record)
    record["result"] = plugins.add(network, network.plugins[1:], record, record["result"])
    record["followed"] = True
    records.write(record)


def unfollow(record: dict[str, Any]) -> None:
    """They undo what they did, before the link goes."""
    network = store.load(record["network"])
    _undo(network, network.plugins[1:], record, "followed" in record)


def _learn(record: dict[str, Any], result: dict[str, Any]) -> None:
    """What a plugin's result says of the link that it made."""
    record["result"] = result
    old = [result[name] for name in ("ip4", "ip6") if isinstance(result.get(name), dict)]  # before version 0.3
    ips = result.get("ips") or [{**each, "address": each.get("ip")} for each in old]
    try:
        record["addresses"] = [_with_prefix(str(each.get("address"))) for each in ips]
        record["gateways"] = [address.same(str(each["gateway"])) for each in ips if each.get("gateway")]
    except (Usage, AttributeError, TypeError):
        raise Error("cannot use the result of a plugin of network", record["network"], "an address is none") from None
    for each in result.get("interfaces") or []:
        if each.get("sandbox") and each.get("name") == record["interface"]:
            record["mac"] = each.get("mac") or record["mac"]


def _with_prefix(text: str) -> str:
    """ADDRESS/BITS in our spelling; Usage for what is none."""
    found, _, bits = text.partition("/")
    return f"{address.same(found)}/{int(bits) if bits.isdecimal() else address.BITS[address.number(found)[0]]}"


def unplug(record: dict[str, Any]) -> None:
    """Take it away again; links of ours end with the namespace."""
    try:
        network = store.load(record["network"])
    except Error:
        return  # its conflist has gone: nothing says how
    if network.ours:
        from oci_tools.net import links

        links.withdraw(network, record)
        _delete(record)
        return
    _undo(network, network.plugins, record, "result" in record)


def _undo(network: Network, chain: list[dict[str, Any]], record: dict[str, Any], whole: bool) -> None:
    """DEL; after an ADD that did not come to its end, a plugin that never made anything may find nothing to delete."""
    from oci_tools.net import plugins

    try:
        plugins.delete(network, chain, record)
    except Error:
        if whole:
            raise


def _delete(record: dict[str, Any]) -> None:
    if not records.is_alive(record):
        return
    from oci_tools.net import namespace

    fd = namespace.open_path(record["namespace"])
    try:
        with inside(fd) as there:
            found = there.link(record["interface"])
            if found is not None and found.kind in ("macvlan", "ipvlan"):
                there.delete(found.index)
    finally:
        os.close(fd)
