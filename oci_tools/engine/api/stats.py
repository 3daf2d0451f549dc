"""GET /containers/{id}/stats: what `oci-run events --stats` measures, in docker's members."""

from __future__ import annotations

import os
import select
import time

from oci_tools import document
from oci_tools.engine.api import times
from oci_tools.engine.api.answers import Refused, answer, stream
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api
    from oci_tools.engine.api.container import Container
    from oci_tools.http import Response

_INTERVAL = 1.0  # seconds between two measurements
_TICKS = os.sysconf("SC_CLK_TCK")
_NOTHING: dict[str, Any] = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}


def stats(api: Api, asked: Asked) -> Response:
    one = api.world.find(asked["id"])
    if asked.flag("stream", True):
        if asked.flag("one-shot"):
            raise Refused(400, "cannot have stream=true and one-shot=true")
        return stream(_measured(api, one, asked.request.sock.fileno()))
    before, found = (_NOTHING, 0), _now(api, one)
    if found and not asked.flag("one-shot"):
        before = found["cpu_stats"], time.time_ns()
        _pause(asked.request.sock.fileno())
        found = _now(api, one)
    return answer(_shown(one, found, before) if found else _stopped(one))


def _measured(api: Api, one: Container, client: int) -> Iterator[bytes]:
    """An object a second, as long as the container is there and the client listens."""
    before: tuple[dict[str, Any], int] = (_NOTHING, 0)
    while True:
        now = api.world.get(one.id)
        if now is None:
            return
        if found := _now(api, one):
            yield document.dumps(_shown(one, found, before)) + b"\n"
            before = found["cpu_stats"], time.time_ns()
        else:
            yield document.dumps(_stopped(one)) + b"\n"
        if not _pause(client):
            return


def _pause(client: int) -> bool:
    """A measurement's time; False if the client has gone."""
    poll = select.poll()
    poll.register(client, select.POLLRDHUP | select.POLLHUP)
    return not poll.poll(_INTERVAL * 1000)


def _stopped(one: Container) -> dict[str, Any]:
    found = {"pids_stats": {}, "cpu_stats": _NOTHING, "memory_stats": {}, "blkio_stats": _blkio({})}
    return {**_shown(one, found, (_NOTHING, 0)), "read": times.ZERO}


def _shown(one: Container, found: dict[str, Any], before: tuple[dict[str, Any], int]) -> dict[str, Any]:
    return {
        "read": times.written(time.time_ns()), "preread": times.written(before[1]), "num_procs": 0,
        "storage_stats": {}, **found, "precpu_stats": before[0], "name": f"/{one.name}", "id": one.id,
    }  # fmt: skip


def _now(api: Api, one: Container) -> dict[str, Any]:
    """What it uses now; nothing of one that does not run, or has just ended."""
    try:
        return _measure(api, one) if one.status in ("running", "paused") else {}
    except Refused:
        return {}


def _measure(api: Api, one: Container) -> dict[str, Any]:
    """What it uses now."""
    text = api.commands.run(["run", "events", "--stats", one.id])
    try:
        data = document.loads(text)["data"]
    except (Error, KeyError, TypeError):
        raise Refused(500, f"cannot measure container {one.id}") from None
    found: dict[str, Any] = {
        "pids_stats": {key: value for key, value in (data.get("pids") or {}).items() if value},
        "blkio_stats": _blkio(data.get("blkio") or {}),
        "cpu_stats": _cpu(data.get("cpu") or {}),
        "memory_stats": _memory(data.get("memory") or {}),
    }
    networks = _networks(one)
    if networks:
        found["networks"] = networks
    return found


def _cpu(said: dict[str, Any]) -> dict[str, Any]:
    usage, throttled = said.get("usage") or {}, said.get("throttling") or {}
    shown = {
        "total_usage": usage.get("total") or 0, "usage_in_kernelmode": usage.get("kernel") or 0,
        "usage_in_usermode": usage.get("user") or 0,
    }  # fmt: skip
    if usage.get("percpu"):
        shown["percpu_usage"] = usage["percpu"]
    return {
        "cpu_usage": shown,
        "system_cpu_usage": _system(),
        "online_cpus": len(os.sched_getaffinity(0)),
        "throttling_data": {
            "periods": throttled.get("periods") or 0, "throttled_periods": throttled.get("throttledPeriods") or 0,
            "throttled_time": throttled.get("throttledTime") or 0,
        },
    }  # fmt: skip


def _system() -> int:
    """Nanoseconds that all processors have worked or rested: the first line of proc_stat(5)."""
    with open("/proc/stat", "rb") as file:
        return sum(int(word) for word in file.readline().split()[1:9]) * times.SECOND // _TICKS


def _memory(said: dict[str, Any]) -> dict[str, Any]:
    usage = said.get("usage") or {}
    limit = usage.get("limit") or 0
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    shown = {"usage": usage.get("usage") or 0, "stats": said.get("raw") or {}, "limit": min(limit or whole, whole)}
    if usage.get("max"):
        shown["max_usage"] = usage["max"]
    return shown


def _blkio(said: dict[str, Any]) -> dict[str, Any]:
    names = {
        "io_service_bytes_recursive": "ioServiceBytesRecursive", "io_serviced_recursive": "ioServicedRecursive",
        "io_queue_recursive": "ioQueueRecursive", "io_service_time_recursive": "ioServiceTimeRecursive",
        "io_wait_time_recursive": "ioWaitTimeRecursive", "io_merged_recursive": "ioMergedRecursive",
        "io_time_recursive": "ioTimeRecursive", "sectors_recursive": "sectorsRecursive",
    }  # fmt: skip
    return {name: said.get(theirs) or [] for name, theirs in names.items()}


def _networks(one: Container) -> dict[str, Any]:
    """Every link but loopback, from the container's own proc_pid_net(5); none of one in the host's network."""
    pid = one.pid
    if not pid or one.host.get("NetworkMode") == "host":
        return {}
    found = {}
    try:
        with open(f"/proc/{pid}/net/dev", encoding="utf-8") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return {}
    for text in lines:
        name, _, counts = text.partition(":")
        if name.strip() != "lo":
            rx, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx, tx_packets, tx_errors, tx_dropped, *_ = (
                int(count) for count in counts.split()
            )
            found[name.strip()] = {
                "rx_bytes": rx, "rx_packets": rx_packets, "rx_errors": rx_errors, "rx_dropped": rx_dropped,
                "tx_bytes": tx, "tx_packets": tx_packets, "tx_errors": tx_errors, "tx_dropped": tx_dropped,
            }  # fmt: skip
    return found


ROUTES: list[Route] = [("GET", "/containers/{id}/stats", stats)]
