"""The firewall as the networks and their attachments say it should be now (firewall.py has what it is made of)."""

from __future__ import annotations

from oci_tools.errors import Error
from oci_tools.linux.netlink import Rtnetlink
from oci_tools.net import firewall, forwarding, nft, place, record, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LAST = "enslaved"  # of the chains of the table, the one that came last: older versions did not have it


def is_whole() -> bool:
    """Whether the table is there, and of this version."""
    return nft.has_chain(_LAST)


def skeleton() -> list[dict[str, Any]]:
    """Our table; what the administrator has for it is in the kernel then, if the table was not."""
    if not nft.has_chain("admin"):
        path = f"{place.networks()}/admin.nft"
        try:
            with open(path, encoding="utf-8") as file:
                nft.run(firewall.administrators(place.table(), file.read()))
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            raise Error("cannot read", path, error) from None
    return firewall.skeleton(place.table(), forwarding.guarded())


def everything() -> list[dict[str, Any]]:
    """All of it, whatever is there now."""
    table = place.table()
    made = [*skeleton(), *firewall.emptied(table)]
    with Rtnetlink() as kernel:
        links = kernel.links()
    for network in store.everywhere():
        if not network.managed:
            continue
        attached = [one for one in record.of_network(network.name) if record.is_alive(one)]
        if attached or network.bridge in links:
            made += firewall.network(table, network)
        for one in attached:
            made += firewall.ports(table, "add", one["ports"], one)
    return made
