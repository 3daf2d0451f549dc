"""The networks of the store: one conflist each, the default one made when it is first needed."""

from __future__ import annotations

import os
import time

from oci_tools import document, fs
from oci_tools.errors import Error, Usage
from oci_tools.net import address, check, conflist, events, place, record, subnets
from oci_tools.net.conflist import DEFAULT, Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SUFFIX = ".conflist"
MAX_SIZE = 1 << 20


def path(name: str) -> str:
    return f"{place.networks()}/{name}{SUFFIX}"


def load(name: str) -> Network:
    """The network of this name; the default one is made if it is missing.  Under a Change, or not at all changed."""
    if not conflist.is_name(name):
        raise Error("no such network", name)
    try:
        return _read(name)
    except FileNotFoundError:
        if name != DEFAULT:
            raise Error("no such network", name) from None
    _save(default())
    return _read(name)


def _read(name: str) -> Network:
    where = path(name)
    try:
        fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Error("cannot read", where, error) from None
    with open(fd, "rb", buffering=0) as file:
        data = file.read(MAX_SIZE)
    made = document.loads(data, where)
    network = Network(made, where, _beside(name) if isinstance(made, dict) else [])
    if network.name != name:
        raise document.wrong(where, ".name", f"expected {document.shown(name)}, got {document.shown(network.name)}")
    return network


def _beside(name: str) -> list[dict[str, Any]]:
    """The plugins in files of their own: networks/NAME/*.conf, sorted."""
    directory = f"{place.networks()}/{name}"
    try:
        files = sorted(each for each in os.listdir(directory) if each.endswith(".conf"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for where in (f"{directory}/{each}" for each in files):
        try:
            with open(where, "rb", buffering=0) as file:
                data = file.read(MAX_SIZE)
        except OSError as error:
            raise Error("cannot read", where, error) from None
        found.append(document.loads(data, where))
        check.check_plugin(found[-1], where)
    return found


def names() -> list[str]:
    """Every network, sorted, the default one among them whether it is made or not."""
    try:
        found = {name.removesuffix(SUFFIX) for name in os.listdir(place.networks()) if name.endswith(SUFFIX)}
    except FileNotFoundError:
        found = set()
    return sorted({DEFAULT, *filter(conflist.is_name, found)})


def find(word: str) -> str:
    """The name of the network that a word means: its name, else the beginning of just one id."""
    known = names()
    if word in known:
        return word
    is_id = len(word) >= 2 and set(word) <= set("0123456789abcdef")
    found = [network.name for network in readable() if network.id.startswith(word)] if is_id else []
    if len(found) > 1:
        raise Error("ambiguous network", word, f"{len(found)} ids begin so")
    if not found:
        raise Error("no such network", word)
    return found[0]


def readable() -> list[Network]:
    """The networks that have a file, less those that somebody has made nonsense of: nothing can be on them."""
    found = []
    for name in names():
        try:
            found.append(_read(name))
        except (Error, FileNotFoundError):
            continue
    return found


def keep(network: Network) -> None:
    """Have a network that somebody told us of, and that is none of the store, known as long as the host runs."""
    if not os.path.exists(path(network.name)):
        fs.write(_told(network.name), document.dumps(network.document), 0o600, sync=False)


def everywhere() -> list[Network]:
    """Those of `readable`, and those that were told."""
    found = readable()
    known = {network.name for network in found}
    for name in record.networks():
        if name not in known and os.path.exists(_told(name)) and not os.path.exists(path(name)):
            try:
                found.append(Network(document.load(_told(name)), _told(name)))
            except Error:
                continue
    return found


def _told(name: str) -> str:
    return f"{place.on(name)}/conflist"


def create(made: dict[str, Any]) -> Network:
    """Keep a new network; under a Change."""
    network = Network(made, "the network")
    if network.name in conflist.RESERVED or network.name == DEFAULT:
        raise Usage("network name is reserved", network.name)
    if os.path.lexists(path(network.name)):
        raise Error("network exists", network.name)
    _refuse_taken(network)
    _save(made)
    events.tell(network, "create")
    return network


def default() -> dict[str, Any]:
    """The default network, with a subnet that is free now."""
    pools = conflist.pools([str(subnets.choose(taken(), subnets.host(), first=True))], [], [])
    members = {"bridge": place.bridge(DEFAULT)}
    return conflist.new(DEFAULT, "bridge", pools, members, own({}, {}))


def own(labels: dict[str, str], options: dict[str, str]) -> dict[str, Any]:
    """What a network carries that is ours alone."""
    made: dict[str, Any] = {"id": os.urandom(32).hex(), "created": time.time_ns()}
    return {**made, **({"labels": labels} if labels else {}), **({"options": options} if options else {})}


def taken() -> list[address.Subnet]:
    """The subnets of our networks."""
    return [pool.subnet for network in readable() for pool in network.pools]


def remove(name: str) -> None:
    """Forget a network; under a Change."""
    try:
        os.unlink(path(name))
    except FileNotFoundError:
        raise Error("no such network", name) from None
    fs.remove_tree(f"{place.networks()}/{name}")


def _refuse_taken(network: Network) -> None:
    """A bridge or a subnet belongs to one network; what the host has a route to is not ours to take."""
    for other in readable():
        shared = network.borrows and other.borrows  # as VLANs of one bridge are
        if network.bridge and other.bridge == network.bridge and not shared:
            raise Error("bridge belongs to a network", network.bridge, f"to {other.name}")
        for pool in network.pools:
            for their in other.pools:
                if pool.subnet.overlaps(their.subnet) and network.driver == "bridge":
                    raise Error("subnet is taken", pool.subnet, f"it overlaps {their.subnet} of network {other.name}")
    if network.managed:
        for pool in network.pools:
            for route in subnets.host():
                if pool.subnet.overlaps(route):
                    raise Error("subnet is taken", pool.subnet, f"the host has a route to {route}")


def _save(made: dict[str, Any]) -> None:
    fs.make_private(place.networks())
    fs.write(path(made["name"]), document.dumps(made, indent=2), 0o600)
