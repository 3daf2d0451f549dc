"""Real CNI plugins, run from our conflists (CNI specification 1.1, "Section 2: Execution Protocol").

A plugin is a program in $CNI_PATH (else where distributions have them) that reads its configuration on stdin, the
question in its environment, and answers on stdout.  The lists are executed as libcni does: ADD in order with the result
handed on, DEL backwards with the last result; CHECK since version 0.4, GC and STATUS since 1.1, unless the list says
not to.
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.net import place
from oci_tools.net.conflist import PLUGIN, Network, switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PATH = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni"
TIMEOUT = 60.0
VALID = "cni.dev/valid-attachments"


def add(
    network: Network, plugins: list[dict[str, Any]], record: dict[str, Any], result: dict[str, Any] | None
) -> dict[str, Any]:
    """Run plugins for a container; the last result.  If one fails, those before it have undone theirs."""
    for at, plugin in enumerate(plugins):
        try:
            result = _ask("ADD", network, plugin, record, result) or result
        except Error:
            for done in reversed(plugins[: at + 1]):
                try:
                    _ask("DEL", network, done, record, result)
                except Error:
                    continue  # the first failure is what matters
            raise
    return result or {"cniVersion": network.version}


def delete(network: Network, plugins: list[dict[str, Any]], record: dict[str, Any]) -> None:
    """Undo what they did, whatever of it is left."""
    failed: Error | None = None
    known = record.get("result") if network.speaks(0, 4) else None
    for plugin in reversed(plugins):
        try:
            _ask("DEL", network, plugin, record, known)
        except Error as error:
            failed = failed or error
    if failed:
        raise failed


def check(network: Network, plugins: list[dict[str, Any]], record: dict[str, Any]) -> None:
    """Ask each whether all is as it made it."""
    if network.speaks(0, 4) and not switch(network.document, "disableCheck"):
        for plugin in plugins:
            _ask("CHECK", network, plugin, record, record.get("result"))


def status(network: Network, plugins: list[dict[str, Any]]) -> None:
    """Ask each whether it could add a container now."""
    for plugin in plugins:
        _program(plugin["type"])
        if network.speaks(1, 1):
            _ask("STATUS", network, plugin, None, None)


def collect(network: Network, plugins: list[dict[str, Any]], records: list[dict[str, Any]]) -> None:
    """Have each clear what is none of these attachments."""
    if network.speaks(1, 1) and not switch(network.document, "disableGC"):
        valid = [{"containerID": one["container"], "ifname": one["interface"]} for one in records]
        for plugin in plugins:
            _ask("GC", network, {**plugin, VALID: valid}, None, None)


def _ask(
    command: str, network: Network, plugin: dict[str, Any], record: dict[str, Any] | None, result: dict[str, Any] | None
) -> dict[str, Any] | None:
    import subprocess

    name = plugin["type"]
    given = document.dumps(_configuration(network, plugin, record, result))
    try:
        done = subprocess.run(
            [_program(name)], input=given, capture_output=True, timeout=TIMEOUT,
            env={**_environment(command, record), "CNI_COMMAND": command, "CNI_PATH": _path()},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        why = "it did not answer" if isinstance(error, subprocess.TimeoutExpired) else error
        raise Error("cannot run plugin", name, why) from None
    if done.returncode:
        raise Error(f"plugin {name} of network", network.name, _reason(done.stdout, done.stderr))
    if not done.stdout.strip():
        return None
    answer = document.loads(done.stdout, f"the result of plugin {name}")
    if not isinstance(answer, dict):
        raise Error("cannot read the result of plugin", name, "it is no object")
    return answer


def _environment(command: str, record: dict[str, Any] | None) -> dict[str, str]:
    """What says which link is meant, where it is about one; nothing that we were told ourselves."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("CNI_")}
    if record is None:
        return ours
    there = command != "DEL" or os.path.exists(record["namespace"])
    return {
        **ours, "CNI_CONTAINERID": record["container"], "CNI_NETNS": record["namespace"] if there else "",
        "CNI_IFNAME": record["interface"], "CNI_ARGS": "IgnoreUnknown=1",
    }  # fmt: skip


def _configuration(
    network: Network, plugin: dict[str, Any], record: dict[str, Any] | None, result: dict[str, Any] | None
) -> dict[str, Any]:
    """What a plugin reads: its part of the list, with the list's name and version, and what it can do at run time."""
    made = {**plugin, "cniVersion": network.version, "name": network.name}
    ipam = made.get("ipam")
    if isinstance(ipam, dict) and ipam.get("type") == "host-local":  # leases that end with the boot, as ours do
        made["ipam"] = {"dataDir": f"{place.on(network.name)}/cni", **ipam}
    if record is not None:
        known = {name: value for name, value in _arguments(network, record).items() if value}
        able = {name for name, does in plugin.get("capabilities", {}).items() if does}
        if able & known.keys():
            made["runtimeConfig"] = {name: known[name] for name in known if name in able}
    made.pop("capabilities", None)
    if result is not None:
        made["prevResult"] = result
    return made


def _arguments(network: Network, record: dict[str, Any]) -> dict[str, Any]:
    """What is known of a container, by the names of CNI's conventions ("Dynamic Plugin specific fields")."""
    ports = [{**port, "hostIP": port["hostIP"] or "0.0.0.0"} for port in record["ports"]]
    aliases = {network.name: record["aliases"]} if record["aliases"] else None
    servers = {"servers": record["servers"]} if record.get("servers") else None
    return {
        "portMappings": ports, "aliases": aliases, "mac": record["mac"], "ips": record["addresses"], "dns": servers,
    }  # fmt: skip


def result(network: Network, made: dict[str, Any], version: str) -> dict[str, Any]:
    """What was made ("Success"); before 1.0 an address says its version."""
    from oci_tools.net import attach

    sandbox = {"name": made["interface"], "mac": made["mac"], "sandbox": made["namespace"]}
    links = [{"name": network.bridge}, {"name": made["host"]}, sandbox] if made["host"] else [sandbox]
    ips = []
    for each, pool in zip(made["addresses"], network.pools, strict=True):
        one = {"address": each, "gateway": pool.gateway_text, "interface": len(links) - 1}
        ips.append(one if version[0] == "1" else {"version": str(pool.version), **one})
    routes: list[dict[str, str]] = list(network.routes)
    if attach.has_default(network):
        anywhere = {4: "0.0.0.0/0", 6: "::/0"}
        routes += [{"dst": anywhere[pool.version], "gw": pool.gateway_text} for pool in network.pools]
    ours = {"nameservers": [pool.gateway_text for pool in network.hosted]}
    return {
        "cniVersion": version, "interfaces": links, "ips": ips, "routes": routes,
        "dns": {**network.get("dns", {}), **(ours if network.resolves else {})},
    }  # fmt: skip


def _path() -> str:
    return os.environ.get("CNI_PATH") or PATH


def _program(name: str) -> str:
    for directory in _path().split(":"):
        if directory.startswith("/") and os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    if name == PLUGIN:
        raise Error("plugin stands in the wrong place", name, "it is the first of its list")
    raise Error("no such plugin", name, f"not in {_path()}", "apt install containernetworking-plugins")


def _reason(said: bytes, also: bytes) -> str:
    """What a plugin says went wrong (CNI, "Error")."""
    try:
        told = document.loads(said, "its answer")
        text = ": ".join(str(told[name]) for name in ("msg", "details") if told.get(name))
        return text or f"code {told.get('code')}"
    except (Error, KeyError, TypeError, AttributeError):
        lines = also.decode("utf-8", "replace").strip().splitlines() or ["it gave no reason"]
        return lines[-1]
