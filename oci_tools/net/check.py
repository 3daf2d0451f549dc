"""What a network's document may say: one that anybody may have written, or edited by hand into nonsense.  Pure."""

from __future__ import annotations

from oci_tools import document as documents
from oci_tools.errors import Error, Usage
from oci_tools.net import address
from oci_tools.net.address import Subnet
from oci_tools.net.conflist import DRIVERS, GATEWAY_MODES, KEY, MODES, PLAIN, PLUGIN, REFUSALS, SWITCHES
from oci_tools.net.conflist import is_interface, is_name, is_plugin, numbers, switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WORDS = {str: "a string", int: "an integer", bool: "true or false", list: "an array", dict: "an object"}


class _About:
    """What errors are about."""

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def wrong(self, path: str, what: str, value: Any = None) -> Error:
        return documents.wrong(self._subject, path, what if value is None else f"{what}, got {documents.shown(value)}")

    def member(self, of: dict[str, Any], path: str, name: str, kind: type, needed: bool = False) -> Any:
        """A member of this type; an empty one if it is missing and not needed."""
        if name not in of:
            if needed:
                raise self.wrong(path + documents.step(name), "missing")
            return kind()
        if type(of[name]) is not kind:
            raise self.wrong(path + documents.step(name), f"expected {_WORDS[kind]}", of[name])
        return of[name]


def check(document: Any, subject: str, more: list[dict[str, Any]] | None = None) -> None:
    """Refuse what is no conflist, or what our plugin cannot use, with the path in it; `more`: plugins in files."""
    about = _About(subject)
    if type(document) is not dict:
        raise about.wrong("", "expected an object", document)
    if switch(document, "loadOnlyInlinedPlugins"):
        more = None
    if not is_name(about.member(document, "", "name", str, True)):
        raise about.wrong(".name", "expected a network's name", document["name"])
    _check_list(document, about)
    plugins = about.member(document, "", "plugins", list, not more)
    if not plugins and (not more or "plugins" in document):
        raise about.wrong(".plugins", "expected at least 1 item", plugins)
    for at, plugin in enumerate(plugins):
        _check_plugin(plugin, f".plugins[{at}]", about)
    own = about.member(document, "", KEY, dict)
    for name in ("labels", "options"):
        for key, value in about.member(own, documents.step(KEY), name, dict).items():
            if type(value) is not str:
                raise about.wrong(documents.step(KEY) + f".{name}" + documents.step(key), "expected a string", value)
    plugins = [*plugins, *(more or ())]
    for at, plugin in enumerate(plugins[1:], 1):
        if plugin["type"] == PLUGIN:
            raise about.wrong(f".plugins[{at}].type", f"{PLUGIN} is the first of its list, or not in it")
    if plugins[0]["type"] == PLUGIN:
        _check_ours(plugins[0], about)


def check_plugin(plugin: Any, subject: str) -> None:
    """The same of a plugin in a file of its own."""
    _check_plugin(plugin, "", _About(subject))


def _check_plugin(plugin: Any, path: str, about: _About) -> None:
    if type(plugin) is not dict:
        raise about.wrong(path, "expected an object", plugin)
    if not is_plugin(about.member(plugin, path, "type", str, True)):
        raise about.wrong(f"{path}.type", "expected a plugin's name", plugin["type"])
    for name, value in about.member(plugin, path, "capabilities", dict).items():
        if type(value) is not bool:
            raise about.wrong(f"{path}.capabilities{documents.step(name)}", "expected true or false", value)


def _check_list(document: dict[str, Any], about: _About) -> None:
    """The members of the list that tell a runtime how to go through it."""
    about.member(document, "", "cniVersion", str)
    offered = about.member(document, "", "cniVersions", list)
    for at, version in enumerate(offered):
        if type(version) is not str or not numbers(version):
            raise about.wrong(f".cniVersions[{at}]", "expected a version", version)
    if "cniVersion" in document and not numbers(document["cniVersion"]):
        raise about.wrong(".cniVersion", "expected a version", document["cniVersion"])
    for name in SWITCHES:
        value = document.get(name, False)
        if type(value) is not bool and str(value).lower() not in ("true", "false"):
            raise about.wrong(documents.step(name), "expected true or false", value)


def _check_ours(plugin: dict[str, Any], about: _About) -> None:
    path = ".plugins[0]"
    for name, kind in PLAIN.items():
        about.member(plugin, path, name, kind)
    driver = plugin.get("driver", "bridge")
    if driver not in DRIVERS:
        raise about.wrong(f"{path}.driver", f"expected one of {', '.join(DRIVERS)}", driver)
    if driver == "bridge":
        about.member(plugin, path, "bridge", str, True)
    for name in ("bridge", "master"):
        if name in plugin and not is_interface(plugin[name]):
            raise about.wrong(f"{path}.{name}", "expected an interface's name of at most 15 bytes", plugin[name])
    if "mode" in plugin and plugin["mode"] not in MODES.get(driver, (plugin["mode"],)):
        raise about.wrong(f"{path}.mode", f"expected one of {', '.join(MODES[driver])}", plugin["mode"])
    if plugin.get("interfacePrefix") and not is_interface(f"{plugin['interfacePrefix']}00"):
        raise about.wrong(f"{path}.interfacePrefix", "expected the beginning of names", plugin["interfacePrefix"])
    if plugin.get("mtu", 1500) and not 68 <= plugin.get("mtu", 1500) <= 65535:
        raise about.wrong(f"{path}.mtu", "expected 68 to 65535", plugin["mtu"])
    _check_gateways(plugin, path, about)
    _check_apart(plugin, path, about)
    if "hostIP" in plugin:
        _address(plugin["hostIP"], f"{path}.hostIP", about)
    servers = about.member(about.member(plugin, path, "dns", dict), f"{path}.dns", "nameservers", list)
    for at, server in enumerate(servers):
        _address(server, f"{path}.dns.nameservers[{at}]", about)
    ipam = about.member(plugin, path, "ipam", dict)
    for at, route in enumerate(about.member(ipam, f"{path}.ipam", "routes", list)):
        _check_route(route, f"{path}.ipam.routes[{at}]", about)
    if about.member(ipam, f"{path}.ipam", "type", str) not in ("", "host-local"):
        raise about.wrong(f"{path}.ipam.type", "expected host-local", ipam["type"])
    subnets: list[Subnet] = []
    if "subnet" in ipam:
        subnets.append(_check_range(ipam, f"{path}.ipam", about))
    for at, ranges in enumerate(about.member(ipam, f"{path}.ipam", "ranges", list)):
        here = f"{path}.ipam.ranges[{at}]"
        if type(ranges) is not list or not ranges or not all(type(each) is dict for each in ranges):
            raise about.wrong(here, "expected an array of ranges", ranges)
        for number, each in enumerate(ranges):
            subnets.append(_check_range(each, f"{here}[{number}]", about))
            if each["subnet"] != ranges[0]["subnet"]:
                raise about.wrong(f"{here}[{number}].subnet", f"expected {ranges[0]['subnet']}", each["subnet"])
    _check_host(plugin, path, about, subnets)


def _check_gateways(plugin: dict[str, Any], path: str, about: _About) -> None:
    for version in (4, 6):
        mode, source = plugin.get(f"gatewayMode{version}"), plugin.get(f"snat{version}")
        if mode and mode not in GATEWAY_MODES:
            raise about.wrong(f"{path}.gatewayMode{version}", f"expected one of {', '.join(GATEWAY_MODES)}", mode)
        if mode == "isolated" and not plugin.get("internal"):
            raise about.wrong(f"{path}.gatewayMode{version}", "isolated is for internal networks")
        if source:
            _address(source, f"{path}.snat{version}", about)
            if address.number(source)[0] != version:
                raise about.wrong(f"{path}.snat{version}", f"expected an address of IPv{version}", source)
    for name in plugin.get("trustedInterfaces", "").split(":"):
        if name and not is_interface(name):
            raise about.wrong(f"{path}.trustedInterfaces", "expected interfaces' names between colons", name)


def _check_apart(plugin: dict[str, Any], path: str, about: _About) -> None:
    """What is beneath IP: the VLAN and the VRF of a bridge."""
    driver = plugin.get("driver", "bridge")
    if plugin.get("vlan", 0) and not 1 <= plugin["vlan"] <= 4094:
        raise about.wrong(f"{path}.vlan", "expected 1 to 4094", plugin["vlan"])
    if plugin.get("vrf") and not is_interface(plugin["vrf"]):
        raise about.wrong(f"{path}.vrf", "expected an interface's name of at most 15 bytes", plugin["vrf"])
    for name in ("vlan", "vrf"):
        if plugin.get(name) and driver != "bridge":
            raise about.wrong(f"{path}.{name}", f"a network of driver {driver} has none")
    if plugin.get("vrf") and plugin.get("mode") == "unmanaged":
        raise about.wrong(f"{path}.vrf", "the bridge is somebody else's")


def _check_host(plugin: dict[str, Any], path: str, about: _About, subnets: list[Subnet]) -> None:
    """The addresses of the host's own link beside those of macvlan or ipvlan."""
    words = [each for each in plugin.get("hostAddress", "").split(",") if each]
    if words and plugin.get("driver", "bridge") not in ("macvlan", "ipvlan"):
        raise about.wrong(f"{path}.hostAddress", "it is for macvlan and ipvlan: the host has the gateway's")
    if words and plugin.get("driver") == "macvlan" and plugin.get("mode", "bridge") != "bridge":
        raise about.wrong(f"{path}.hostAddress", "links of this mode do not see each other", plugin["mode"])
    versions = set()
    for word in words:
        _address(word, f"{path}.hostAddress", about)
        version, value = address.number(word)
        if not any(one.version == version and one.hosts[0] <= value <= one.hosts[1] for one in subnets):
            raise about.wrong(f"{path}.hostAddress", "expected an address that a host of a subnet can have", word)
        if version in versions:
            raise about.wrong(f"{path}.hostAddress", f"expected one address of IPv{version}", word)
        versions.add(version)


def _check_route(route: Any, path: str, about: _About) -> None:
    if type(route) is not dict:
        raise about.wrong(path, "expected an object", route)
    try:
        Subnet.parse(about.member(route, path, "dst", str, True))
    except Usage:
        raise about.wrong(f"{path}.dst", "expected a subnet", route["dst"]) from None
    if about.member(route, path, "type", str) not in ("", "unicast", *REFUSALS):
        raise about.wrong(f"{path}.type", f"expected unicast, {', '.join(REFUSALS)}", route["type"])
    if "gw" in route:
        _address(route["gw"], f"{path}.gw", about)


def _check_range(one: dict[str, Any], path: str, about: _About) -> Subnet:
    try:
        subnet = Subnet.parse(about.member(one, path, "subnet", str, True))
    except Usage:
        raise about.wrong(f"{path}.subnet", "expected a subnet", one["subnet"]) from None
    for name in ("gateway", "rangeStart", "rangeEnd"):
        if name in one:
            _address(one[name], f"{path}.{name}", about)
            if not subnet.has(*address.number(one[name])):
                raise about.wrong(f"{path}.{name}", f"expected an address in {subnet}", one[name])
    for name, value in about.member(one, path, "reserved", dict).items():
        _address(value, f"{path}.reserved{documents.step(name)}", about)
        if not subnet.has(*address.number(value)):
            raise about.wrong(f"{path}.reserved{documents.step(name)}", f"expected an address in {subnet}", value)
    return subnet


def _address(value: Any, path: str, about: _About) -> None:
    try:
        address.number(value if type(value) is str else "")
    except Usage:
        raise about.wrong(path, "expected an address", value) from None
