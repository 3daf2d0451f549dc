"""What a network's resolver knows by itself: names, aliases and addresses of containers, and those of the host.

A question is bytes of DNS (RFC 1035) and so is the answer; dnslib makes the one of the other, and what it made is kept
until the names change, so that most questions cost one look into a dictionary.
"""

from __future__ import annotations

import os

from oci_tools.linux import inotify
from oci_tools.net import address, hosts
from oci_tools.net.conflist import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HOST = ("host.docker.internal", "host.containers.internal", "gateway.docker.internal")
A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
LARGEST = 1232  # of an answer over UDP, as resolvers agreed upon (DNS flag day 2020)
_KEPT = 4096
_TURNS = 16  # of more they come as they are: such an answer is kept, for it takes long to make
_MOST = 1 << 22


class Names:
    """The names of a network as they are now, read anew when their file is replaced.

    top  a descriptor of $OCI_RUN/net/on
    """

    def __init__(self, top: int, network: Network) -> None:
        self._top = top
        self._name = network.name
        self._pools = network.hosted
        self._internal = network.internal
        self._watch = inotify.Watch()
        self._watch.add(os.path.dirname(hosts.path(network.name)), inotify.IN_MOVED_TO)
        self._answers: dict[tuple[bytes, str], bytes] = {}
        self._names: dict[str, list[str]] = {}
        self._owners: dict[str, str] = {}
        self._elsewhere = self._turns = False
        self._turn = 0
        self.read()

    def fileno(self) -> int:
        """Readable when the names have changed."""
        return self._watch.fileno()

    def read(self) -> bool:
        """Read them again; whether there are any."""
        self._watch.drain()
        self._answers.clear()
        self._names, self._owners = hosts.table(self._text(self._name))
        return bool(self._owners)

    def _text(self, network: str) -> str:
        try:
            fd = os.open(f"{network}/hosts", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._top)
        except OSError:
            return ""
        with open(fd, "rb", buffering=0) as file:
            return file.read(_MOST).decode("ascii", "replace")

    def answer(self, query: bytes, client: str, tcp: bool) -> bytes | None:
        """The answer, None if somebody else must be asked; empty for what deserves none."""
        known = self._answers.get((query[2:], client))
        if known is not None and (tcp or len(known) < 510):
            return query[:2] + known
        if len(query) < 12 or query[2] & 0x80:  # no question: an answer to one would begin a quarrel
            return b""
        if query[2] & 0x78:
            return failure(query, NOTIMP)
        try:
            made = self._make(query, client)
        except Exception:  # whatever a library makes of garbage
            return failure(query, FORMERR)
        if made is None:
            return failure(query, NXDOMAIN) if self._internal else None
        packed, size = made
        if len(packed) > size and not tcp:
            return truncated(query)
        if self._elsewhere or self._turns:
            return packed  # nobody tells us when the names of other networks change
        if len(self._answers) >= _KEPT:
            self._answers.clear()
        self._answers[query[2:], client] = packed[2:]
        return packed

    def servers(self, client: str) -> list[str]:
        """Those that a client wants to be asked, in place of the network's."""
        return self._owners.get(client, "").split()[1:]

    def _make(self, query: bytes, client: str) -> tuple[bytes, int] | None:
        import dnslib

        asked = dnslib.DNSRecord.parse(query)
        if len(asked.questions) != 1:
            return failure(query, FORMERR), LARGEST
        name, kind = str(asked.q.qname).rstrip(".").lower(), asked.q.qtype
        found = self._pointer(name) if name.endswith(".arpa") else self._addresses(name, client)
        if found is None:
            return None
        reply = asked.reply(ra=1, aa=1)
        kept = [made for made in (self._data(dnslib, word) for word in found) if kind in (made.qtype, ANY)]
        self._turns = 1 < len(kept) <= _TURNS and kind in (A, AAAA)
        if self._turns:  # each of several is the first in turn
            self._turn = (self._turn + 1) % len(kept)
            kept = [*kept[self._turn :], *kept[: self._turn]]
        for made in kept:
            reply.add_answer(dnslib.RR(asked.q.qname, made.qtype, ttl=0, rdata=made.data))
        if name.endswith(".arpa") and not found:
            reply.header.rcode = NXDOMAIN
        size = 512
        for extra in asked.ar:
            if extra.rtype == OPT:
                size = max(512, min(extra.rclass, LARGEST))
                reply.add_ar(dnslib.EDNS0(udp_len=LARGEST))
        return reply.pack(), size

    @staticmethod
    def _data(dnslib: Any, word: str) -> _Data:
        if word.endswith("."):
            return _Data(PTR, dnslib.PTR(word))
        return _Data(AAAA, dnslib.AAAA(word)) if ":" in word else _Data(A, dnslib.A(word))

    def _addresses(self, name: str, client: str) -> list[str] | None:
        """The addresses of a name, None if it is nobody's here."""
        if name in HOST:
            return [pool.gateway_text for pool in self._pools]
        found = self._of(name, self._name, self._names)
        self._elsewhere = found is None
        if found is None:
            owner = self._owners.get(client, "").split()[:1]
            for network in self._others() if owner else ():
                names, owners = hosts.table(self._text(network))
                if any(each.split()[:1] == owner for each in owners.values()):
                    found = self._of(name, network, names)
                if found is not None:
                    break
        return found

    @staticmethod
    def _of(name: str, network: str, names: dict[str, list[str]]) -> list[str] | None:
        return names.get(name) or names.get(name.removesuffix(f".{network.lower()}"))

    def _others(self) -> list[str]:
        """The other networks that have names: a container may be on several, and asks the first one's resolver."""
        try:
            fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._top)
        except OSError:
            return []
        try:
            return sorted(name for name in os.listdir(fd) if name != self._name)
        finally:
            os.close(fd)

    def _pointer(self, name: str) -> list[str] | None:
        """The names of an address in our subnets, none of one that nobody has; None for those of others."""
        text = _address(name)
        if text is None:
            return None
        if text in self._owners:
            called = [one for one, found in self._names.items() if text in found]
            called.sort(key=lambda one: len(self._names[one]))  # its own before those it shares
            return [f"{one}." for one in called]
        version, value = address.number(text)
        for pool in self._pools:
            if pool.version == version and value == pool.gateway:
                return [f"{HOST[0]}."]
        return [] if any(pool.subnet.has(version, value) for pool in self._pools) else None


class _Data:
    def __init__(self, qtype: int, data: Any) -> None:
        self.qtype = qtype
        self.data = data


def _address(name: str) -> str | None:
    """The address that a name under in-addr.arpa or ip6.arpa stands for."""
    labels = name.split(".")
    try:
        if name.endswith(".in-addr.arpa") and len(labels) == 6:
            return address.same(".".join(reversed(labels[:4])))
        if name.endswith(".ip6.arpa") and len(labels) == 34:
            digits = "".join(reversed(labels[:32]))
            return address.same(":".join(digits[at : at + 4] for at in range(0, 32, 4)))
    except Exception:
        pass
    return None


def failure(query: bytes, code: int) -> bytes:
    """An answer with nothing but a code; the question is given back if it can be found."""
    end = _end_of_question(query)
    head = query[:2] + bytes([0x80 | query[2] & 0x79, 0x80 | code]) + (b"\0\1" if end else b"\0\0") + bytes(6)
    return head + query[12:end] if end else head


def truncated(query: bytes) -> bytes:
    """The answer that says: ask over TCP."""
    made = failure(query, NOERROR)
    return made[:2] + bytes([made[2] | 2]) + made[3:]


def _end_of_question(query: bytes) -> int:
    """Where the first question ends, 0 if it does not."""
    at = 12
    while at < len(query) and query[at]:
        if query[at] & 0xC0:
            return 0
        at += 1 + query[at]
    return at + 5 if query[4:6] == b"\0\1" and at + 5 <= len(query) else 0


def question(message: bytes) -> bytes:
    """The question of a message, to hold an answer against what was asked; names are compared in lower case."""
    return message[12 : _end_of_question(message)].lower()
