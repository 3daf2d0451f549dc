"""Addresses of a network that are taken: a link for each, made exclusively, that says by whom.

    $OCI_RUN/net/on/NETWORK/lease/10.88.0.2 -> CONTAINER
    $OCI_RUN/net/on/NETWORK/lease/last4     -> 10.88.0.2      the one given away last; last6 likewise

The next one is looked for behind the last, so that an address rests before it is somebody else's.  All under a Change.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.net import address, place, record
from oci_tools.net.conflist import Network, Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def directory(network: str) -> str:
    return f"{place.on(network)}/lease"


def take(network: Network, pool: Pool, container: str, wanted: str | None = None) -> str:
    """An address of a pool for a container: the one that is `wanted`, else the next that is free."""
    if wanted is not None:
        return _take_this(network, pool, container, wanted)
    kept = {*_kept(network, pool), *([pool.gateway] if network.has_gateway(pool) else [])}
    for collected in (False, True):
        for value in _following(network, pool):
            found = address.text(pool.version, value)
            if value not in kept and _link(network.name, found, container):
                _remember(network.name, pool.version, found)
                return found
        if not collected and not collect(network.name):
            break
    raise Error("no address is left in network", network.name, f"all of {pool.words} are taken")


def _kept(network: Network, pool: Pool) -> dict[int, str]:
    """What no container gets, by who has it."""
    ours = map(address.number, network.host_addresses)
    return {**pool.kept, **{value: "the host" for version, value in ours if version == pool.version}}


def _take_this(network: Network, pool: Pool, container: str, wanted: str) -> str:
    version, value = address.number(wanted)
    wanted = address.text(version, value)
    lowest, highest = pool.subnet.hosts
    if value == pool.gateway and network.has_gateway(pool):
        raise Error("address is in use", wanted, f"the gateway of network {network.name} has it")
    if value in _kept(network, pool):
        raise Error("address is in use", wanted, f"{_kept(network, pool)[value]} has it")
    if not lowest <= value <= highest:
        raise Error("cannot use address", wanted, f"no host of {pool.subnet} can have it")
    for collected in (False, True):
        if _link(network.name, wanted, container):
            return wanted
        if not collected and not collect(network.name):
            break
    holder = os.readlink(f"{directory(network.name)}/{wanted}")
    raise Error("address is in use", wanted, f"container {holder[:12]} has it")


def _following(network: Network, pool: Pool) -> Iterator[int]:
    """The numbers of a pool, those behind the last one given away first."""
    try:
        last = address.number(os.readlink(f"{directory(network.name)}/last{pool.version}"))[1]
    except FileNotFoundError:
        last = pool.last
    at = next((at for at, (first, end) in enumerate(pool.spans) if first <= last <= end), -1)
    if at >= 0:
        yield from range(last + 1, pool.spans[at][1] + 1)
    for first, end in [*pool.spans[at + 1 :], *pool.spans]:
        yield from range(first, end + 1)


def _link(network: str, found: str, container: str) -> bool:
    try:
        os.symlink(container, f"{directory(network)}/{found}")
        return True
    except FileExistsError:
        return False
    except OSError as error:
        raise Error("cannot lease an address of network", network, error) from None


def _remember(network: str, version: int, found: str) -> None:
    beside = f"{directory(network)}/.last"
    try:
        os.unlink(beside)
    except FileNotFoundError:
        pass
    os.symlink(found, beside)
    os.rename(beside, f"{directory(network)}/last{version}")


def held(network: str) -> dict[str, str]:
    """Who has which address."""
    try:
        names = os.listdir(directory(network))
    except FileNotFoundError:
        return {}
    return {name: os.readlink(f"{directory(network)}/{name}") for name in names if "last" not in name}


def give_back(network: str, container: str, addresses: list[str] | None = None) -> None:
    """Free what a container has: these addresses, or whatever it is."""
    if addresses is None:
        addresses = [name for name, holder in held(network).items() if holder == container]
    for each in addresses:
        where = f"{directory(network)}/{each.partition('/')[0]}"
        try:
            if os.readlink(where) == container:
                os.unlink(where)
        except FileNotFoundError:
            pass


def collect(network: str) -> bool:
    """Free what belongs to containers that are gone; whether there was anything."""
    from oci_tools.net import detach

    gone = False
    for holder in {*held(network).values(), *record.containers(network)}:
        known = record.read(network, holder)
        if known is None or not record.is_alive(known):
            detach.clear(network, holder)
            gone = True
    return gone
