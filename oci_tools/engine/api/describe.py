"""Containers as `inspect` and `ps` tell of them, from what world.py knows."""

from __future__ import annotations

import os
import time

from oci_tools import document
from oci_tools.engine.api import create, endpoints, filters, links, mounts, store, times
from oci_tools.engine.api.answers import JSON, Refused, answer
from oci_tools.http import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api
    from oci_tools.engine.api.container import Container

_FILTERS = (
    "ancestor before exited expose health id is-task isolation label label! name network publish since status volume"
).split()
_STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")


# -- one ---------------------------------------------------------------------------------------


def inspect(api: Api, asked: Asked) -> Response:
    found = api.world.find(asked["id"])
    shown = whole(api, found)
    if asked.flag("size"):
        shown.update(SizeRw=_written(found), SizeRootFs=_written(found) + _size(api, found))
    return answer(shown)


def whole(api: Api, one: Container) -> dict[str, Any]:
    """All that is known of a container: `GET /containers/{id}/json`."""
    config = config_of(one)
    words = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])] or [""]
    return {
        "Id": one.id,
        "Created": times.written(one.created),
        "Path": words[0],
        "Args": words[1:],
        "State": state(one),
        "Image": one.asked.get("Image") or "",
        "ResolvConfPath": f"{one.path}/resolv.conf",
        "HostnamePath": f"{one.path}/hostname",
        "HostsPath": f"{one.path}/hosts",
        "LogPath": f"{one.path}/log/log",
        "Name": f"/{one.name}",
        "RestartCount": int((one.started or {}).get("restarts") or 0),
        "Driver": "overlay2",
        "Platform": one.asked.get("Platform") or "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": api.execs.of(one.id) or None,
        "HostConfig": {**_host(one), "Links": links.shown(one, api.world)},
        "GraphDriver": {"Data": None, "Name": "overlay2"},
        "Mounts": mounts.shown(one),
        "Config": config,
        "NetworkSettings": endpoints.settings(one),
    }


def config_of(one: Container) -> dict[str, Any]:
    """Config; of a container that no client of the API made, what its specification says."""
    if one.config:
        return one.config
    process = one.spec().get("process") or {}
    return {
        **create.CONFIG, "Hostname": one.spec().get("hostname") or "", "Image": one.policy.get("image") or "",
        "Env": process.get("env"), "Cmd": process.get("args"), "WorkingDir": process.get("cwd") or "",
        "Tty": bool(process.get("terminal")), "OpenStdin": bool(one.policy.get("interactive")),
        "Labels": one.policy.get("labels") or {},
    }  # fmt: skip


def _host(one: Container) -> dict[str, Any]:
    host = one.host or {**create.HOST, "AutoRemove": bool(one.policy.get("rm"))}
    log = host.get("LogConfig") or {}
    host = {**host, "LogConfig": {"Type": log.get("Type") or "json-file", "Config": log.get("Config") or {}}}
    linux = one.spec().get("linux") or {}
    if not host.get("Privileged"):
        host = {**host, "MaskedPaths": linux.get("maskedPaths"), "ReadonlyPaths": linux.get("readonlyPaths")}
    return host


def state(one: Container) -> dict[str, Any]:
    """`State`: moby's, with what exit.json knows."""
    status, ended = one.status, one.ended or {}
    running = status in ("running", "paused", "restarting")
    started = times.written(int((one.started or ended).get("started") or 0))
    shown = {
        "Status": status,
        "Running": running,
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": bool(ended.get("oomKilled")),
        "Dead": False,
        "Pid": one.pid if running else 0,
        "ExitCode": 0 if running and status != "restarting" else one.code,
        "Error": one.failed or str(ended.get("error") or ""),
        "StartedAt": started if status != "created" else times.ZERO,
        "FinishedAt": times.written(int(ended.get("finished") or 0) if status != "created" else 0),
    }
    health = health_of(one)
    if health:
        shown["Health"] = health
    return shown


def health_of(one: Container) -> dict[str, Any] | None:
    """`Health`, where the container has a check."""
    check = (one.config.get("Healthcheck") or {}).get("Test") or []
    if not one.health and (not check or check[:1] == ["NONE"] or one.started is None):
        return None
    said = one.health or {}
    return {
        "Status": said.get("status") or said.get("Status") or ("starting" if one.running else "unhealthy"),
        "FailingStreak": int(said.get("failing") or said.get("FailingStreak") or 0),
        "Log": [_probe(each) for each in said.get("log") or said.get("Log") or ()],
    }


def _probe(said: dict[str, Any]) -> dict[str, Any]:
    if "Start" in said:
        return said
    return {
        "Start": times.written(int(said.get("start") or 0)), "End": times.written(int(said.get("end") or 0)),
        "ExitCode": said.get("code", 0), "Output": said.get("output") or "",
    }  # fmt: skip


# -- many --------------------------------------------------------------------------------------


def ps(api: Api, asked: Asked) -> Response:
    wanted = filters.read(asked.query("filters"), _FILTERS)
    limit = asked.number("limit", 0, 500)
    everything = asked.flag("all") or limit > 0 or any(key in wanted for key in ("status", "exited", "before", "since"))
    for status in wanted.get("status", ()):
        if status not in _STATUSES:
            raise Refused(400, f"invalid filter 'status={status}'")
    _check_filters(api, wanted)
    found, now, linked = [], time.time_ns(), links.names(api.world)
    for one in _between(api, wanted):
        status = one.status
        if not everything and status not in ("running", "paused", "restarting"):
            continue
        if wanted and not _matches(api, one, status, wanted):
            continue
        also = linked.get(one.id) or []
        shown = document.dumps(measured(api, one, now, also)) if asked.flag("size") else _listed(one, status, now, also)
        found.append(shown)
        if len(found) == limit > 0:
            break
    return Response(200, [JSON], b"[" + b",".join(found) + b"]\n")


def _check_filters(api: Api, wanted: filters.Filters) -> None:
    for word in (*wanted.get("before", ()), *wanted.get("since", ())):
        api.world.find(word)
    for value in wanted.get("health", ()):
        if value not in ("none", "starting", "healthy", "unhealthy"):
            raise Refused(400, f"unrecognized filter value for health: {value}")
    for value in wanted.get("is-task", ()):
        filters.flag({"is-task": [value]}, "is-task")
    for key in ("publish", "expose"):
        for value in wanted.get(key, ()):
            _check_port(key, value)
    for value in wanted.get("exited", ()):
        if not value.removeprefix("-").isdecimal():
            raise Refused(400, f"invalid filter 'exited={value}': strconv.Atoi: parsing \"{value}\": invalid syntax")


def _between(api: Api, wanted: filters.Filters) -> list[Container]:
    found = api.world.all()
    for word in wanted.get("before", ()):
        found = [one for one in found if one.created < api.world.find(word).created]
    for word in wanted.get("since", ()):
        found = [one for one in found if one.created > api.world.find(word).created]
    return found


def _matches(api: Api, one: Container, status: str, wanted: filters.Filters) -> bool:
    """Whether a container is what all filters ask for, any value of each."""
    if not filters.labels(wanted, config_of(one).get("Labels")):
        return False
    mounted = mounts.shown(one) if "volume" in wanted else []
    mine: dict[str, Callable[[str], bool]] = {
        "id": one.id.startswith,
        "name": lambda value: _like(value, one.name),
        "status": lambda value: value == status,
        "exited": lambda value: status == "exited" and value == str(one.code),
        "ancestor": lambda value: _descends(api, one, value),
        "health": lambda value: value == ((health_of(one) or {}).get("Status") or "none"),
        "network": lambda value: endpoints.has(one, value),
        "volume": lambda value: any(_is_mount(value, each) for each in mounted),
        "publish": lambda value: bool(_ports(value) & set(one.host.get("PortBindings") or ())),
        "expose": lambda value: bool(_ports(value) & set(one.config.get("ExposedPorts") or ())),
        "isolation": lambda value: value in ("default", ""),
        "is-task": lambda value: value in ("false", "0"),
    }  # fmt: skip
    return all(any(test(value) for value in wanted[key]) for key, test in mine.items() if wanted.get(key))


def _is_mount(value: str, mount: dict[str, Any]) -> bool:
    return value in (mount.get("Name"), mount["Source"], mount["Destination"])


def _like(pattern: str, name: str) -> bool:
    """Names are matched as regular expressions, with or without their slash."""
    return filters.like(pattern, name) or filters.like(pattern, f"/{name}")


def _check_port(key: str, value: str) -> None:
    for number in value.partition("/")[0].split("-"):
        if not number.isdecimal():
            said = f"error while looking up for {key} {value}: strconv.ParseUint"
            raise Refused(500, f'{said}: parsing "{number}": invalid syntax')


def _ports(value: str) -> set[str]:
    """80, 80/udp or 80-90/tcp."""
    ports, _, kind = value.partition("/")
    first, _, last = ports.partition("-")
    return {f"{port}/{kind or 'tcp'}" for port in range(int(first), int(last or first) + 1)}


def _descends(api: Api, one: Container, word: str) -> bool:
    image = api.store.look(word)
    if image is None:
        return False
    if one.asked.get("Image") == image.id:
        return True
    mine = api.store.look(str(one.asked.get("Image") or "-"))
    below = (image.document.get("rootfs") or {}).get("diff_ids") or []
    above = (mine.document.get("rootfs") or {}).get("diff_ids") or [] if mine else []
    return bool(below) and above[: len(below)] == below


def _listed(one: Container, status: str, now: int, names: list[str]) -> bytes:
    """A container as `ps` shows it; written again only if something of it is another than the last time."""
    seen = (one.serial, *_seen(one, status, now, names))
    if one.shown[0] != seen:
        one.shown = (seen, document.dumps(_summary(one, *seen[1:])))
    return one.shown[1]


def measured(api: Api, one: Container, now: int, names: list[str]) -> dict[str, Any]:
    """A container as `ps -s` shows it; `names`: those that it has as a linked one."""
    written = _written(one)
    summary = _summary(one, *_seen(one, one.status, now, names))
    return {**summary, "SizeRw": written, "SizeRootFs": written + _size(api, one)}


def _seen(one: Container, status: str, now: int, names: list[str]) -> tuple[Any, ...]:
    """What a summary is made of and may be another each time: its last five arguments."""
    alive = status in ("running", "paused")
    return status, said(one, status, now), endpoints.joined(one, alive), mounts.shown(one), names


def _summary(
    one: Container, status: str, text: str, places: dict[str, dict[str, Any]], mounted: list[dict[str, Any]],
    names: list[str],
) -> dict[str, Any]:
    """A container in a list: its `Status` is `text`, `places` are on its networks."""
    config, host = config_of(one), one.host
    words = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    settings = endpoints.short(one, places, status in ("running", "paused", "restarting"))
    return {
        "Id": one.id,
        "Names": [f"/{one.name}", *names],
        "Image": store.familiar(one.image),
        "ImageID": one.asked.get("Image") or "",
        "Command": " ".join(_quoted(word) for word in words),
        "Created": one.created // times.SECOND,
        "Ports": endpoints.ports(settings),
        "Labels": config.get("Labels") or {},
        "State": status,
        "Status": text,
        "HostConfig": {"NetworkMode": host.get("NetworkMode") or "default"},
        "NetworkSettings": {"Networks": settings["Networks"]},
        "Mounts": mounted,
    }


def _quoted(word: str) -> str:
    return f"'{word}'" if " " in word or not word else word


def said(one: Container, status: str, now: int) -> str:
    """`Status`, as people read it: "Up 2 minutes (healthy)"."""
    if status == "created":
        return "Created"
    ended = one.ended or {}
    if status == "restarting":
        return f"Restarting ({one.code}) {times.ago(now - int(ended.get('finished') or now))} ago"
    if status == "exited":
        return f"Exited ({one.code}) {times.ago(now - int(ended.get('finished') or now))} ago"
    text = f"Up {times.ago(_up(one, now))}"
    health = (health_of(one) or {}).get("Status")
    if status == "paused":
        return f"{text} (Paused)"
    return f"{text} ({'health: starting' if health == 'starting' else health})" if health else text


def _up(one: Container, now: int) -> int:
    """Nanoseconds since it was started, by the kernel, for the clock may have been set since."""
    ticks = int(one.state().get("startTime") or 0)
    if ticks:
        return max(0, time.clock_gettime_ns(time.CLOCK_BOOTTIME) - ticks * (times.SECOND // os.sysconf("SC_CLK_TCK")))
    return now - int((one.started or {}).get("started") or now)


def _written(one: Container) -> int:
    """Bytes of what the container itself wrote: its layer above the image's."""
    from oci_tools.engine.api import volumes

    return volumes.taken(f"{one.path}/bundle/upper")


def _size(api: Api, one: Container) -> int:
    image = api.store.look(str(one.asked.get("Image") or "-"))
    return image.size if image else 0


ROUTES: list[Route] = [
    ("GET", "/containers/json", ps),
    ("GET", "/containers/{id*}/json", inspect),
]
