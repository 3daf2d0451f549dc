"""A container leaves a network, alive or dead; and what a killed command left behind is cleared.

All of it may be repeated: what is gone already is fine.  Under a Change.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.linux.netlink import inside
from oci_tools.net import bridge, events, firewall, hosts, lease, namespace, nft, place, ports, record, rules, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def detach(network: str, container: str) -> None:
    """Take a container off a network; an Error if it is not on it."""
    known = record.read(network, container)
    if known is None:
        raise Error("container is not attached to the network", container[:12], network)
    with place.Doing(network, container):
        clear(network, container)
    _tell(network, container)
    others = record.of_container(container)
    if record.is_alive(known):
        _give_default(known, others)


def clear(network: str, container: str) -> None:
    """Leave nothing of an attachment, whatever there is of it."""
    known = record.read(network, container)
    if known is not None:
        _close([known])
        _unplug(known)
    _forget(network, container, known)


def release(container: str) -> None:
    """A container has ended: its namespace goes, and all that it had on networks.

    Its links go with the namespace: to delete one makes the kernel wait 20 ms.
    """
    known = record.of_container(container)
    for one in known:
        if "result" in one or not one.get("host"):
            try:
                _unplug(one)
            except Error:
                continue  # what a plugin cannot undo ends with the namespace, or stays: the container does neither
    namespace.unpin(container)
    _close(known)
    for one in known:
        _forget(one["network"], container, one)
        _tell(one["network"], container)


def _tell(network: str, container: str) -> None:
    try:
        events.tell(store.load(network), "disconnect", container)
    except Error:
        pass  # its conflist has gone, or is nonsense


def _forget(network: str, container: str, known: dict[str, Any] | None) -> None:
    hosts.remove(network, container)
    if known is None:
        ports.give_back_all(network, container)
    else:
        ports.give_back(known["ports"], network, container)
    lease.give_back(network, container, known["addresses"] if known else None)
    record.remove(network, container)


def _unplug(known: dict[str, Any]) -> None:
    try:
        if "result" in known and known.get("host"):
            from oci_tools.net import foreign

            foreign.unfollow(known)
        if known.get("host"):
            bridge.unplug(known)
        else:
            from oci_tools.net import foreign

            foreign.unplug(known)
    except OSError as error:
        raise Error("cannot detach from network", known["network"], error) from None


def _close(attachments: list[dict[str, Any]]) -> None:
    """Take published ports out of the firewall, if they are in it; those of others' plugins are theirs."""
    known = [one for one in attachments if one.get("host")]
    script = [each for one in known for each in firewall.gone(place.table(), one["ports"], one)]
    if script and rules.is_whole():
        nft.apply(script)
        nft.forget([port for one in known for port in one["ports"]])


def _give_default(left: dict[str, Any], others: list[dict[str, Any]]) -> None:
    """The default route goes to the best of the networks that a running container still has."""
    fd = namespace.open_path(left["namespace"])
    try:
        with inside(fd) as there:
            candidates = [one for one in others if one["gateways"] and one.get("host")]
            if candidates:
                best = max(candidates, key=lambda one: (one["priority"], -int(one["attached"])))
                bridge.route(there, best, [], bool(store.load(best["network"]).get("defaultRoute", True)))
    finally:
        os.close(fd)
