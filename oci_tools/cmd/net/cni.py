"""oci-net as a CNI plugin: containerd, Kubernetes and others get our bridge (CNI specification 1.1, section 2).

The question is in the environment, the network's configuration on standard input, the answer on standard output, an
error too.  The members are those of our plugin in a conflist; without "bridge" or ranges they are chosen once and kept
in the store under the network's name.
"""

from __future__ import annotations

import os
import sys

from oci_tools import document
from oci_tools.errors import Busy, Error, Usage
from oci_tools.net import attach as attaching
from oci_tools.net import conflist, detach, place, plugins, record, store, verify
from oci_tools.net.conflist import Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
# Codes of the specification, "Error", and one of ours for all else.
INCOMPATIBLE, ENVIRONMENT, DECODING, CONFIGURATION, LATER, UNAVAILABLE, FAILED = 1, 4, 6, 7, 11, 50, 100
_MOST = 1 << 20
_NEEDED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
}


class _Refusal(Error):
    """An error with the specification's number."""

    def __init__(self, number: int, what: str, subject: object = None, cause: Any = None) -> None:
        super().__init__(what, subject, cause)
        self.number = number


def main() -> int:
    conf: dict[str, Any] = {}
    try:
        command = os.environ["CNI_COMMAND"]
        conf = _configuration()
        try:
            _answer(command, conf)
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # a member is missing, or something else
            raise _Refusal(CONFIGURATION, "invalid network configuration", None, f"{error!r}") from error
        return 0
    except Error as error:
        number = getattr(error, "number", LATER if isinstance(error, Busy) else FAILED)
        if isinstance(error, Usage) and number == FAILED:
            number = CONFIGURATION
        _say({"cniVersion": conf.get("cniVersion", VERSIONS[-1]), "code": number, "msg": str(error)})
        return 1


def _configuration() -> dict[str, Any]:
    try:
        conf = document.loads(sys.stdin.buffer.read(_MOST) or b"{}", "the network configuration")
    except Error as error:
        raise _Refusal(DECODING, str(error)) from None
    if not isinstance(conf, dict):
        raise _Refusal(DECODING, "the network configuration is no object")
    return conf


def _answer(command: str, conf: dict[str, Any]) -> None:
    if command == "VERSION":
        return _say({"cniVersion": conf.get("cniVersion", VERSIONS[-1]), "supportedVersions": list(VERSIONS)})
    version = conf.get("cniVersion", "0.2.0")
    if version not in VERSIONS:
        raise _Refusal(INCOMPATIBLE, "incompatible CNI version", version)
    for name in _NEEDED.get(command, ()):
        if not os.environ.get(name):
            raise _Refusal(ENVIRONMENT, "missing environment variable", name)
    actions = {"ADD": _add, "DEL": _del, "CHECK": _check, "GC": _gc, "STATUS": _status}
    if command not in actions:
        raise _Refusal(ENVIRONMENT, "unknown CNI_COMMAND", command)
    with place.Change():
        return actions[command](_network(conf, command == "ADD"), conf)


def _network(conf: dict[str, Any], new: bool) -> Network:
    """The network of a configuration; what it does not say is in the store, or gets there now if it may be `new`."""
    name = conf.get("name")
    if not isinstance(name, str) or not conflist.is_name(name):
        raise _Refusal(CONFIGURATION, "invalid network name", name)
    plugin = {name: value for name, value in conf.items() if name not in ("name", "cniVersion", "prevResult")}
    plugin["type"] = conflist.PLUGIN
    ipam = plugin.get("ipam") or {}
    chosen = not conflist.sets(ipam) and ipam.get("type", "host-local") == "host-local"  # by us, and kept
    if plugin.get("driver", "bridge") == "bridge" and chosen:
        kept = _kept(name, plugin, new)
        if kept:
            plugin = {**plugin, "bridge": plugin.get("bridge") or kept.bridge, "ipam": kept.plugin["ipam"]}
    plugin = {"bridge": place.bridge(name), "resolver": False, **plugin}  # who calls us has his own
    try:
        made = {"cniVersion": conf["cniVersion"], "name": name, "plugins": [plugin]}
        return Network(made, "the network configuration")
    except Error as error:
        raise _Refusal(CONFIGURATION, str(error)) from None


def _kept(name: str, plugin: dict[str, Any], new: bool) -> Network | None:
    if os.path.exists(store.path(name)) or (name == conflist.DEFAULT and new):
        return store.load(name)
    if not new:
        return None
    from oci_tools.net import subnets

    members = {"bridge": plugin.get("bridge") or place.bridge(name), "resolver": False}
    pools = conflist.pools([str(subnets.choose(store.taken(), subnets.host()))], [], [])
    return store.create(conflist.new(name, "bridge", pools, members, store.own({}, {})))


# -- the questions -----------------------------------------------------------------------


def _key() -> str:
    """What an attachment is called here: an identifier may have several links on one network."""
    container, interface = os.environ["CNI_CONTAINERID"], os.environ["CNI_IFNAME"]
    key = container if interface == "eth0" else f"{container}.{interface}"
    if not record.is_id(key) or not container[0].isalnum():
        raise _Refusal(ENVIRONMENT, "invalid CNI_CONTAINERID", container)
    return key


def _args() -> dict[str, str]:
    pairs = (each.partition("=") for each in os.environ.get("CNI_ARGS", "").split(";"))
    return {name: value for name, _, value in pairs}


def _add(network: Network, conf: dict[str, Any]) -> None:
    runtime, args = conf.get("runtimeConfig") or {}, _args()
    ips = runtime.get("ips") or ([args["IP"]] if args.get("IP") else [])
    mapped = [_mapping(each) for each in runtime.get("portMappings") or []]
    wanted = attaching.Wanted(
        _key(), namespace=os.environ["CNI_NETNS"], name=args.get("K8S_POD_NAME", ""),
        addresses=[each.partition("/")[0] for each in ips], mac=runtime.get("mac") or args.get("MAC") or None,
        aliases=(runtime.get("aliases") or {}).get(network.name, []), interface=os.environ["CNI_IFNAME"],
        ports=[each for each in mapped if each["hostPort"]], cni=True,
    )  # fmt: skip
    made = attaching.attach(network, wanted)
    _say(plugins.result(network, made, conf["cniVersion"]))


def _mapping(each: Any) -> dict[str, Any]:
    """One of portMappings; containerd writes "HostPort", and Go, in which most plugins are, reads names of any case."""
    try:
        said = {name.lower(): value for name, value in each.items()}
        return {
            "hostIP": said.get("hostip") or "", "hostPort": int(said.get("hostport") or 0),
            "containerPort": int(said["containerport"]), "protocol": str(said.get("protocol") or "tcp").lower(),
        }  # fmt: skip
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _Refusal(CONFIGURATION, "invalid port mapping", document.dumps(each).decode()) from None


def _del(network: Network, conf: dict[str, Any]) -> None:
    detach.clear(network.name, _key())


def _check(network: Network, conf: dict[str, Any]) -> None:
    known = record.read(network.name, _key())
    if known is None:
        raise _Refusal(FAILED, "container is not attached to the network", network.name)
    made = conf.get("prevResult") or {}
    for each in made.get("ips", []):  # a plugin behind us may have taken some away, but not added
        if each["address"] in known["addresses"] or "interface" not in each:
            continue
        if made["interfaces"][each["interface"]].get("sandbox") == os.environ["CNI_NETNS"]:
            raise _Refusal(FAILED, "address is missing", each["address"])
    verify.attachment(network, {**known, "namespace": os.environ["CNI_NETNS"]})


def _gc(network: Network, conf: dict[str, Any]) -> None:
    """Clear what a runtime once asked for and does not call valid; what people attached is not his."""
    valid = set()
    for each in conf.get(plugins.VALID) or []:
        interface = each.get("ifname")
        valid.add(each["containerID"] if interface == "eth0" else f"{each['containerID']}.{interface}")
    for known in record.of_network(network.name):
        if known.get("cni") and known["container"] not in valid:
            detach.clear(network.name, known["container"])


def _status(network: Network, conf: dict[str, Any]) -> None:
    try:
        verify.network(network)
    except Error as error:
        raise _Refusal(UNAVAILABLE, str(error)) from None


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.buffer.write(document.dumps(answer) + b"\n")
