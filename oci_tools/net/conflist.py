"""A network as a document: a CNI network configuration list, and how people's options make one.

CNI specification 1.1, "Section 1: Network configuration format", read as libcni does.  The networks that we make have
one plugin, ours, whose words are those of the reference plugins `bridge` and `macvlan` where they have one; plugins of
others may follow it or stand in its place.  oci-net-conflist(5) describes the members, check.py refuses what they are
not.  Pure: nothing here asks the world.
"""

from __future__ import annotations

from oci_tools.errors import Usage
from oci_tools.net import address
from oci_tools.net.address import Subnet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PLUGIN, KEY = "oci-net", "io.oci-tools"
CURRENT = (1, 1, 0)  # the version of CNI that we speak
DRIVERS = ("bridge", "macvlan", "ipvlan", "none")
DEFAULT = "bridge"
RESERVED = ("none", "host", "container", "default", "private", "pasta", "slirp4netns", "ns")
_PLUGIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_NAME = _PLUGIN | {" "}
# The members of our plugin that are not lists or objects, and their types.
PLAIN = {
    "driver": str, "bridge": str, "master": str, "mode": str, "hostIP": str, "firewalldZone": str,
    "gatewayMode4": str, "gatewayMode6": str, "trustedInterfaces": str, "snat4": str, "snat6": str,
    "vrf": str, "hostAddress": str, "interfacePrefix": str,
    "mtu": int, "metric": int, "vlan": int,
    "internal": bool, "isolate": bool, "ipMasq": bool, "icc": bool, "defaultRoute": bool, "resolver": bool,
    "inhibit": bool,
}  # fmt: skip
# Of the list itself; "true" and "false" are said as strings, too.
SWITCHES = ("disableCheck", "disableGC", "loadOnlyInlinedPlugins")
# Docker's options of a bridge, and podman's, by the member that they are.
OPTIONS = {
    "com.docker.network.bridge.name": "bridge",
    "com.docker.network.bridge.enable_icc": "icc",
    "com.docker.network.bridge.enable_ip_masquerade": "ipMasq",
    "com.docker.network.bridge.host_binding_ipv4": "hostIP",
    "com.docker.network.bridge.gateway_mode_ipv4": "gatewayMode4",
    "com.docker.network.bridge.gateway_mode_ipv6": "gatewayMode6",
    "com.docker.network.bridge.trusted_host_interfaces": "trustedInterfaces",
    "com.docker.network.host_ipv4": "snat4", "com.docker.network.host_ipv6": "snat6",
    "outbound_addr4": "snat4", "outbound_addr6": "snat6",
    "com.docker.network.driver.mtu": "mtu",
    "com.docker.network.bridge.inhibit_ipv4": "inhibit",
    "com.docker.network.container_iface_prefix": "interfacePrefix",
    "mtu": "mtu", "isolate": "isolate", "metric": "metric", "parent": "master", "mode": "mode",
    "vlan": "vlan", "vrf": "vrf", "host_address": "hostAddress",
    "macvlan_mode": "mode", "ipvlan_mode": "mode", "bridge_name": "bridge", "firewalld_zone": "firewalldZone",
}  # fmt: skip
_NEGATED = {"no_default_route": "defaultRoute"}
# How a bridge's containers and the world reach each other: by translation, and whether directly as well, or not at all.
GATEWAY_MODES = ("nat", "nat-unprotected", "routed", "isolated")
REFUSALS = ("blackhole", "unreachable", "prohibit")  # kinds of routes that lead nowhere
MODES = {
    "bridge": ("managed", "unmanaged"), "macvlan": ("bridge", "private", "vepa", "passthru", "source"),
    "ipvlan": ("l2", "l3", "l3s"),
}  # fmt: skip
# Of this host, of links, of groups, of nobody (RFC 6890).
_NO_HOSTS = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::1/128", "fe80::/10", "ff00::/8")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def is_plugin(text: str) -> bool:
    """Whether a plugin, or what CNI is told of, may be called so (^[a-zA-Z0-9][a-zA-Z0-9_.-]*$)."""
    return 0 < len(text) <= 128 and _PLUGIN.issuperset(text) and text[0] not in "_.-"


def is_name(text: str) -> bool:
    """Whether a network may be called so: as CNI says, and with spaces between, which docker's users have."""
    return 0 < len(text) <= 128 and _NAME.issuperset(text) and text[0] not in "_.- " and text[-1] != " "


def check_name(text: str) -> None:
    """Refuse what no network can be called."""
    if not is_name(text):
        raise Usage("invalid network name", text, hint="letters, digits, '_', '.', '-' and spaces between")


def is_interface(text: str) -> bool:
    """Whether a link may be called so: dev_valid_name() of the kernel."""
    fits = 0 < len(text.encode("utf-8", "surrogateescape")) <= 15 and text not in (".", "..")
    return fits and text.isprintable() and not set(text) & set("/: ")


def check_interface(text: str, what: str = "invalid interface name") -> str:
    if not is_interface(text):
        raise Usage(what, text, hint="at most 15 bytes, without '/', ':' and spaces")
    return text


class Network:
    """What is read out of a document; the document itself is `document`, as it was found.

    more    plugins that are in files of their own
    """

    def __init__(self, document: dict[str, Any], subject: str, more: list[dict[str, Any]] | None = None) -> None:
        from oci_tools.net import check

        check.check(document, subject, more or [])
        self.document = document
        self.name: str = document["name"]
        self.version = _version(document)
        alone = switch(document, "loadOnlyInlinedPlugins")
        self.plugins: list[dict[str, Any]] = [*document.get("plugins", ()), *(() if alone else more or ())]
        self.plugin = self.plugins[0]
        self.ours = self.plugin["type"] == PLUGIN
        self.driver: str = self.plugin.get("driver", "bridge") if self.ours else self.plugin["type"]
        own = document.get(KEY, {})
        self.id: str = own.get("id", "")
        self.labels: dict[str, str] = own.get("labels", {})
        self.options: dict[str, str] = own.get("options", {})
        self.created: int = own.get("created", 0)
        self.bridge: str = self.plugin.get("bridge", "")
        self.internal: bool = self.plugin.get("internal", False)
        self.pools = _pools(self.plugin) if self.ours else _their_pools(self.plugin)

    def get(self, name: str, default: Any) -> Any:
        """A member of our plugin."""
        return self.plugin.get(name, default)

    def speaks(self, *version: int) -> bool:
        """Whether its plugins are asked in this version of CNI, or a later one."""
        return numbers(self.version) >= version

    def gateway_mode(self, version: int) -> str:
        """One of GATEWAY_MODES."""
        mode: str = self.get(f"gatewayMode{version}", "") or "nat"
        return mode

    def versions(self, *modes: str) -> str:
        """Of its subnets the versions of IP whose gateway is in one of these modes, as "46"."""
        return "".join(sorted({str(pool.version) for pool in self.pools if self.gateway_mode(pool.version) in modes}))

    @property
    def trusted(self) -> list[str]:
        """The host's interfaces from which published ports are reached at the containers' own addresses."""
        return [name for name in self.get("trustedInterfaces", "").split(":") if name]

    @property
    def host_addresses(self) -> list[str]:
        """Those of the host's own link beside the containers', where what it hangs on keeps them apart."""
        return [each for each in self.get("hostAddress", "").split(",") if each]

    @property
    def servers(self) -> list[str]:
        """The name servers that its resolver asks in place of the host's."""
        found: list[str] = self.plugin.get("dns", {}).get("nameservers", [])
        return found

    @property
    def managed(self) -> bool:
        """Whether it has a bridge that is made for it; else it is somebody else's, as all that is behind it."""
        return self.ours and self.driver == "bridge" and self.get("mode", "") != "unmanaged"

    @property
    def borrows(self) -> bool:
        """Whether its bridge is somebody else's."""
        return self.ours and self.driver == "bridge" and not self.managed

    @property
    def resolves(self) -> bool:
        """Whether the network has a resolver of names."""
        return self.managed and bool(self.get("resolver", True)) and bool(self.hosted)

    @property
    def hosted(self) -> list[Pool]:
        """Its subnets in which the host has the gateway's address."""
        without = self.versions("isolated") + ("4" if self.get("inhibit", False) else "")
        return [pool for pool in self.pools if str(pool.version) not in without]

    def has_gateway(self, pool: Pool) -> bool:
        """Whether the gateway's address of a subnet is somebody's."""
        return not self.internal or pool in self.hosted

    @property
    def routes(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self.plugin.get("ipam", {}).get("routes", [])
        return found


def numbers(version: str) -> tuple[int, ...]:
    """A version of CNI as numbers: none for what is none."""
    parts = version.split(".")
    return tuple(map(int, parts)) if len(parts) == 3 and all(x.isascii() and x.isdigit() for x in parts) else ()


def _version(document: dict[str, Any]) -> str:
    """The highest version of those it offers that we know, too."""
    offered = [*document.get("cniVersions", ()), *([document["cniVersion"]] if "cniVersion" in document else ())]
    known = [each for each in offered if numbers(each) <= CURRENT]
    return max(known, key=numbers) if known else str(document.get("cniVersion", "1.0.0"))


def switch(document: dict[str, Any], name: str) -> bool:
    """disableCheck, disableGC or loadOnlyInlinedPlugins of a list."""
    return str(document.get(name, False)).lower() == "true"


def sets(ipam: dict[str, Any]) -> list[Any]:
    """The sets of ranges that an address each is taken from; one may be written without a list (host-local)."""
    plain = {name: ipam[name] for name in ("subnet", "rangeStart", "rangeEnd", "gateway", "reserved") if name in ipam}
    return [*([[plain]] if "subnet" in plain else []), *ipam.get("ranges", ())]


def _pools(plugin: dict[str, Any]) -> list[Pool]:
    return [Pool(ranges) for ranges in sets(plugin.get("ipam", {}))]


def _their_pools(plugin: dict[str, Any]) -> list[Pool]:
    """What a plugin of others takes addresses from, as far as we understand it."""
    try:
        return _pools(plugin)
    except (Usage, AttributeError, KeyError, TypeError):
        return []


class Pool:
    """Where a network takes addresses from: a subnet, its gateway, the first and the last that are given away.

    spans   each range that is given away, with its ends; kept  what of it is somebody else's
    """

    def __init__(self, ranges: list[dict[str, Any]]) -> None:
        one = ranges[0]
        self.subnet = Subnet.parse(one["subnet"])
        self.version = self.subnet.version
        first, last = self.subnet.hosts
        self.gateway = address.number(one["gateway"])[1] if "gateway" in one else first
        self.spans = [
            (address.number(each["rangeStart"])[1] if "rangeStart" in each else first,
             address.number(each["rangeEnd"])[1] if "rangeEnd" in each else last)
            for each in ranges
        ]  # fmt: skip
        self.first, self.last = self.spans[0][0], self.spans[-1][1]
        self.kept = {address.number(each)[1]: name for one in ranges for name, each in one.get("reserved", {}).items()}

    @property
    def words(self) -> str:
        """What is given away, as people say it."""
        if self.spans == [self.subnet.hosts]:
            return str(self.subnet)
        return ", ".join("-".join(address.text(self.version, end) for end in span) for span in self.spans)

    @property
    def gateway_text(self) -> str:
        return address.text(self.version, self.gateway)


# -- from people's words ---------------------------------------------------------------


def new(
    name: str, driver: str, pools: list[dict[str, Any]], members: dict[str, Any], own: dict[str, Any]
) -> dict[str, Any]:
    """A document; `pools` are ranges of the host-local plugin, `members` those of ours, `own` what no plugin reads."""
    check_name(name)
    plugin: dict[str, Any] = {"type": PLUGIN, "driver": driver, **members}
    if pools:
        plugin["ipam"] = {"type": "host-local", "ranges": [[pool] for pool in pools], **plugin.pop("ipam", {})}
    plugin["capabilities"] = {"portMappings": True, "ips": True, "mac": True, "aliases": True}
    return {"cniVersion": "1.0.0", "name": name, "plugins": [plugin], KEY: own}


def pools(
    subnets: list[str], gateways: list[str], ranges: list[str], reserved: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """Ranges out of --subnet, --gateway, --ip-range and --aux-address: each belongs to the subnet it lies in."""
    found = [Subnet.parse(word) for word in subnets]
    for at, one in enumerate(found):
        if one.size < 2:
            raise Usage("invalid subnet", one, "it has no room for a gateway and a container")
        if any(one.overlaps(Subnet.parse(word)) for word in _NO_HOSTS):
            raise Usage("invalid subnet", one, "no host can have an address of it")
        for other in found[:at]:
            if one.overlaps(other):
                raise Usage("subnets overlap", one, f"with {other}")
    made: list[dict[str, Any]] = [{"subnet": str(one)} for one in found]
    for word in gateways:
        version, value = address.number(word)
        at = next((at for at, one in enumerate(found) if one.has(version, value)), -1)
        if at < 0:
            raise Usage("gateway is in no subnet", word, hint="--subnet names it")
        if "gateway" in made[at]:
            raise Usage("two gateways in one subnet", word)
        if not found[at].hosts[0] <= value <= found[at].hosts[1]:
            raise Usage("invalid gateway", word, "not an address that a host can have")
        made[at]["gateway"] = address.text(version, value)
    for word in ranges:
        _place_range(word, found, made)
    for name, word in (reserved or {}).items():
        version, value = address.number(word)
        at = next((at for at, one in enumerate(found) if one.has(version, value)), -1)
        if at < 0:
            raise Usage("address is in no subnet", word, hint="--subnet names it")
        made[at].setdefault("reserved", {})[name] = address.text(version, value)
    for pool, subnet in zip(made, found, strict=True):
        pool.setdefault("gateway", address.text(subnet.version, subnet.hosts[0]))
    return made


def _place_range(word: str, found: list[Subnet], made: list[dict[str, Any]]) -> None:
    start, dash, end = word.partition("-")
    if dash:
        (version, first), (other, last) = address.number(start), address.number(end)
        if version != other or last < first:
            raise Usage("invalid range", word)
    else:
        within = Subnet.parse(word)
        version, first, last = within.version, within.first, within.last
    at = next((at for at, one in enumerate(found) if one.has(version, first) and one.has(version, last)), -1)
    if at < 0:
        raise Usage("range is in no subnet", word, hint="--subnet names it")
    made[at]["rangeStart"] = address.text(version, max(first, found[at].hosts[0]))
    made[at]["rangeEnd"] = address.text(version, min(last, found[at].hosts[1]))


def option(members: dict[str, Any], name: str, value: str) -> None:
    """What --opt NAME=VALUE means; one that we do not know is kept as it is for those who do."""
    if name in _NEGATED:
        members[_NEGATED[name]] = not _boolean(name, value)
    elif name in OPTIONS:
        member = OPTIONS[name]
        kind = PLAIN[member]
        if kind is bool:
            members[member] = _boolean(name, "true" if value == "strict" else value)
        elif kind is int:
            if not (value.isascii() and value.isdigit()):
                raise Usage(f"invalid value for option {name}", value, hint="a number")
            members[member] = int(value)
        else:
            members[member] = value


def _boolean(name: str, value: str) -> bool:
    if value not in _BOOLEANS:
        raise Usage(f"invalid value for option {name}", value, hint="true or false")
    return _BOOLEANS[value]
