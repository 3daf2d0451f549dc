"""Published ports: docker's words, the ports of the host that they take, and who has which.

    $OCI_RUN/net/ports/tcp:8080:127.0.0.1 -> NETWORK CONTAINER

A mapping has the names of CNI's portMappings: {"hostIP", "hostPort", "containerPort", "protocol"}.  A port that is
published on every address has an empty hostIP, is so for IPv4 and IPv6, and its link ends in "any"; 0.0.0.0 is every
address of IPv4 alone, :: of IPv6.  All under a Change.
"""

from __future__ import annotations

import os
from _socket import AF_INET, AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY, SOCK_DGRAM, SOCK_STREAM, socket

from oci_tools import fs
from oci_tools.errors import Error, Usage
from oci_tools.net import address, place, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Mapping = dict[str, Any]

PROTOCOLS = ("tcp", "udp", "sctp")
EVERY = {"0.0.0.0": AF_INET, "::": AF_INET6}
_TRIES = 100
_SCTP = 132
_FORM = "[ADDRESS:][HOST-PORT[-LAST]:]PORT[-LAST][/tcp|udp|sctp]"


def parse(word: str) -> list[Mapping]:
    """The mappings that docker's `-p` means; a hostPort of 0 is a random one, hostLast ends several to choose from."""
    plain, slash, protocol = word.rpartition("/") if "/" in word else (word, "", "tcp")
    if protocol.lower() not in PROTOCOLS:
        raise Usage("invalid port", word, f"unknown protocol {protocol}", _FORM)
    host, inside = "", plain
    at_bracket = plain.rfind("]:")
    if plain.startswith("[") and at_bracket > 0:
        host, inside = plain[1:at_bracket], plain[at_bracket + 2 :]
        address.number(host)
        outside, _, inside = inside.rpartition(":")
    else:
        before, _, inside = plain.rpartition(":")
        host, _, outside = before.rpartition(":")
        if host:
            try:
                address.number(host)
            except Usage:
                raise Usage("invalid port", word, hint=_FORM) from None
    first, last = _range(inside, word)
    low, high = _range(outside, word) if outside else (0, 0)
    host = address.same(host) if host else ""
    if outside and high - low != last - first and first != last:
        raise Usage("invalid port", word, "the ranges differ in length")
    base = {"hostIP": host, "protocol": protocol.lower()}
    if outside and first == last and high > low:
        return [{**base, "hostPort": low, "hostLast": high, "containerPort": first}]
    return [
        {**base, "hostPort": low + at if outside else 0, "containerPort": first + at}
        for at in range(last - first + 1)
    ]


def _range(text: str, word: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    for each in (first, *([last] if dash else [])):
        if not (each.isascii() and each.isdigit() and 0 < int(each) < 65536):
            raise Usage("invalid port", word, hint=_FORM)
    found = int(first), int(last or first)
    if found[0] > found[1]:
        raise Usage("invalid port", word, "the range ends before it begins")
    return found


def shown(mapping: Mapping) -> str:
    """A mapping as `-p` would say it."""
    host = mapping.get("hostIP") or "0.0.0.0"
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{mapping['hostPort']}:{mapping['containerPort']}/{mapping['protocol']}"


# -- the host's ports --------------------------------------------------------------------


def take(wanted: list[Mapping], network: str, container: str) -> list[Mapping]:
    """Take ports of the host for a container; those that were random are chosen.  All of them, or none."""
    made: list[Mapping] = []
    try:
        for mapping in wanted:
            made.append(_take(mapping, network, container))
    except BaseException:
        give_back(made, network, container)
        raise
    return made


def choose(wanted: list[Mapping]) -> list[Mapping]:
    """Random ports chosen, without taking any: whoever binds them finds out."""
    made = []
    for mapping in wanted:
        kept = {name: mapping[name] for name in ("hostIP", "containerPort", "protocol")}
        low: int = mapping["hostPort"]
        last: int = mapping.get("hostLast", low)
        several = range(low, last + 1) if low else (_free(kept) for _ in range(_TRIES))
        port = next((each for each in several if _is_free(kept, each)), low)
        made.append({"hostPort": port, **kept})
    return made


def _take(mapping: Mapping, network: str, container: str) -> Mapping:
    low = mapping["hostPort"]
    kept = {name: mapping[name] for name in ("hostIP", "containerPort", "protocol")}
    if low and "hostLast" not in mapping:
        refusal = _refusal(kept, low, network, container)
        if refusal:
            raise Error("port is in use", f"{kept['hostIP'] or '0.0.0.0'}:{low}/{kept['protocol']}", refusal)
        return {"hostPort": low, **kept}
    several = range(low, mapping["hostLast"] + 1) if low else (_free(kept) for _ in range(_TRIES))
    for port in several:
        if not _refusal(kept, port, network, container):
            return {"hostPort": port, **kept}
    what = f"{low}-{mapping['hostLast']}" if low else f"{kept['hostIP']}:{kept['containerPort']}"
    raise Error("no port is free", what)


def _refusal(mapping: Mapping, port: int, network: str, container: str) -> str | None:
    """Take one port; why not, if it cannot be."""
    prefix, host = f"{mapping['protocol']}:{port}:", mapping["hostIP"]
    for name in _taken():
        if not name.startswith(prefix):
            continue
        other = name[len(prefix) :]
        if _meet(host, "" if other == "any" else other):
            holder = os.readlink(f"{_directory()}/{name}").partition(" ")
            if _is_held(holder[0], holder[2], name):
                return f"container {holder[2][:12]} has it"
            _unlink(name)
    if not _is_free(mapping, port):
        return "a process of the host listens there"
    os.symlink(f"{network} {container}", f"{_directory()}/{_file({**mapping, 'hostPort': port})}")
    return None


def _is_held(network: str, container: str, name: str) -> bool:
    """Whether a container is there and its record says that it has a port; a dead one is cleared."""
    known = record.read(network, container)
    if known is not None and not record.is_alive(known):
        from oci_tools.net import detach

        detach.clear(network, container)
        return False
    return known is not None and any(_file(port) == name for port in known["ports"])


def _file(mapping: Mapping) -> str:
    return f"{mapping['protocol']}:{mapping['hostPort']}:{mapping.get('hostIP') or 'any'}"


def _meet(one: str, other: str) -> bool:
    """Whether there is a packet that two addresses of the host are both meant by."""
    if not one or not other or one == other:
        return True
    return _family(one) == _family(other) and (one in EVERY or other in EVERY)


def _family(host: str) -> int:
    return AF_INET6 if ":" in host else AF_INET


def give_back(mappings: list[Mapping], network: str, container: str) -> None:
    for mapping in mappings:
        name = _file(mapping)
        try:
            if os.readlink(f"{_directory()}/{name}") == f"{network} {container}":
                _unlink(name)
        except FileNotFoundError:
            pass


def give_back_all(network: str, container: str) -> None:
    """Whatever a container has, where no record says what."""
    for name in _taken():
        if os.readlink(f"{_directory()}/{name}") == f"{network} {container}":
            _unlink(name)


def _directory() -> str:
    return f"{place.state()}/ports"


def _taken() -> list[str]:
    try:
        return os.listdir(_directory())
    except FileNotFoundError:
        fs.make_private(_directory())
        return []


def _unlink(name: str) -> None:
    try:
        os.unlink(f"{_directory()}/{name}")
    except FileNotFoundError:
        pass


def _is_free(mapping: Mapping, port: int) -> bool:
    """Whether no process of the host has it: asked by binding it, which leaves nothing."""
    return all(_binds(family, mapping["protocol"], host, port) >= 0 for family, host in _families(mapping))


def _free(mapping: Mapping) -> int:
    """A port that the kernel says is free for the first of the families."""
    family, host = _families(mapping)[0]
    return max(_binds(family, mapping["protocol"], host, 0), 0) or 1


def _families(mapping: Mapping) -> list[tuple[int, str]]:
    host = mapping["hostIP"]
    if not host:
        return [(AF_INET, "0.0.0.0"), (AF_INET6, "::")]
    return [(_family(host), host)]


def _binds(family: int, protocol: str, host: str, port: int) -> int:
    """The port that was bound, -1 if it is in use; what this kernel does not have is used by nobody."""
    kind, number = {"tcp": (SOCK_STREAM, 0), "udp": (SOCK_DGRAM, 0), "sctp": (SOCK_STREAM, _SCTP)}[protocol]
    try:
        sock = socket(family, kind, number)
    except OSError:
        return port or _binds(family, "tcp", host, 0)
    try:
        if family == AF_INET6:
            sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
        sock.bind((host, port))
        found: int = sock.getsockname()[1]
        return found
    except OSError as error:
        if error.errno in (98, 13):  # EADDRINUSE; EACCES: a privileged port for a plain user
            return -1
        if error.errno == 99 and not (family == AF_INET6 and host == "::"):  # EADDRNOTAVAIL
            raise Error("cannot publish on address", host, "the host does not have it") from None
        return port or 1
    finally:
        sock.close()
