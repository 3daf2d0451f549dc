"""rtnetlink(7) for the requests of a container's start: links, their addresses, routes, pairs of veth, bridges.

    struct nlmsghdr  { u32 len; u16 type, flags; u32 seq, pid }        each message, padded to 4
    struct ifinfomsg { u8 family, pad; u16 type; i32 index; u32 flags, change }
    struct ifaddrmsg { u8 family, prefixlen, flags, scope; u32 index }
    struct rtmsg     { u8 family, dst_len, src_len, tos, table, protocol, scope, type; u32 flags }
    struct rtattr    { u16 len, type }                                 then its data, padded to 4

The room `net` has pyroute2 for everything else, which takes 200 ms to import.
"""

from __future__ import annotations

import os
from errno import ENODEV
from _socket import AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, socket
from struct import pack, unpack_from

from oci_tools.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

NLM_F_REQUEST, NLM_F_ACK, NLM_F_REPLACE, NLM_F_EXCL, NLM_F_DUMP, NLM_F_CREATE = 0x1, 0x4, 0x100, 0x200, 0x300, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK, RTM_NEWADDR, RTM_GETADDR = 16, 17, 18, 19, 20, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_PROTINFO, IFLA_LINKINFO, IFLA_NET_NS_FD = 1, 3, 4, 10, 12, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 33
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD, IFA_F_PERMANENT, IFA_F_NOPREFIXROUTE = 0x2, 0x80, 0x200
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_METRICS, RTA_TABLE = 1, 4, 5, 6, 8, 15
RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST = 254, 4, 1
IFF_UP = 1
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255
NLA_F_NESTED = 0x8000
AF_BRIDGE = 7
NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
RTMGRP_LINK = 1


class Address:
    """One address of a link, as the kernel tells and takes it."""

    def __init__(self, family: int, prefix: int, scope: int, index: int, attributes: dict[int, bytes]) -> None:
        self.family = family
        self.prefix = prefix
        self.scope = scope
        self.index = index
        self.attributes = attributes

    @property
    def flags(self) -> int:
        return int.from_bytes(self.attributes.get(IFA_FLAGS, b"\0"), "little")


class Link:
    """A link, as the kernel tells of it."""

    def __init__(self, index: int, up: bool, attributes: dict[int, bytes]) -> None:
        self.index = index
        self.up = up
        self.attributes = attributes

    @property
    def name(self) -> str:
        return os.fsdecode(self.attributes[IFLA_IFNAME].rstrip(b"\0"))

    @property
    def mtu(self) -> int:
        return int.from_bytes(self.attributes[IFLA_MTU], "little")

    @property
    def kind(self) -> str:
        """What made it, like "bridge"; empty for a piece of hardware."""
        info = attributes(self.attributes.get(IFLA_LINKINFO, b""), 0)
        return info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode("ascii", "replace")


class Route:
    """A route to `prefix` bits of `destination` (none: everywhere) through a link, perhaps by a gateway."""

    def __init__(self, family: int, prefix: int, destination: bytes, gateway: bytes, index: int, table: int) -> None:
        self.family = family
        self.prefix = prefix
        self.destination = destination
        self.gateway = gateway
        self.index = index
        self.table = table


class Netlink:
    """A socket in this thread's network namespace, which it stays in."""

    def __init__(self, protocol: int) -> None:
        self.sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)
        self.sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """The bodies of the answers; an error is an OSError."""
        self.sequence += 1
        head = pack("IHHII", 16 + len(body), kind, NLM_F_REQUEST | flags, self.sequence, 0)
        self.sock.send(head + body)
        found: list[bytes] = []
        while True:
            for answer, data in messages(self.sock.recv(1 << 18)):
                if answer == NLMSG_ERROR:
                    errno = -unpack_from("i", data)[0]
                    if errno:
                        raise OSError(errno, os.strerror(errno))
                    return found
                if answer == NLMSG_DONE:
                    return found
                found.append(data)

    def heard(self) -> list[tuple[int, bytes]]:
        """What came on a socket that belongs to groups; nothing where there was no room for it."""
        try:
            return list(messages(self.sock.recv(1 << 18)))
        except OSError:
            return []


class Rtnetlink(Netlink):
    """Links, addresses and routes."""

    def __init__(self) -> None:
        super().__init__(NETLINK_ROUTE)

    def links(self) -> dict[str, int]:
        """Every link's index, by name."""
        found = {}
        for body in self.ask(RTM_GETLINK, NLM_F_DUMP, pack("BBHiII", 0, 0, 0, 0, 0, 0)):
            name = attributes(body, 16)[IFLA_IFNAME].rstrip(b"\0")
            found[os.fsdecode(name)] = unpack_from("i", body, 4)[0]
        return found

    def sizes(self) -> dict[int, int]:
        """Every link's MTU, by index."""
        found = {}
        for body in self.ask(RTM_GETLINK, NLM_F_DUMP, pack("BBHiII", 0, 0, 0, 0, 0, 0)):
            found[unpack_from("i", body, 4)[0]] = int.from_bytes(attributes(body, 16)[IFLA_MTU], "little")
        return found

    def addresses(self, index: int) -> list[Address]:
        """The addresses of a link."""
        found = []
        for body in self.ask(RTM_GETADDR, NLM_F_DUMP, pack("BBBBI", 0, 0, 0, 0, 0)):
            family, prefix, _, scope, at = unpack_from("BBBBI", body)
            if at == index:
                found.append(Address(family, prefix, scope, at, attributes(body, 8)))
        return found

    def link(self, name: str) -> Link | None:
        """One link by name, None if there is none."""
        try:
            asked = pack("BBHiII", 0, 0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, os.fsencode(name) + b"\0")
            (body,) = self.ask(RTM_GETLINK, NLM_F_ACK, asked)
        except OSError as error:
            if error.errno == ENODEV:
                return None
            raise
        index, flags = unpack_from("iI", body, 4)
        return Link(index, bool(flags & IFF_UP), attributes(body, 16))

    def routes(self) -> Iterator[Route]:
        """Every route of every table."""
        for body in self.ask(RTM_GETROUTE, NLM_F_DUMP, pack("BBBBBBBBI", *(0,) * 9)):
            family, prefix, _, _, table = unpack_from("BBBBB", body)
            found = attributes(body, 12)
            index = unpack_from("i", found[RTA_OIF])[0] if RTA_OIF in found else 0
            if RTA_TABLE in found:
                (table,) = unpack_from("I", found[RTA_TABLE])
            yield Route(family, prefix, found.get(RTA_DST, b""), found.get(RTA_GATEWAY, b""), index, table)

    def new_bridge(self, name: str, mac: bytes, mtu: int) -> None:
        """A bridge that is up; with a MAC address of its own it does not take over that of a port."""
        body = pack("BBHiII", 0, 0, 0, 0, IFF_UP, IFF_UP) + attribute(IFLA_IFNAME, os.fsencode(name) + b"\0")
        body += attribute(IFLA_ADDRESS, mac) + attribute(IFLA_MTU, pack("I", mtu))
        body += attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, b"bridge"))
        self.ask(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body)

    def new_veth(self, name: str, bridge: int, peer: str, namespace: int, mac: bytes, mtu: int) -> None:
        """A pair of links: `name` here, up and a port of a bridge; `peer` in another namespace, with a MAC address."""
        other = pack("BBHiII", 0, 0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, os.fsencode(peer) + b"\0")
        other += attribute(IFLA_ADDRESS, mac) + attribute(IFLA_MTU, pack("I", mtu))
        other += attribute(IFLA_NET_NS_FD, pack("I", namespace))
        info = attribute(IFLA_INFO_KIND, b"veth") + attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, other))
        body = pack("BBHiII", 0, 0, 0, 0, IFF_UP, IFF_UP) + attribute(IFLA_IFNAME, os.fsencode(name) + b"\0")
        body += attribute(IFLA_MTU, pack("I", mtu)) + attribute(IFLA_MASTER, pack("i", bridge))
        self.ask(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body + attribute(IFLA_LINKINFO, info))

    def set_port(self, index: int, isolated: bool, hairpin: bool) -> None:
        """A port of a bridge: whether it speaks with no other that is `isolated` too, and gets back what it sent."""
        body = pack("BBHiII", AF_BRIDGE, 0, 0, index, 0, 0)
        both = attribute(IFLA_BRPORT_MODE, bytes([hairpin])) + attribute(IFLA_BRPORT_ISOLATED, bytes([isolated]))
        body += attribute(IFLA_PROTINFO | NLA_F_NESTED, both)
        self.ask(RTM_SETLINK, NLM_F_ACK, body)

    def delete(self, index: int) -> None:
        """Remove a link; of a pair, both.  The kernel lets 20 ms pass with it."""
        self.ask(RTM_DELLINK, NLM_F_ACK, pack("BBHiII", 0, 0, 0, index, 0, 0))

    def delete_behind(self, index: int) -> None:
        """Remove a link, and return once nobody sees it any more: what the kernel waits for then, a child waits for."""
        import select

        with Rtnetlink() as watch:
            watch.sock.bind((0, RTMGRP_LINK))
            child = os.fork()
            if child == 0:
                try:
                    process.close_others({self.sock.fileno()})
                    self.delete(index)
                finally:
                    os._exit(0)
            ended = os.pidfd_open(child)
            try:
                poll = select.poll()
                for fd in (watch.sock.fileno(), ended):
                    poll.register(fd, select.POLLIN)
                while not any(fd == ended for fd, _ in poll.poll()):
                    if any(kind == RTM_DELLINK and body[4:8] == pack("i", index) for kind, body in watch.heard()):
                        return
            finally:
                os.close(ended)
        os.waitpid(child, 0)
        self.delete(index)  # it says why not; ENODEV if it is gone

    def give(self, index: int, family: int, address: bytes, prefix: int, broadcast: bytes = b"") -> None:
        """Give a link an address of our own, which is in use at once: nobody is asked whether he has it."""
        body = pack("BBBBI", family, prefix, 0, RT_SCOPE_UNIVERSE, index)
        body += attribute(IFA_LOCAL, address) + attribute(IFA_ADDRESS, address)
        body += attribute(IFA_BROADCAST, broadcast) if broadcast else b""
        body += attribute(IFA_FLAGS, pack("I", IFA_F_NODAD))
        self.ask(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body)

    def route(self, one: Route, metric: int = 0, remove: bool = False, kind: int = RTN_UNICAST) -> None:
        """Add a route to the main table in place of the one to the same destination, or remove it."""
        scope = RT_SCOPE_LINK if one.family == 2 and not one.gateway and kind == RTN_UNICAST else RT_SCOPE_UNIVERSE
        how = (0, RT_SCOPE_NOWHERE, 0) if remove else (RTPROT_STATIC, scope, kind)  # removed whoever made it
        body = pack("BBBBBBBBI", one.family, one.prefix, 0, 0, RT_TABLE_MAIN, *how, 0)
        for kind, data in ((RTA_DST, one.destination), (RTA_GATEWAY, one.gateway)):
            body += attribute(kind, data) if data else b""
        body += attribute(RTA_OIF, pack("i", one.index)) if one.index else b""
        body += attribute(RTA_PRIORITY, pack("I", metric)) if metric else b""
        if remove:
            self.ask(RTM_DELROUTE, NLM_F_ACK, body)
        else:
            self.ask(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, body)

    def set_up(self, index: int, up: bool) -> None:
        self.ask(RTM_NEWLINK, NLM_F_ACK, pack("BBHiII", 0, 0, 0, index, IFF_UP * up, IFF_UP))

    def rename(self, index: int, name: str) -> None:
        """Call a link otherwise; it must be down."""
        body = pack("BBHiII", 0, 0, 0, index, 0, 0) + attribute(IFLA_IFNAME, os.fsencode(name) + b"\0")
        self.ask(RTM_NEWLINK, NLM_F_ACK, body)

    def move(self, index: int, namespace: int, name: str) -> None:
        """Into the network namespace of a descriptor, under this name, at once."""
        body = pack("BBHiII", 0, 0, 0, index, 0, 0)
        body += attribute(IFLA_NET_NS_FD, pack("I", namespace)) + attribute(IFLA_IFNAME, os.fsencode(name) + b"\0")
        self.ask(RTM_NEWLINK, NLM_F_ACK, body)

    def add_address(self, index: int, one: Address) -> None:
        """Give a link an address that another had."""
        body = pack("BBBBI", one.family, one.prefix, 0, one.scope, index)
        kept = (IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST)
        body += b"".join(attribute(kind, data) for kind, data in one.attributes.items() if kind in kept)
        body += attribute(IFA_FLAGS, pack("I", one.flags & (IFA_F_PERMANENT | IFA_F_NOPREFIXROUTE)))
        self.ask(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body)


def inside(namespace: int) -> Rtnetlink:
    """A socket of another network namespace: it stays there while this thread comes back."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        process.setns(namespace, process.CLONE_NEWNET)
        try:
            return Rtnetlink()
        finally:
            process.setns(own, process.CLONE_NEWNET)
    finally:
        os.close(own)


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages in a datagram: type and body of each."""
    at = 0
    while at + 16 <= len(data):
        length, kind = unpack_from("IH", data, at)
        yield kind, data[at + 16 : at + length]
        at += length + 3 & ~3


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, with its head and padding."""
    return pack("HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def attributes(body: bytes, at: int) -> dict[int, bytes]:
    """The attributes in a body from `at` on, by type."""
    found = {}
    while at + 4 <= len(body):
        length, kind = unpack_from("HH", body, at)
        found[kind & 0x3FFF] = body[at + 4 : at + length]
        at += length + 3 & ~3
    return found
