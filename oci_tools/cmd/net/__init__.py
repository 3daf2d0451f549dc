"""oci-net: networks of containers; called with CNI_COMMAND in the environment it is a CNI plugin.

What can be said is declared here; what it does is beside, by families of verbs, and loaded when it is done.
"""

from __future__ import annotations

import os

from oci_tools import cli

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FIELDS: cli.Option = ("--fields NAME[,NAME]...", "text", None, "the columns to list")
JSON: cli.Option = ("--json", "flag", False, "JSON objects, one a line")
FILTER: cli.Option = ("--filter NAME=VALUE", "list", (), "only those: name=, id=, driver=, label=, dangling=")
LOCK: cli.Option = ("--lock-timeout SECONDS", "int", 60, "how long to wait for another's change")
FORCE: cli.Option = ("-f --force", "flag", False, "detach its containers first; no error if there is none")
_CREATE: tuple[cli.Option, ...] = (
    ("-d --driver KIND", ("bridge", "macvlan", "ipvlan", "none"), "bridge", "what its links are"),
    ("--subnet SUBNET", "list", (), "where its addresses are from: one of IPv4, of IPv6, or each"),
    ("--gateway ADDRESS", "list", (), "the address of the host in a subnet (the first)"),
    ("--ip-range RANGE", "list", (), "give away only these of a subnet's: ADDRESS/BITS or FIRST-LAST"),
    ("--ipam-driver HOW", ("host-local", "none"), "host-local", "none: nobody is given an address"),
    ("--aux-address NAME=ADDRESS", "list", (), "keep an address of a subnet for somebody else"),
    ("--ipv4", "flag", True, "--ipv4=false: none of IPv4"),
    ("--ipv6", "flag", False, "an IPv6 subnet as well, chosen if --subnet names none"),
    ("--internal", "flag", False, "no way out of it, and none in"),
    ("--isolate", "flag", True, "keep it from our other networks; --isolate=false: not from those that say so too"),
    ("--mtu BYTES", "int", None, "of its links (that of the host's default route)"),
    ("--dns ADDRESS", "list", (), "ask this name server in place of the host's"),
    ("--disable-dns", "flag", False, "no resolver of names"),
    ("--route SUBNET[,GATEWAY]", "list", (), "one more route of its containers; blackhole and the like for GATEWAY"),
    ("--label NAME=VALUE", "list", (), "a label"),
    ("-o --opt NAME=VALUE", "list", (), "an option as docker or podman have it"),
    ("--from FILE", "text", None, "a CNI network configuration list, kept as it is; - is standard input"),
)
_ATTACH: tuple[cli.Option, ...] = (
    ("--ip ADDRESS", "list", (), "its address; one of IPv4, of IPv6, or each"),
    ("--ip6 ADDRESS", "list", (), "the same"),
    ("--mac ADDRESS", "text", None, "the MAC address of its link"),
    ("--name NAME", "text", None, "the name that others find it by (the container's)"),
    ("--alias NAME", "list", (), "one more such name"),
    ("--ifname NAME", "text", None, "what its link is called inside (eth0, or the next that is free)"),
    ("-p --publish PORT", "list", (), "publish a port: [ADDRESS:][HOST-PORT:]PORT[/PROTOCOL], and ranges"),
    ("--priority N", "int", 0, "the network with the highest has the default route"),
)

_LOOKING = ("create", "ls", "inspect")  # a plain user's namespaces are not made for them


def _late(where: str) -> Callable[[cli.Args], int | None]:
    """The function of a verb, from its module when it is called."""
    module, name = where.split(".")

    def run(args: cli.Args) -> int | None:
        from oci_tools import fs

        fs.LOCK_TIMEOUT = getattr(args, "lock_timeout", fs.LOCK_TIMEOUT)
        code: int | None = getattr(__import__(f"oci_tools.cmd.net.{module}", fromlist=[name]), name)(args)
        return code

    return run


def _verb(where: str, verb: str, summary: str, usage: str, options: tuple[cli.Option, ...], words: str) -> cli.Command:
    full = f"oci-net {verb}"
    return cli.Command(full, summary, usage, options, _late(where), example=f"{full} {words}".rstrip())


_PUBLISH = {
    "ls": _verb("show.published", "publish ls", "list published ports", "[CONTAINER]", (FIELDS, JSON), "web"),
    "add": _verb("join.publish", "publish add", "publish ports of a running container", "CONTAINER PORT...", (LOCK,),
                 "web 8080:80"),
    "rm": _verb("join.withdraw", "publish rm", "do not publish them any more", "CONTAINER PORT...", (LOCK,),
                "web 8080:80"),
}  # fmt: skip

COMMAND = cli.Command(
    "oci-net",
    "networks of containers: make, list and remove them, attach containers, publish ports",
    example="oci-net create web; oci-run -d --network web -p 8080:80 nginx",
    verbs={
        "create": _verb("change.create", "create", "make a network", "NAME", (*_CREATE, LOCK),
                        "--subnet 10.9.0.0/24 web"),
        "ls": _verb("show.ls", "ls", "list networks", "", (FIELDS, JSON, FILTER), "--fields name,subnets"),
        "inspect": _verb("show.inspect", "inspect", "show all that is known of networks", "NETWORK...", (JSON,), "web"),
        "graph": _verb("graph.graph", "graph", "draw networks and who is on them", "[NETWORK...]",
                       (("--dot", "flag", False, "for graphviz"),), "--dot | dot -Tsvg > networks.svg"),
        "rm": _verb("change.rm", "rm", "remove networks that nothing is attached to", "NETWORK...", (FORCE, LOCK),
                    "web"),
        "prune": _verb("change.prune", "prune", "remove all networks that nothing is attached to", "",
                       (cli.FORCE, FILTER, LOCK), "--filter label=stage"),
        "attach": _verb("join.attach", "attach", "let a container, or a network namespace, join a network",
                        "NETWORK [CONTAINER|NETNS]", (*_ATTACH, JSON, LOCK), "web /run/netns/x"),
        "detach": _verb("join.detach", "detach", "let it leave", "NETWORK [CONTAINER|NETNS]", (FORCE, LOCK),
                        "web /run/netns/x"),
        "publish": cli.Command("oci-net publish", "publish ports of a running container, or withdraw them",
                               verbs=_PUBLISH, example=_PUBLISH["add"].example),
        "resolve": _verb("show.resolve", "resolve", "find containers by name, or list all as hosts(5) has them",
                         "[NAME...]", (("--network NETWORK", "text", None, "only on this one"),), "web"),
        "unshare": cli.Command("oci-net unshare", "run a command where a plain user has bridge networks",
                               "[CMD...]", (("-p --publish PORT", "list", (), "when it is made: ports of the host"),),
                               _late("shared.unshare"), stop=True, example="oci-net unshare oci-run -d --name db app"),
        "check": _verb("change.check", "check", "tell what of networks and their containers is missing", "[NETWORK...]",
                       (LOCK,), "web"),
        "reload": _verb("change.reload", "reload", "put back what of rules and resolvers has gone", "", (LOCK,),
                        ""),
    },
)  # fmt: skip


def main(words: list[str]) -> int:
    if not words and "CNI_COMMAND" in os.environ:
        from oci_tools.cmd.net import cni

        code: int = cni.main()
        return code
    plain = os.geteuid() and words and words[0] != "unshare" and "--help" not in words and "pasta" not in words
    if plain and words[0] in (COMMAND.verbs or ()):
        from oci_tools.container import shared
        from oci_tools.errors import Error

        try:
            if words[0] not in _LOOKING or shared.is_running():
                shared.go(words)
        except Error as error:
            cli.say("oci-net", error)
            return error.code
    return cli.main(COMMAND, words)
