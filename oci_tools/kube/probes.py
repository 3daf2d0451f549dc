"""Probes -> the health check of a container, run inside it: liveness restarts it, startup goes before.

A readiness probe decides which Services mean a pod, and there is nobody here to ask that.
"""

from __future__ import annotations

from shlex import quote

from oci_tools import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SECOND = 1_000_000_000


def checks(container: dict[str, Any], restart: str, where: str) -> dict[str, Any]:
    """Members of Config: Healthcheck, and podman's names for what docker's API has none for."""
    made: dict[str, Any] = {}
    live, startup = container.get("livenessProbe"), container.get("startupProbe")
    probe = startup if live is None else live
    if probe is None:
        return made
    main = _check(probe, container, f"{where}: {'startupProbe' if live is None else 'livenessProbe'}")
    made["Healthcheck"] = main
    made["HealthcheckOnFailureAction"] = "kill" if restart == "no" else "restart"
    if live is not None and startup is not None:
        before = _check(startup, container, f"{where}: startupProbe")
        made["StartupHealthCheck"] = {**before, "Successes": startup.get("successThreshold") or 1}
    return made


def _check(probe: dict[str, Any], container: dict[str, Any], where: str) -> dict[str, Any]:
    """An image's Healthcheck; the kubelet's defaults: every 10 s, 1 s for an answer, 3 failures."""
    made: dict[str, Any] = {
        "Test": _test(probe, container, where), "Interval": (probe.get("periodSeconds") or 10) * _SECOND,
        "Timeout": (probe.get("timeoutSeconds") or 1) * _SECOND, "Retries": probe.get("failureThreshold") or 3,
    }  # fmt: skip
    if probe.get("initialDelaySeconds"):
        made["StartPeriod"] = probe["initialDelaySeconds"] * _SECOND
    return made


def _test(probe: dict[str, Any], container: dict[str, Any], where: str) -> list[str]:
    if probe.get("exec", {}).get("command"):
        return ["CMD", *probe["exec"]["command"]]
    if "httpGet" in probe:
        said = probe["httpGet"]
        host = said.get("host") or "127.0.0.1"
        port = _port(said["port"], container, where)
        url = quote(f"{said.get('scheme', 'HTTP').lower()}://{host}:{port}/{said.get('path', '').lstrip('/')}")
        return ["CMD-SHELL", f"curl -fsSk -o /dev/null {url} || wget -q -O /dev/null {url}"]
    if "tcpSocket" in probe:
        said = probe["tcpSocket"]
        return ["CMD-SHELL", f"nc -z {quote(said.get('host') or '127.0.0.1')} {_port(said['port'], container, where)}"]
    raise document.wrong(where, "", "expected exec, httpGet or tcpSocket")


def _port(port: Any, container: dict[str, Any], where: str) -> int:
    """A number, or the name of one of the container's ports."""
    names = {each.get("name"): each["containerPort"] for each in container.get("ports") or ()}
    found = names.get(port, port)
    if isinstance(found, str) and found.isdecimal():
        found = int(found)
    if type(found) is not int or not 0 < found < 65536:
        raise document.wrong(where, "port", f"no such port {document.shown(port)}")
    return found


def probe(check: dict[str, Any]) -> dict[str, Any] | None:
    """A health check as a probe again; None where there is none."""
    test = check.get("Test") or ["NONE"]
    if test[0] == "NONE":
        return None
    made: dict[str, Any] = {"exec": {"command": test[1:] if test[0] == "CMD" else ["/bin/sh", "-c", *test[1:]]}}
    for member, name in (("Interval", "periodSeconds"), ("Timeout", "timeoutSeconds"),
                         ("StartPeriod", "initialDelaySeconds")):  # fmt: skip
        if check.get(member):
            made[name] = max(1, check[member] // _SECOND)
    if check.get("Retries"):
        made["failureThreshold"] = check["Retries"]
    return made
