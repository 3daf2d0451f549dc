"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container, as text (moby, libnetwork)."""

from __future__ import annotations

from oci_tools.container import mounts
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.host import Host
    from oci_tools.container.networking import Around
    from oci_tools.container.place import Place

NAMES = ("hosts", "hostname", "resolv.conf")
STUB = "/run/systemd/resolve/resolv.conf"  # what systemd-resolved itself asks, behind its 127.0.0.53
LOOPBACK = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def add(spec: dict[str, Any], held: Place, args: Args, host: Host, around: Around) -> None:
    """hosts, hostname and resolv.conf, bound over the image's unless a mount is there."""
    taken = {mounts.normal(each["destination"]) for each in spec["mounts"]}
    readonly = bool(spec["root"].get("readonly"))
    left = {name for name, wanted in (("hosts", args.no_hosts), ("hostname", args.no_hostname)) if wanted}
    for name, text in texts(spec, args, host, around.servers, around.host).items():
        free = [place for place in _places(name, args) if name not in left and place not in taken]
        if free:
            path = shared(name, args, host) or held.write(name, text.encode("utf-8", "surrogateescape"), 0o644)
        for destination in free:
            made = mounts.bind(path, destination, readonly, flat=True)
            if not host.rootless and any(each["type"] == "user" for each in spec["linux"]["namespaces"]):
                host.show_as_inside(made)  # root's inside, too
            spec["mounts"].append(made)


def texts(
    spec: dict[str, Any], args: Args, host: Host, servers: Sequence[str] = (), gateway: str = ""
) -> dict[str, str]:
    """The content of each file; on networks with the servers there, which ask others, and the host's address."""
    own = any(each["type"] == "network" for each in spec["linux"].get("namespaces", ()))
    name = spec.get("hostname") or host.hostname()
    if host.accounts:
        from oci_tools.container import accounts

        accounts.finish(spec, args, host)
    return {
        **host.accounts,
        "hosts": hosts(_hosts_before(args, host, own), args.add_host, gateway if own else "127.0.0.1"),
        "hostname": f"{name}\n",
        "resolv.conf": resolver(_resolver_of(host, own), own, args, servers),
    }


def _places(name: str, args: Args) -> list[str]:
    """Where in the container a file of ours is: beneath its root, and what --chrootdirs says that are roots, too."""
    tops = [top for word in args.chrootdirs for top in word.split(",")] if name in NAMES else []
    for top in tops:
        if not top.startswith("/"):
            raise Usage("invalid value for --chrootdirs", top, "it must be absolute")
    return [*dict.fromkeys(mounts.normal(f"{top}/etc/{name}") for top in ("", *tops))]


def begin(args: Args, host: Host) -> None:
    """Options that are about the accounts that there are, before a user is looked up."""
    if args.hostuser or args.passwd or args.passwd_entry or args.group_entry:
        from oci_tools.container import accounts

        accounts.begin(args, host)


def shared(name: str, args: Args, host: Host) -> str | None:
    """The file of the container whose network is joined, as with docker, unless an option says something of it."""
    said = {
        "hosts": args.add_host or args.hosts_file, "hostname": args.hostname,
        "resolv.conf": args.dns or args.dns_search or args.dns_option,
    }  # fmt: skip
    return host.file_of(host.joins["network"], name) if "network" in host.joins and not said.get(name, True) else None


def _hosts_before(args: Args, host: Host, own: bool) -> str:
    """What comes before the lines of --add-host."""
    if args.hosts_file and args.hosts_file != "none":
        return host.text(args.hosts_file)
    return "" if own or args.hosts_file else _text(host, "/etc/hosts")


def _text(host: Host, path: str) -> str:
    return host.text(path) if host.exists(path) else ""


def _resolver_of(host: Host, own: bool) -> str:
    text = _text(host, host.resolv_conf())
    if own and servers(text) == ["127.0.0.53"]:
        return _text(host, STUB) or text
    return text


def hosts(base: str, more: list[str], gateway: str = "") -> str:
    """`base`, or if there is none the loopback names, and NAME:ADDRESS lines; host-gateway is the host's address."""
    lines = base or LOOPBACK
    if not lines.endswith("\n"):
        lines += "\n"
    for word in more:
        name, colon, address = word.partition("=" if "=" in word.partition(":")[0] else ":")
        address = address.removeprefix("[").removesuffix("]")
        if address == "host-gateway":
            address = gateway
        if not name or not is_address(address):
            raise Usage("invalid value for --add-host", word, hint="NAME:ADDRESS")
        lines += f"{address}\t{name}\n"
    return lines


def is_address(text: str) -> bool:
    """Is it an IPv4 or IPv6 address?"""
    from _socket import AF_INET, AF_INET6, inet_pton

    for family in (AF_INET, AF_INET6):
        try:
            inet_pton(family, text)
            return True
        except (OSError, ValueError):
            continue
    return False


def servers(text: str) -> list[str]:
    """The name servers of a resolv.conf."""
    fields = [line.split() for line in text.split("\n")]
    return [words[1] for words in fields if len(words) > 1 and words[0] == "nameserver"]


def resolver(base: str, own: bool, args: Args, networks: Sequence[str]) -> str:
    """resolv.conf: the host's, with what the options replace; with a network of one's own, without
    servers on loopback, which is another one there."""
    kept = [f"nameserver {address}" for address in networks]
    for line in base.split("\n"):
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver":
            if args.dns or networks or (own and len(words) > 1 and (words[1].startswith("127.") or words[1] == "::1")):
                continue
        elif words[0] in ("search", "domain"):
            if args.dns_search:
                continue
        elif words[0] == "options" and args.dns_option:
            continue
        kept.append(" ".join(words))
    for address in args.dns:
        if not is_address(address):
            raise Usage("invalid value for --dns", address, hint="an address")
        if not networks:  # else the resolver there asks it
            kept.append(f"nameserver {address}")
    search = [domain for domain in args.dns_search if domain != "."]  # "." alone: none
    for name, values in (("search", search), ("options", args.dns_option)):
        for value in values:
            if not value or any(c.isspace() for c in value):
                raise Error("invalid value for resolv.conf", value)
        if values:
            kept.append(f"{name} {' '.join(values)}")
    return "".join(f"{line}\n" for line in kept)
