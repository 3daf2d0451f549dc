"""Questions and answers of DNS for the tests, by dnslib, and a server of the host's that knows one name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from struct import pack, unpack
from typing import Any

import dnslib

from tests.net.machines import Space


def ask(space: Space, server: str, name: str, kind: str = "A", tcp: bool = False) -> tuple[str, list[str]]:
    """The code of the answer, and what it says."""
    query = dnslib.DNSRecord.question(name, kind)
    data = exchange(space, server, query.pack(), tcp)
    reply = dnslib.DNSRecord.parse(data)
    assert reply.header.id == query.header.id and reply.header.qr
    return dnslib.RCODE[reply.header.rcode], sorted(str(each.rdata).rstrip(".") for each in reply.rr)


def exchange(space: Space, server: str, message: bytes, tcp: bool = False) -> bytes:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with space.socket(socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM, family) as sock:
        sock.connect((server, 53))
        if not tcp:
            sock.send(message)
            return sock.recv(4096)
        sock.sendall(pack("!H", len(message)) + message)
        return receive(sock)


def receive(sock: socket.socket) -> bytes:
    """A message over TCP."""
    (length,) = unpack("!H", exactly(sock, 2))
    return exactly(sock, length)


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        assert more, "the connection was closed"
        data += more
    return data


@contextmanager
def upstream(space: Space, address: str, answers: dict[str, str]) -> Iterator[list[str]]:
    """A server that knows these names; what it was asked is in the list, with how."""
    asked: list[str] = []
    udp = space.socket(socket.SOCK_DGRAM)
    udp.bind((address, 53))
    udp.settimeout(None)
    tcp = space.listen(53, address)
    tcp.settimeout(None)

    def reply(data: bytes, how: str) -> bytes:
        query = dnslib.DNSRecord.parse(data)
        name = str(query.q.qname).rstrip(".")
        asked.append(f"{how} {name}")
        made: Any = query.reply()
        if name in answers:
            made.add_answer(dnslib.RR(query.q.qname, dnslib.QTYPE.A, ttl=60, rdata=dnslib.A(answers[name])))
        else:
            made.header.rcode = dnslib.RCODE.NXDOMAIN
        return bytes(made.pack())

    def datagrams() -> None:
        while True:
            try:
                data, peer = udp.recvfrom(4096)
            except OSError:
                return
            if not data:
                return  # shut down
            udp.sendto(reply(data, "udp"), peer)

    def connections() -> None:
        while True:
            try:
                there, _ = tcp.accept()
            except OSError:
                return
            with there:
                made = reply(receive(there), "tcp")
                there.sendall(pack("!H", len(made)) + made)

    for target in (datagrams, connections):
        threading.Thread(target=target, daemon=True).start()
    try:
        yield asked
    finally:
        for sock in (udp, tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
