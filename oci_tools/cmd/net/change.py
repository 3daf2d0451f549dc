"""oci-net create, rm, prune, reload: the networks themselves."""

from __future__ import annotations

import os
import sys

from oci_tools import cli, document
from oci_tools.cmd.net.show import matching
from oci_tools.errors import Error, Usage
from oci_tools.net import check as documents
from oci_tools.net import address, conflist, detach, lifecycle, place, plugins, record, store, subnets, verify
from oci_tools.rows import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

BINARY_LIMIT = 1 << 20


def create(args: cli.Args) -> None:
    conflist.check_name(args.name)
    with place.Change():
        made = _from_file(args) if getattr(args, "from") else _from_words(args)
        store.create(made)
    say(args.name)


def _from_file(args: cli.Args) -> dict[str, Any]:
    """Somebody else's document, under the name that was given."""
    path = getattr(args, "from")
    try:
        if path == "-":
            data = sys.stdin.buffer.read(BINARY_LIMIT)
        else:
            with open(path, "rb") as file:
                data = file.read(BINARY_LIMIT)
    except OSError as error:
        raise Error("cannot read", path, error) from None
    subject = "standard input" if path == "-" else path
    made: dict[str, Any] = document.loads(data, subject)
    documents.check(made, subject)
    own = {**store.own(cli.pairs(args.label, "--label"), {}), **made.get(conflist.KEY, {})}
    return {**made, "name": args.name, conflist.KEY: own}


def _from_words(args: cli.Args) -> dict[str, Any]:
    options = cli.pairs(args.opt, "--opt")
    members: dict[str, Any] = {}
    for name, value in options.items():
        conflist.option(members, name, value)
    if args.internal:
        members["internal"] = True
    if not args.isolate:
        members["isolate"] = False
    if args.mtu is not None:
        members["mtu"] = args.mtu
    if args.disable_dns:
        members["resolver"] = False
    if args.dns:
        members["dns"] = {"nameservers": [address.same(each) for each in args.dns]}
    if args.route:
        members["ipam"] = {"routes": [_route(each) for each in args.route]}
    if args.driver == "bridge":
        members.setdefault("bridge", place.bridge(args.name))
        conflist.check_interface(members["bridge"], "invalid bridge name")
    elif "master" in members:
        conflist.check_interface(members["master"])
    pools = _pools(args)
    made = conflist.new(args.name, args.driver, pools, members, store.own(cli.pairs(args.label, "--label"), options))
    try:
        documents.check(made, "network")
    except Error as error:
        raise Usage("cannot make network", args.name, str(error)) from None
    return made


def _pools(args: cli.Args) -> list[dict[str, Any]]:
    chosen = list(args.subnet)
    if args.ipam_driver == "none":
        if chosen or args.gateway or args.ip_range or args.aux_address or args.ipv6:
            raise Usage("--ipam-driver none excludes subnets and addresses")
        return []
    versions = {address.Subnet.parse(word).version for word in chosen}
    if len(versions) < len(chosen):
        raise Usage("two subnets of one kind", chosen[-1])
    if not args.ipv4 and (4 in versions or not (args.ipv6 or 6 in versions)):
        raise Usage("network has no addresses" if 4 not in versions else "network has a subnet of IPv4", args.name)
    if args.driver == "bridge":
        if args.ipv4 and 4 not in versions and not (6 in versions and not args.ipv6):
            chosen.insert(0, str(subnets.choose(store.taken(), subnets.host())))
        if args.ipv6 and 6 not in versions:
            chosen.append(str(subnets.local()))
    elif args.driver == "none" and chosen:
        raise Usage("network of driver none has no subnet", chosen[0])
    return conflist.pools(chosen, args.gateway, args.ip_range, cli.pairs(args.aux_address, "--aux-address"))


def _route(word: str) -> dict[str, str]:
    subnet, comma, gateway = word.partition(",")
    made = {"dst": str(address.Subnet.parse(subnet))}
    if gateway in conflist.REFUSALS:
        return {**made, "type": gateway}
    return {**made, "gw": address.same(gateway)} if comma else made


def rm(args: cli.Args) -> int:
    def remove(word: str) -> None:
        try:
            with place.Change():
                name = store.find(word)
                _remove(name, args.force)
        except Error as error:
            if args.force and error.what == "no such network":
                return
            raise
        say(name)

    return cli.each("oci-net", args.network, remove)


def _remove(name: str, force: bool) -> None:
    for each in record.of_network(name):
        if force or not record.is_alive(each):
            detach.clear(name, each["container"])
        else:
            called = each["name"] or each["container"][:12]
            raise Error("network is in use", name, f"container {called} is attached to it")
    lifecycle.remove(name)


def prune(args: cli.Args) -> None:
    with place.Change():
        for name in record.networks():
            for each in record.of_network(name):
                if not record.is_alive(each):
                    detach.clear(name, each["container"])
        for name in store.names():
            if name == conflist.DEFAULT or not os.path.exists(store.path(name)):
                continue
            if not record.containers(name) and matching(store.load(name), args.filter):
                lifecycle.remove(name)
                say(name)
        _collect()


def _collect() -> None:
    """Have plugins of others clear what is of nobody who is attached."""
    for network in store.readable():
        theirs = network.plugins[1:] if network.ours else network.plugins
        if theirs:
            plugins.collect(network, theirs, record.of_network(network.name))


def check(args: cli.Args) -> int | None:
    """Say what of networks and of those who are on them is missing; 1 if anything is."""
    code = None
    with place.Change():
        for name in [store.find(word) for word in args.network] or store.names():
            if not args.network and not os.path.exists(store.path(name)):
                continue  # the default one, before it is needed
            for each in _wrong(name):
                cli.say("oci-net", each)
                code = 1
    return code


def _wrong(name: str) -> Iterator[str]:
    try:
        network = store.load(name)
        verify.network(network)
    except Error as error:
        yield f"network '{name}': {error}"
        return
    for each in record.of_network(name):
        try:
            if record.is_alive(each):
                verify.attachment(network, each)
        except Error as error:
            yield f"network '{name}', container {each['name'] or each['container'][:12]}: {error}"


def reload(args: cli.Args) -> None:
    with place.Change():
        lifecycle.reload()


