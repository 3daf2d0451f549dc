"""Published ports: docker's words, the ports of the host that they take, and who has which.

    $OCI_RUN/net/ports/tcp:8080:127.0.0.1 -> NETWORK CONTAINER

A mapping has the names of CNI's portMappings: {"hostIP", "hostPort", "containerPort", "protocol"}.  A port that is
published on every address has an empty hostIP, is so for IPv4 and IPv6, and its link ends in "any"; 0.0.0.0 is every
address of IPv4 alone, :: of IPv6.  Its sockets are kept by a process of its own (holder.py).  All under a Change.
"""

from __future__ import annotations

import os
from _socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM, socket

from oci_tools import fs
from oci_tools.errors import Error, Usage
from oci_tools.net import address, holder, place, record, userland

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Mapping = dict[str, Any]

PROTOCOLS = ("tcp", "udp", "sctp")
EVERY = {"0.0.0.0": AF_INET, "::": AF_INET6}
_TRIES = 100
_SCTP = 132
_IN_USE = (98, 13)  # EADDRINUSE; EACCES: a privileged port for a plain user
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
    return f"{host(mapping)}:{mapping['containerPort']}/{mapping['protocol']}"


def host(mapping: Mapping) -> str:
    """Its address and port on the host."""
    address = mapping.get("hostIP") or "0.0.0.0"
    return f"[{address}]:{mapping['hostPort']}" if ":" in address else f"{address}:{mapping['hostPort']}"


# -- the host's ports --------------------------------------------------------------------


def take(wanted: list[Mapping], network: str, container: str, addresses: list[str]) -> list[Mapping]:
    """Take ports of the host for a container; those that were random are chosen.  All of them, or none."""
    made: list[Mapping] = []
    whose = (network, container, holder.targets(addresses))
    try:
        for mapping in wanted:
            made.append(_take(mapping, *whose))
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


def keep(mappings: list[Mapping], addresses: list[str]) -> None:
    """Hold ports again, if nobody does."""
    target = holder.targets(addresses)
    for mapping in mappings:
        sockets = _bound(mapping, mapping["hostPort"], target)
        if sockets:
            _hold(mapping, mapping["hostPort"], sockets, target)


def _hold(mapping: Mapping, port: int, sockets: list[socket], target: str) -> None:
    holder.hold(_file({**mapping, "hostPort": port}), sockets, (target, mapping["containerPort"]))


def _take(mapping: Mapping, network: str, container: str, target: str) -> Mapping:
    low = mapping["hostPort"]
    kept = {name: mapping[name] for name in ("hostIP", "containerPort", "protocol")}
    if low and "hostLast" not in mapping:
        refusal = _refusal(kept, low, network, container, target)
        if refusal:
            raise Error("port is in use", f"{kept['hostIP'] or '0.0.0.0'}:{low}/{kept['protocol']}", refusal)
        return {"hostPort": low, **kept}
    several = range(low, mapping["hostLast"] + 1) if low else (_free(kept) for _ in range(_TRIES))
    for port in several:
        if not _refusal(kept, port, network, container, target):
            return {"hostPort": port, **kept}
    what = f"{low}-{mapping['hostLast']}" if low else f"{kept['hostIP']}:{kept['containerPort']}"
    raise Error("no port is free", what)


def _refusal(mapping: Mapping, port: int, network: str, container: str, target: str) -> str | None:
    """Take one port; why not, if it cannot be."""
    prefix, host = f"{mapping['protocol']}:{port}:", mapping["hostIP"]
    for name in _taken():
        if not name.startswith(prefix):
            continue
        other = name[len(prefix) :]
        if _meet(host, "" if other == "any" else other):
            owner = os.readlink(f"{_directory()}/{name}").rpartition(" ")  # a network's name may have spaces
            if _is_held(owner[0], owner[2], name):
                return f"container {owner[2][:12]} has it"
            holder.drop([name])
            _unlink(name)
    if userland.SHARED in os.environ and userland.is_taken(mapping["protocol"], port):
        return "a process of the host listens there"
    sockets = _bound(mapping, port, target)
    if sockets is None:
        return "a process of the host listens there"
    # A link that no record speaks of is cleared by the next who wants it, and what is held with it.
    os.symlink(f"{network} {container}", f"{_directory()}/{_file({**mapping, 'hostPort': port})}")
    if sockets:
        _hold(mapping, port, sockets, target)
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
    _give_back([_file(mapping) for mapping in mappings], f"{network} {container}")


def give_back_all(network: str, container: str) -> None:
    """Whatever a container has, where no record says what."""
    _give_back(_taken(), f"{network} {container}")


def _give_back(names: list[str], owner: str) -> None:
    held = []
    for name in names:
        try:
            if os.readlink(f"{_directory()}/{name}") == owner:
                held.append(name)
        except FileNotFoundError:
            pass
    if held:
        holder.drop(held)
    for name in held:
        os.unlink(f"{_directory()}/{name}")


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
    sockets = _bound(mapping, port, "")
    for sock in sockets or ():
        sock.close()
    return sockets is not None


def _free(mapping: Mapping) -> int:
    """A port that the kernel says is free for the first of the families."""
    family, host = _families(mapping)[0]
    for protocol in (mapping["protocol"], "tcp"):  # the first may be none of this kernel's
        for sock in _binds(family, protocol, host, 0, "") or ():
            found: int = sock.getsockname()[1]
            sock.close()
            return found
    return 1


def _families(mapping: Mapping) -> list[tuple[int, str]]:
    host = mapping["hostIP"]
    if not host:
        return [(AF_INET, "0.0.0.0"), (AF_INET6, "::")]
    return [(_family(host), host)]


def _bound(mapping: Mapping, port: int, target: str) -> list[socket] | None:
    """Sockets that have a port of the host, None if a process has it; none for what this kernel does not have.

    target  the address of the container that is carried to what the kernel does not translate; empty: nothing is
    """
    made: list[socket] = []
    for family, host in _families(mapping):
        sockets = _binds(family, mapping["protocol"], host, port, target)
        if sockets is None:
            for sock in made:
                sock.close()
            return None
        made += sockets
    return made


def _binds(family: int, protocol: str, host: str, port: int, target: str) -> list[socket] | None:
    kind, number = {"tcp": (SOCK_STREAM, 0), "udp": (SOCK_DGRAM, 0), "sctp": (SOCK_STREAM, _SCTP)}[protocol]
    made: list[socket] = []
    try:
        carried = family == AF_INET6 and target and (":" not in target or host in ("::", holder.LOOP6))
        if carried and protocol != "udp":
            translated = ("::",) if host == "::" and ":" in target else ()
            return holder.listening((*translated, holder.LOOP6 if translated else host), port, number)
        made.append(socket(family, kind, number))
        if family == AF_INET6:
            holder.only_six(made[0])
        made[0].bind((host, port))
        if userland.SHARED in os.environ and protocol == "tcp":
            made[0].listen(1)  # so that pasta sees it; what comes there is translated before
        return made
    except OSError as error:
        for sock in made:
            sock.close()
        if error.errno in _IN_USE:
            return None
        if error.errno == 99 and not (family == AF_INET6 and host == "::"):  # EADDRNOTAVAIL
            raise Error("cannot publish on address", host, "the host does not have it") from None
        return []
