"""rtnetlink(7) for the few requests of a runtime: find links and addresses, move, name, address and raise a link.

    struct nlmsghdr  { u32 len; u16 type, flags; u32 seq, pid }        each message, padded to 4
    struct ifinfomsg { u8 family, pad; u16 type; i32 index; u32 flags, change }
    struct ifaddrmsg { u8 family, prefixlen, flags, scope; u32 index }
    struct rtattr    { u16 len, type }                                 then its data, padded to 4

The room `net` has pyroute2 for everything else, which takes 200 ms to import.
"""

from __future__ import annotations

import os
from _socket import AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, socket
from struct import pack, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x300, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR = 16, 18, 20, 22
IFLA_IFNAME, IFLA_NET_NS_FD = 3, 28
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_PERMANENT, IFA_F_NOPREFIXROUTE = 0x80, 0x200
IFF_UP = 1
RT_SCOPE_UNIVERSE = 0


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


class Rtnetlink:
    """A socket in this thread's network namespace, which it stays in."""

    def __init__(self) -> None:
        self.sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0)
        self.sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def links(self) -> dict[str, int]:
        """Every link's index, by name."""
        found = {}
        for body in self._ask(RTM_GETLINK, NLM_F_DUMP, pack("BBHiII", 0, 0, 0, 0, 0, 0)):
            name = _attributes(body, 16)[IFLA_IFNAME].rstrip(b"\0")
            found[os.fsdecode(name)] = unpack_from("i", body, 4)[0]
        return found

    def addresses(self, index: int) -> list[Address]:
        """The addresses of a link."""
        found = []
        for body in self._ask(RTM_GETADDR, NLM_F_DUMP, pack("BBBBI", 0, 0, 0, 0, 0)):
            family, prefix, _, scope, at = unpack_from("BBBBI", body)
            if at == index:
                found.append(Address(family, prefix, scope, at, _attributes(body, 8)))
        return found

    def set_up(self, index: int, up: bool) -> None:
        self._ask(RTM_NEWLINK, NLM_F_ACK, pack("BBHiII", 0, 0, 0, index, IFF_UP * up, IFF_UP))

    def move(self, index: int, namespace: int, name: str) -> None:
        """Into the network namespace of a descriptor, under this name, at once."""
        body = pack("BBHiII", 0, 0, 0, index, 0, 0)
        body += _attribute(IFLA_NET_NS_FD, pack("I", namespace)) + _attribute(IFLA_IFNAME, os.fsencode(name) + b"\0")
        self._ask(RTM_NEWLINK, NLM_F_ACK, body)

    def add_address(self, index: int, one: Address) -> None:
        """Give a link an address that another had."""
        body = pack("BBBBI", one.family, one.prefix, 0, one.scope, index)
        kept = (IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST)
        body += b"".join(_attribute(kind, data) for kind, data in one.attributes.items() if kind in kept)
        body += _attribute(IFA_FLAGS, pack("I", one.flags & (IFA_F_PERMANENT | IFA_F_NOPREFIXROUTE)))
        self._ask(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body)

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """The bodies of the answers; an error is an OSError."""
        self.sequence += 1
        head = pack("IHHII", 16 + len(body), kind, NLM_F_REQUEST | flags, self.sequence, 0)
        self.sock.send(head + body)
        found: list[bytes] = []
        while True:
            for answer, data in _messages(self.sock.recv(1 << 18)):
                if answer == NLMSG_ERROR:
                    errno = -unpack_from("i", data)[0]
                    if errno:
                        raise OSError(errno, os.strerror(errno))
                    return found
                if answer == NLMSG_DONE:
                    return found
                found.append(data)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 16 <= len(data):
        length, kind = unpack_from("IH", data, at)
        yield kind, data[at + 16 : at + length]
        at += length + 3 & ~3


def _attribute(kind: int, data: bytes) -> bytes:
    return pack("HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _attributes(body: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while at + 4 <= len(body):
        length, kind = unpack_from("HH", body, at)
        found[kind & 0x3FFF] = body[at + 4 : at + length]
        at += length + 3 & ~3
    return found
