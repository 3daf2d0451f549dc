"""GET /events: what happened, from `$OCI_ROOT/events` and its rotated files, as dockerd tells it.

Every command that changes something appends a line in dockerd's own form (container/events.py); what only the API sees
(an attach, an exec, what is done to images) it appends itself.

    {"Type": "container", "Action": "start", "Actor": {"ID", "Attributes"}, "scope": "local", "time", "timeNano"}
"""

from __future__ import annotations

import os
import time

from oci_tools import document
from oci_tools.engine.api import filters, store, times
from oci_tools.engine.api.answers import Refused, stream
from oci_tools.engine.api.world import until
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.engine.api.routes import Asked, Route
    from oci_tools.engine.api.server import Api
    from oci_tools.engine.api.container import Container
    from oci_tools.http import Response

_FILTERS = "config container daemon event image label network node plugin scope secret service type volume".split()
_READ = 1 << 18


class Events:
    """The history, and what the API adds to it."""

    def __init__(self, root: str) -> None:
        self.path = f"{root}/events"

    def tell(self, one: Container, action: str, **more: str) -> None:
        """Add an event of a container."""
        self.append("container", action, one.id, {**one.labels, "name": one.name, "image": one.image, **more})

    def append(self, kind: str, action: str, subject: str, attributes: dict[str, str]) -> None:
        """One line, whole or not at all: O_APPEND is atomic for what is so small."""
        now = time.time_ns()
        said = {
            "Type": kind, "Action": action, "Actor": {"ID": subject, "Attributes": attributes}, "scope": "local",
            "time": now // times.SECOND, "timeNano": now,
        }  # fmt: skip
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.write(fd, document.dumps(said) + b"\n")
        except OSError:
            pass  # a full disk loses history and stops nobody
        finally:
            os.close(fd)


class History:
    """The lines of the history, from the oldest file on; `lines` gives what is new."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._rest = b""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def skip(self) -> None:
        """Begin with what is written from now on."""
        if self._open():
            os.lseek(self._fd, 0, os.SEEK_END)

    def lines(self) -> Iterator[bytes]:
        while True:
            if self._fd < 0 and not self._open():
                return
            data = os.read(self._fd, _READ)
            if not data:
                if not self._rotated():
                    return
                continue
            *found, self._rest = (self._rest + data).split(b"\n")
            yield from found

    def old(self) -> Iterator[bytes]:
        """What stands in the rotated files."""
        try:
            with open(f"{self._path}.1", "rb") as file:
                yield from file.read().split(b"\n")
        except OSError:
            return

    def _open(self) -> bool:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            return True
        except OSError:
            return False

    def _rotated(self) -> bool:
        """Whether another file has the name of ours: then that is next."""
        try:
            if os.path.samestat(os.stat(self._path), os.fstat(self._fd)):
                return False
        except OSError:
            return False
        self.close()
        return True


def events(api: Api, asked: Asked) -> Response:
    wanted = filters.read(asked.query("filters"), _FILTERS)
    since, end = times.asked(asked.query("since")), times.asked(asked.query("until"))
    if since is not None and end is not None and since > end:
        said = f"`since` time ({asked.query('since')}) cannot be after `until` time ({asked.query('until')})"
        raise Refused(400, said)
    history = History(api.events.path)
    if since is None:
        history.skip()
    return stream(_told(api, wanted, since, end, asked.request.sock.fileno(), history))


def _told(
    api: Api, wanted: filters.Filters, since: int | None, end: int | None, client: int, history: History
) -> Iterator[bytes]:
    """Those of the past that are asked for, then what happens, whatever the clock says of that."""
    begun = since
    try:
        with api.world.subscribe(os.path.dirname(api.events.path)) as news:
            if since is not None:
                for line in history.old():
                    yield from _one(api, line, wanted, since, end)
            while True:
                for line in history.lines():
                    yield from _one(api, line, wanted, begun or 0, end)
                now, begun = time.time_ns(), None
                if end is not None and now >= end:
                    return
                # The clock may be set meanwhile.
                if not until(client, news, timeout=None if end is None else min(1.0, (end - now) / times.SECOND)):
                    return
    finally:
        history.close()


def _one(api: Api, line: bytes, wanted: filters.Filters, since: int, end: int | None) -> Iterator[bytes]:
    try:
        said = document.loads(line) if line else None
    except Error:
        return
    if not isinstance(said, dict) or not since <= int(said.get("timeNano") or 0) <= (end or 1 << 63):
        return
    shown = told(said, api)
    if _wanted(shown, wanted):
        yield document.dumps(shown) + b"\n"


def told(said: dict[str, Any], api: Api) -> dict[str, Any]:
    """An event with the members that old clients read, and an image called as it was asked for."""
    kind, subject = said["Type"], said["Actor"]["ID"]
    attributes = dict(said["Actor"]["Attributes"])
    if kind == "container":
        attributes["image"] = store.familiar(api.world.image(subject) or str(attributes.get("image") or ""))
    shown: dict[str, Any] = {}
    if kind in ("container", "image"):
        shown.update(status=said["Action"], id=subject)
        if kind == "container":
            shown["from"] = attributes["image"]
    return {**shown, **said, "Actor": {"ID": subject, "Attributes": attributes}}


def _wanted(shown: dict[str, Any], wanted: filters.Filters) -> bool:
    kind, attributes = shown["Type"], shown["Actor"]["Attributes"]
    if wanted.get("type") and kind not in wanted["type"]:
        return False
    if wanted.get("event") and not any(_is(shown["Action"], each) for each in wanted["event"]):
        return False
    if not filters.labels(wanted, attributes):
        return False
    subject = shown["Actor"]["ID"]
    for key in ("container", "image", "network", "volume"):
        if key in wanted:
            names = {subject, attributes.get("name")} if kind == key else {attributes.get(key)}
            if key == "image" and kind == "container":
                names = {attributes.get("image")}
            if not any(each in names or (kind == key and subject.startswith(each)) for each in wanted[key]):
                return False
    return True


def _is(action: str, wanted: str) -> bool:
    return action == wanted or action.startswith(f"{wanted}:")


ROUTES: list[Route] = [("GET", "/events", events)]
