"""oci-net ls, inspect, publish ls, resolve: what there is."""

from __future__ import annotations

import os
import time

from oci_tools import cli, document, fs, rows
from oci_tools.errors import Error, Usage
from oci_tools.net import hosts, place, ports, record, store
from oci_tools.rows import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.net.conflist import Network

PORTS = ("name", "host", "port", "id", "network")
COLUMNS = tuple("name driver subnets containers id bridge created internal isolate ipv6 labels".split())


def ls(args: cli.Args) -> None:
    place.settle()
    chosen = None if args.json else rows.fields(args, "name,driver,subnets,containers", COLUMNS)
    found = []
    for name in store.names():
        try:
            network = _load(name)
        except Error as error:
            cli.say("oci-net", f"warning: {error}")
            continue
        if matching(network, args.filter):
            found.append(_document(network) if chosen is None else _row(network))
    rows.show(found, chosen)


def _load(name: str) -> Network:
    """A network; the default one is made by whoever looks at it, if he may."""
    if os.path.exists(store.path(name)):
        return store.load(name)
    with place.Change():
        return store.load(name)


def _row(network: Network) -> dict[str, Any]:
    shown = _document(network)
    shown["subnets"] = ",".join(one["subnet"] for one in shown["subnets"]) or None
    shown["containers"] = len(shown["containers"])
    shown["labels"] = ",".join(f"{name}={value}" for name, value in shown["labels"].items()) or None
    return shown


def matching(network: Network, filters: list[str]) -> bool:
    """Whether all filters let it through: all labels, of several with another name one is enough."""
    wanted: dict[str, list[str]] = {}
    for word in filters:
        name, equals, value = word.partition("=")
        if not equals or name not in ("name", "id", "driver", "label", "dangling"):
            raise Usage("invalid filter", word, hint="name=, id=, driver=, label= or dangling=")
        wanted.setdefault(name, []).append(value)
    return all(
        (all if name == "label" else any)(_matches(network, name, value) for value in values)
        for name, values in wanted.items()
    )


def _matches(network: Network, name: str, value: str) -> bool:
    if name == "name":
        return _found(value, network.name)
    if name == "id":
        return network.id.startswith(value)
    if name == "driver":
        return network.driver == value
    if name == "dangling":
        return (value in ("true", "1")) == (not record.containers(network.name))
    label, equals, wanted = value.partition("=")
    return label in network.labels and (not equals or network.labels[label] == wanted)


def _found(pattern: str, name: str) -> bool:
    """Whether a regular expression is in a name, as docker and podman have it."""
    import re

    try:
        return re.search(pattern, name) is not None
    except re.error as error:
        raise Usage("invalid filter", f"name={pattern}", str(error)) from None


def inspect(args: cli.Args) -> None:
    place.settle()
    for word in args.network:
        shown = _document(_load(store.find(word)))
        say(document.dumps(shown).decode() if args.json else document.dumps(shown, indent=2).decode().rstrip("\n"))


def _document(network: Network) -> dict[str, Any]:
    """All that is known of a network, and who is on it."""
    seconds, rest = divmod(network.created, 10**9)
    attached = [one for one in record.of_network(network.name) if record.is_alive(one)]
    return {
        "name": network.name, "id": network.id, "driver": network.driver,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z",
        "bridge": network.bridge or None, "internal": network.internal, "isolate": bool(network.get("isolate", True)),
        "ipv6": any(pool.version == 6 for pool in network.pools),
        "subnets": [_subnet(pool) for pool in network.pools],
        "mtu": network.get("mtu", 0) or None, "dns": network.servers, "resolver": network.resolves,
        "labels": network.labels, "options": network.options, "routes": network.routes,
        "containers": {one["container"]: _attachment(one) for one in attached},
        "conflist": store.path(network.name),
    }  # fmt: skip


def described(name: str) -> dict[str, Any]:
    """What `inspect` shows of the network of this name."""
    return _document(_load(name))


def _subnet(pool: Any) -> dict[str, Any]:
    from oci_tools.net import address

    made = {"subnet": str(pool.subnet), "gateway": pool.gateway_text}
    if (pool.first, pool.last) != pool.subnet.hosts:
        made["range"] = f"{address.text(pool.version, pool.first)}-{address.text(pool.version, pool.last)}"
    if pool.kept:
        made["reserved"] = {name: address.text(pool.version, value) for value, name in pool.kept.items()}
    return made


def _attachment(one: dict[str, Any]) -> dict[str, Any]:
    names = ("name", "interface", "mac", "addresses", "gateways", "aliases", "ports", "priority", "namespace")
    return {name: one[name] for name in names}


def resolve(args: cli.Args) -> int | None:
    place.settle()
    networks = [store.find(args.network)] if args.network else record.networks()
    if not args.name:
        for network in networks:
            for line in hosts.lines(network):
                say(line.rstrip("\n"))
        return None
    code = None
    for name in args.name:
        tables = (hosts.table("".join(hosts.lines(network)))[0] for network in networks)
        found = [each for names in tables for each in names.get(name.lower(), ())]
        for each in found:
            say(each)
        if not found:
            cli.say("oci-net", Error("no container has the name", name))
            code = 1
    return code


def published(args: cli.Args) -> None:
    """The ports of all containers, or of one: where they are on the host, and what they are inside."""
    place.settle()
    chosen = None if args.json else rows.fields(args, "name,host,port", PORTS)
    container = None
    if args.container:
        from oci_tools.cmd.net import join

        container = join.known(args.container)
    everything = [one for network in record.networks() for one in record.of_network(network)]
    found = [
        {
            "id": one["container"], "name": one["name"] or one["container"][:12], "network": one["network"],
            "host": ports.host(mapping), "port": f"{mapping['containerPort']}/{mapping['protocol']}",
        }
        for one in [*everything, *_by_themselves()]
        for mapping in one["ports"]
        if container in (None, one["container"])
    ]  # fmt: skip
    rows.show(found, chosen)


def _by_themselves() -> Iterator[dict[str, Any]]:
    """Running containers whose ports a program of their own has: a plain user's way out."""
    from oci_tools.container import ending, names

    for container in names.ids():
        path = f"{names.place(container)}/published.json"
        if not os.path.exists(path):
            continue
        pidfd = ending.payload(f"{fs.run()}/runtime", container)
        if pidfd >= 0:
            os.close(pidfd)
            known = names.policy(container)
            yield {**document.load(path), "container": container, "name": known["name"], "network": known["network"]}
