"""What sets a bridge apart beneath IP: the VLAN that its containers are in, the VRF that it is in itself.

A bridge of ours belongs to one VLAN: its containers and the host's own side of it speak untagged, a link that an
administrator adds carries the tag (`bridge vlan add vid N dev eth1`).  Of a bridge that is somebody else's only the
containers' ports are in the VLAN, and it filters from then on, as netavark has it.
"""

from __future__ import annotations

from oci_tools.errors import Error
from oci_tools.linux.netlink import Rtnetlink
from oci_tools.net import links
from oci_tools.net.conflist import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UNTAGGED = ["pvid", "untagged"]


def settle(network: Network, index: int) -> None:
    """Of a bridge that has just been made, before it has addresses: a VRF takes the routes to these."""
    vlan, vrf = network.get("vlan", 0), network.get("vrf", "")
    with _kernel(network) as kernel:
        if vrf:
            kernel.link("set", index=index, master=_vrf(network))
        if vlan:
            kernel.link("set", index=index, kind="bridge", br_vlan_filtering=1, br_vlan_default_pvid=0)
            kernel.vlan_filter("add", index=index, vlan_flags="self", vlan_info={"vid": vlan, "flags": _UNTAGGED})


def _kernel(network: Network) -> links.Kernel:
    return links.Kernel("cannot set apart network", network)


def _vrf(network: Network) -> int:
    """The index of a network's VRF."""
    with Rtnetlink() as ours:
        found = ours.link(network.get("vrf", ""))
    if found is None or found.kind != "vrf":
        why = "no such interface" if found is None else "it is no VRF"
        raise Error("cannot use VRF", network.get("vrf", ""), why)
    return found.index


def join(kernel: Rtnetlink, network: Network, bridge: int, port: str) -> None:
    """A container's port is in the network's VLAN and in no other."""
    made = kernel.link(port)
    assert made is not None
    vlan = network.get("vlan", 0)
    with _kernel(network) as other:
        filtering, default = _filters(other, bridge)
        if not filtering:
            other.link("set", index=bridge, kind="bridge", br_vlan_filtering=1)
        if default and default != vlan:
            other.vlan_filter("del", index=made.index, vlan_info={"vid": default})
        other.vlan_filter("add", index=made.index, vlan_info={"vid": vlan, "flags": _UNTAGGED})


def _filters(kernel: Any, bridge: int) -> tuple[int, int]:
    """Whether a bridge filters, and the VLAN of ports that nobody has said one of."""
    (found,) = kernel.link("get", index=bridge)
    data = found.get(("linkinfo", "data"))
    return int(data.get("br_vlan_filtering") or 0), int(data.get("br_vlan_default_pvid") or 0)

