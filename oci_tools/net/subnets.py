"""Which subnet a new network gets: one that neither a network of ours, a route of the host, nor a name server is in."""

from __future__ import annotations

import os
from _socket import AF_INET, AF_INET6

from oci_tools.errors import Error, Usage
from oci_tools.linux.netlink import Rtnetlink
from oci_tools.net import address
from oci_tools.net.address import Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST = Subnet.parse("10.88.0.0/16")  # of the default network
# Private space (RFC 1918) in pieces of this size, in this order.
POOLS = (("10.89.0.0", 20, 167 * 16), ("172.16.0.0", 20, 16 * 16), ("192.168.0.0", 24, 256))
RESOLV_CONF = "/etc/resolv.conf"
_VERSIONS = {AF_INET: 4, AF_INET6: 6}


def choose(taken: list[Subnet], host: list[Subnet], first: bool = False) -> Subnet:
    """The first free one; an Error if private space is used up."""
    used = [*taken, *host]
    for one in _candidates(first):
        if not any(one.overlaps(other) for other in used):
            return one
    raise Error("no subnet is free", None, "networks and routes of the host use all private addresses", "--subnet")


def _candidates(first: bool) -> Iterator[Subnet]:
    if first:
        yield FIRST
    for start, prefix, count in POOLS:
        base = address.number(start)[1]
        yield from (Subnet(4, base + at * (1 << (32 - prefix)), prefix) for at in range(count))


def local() -> Subnet:
    """An IPv6 subnet of our own: 40 random bits behind fd, as RFC 4193 has it."""
    return Subnet(6, int.from_bytes(b"\xfd" + os.urandom(5) + bytes(10), "big"), 64)


def host() -> list[Subnet]:
    """What the host has routes to, other than everywhere, and its name servers."""
    found = []
    with Rtnetlink() as kernel:
        for route in kernel.routes():
            version = _VERSIONS.get(route.family)
            if version and route.prefix > 1:  # 0/1 and 128/1 are how tunnels spell a default route
                start = int.from_bytes(route.destination or bytes(address.BITS[version] // 8), "big")
                found.append(Subnet(version, start, route.prefix))
    return found + [Subnet(version, value, address.BITS[version]) for version, value in _servers()]


def _servers() -> Iterator[tuple[int, int]]:
    try:
        with open(RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            fields = [line.split() for line in file]
    except OSError:
        return
    for words in fields:
        if len(words) > 1 and words[0] == "nameserver":
            try:
                yield address.number(words[1].partition("%")[0])
            except Usage:
                continue
