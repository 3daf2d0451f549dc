"""firewalld(1), where it rules: our bridges are in one of its zones, `trusted` unless the network says another.

What firewalld knows nothing of it refuses to forward, whatever our table says: of the chains of several tables each may
drop.  It forgets with a reload what it was told for now alone, so it is told for good, too; until the network goes.
"""

from __future__ import annotations

from oci_tools.errors import Error
from oci_tools.linux.nfnetlink import Nfnetlink
from oci_tools.net import nft
from oci_tools.net.conflist import Network

PROGRAM = "firewall-cmd"
DEFAULT = "trusted"
_TABLE, _CHAIN = "firewalld", "filter_FORWARD"
_NOT_RUNNING = 252  # firewall-cmd(1), "EXIT CODES": then nobody can be told


def enter(network: Network) -> None:
    """Have a network's bridge in its zone, if firewalld rules here: when the bridge is made, and for a reload."""
    _tell(network, "--change-interface")


def leave(network: Network) -> None:
    """The bridge is going."""
    try:
        _tell(network, "--remove-interface")
    except Error:
        pass  # it was in none, or in another by now


def _tell(network: Network, what: str) -> None:
    zone = network.get("firewalldZone", DEFAULT)
    if not zone or not _rules():
        return
    program = nft.find(PROGRAM)
    if program is None:
        return
    for how in ([], ["--permanent"]):
        code, said = nft.execute([program, *how, f"--zone={zone}", f"{what}={network.bridge}"], b"")
        if code not in (0, _NOT_RUNNING):
            why = said.strip() or f"{PROGRAM} ended with code {code}"
            raise Error(f"cannot put {network.bridge} into zone", zone, why)


def _rules() -> bool:
    try:
        with Nfnetlink() as kernel:
            return kernel.has_chain(_TABLE, _CHAIN)
    except OSError:
        return False
