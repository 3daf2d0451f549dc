"""oci-net attach, detach, publish: containers on networks."""

from __future__ import annotations

import os
import sys
from binascii import crc32

from oci_tools import cli, document
from oci_tools.errors import Error, missing
from oci_tools.net import attach as attaching
from oci_tools.net import detach as detaching
from oci_tools.net import place, ports, publishing, record, store, userland
from oci_tools.rows import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MOST = 1 << 22
WAY_OUT = "pasta"
NONE = "none"


class _Target:
    """What the second operand means: an id of its own, where its namespace is, what it is called."""

    def __init__(self, container: str, namespace: str, name: str) -> None:
        self.id = container
        self.namespace = namespace
        self.name = name


def attach(args: cli.Args) -> None:
    wanted_ports = [mapping for word in args.publish for mapping in ports.parse(word)]
    target = _target(args.container_netns)
    if args.network == WAY_OUT:
        return _way_out(args, target)
    wanted = attaching.Wanted(
        target.id, namespace=target.namespace, name=args.name or target.name, addresses=[*args.ip, *args.ip6],
        mac=args.mac, aliases=args.alias, interface=args.ifname, ports=wanted_ports, priority=args.priority,
    )  # fmt: skip
    with place.Change():
        network = store.load(store.find(args.network))
        known = _policy(target.id)
        wanted.servers = known.get("dns", [])
        if known.get("loose") and not wanted.ports and publishing.is_open(network.name):
            wanted.ports = known["loose"]
        made = attaching.attach(network, _called(wanted)) if target.namespace else {}
    userland.wait(made.get("ports", []))
    joined = _joins(target.id, network.name, wanted)
    _tell(target)
    if not target.namespace:
        if not joined:
            raise Error("container is not running", target.name or target.id)
        return
    if args.json:
        say(document.dumps(made).decode())
    elif args.container_netns not in (None, "-"):  # a hook's output is nobody's
        say("\t".join([made["interface"], *made["addresses"]]))


def _called(wanted: attaching.Wanted) -> attaching.Wanted:
    """The same, with the container's host name among its names."""
    from copy import copy

    from oci_tools.container import joining

    made = copy(wanted)
    made.aliases = [*wanted.aliases, *joining.hostname(wanted.container)]
    return made


def _way_out(args: cli.Args, target: _Target) -> None:
    """Have pasta serve a namespace until its path is gone: what a plain user has in place of a bridge."""
    program = userland.program(WAY_OUT)
    if program is None:
        raise missing(WAY_OUT, "cannot set up the network")
    userland.serve(program, target.namespace)
    if args.json:
        say(document.dumps({"dns": {"nameservers": userland.AROUND[WAY_OUT][:1]}}).decode())


def detach(args: cli.Args) -> None:
    target = _target(args.container_netns, dead=True)
    if args.network == NONE:
        from oci_tools.container import networking

        if not networking.let_join(target.id):
            raise Error("container is not attached to the network", target.id[:12], NONE)
        return
    with place.Change():
        network = store.find(args.network)
        known = record.read(network, target.id)
        if known is not None:
            detaching.detach(network, target.id)
        moved = _publish_elsewhere(target.id, known["ports"]) if known is not None else []
    userland.wait(moved)
    left = _leaves(target.id, network)
    _tell(target)
    if not left and known is None and not args.force:
        raise Error("container is not attached to the network", target.id[:12], network)


# -- what a container of people keeps ------------------------------------------------------


def _policy(container: str) -> dict[str, Any]:
    from oci_tools.container import names

    known: dict[str, Any] = names.policy(container)
    return known if "networks" in known else {}


def _publish_elsewhere(container: str, published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ports are a container's, not a network's: those on one that it left go to another, if there is one for them."""
    others = (one["network"] for one in record.of_container(container) if one.get("host") and record.is_alive(one))
    if published and _policy(container) and any(publishing.is_open(name) for name in others):
        return publishing.add(container, published)
    return []


def _joins(container: str, network: str, wanted: attaching.Wanted) -> bool:
    """Have a container of people join a network when it is started again; False if it is none."""
    from oci_tools.container import networking

    one = {
        "network": network, "addresses": wanted.addresses, "mac": wanted.mac, "aliases": wanted.aliases,
        "ports": wanted.ports, "priority": wanted.priority, "interface": wanted.interface,
    }  # fmt: skip

    def change(known: dict[str, Any]) -> None:
        known["networks"] = [*(each for each in known["networks"] if each["network"] != network), one]
        if wanted.ports == known.get("loose"):
            del known["loose"]

    networking.let_join(container)
    return networking.remember(container, change)


def _leaves(container: str, network: str) -> bool:
    """Have it stay away from one; False if that changes nothing.

    What it publishes there it will publish on the next network that is for it, or waits for one.
    """
    from oci_tools.container import networking

    left: list[dict[str, Any]] = []

    def change(known: dict[str, Any]) -> None:
        left[:] = [one for one in known["networks"] if one["network"] == network]
        known["networks"] = [one for one in known["networks"] if one["network"] != network]
        loose = [*known.pop("loose", ()), *(port for one in left for port in one["ports"])]
        heir = next((one for one in known["networks"] if publishing.is_open(store.find(one["network"]))), None)
        if loose and heir is not None:
            heir["ports"] = [*heir["ports"], *loose]
        elif loose:
            known["loose"] = loose

    return networking.remember(container, change) and bool(left)


def _tell(target: _Target) -> None:
    """A running container's own files say where it is now."""
    if target.namespace and _policy(target.id):
        from oci_tools.container import joining

        joining.tell(target.id)


def publish(args: cli.Args) -> None:
    wanted = [mapping for word in args.port for mapping in ports.parse(word)]
    container = known(args.container)
    with place.Change():
        made = publishing.add(container, wanted)
    userland.wait(made)
    _remember_ports(container, lambda known: [*known, *wanted])
    for mapping in made:
        say(ports.shown(mapping))


def withdraw(args: cli.Args) -> None:
    wanted = [mapping for word in args.port for mapping in ports.parse(word)]
    container = known(args.container)
    with place.Change():
        publishing.remove(container, wanted)
    _remember_ports(container, lambda known: [
        port for port in known if not any(publishing.is_meant(port, one) for one in wanted)
    ])  # fmt: skip


def _remember_ports(container: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Ports are published on the first network of a container that is started again."""
    from oci_tools.container import networking

    def change_first(known: dict[str, Any]) -> None:
        for one in known["networks"][:1]:
            one["ports"] = change(one["ports"])

    networking.remember(container, change_first)


def known(word: str) -> str:
    return _target(word, dead=True).id


def _target(word: str | None, dead: bool = False) -> _Target:
    """A container by state on stdin, a namespace by its path, or a container by ID, prefix or NAME."""
    if word in (None, "-"):
        return _from_state(dead)
    assert word is not None
    if "/" in word:
        path = os.path.abspath(word)
        name = os.path.basename(path)
        return _Target(f"{_plain(name)}-{crc32(os.fsencode(path)):08x}", path, _plain(name))
    return _of_container(word, dead)


def _plain(name: str) -> str:
    kept = "".join(c if record.is_id(f"x{c}") else "-" for c in name)[:40]
    return kept.lstrip(".") or "netns"


def _from_state(dead: bool) -> _Target:
    """The state of a container, as hooks get it (runtime-spec, "State")."""
    state = document.loads(sys.stdin.buffer.read(_MOST), "the container's state")
    if not isinstance(state, dict) or not isinstance(state.get("id"), str):
        raise document.wrong("the container's state", ".id", "missing")
    if not record.is_id(state["id"]):
        raise Error("cannot use container id", state["id"])
    pid = state.get("pid")
    alive = isinstance(pid, int) and pid > 0
    if not alive and not dead:
        raise document.wrong("the container's state", ".pid", "missing")
    return _Target(state["id"], f"/proc/{pid}/ns/net" if alive else "", _name(state["id"]))


def _of_container(word: str, dead: bool) -> _Target:
    from oci_tools import fs
    from oci_tools.container import ending, names

    runtime = f"{fs.run()}/runtime"
    found = names.find(word, runtime)
    if found is None:
        if dead and record.is_id(word) and record.of_container(word):
            return _Target(word, "", "")
        raise Error("no such container", word)
    if os.path.exists(place.namespace(found)):
        return _Target(found, place.namespace(found), _name(found))
    pidfd = ending.payload(runtime, found)
    if pidfd < 0:
        return _Target(found, "", _name(found))
    os.close(pidfd)
    from oci_tools.runtime import state

    return _Target(found, f"/proc/{state.load(runtime, found)['pid']}/ns/net", _name(found))


def _name(container: str) -> str:
    """What people call a container."""
    from oci_tools.container import names

    try:
        return str(names.policy(container).get("name") or "")
    except Error:
        return ""


