"""Ports of a running container, published and withdrawn while it runs.  Under a Change."""

from __future__ import annotations

from oci_tools.errors import Error
from oci_tools.net import firewall, nft, place, ports, record, rules, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def add(container: str, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Publish ports on the network that a container reaches the world by; what was taken."""
    known = _attachment(container)
    # What no record says is taken by nobody: a kill frees it.
    made = ports.take(wanted, known["network"], container, known["addresses"])
    try:
        record.write({**known, "ports": [*known["ports"], *made]})
        more = firewall.ports(place.table(), "add", made, known)
        nft.apply(more if rules.is_whole() else rules.everything())
    except BaseException:
        record.write(known)
        ports.give_back(made, known["network"], container)
        raise
    nft.forget(made)
    return made


def remove(container: str, wanted: list[dict[str, Any]]) -> None:
    """Withdraw ports; an Error if one is not published."""
    known = record.of_container(container)
    for one in wanted:
        found = next((each for each in known if any(is_meant(port, one) for port in each["ports"])), None)
        if found is None:
            raise Error("port is not published", ports.shown(one))
        gone = [port for port in found["ports"] if is_meant(port, one)]
        found["ports"] = [port for port in found["ports"] if port not in gone]
        kept = firewall.ports(place.table(), "add", found["ports"], found)  # some may share what is going
        nft.apply([*firewall.gone(place.table(), gone, found), *kept])
        record.write(found)
        ports.give_back(gone, found["network"], container)
        nft.forget(gone)


def is_meant(port: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a published port is meant; a host's port that was not said is any."""
    if wanted["hostPort"] and not wanted["hostPort"] <= port["hostPort"] <= wanted.get("hostLast", wanted["hostPort"]):
        return False
    same = ("containerPort", "protocol") if not wanted["hostIP"] else ("containerPort", "protocol", "hostIP")
    return all(port[name] == wanted[name] for name in same)


def is_open(name: str) -> bool:
    """Whether ports can be published on a network."""
    network = store.load(name)
    return network.managed and not network.internal and not network.get("vrf", "")


def _attachment(container: str) -> dict[str, Any]:
    """The attachment that ports are published on: that with the default route, of a bridge."""
    known = [one for one in record.of_container(container) if record.is_alive(one) and one.get("host")]
    open_ones = [one for one in known if is_open(one["network"])]
    if not open_ones:
        raise Error("cannot publish ports", container[:12], "the container is on no network that is open to the world")
    return max(open_ones, key=lambda one: (one["priority"], -int(one["attached"])))
