"""--network and what goes with it: which networks a container joins, and how.  Words to data, before anything is made.

    none, host                  only a loopback device; the host's network
    container:ID, ns:PATH       the network of another container; a namespace that is there
    pasta, slirp4netns[:OPTION,...]   a plain user's way out, by that program
    NETWORK[:OPTION=VALUE,...]  a network of `oci-net`; docker's form is name=NETWORK,OPTION=VALUE,...
    default                     what is meant without a word: `default` below

What comes of it is in policy.json, so that a container that is started again joins the same networks:

    "network"   the words themselves; "dns" the servers that were said
    "networks"  a list of {"network", "addresses", "mac", "aliases", "ports", "priority", "interface"}
    "loose"     ports that it published on a network that it left, and that wait for the next one
    "joinsLate" they are joined once the runtime has made the namespace: joining.py
"""

from __future__ import annotations

import os

from oci_tools.errors import PACKAGES, Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.cli import Args

VARIABLE = "OCI_NETWORK"
PROGRAMS = ("pasta", "slirp4netns")
_ALONE = ("none", "host", "container", "ns", *PROGRAMS)
# Options of a network in a word: docker's and podman's names for the members.
_LISTS = {"ip": "addresses", "ip6": "addresses", "alias": "aliases"}
_TEXTS = {"mac": "mac", "mac-address": "mac", "interface_name": "interface", "ifname": "interface"}
_IFNAME = "com.docker.network.endpoint.ifname="  # docker's way to say it


def default(needed: bool = False) -> str:
    """What a container gets for which no network is said.

    $OCI_NETWORK; else root's is `bridge`, a plain user's pasta or slirp4netns.  Where that cannot be there is none,
    and who starts it is told; unless it is `needed`: then it is tried, and fails by what is missing.
    """
    said = os.environ.get(VARIABLE)
    if said:
        return said
    from oci_tools import fs

    if os.geteuid() or fs.HOLDER in os.environ:
        from oci_tools.net.userland import program

        best, missing = PROGRAMS[0], PROGRAMS[0]
        found = next((name for name in PROGRAMS if program(name)), "")
    else:
        from oci_tools.net import nft

        best, missing = "bridge", nft.PROGRAM
        found = best if nft.is_there() else ""
    if not found and needed:
        return best
    if not found:
        from oci_tools import cli

        how = f"apt install {PACKAGES[missing]}; --network none is without"
        cli.say("oci-run", f"warning: no network: {missing} is not installed ({how})")
    return found or "none"


def mode(words: list[str]) -> str:
    """The one word that names no network: none, host, container:ID, ns:PATH, a program; else empty."""
    alone = [word for word in words if word.partition(":")[0] in _ALONE]
    if alone and len(words) > 1:
        raise Usage(f"--network {alone[0]} excludes other networks")
    return alone[0] if alone else ""


def settle(args: Args) -> None:
    """Put the default in place where no network was said, and check what was.

    A plain user goes on where he is root over all of his ids, if he has more than one.
    """
    said: list[str] = args.network or ["default"]
    needed = bool(args.publish or args.publish_all or any(_of_one(args).values()))
    args.network[:] = [default(needed) if word in ("default", "private") else word for word in said]
    wanted = attachments(args)
    if "host" in args.network and (args.publish or args.publish_all):
        from oci_tools import cli

        cli.say("oci-run", "warning: --network host has all ports of the host: none is published")
    if os.geteuid():
        from oci_tools.container import shared

        if wanted:
            shared.need_ids(args.network[0])
        if wanted or (args.userns in ("", "host", "nomap") and not args.uidmap and shared.has_ids()):
            shared.enter()
    if wanted:
        from oci_tools.net import conflist, store

        for one in wanted:
            if one["network"] != conflist.DEFAULT:
                try:
                    one["network"] = store.find(one["network"])
                except Error as error:
                    later = not hasattr(args, "detach")  # `new`: it may be there when it starts
                    if not later or not str(error).startswith("no such"):
                        raise


def policy(args: Args) -> dict[str, Any]:
    """What policy.json says of it."""
    if not args.network:
        return {}
    from oci_tools.container import shared

    wanted = attachments(args)
    made: dict[str, Any] = {"network": ",".join(args.network)}
    if shared.is_inside():
        made[shared.POLICY] = True
    if wanted:
        made["networks"] = wanted
    elif mode(args.network).partition(":")[0] in PROGRAMS and args.publish:
        made["ports"] = _ports(args)
    if args.publish_all:
        made["publishAll"] = True
    return made


def attachments(args: Args) -> list[dict[str, Any]]:
    """The networks that are joined; the options of the command are about the first."""
    alone = mode(args.network)
    if alone:
        said = [name for name, value in _of_one(args).items() if value]
        if said and alone.partition(":")[0] not in PROGRAMS:
            raise Usage(f"{said[0]} needs a network", hint=f"--network {alone} has none of its own")
        if alone.partition(":")[0] in ("container", "ns", "none") and (args.publish or args.publish_all):
            raise Usage(f"--publish excludes --network {alone}")
        return []
    found = [_attachment(word) for word in args.network]
    if not found:
        return []
    names = [one["network"] for one in found]
    if len({*names}) < len(names):
        raise Usage("network is named twice", next(name for name in names if names.count(name) > 1))
    first = found[0]
    first["addresses"] += [each for each in (args.ip, args.ip6) if each]
    first["mac"] = args.mac_address or first["mac"]
    for one in found:
        one["aliases"] += args.network_alias
    first["ports"] = _ports(args)
    return found


def _of_one(args: Args) -> dict[str, Any]:
    """The options that are about one network."""
    words = {"--ip": args.ip, "--ip6": args.ip6, "--mac-address": args.mac_address}
    return {**words, "--network-alias": args.network_alias}


def _ports(args: Args) -> list[dict[str, Any]]:
    if not args.publish:
        return []
    from oci_tools.net import ports

    return [mapping for word in args.publish for mapping in ports.parse(word)]


def _attachment(word: str) -> dict[str, Any]:
    """`web`, `web:ip=10.1.2.3,alias=www`, `name=web,ip=10.1.2.3`."""
    name, colon, rest = word.partition(":")
    pairs = rest.split(",") if colon else []
    if "=" in name:
        pairs, name = word.split(","), ""
    made: dict[str, Any] = {
        "network": name, "addresses": [], "mac": None, "aliases": [], "ports": [], "priority": 0, "interface": None,
    }  # fmt: skip
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not value:
            raise Usage("invalid value for --network", word, hint="NETWORK[:OPTION=VALUE,...]")
        _set(made, key, value, word)
    if not made["network"]:
        raise Usage("invalid value for --network", word, hint="it names no network")
    return made


def _set(made: dict[str, Any], key: str, value: str, word: str) -> None:
    if key == "name":
        made["network"] = value
    elif key in _LISTS:
        made[_LISTS[key]].append(value)
    elif key in _TEXTS:
        made[_TEXTS[key]] = value
    elif key in ("gw-priority", "priority"):
        if not value.removeprefix("-").isdigit():
            raise Usage("invalid value for --network", word, f"{key} is no number")
        made["priority"] = int(value)
    elif key == "driver-opt" and value.startswith(_IFNAME):
        made["interface"] = value.removeprefix(_IFNAME)
    elif key == "link-local-ip":
        why = "link-local addresses are not given"
        raise Usage("invalid value for --network", word, why, "the kernel makes IPv6's")
    elif key != "driver-opt":
        raise Usage("invalid value for --network", word, f"unknown option {key}")


def all_exposed(spec: dict[str, Any], annotation: str) -> list[dict[str, Any]]:
    """Random ports of the host for all that the image says it listens on."""
    from oci_tools.net import ports

    words = (spec.get("annotations") or {}).get(annotation, "").split(",")
    return [mapping for word in words if word for mapping in ports.parse(word)]


def remember(container: str, change: Callable[[dict[str, Any]], None]) -> bool:
    """Change what a container's policy says of networks; False if it is none that can join any."""
    from oci_tools import document, fs
    from oci_tools.container import names

    if "networks" not in names.policy(container):
        return False
    with fs.Lock(fs.make_private(f"{fs.root()}/names")):
        known = names.policy(container)
        change(known)
        fs.write(f"{names.place(container)}/policy.json", document.dumps(known), 0o600)
    return True


def let_join(container: str) -> bool:
    """Have a container that was made with --network none be one that can join networks; False if that changes nothing.

    Not a plain user's: its namespaces are the runtime's.
    """
    from oci_tools import document, fs
    from oci_tools.container import names

    with fs.Lock(fs.make_private(f"{fs.root()}/names")):
        known = names.policy(container)
        if known.get("network") != "none" or "networks" in known or os.geteuid():
            return False
        from oci_tools.container import joining

        known.update(joining.opened(container), networks=[])
        fs.write(f"{names.place(container)}/policy.json", document.dumps(known), 0o600)
    return True


def program_of(policy: dict[str, Any]) -> tuple[str, list[str]]:
    """The program that is a container's way out, with its options; empty if it has none."""
    name, _, options = str(policy.get("network", "")).partition(":")
    return (name, [each for each in options.split(",") if each]) if name in PROGRAMS else ("", [])


class Around:
    """What a container finds around it on its networks: the name servers that it asks, the host's address."""

    def __init__(self, policy: dict[str, Any]) -> None:
        self.servers: list[str] = []
        self.host = ""
        networks, program = policy.get("networks"), program_of(policy)[0]
        if program and not policy.get("dns"):
            from oci_tools.net.userland import AROUND

            server, self.host = AROUND[program]
            self.servers = [server]
        if not networks:
            return
        from oci_tools.net import place, store
        from oci_tools.net.conflist import DEFAULT

        with place.Change():
            there = {DEFAULT, *store.names()}
            known = [store.load(one["network"]) for one in networks if one["network"] in there]
        self.servers = [pool.gateway_text for network in known if network.resolves for pool in network.hosted][:3]
        self.host = next((pool.gateway_text for network in known for pool in network.hosted), "")
