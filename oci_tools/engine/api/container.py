"""A container as its files say, and its lock; world.py says when to read them.

    $OCI_ROOT/containers/ID/policy.json start.json exit.json health.json    container/place.py, `oci-run`'s
                            docker.json   ours: what the client said at create, see create.py
    $OCI_RUN/runtime/ID/state.json        pid and start time of what runs

Whether a process lives is asked of the kernel each time.
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.engine.api.payload import Payload
from oci_tools.errors import Busy, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any, Self

    from oci_tools.engine.api.world import World

    Kept = dict[str, tuple[int, dict[str, Any]]]  # path: when it was changed, in nanoseconds, and the document

OURS = "docker.json"
FILES = {"start.json": "started", "exit.json": "ended", "health.json": "health", "published.json": "published",
         OURS: "asked"}  # fmt: skip


class Container:
    """One container as its files say."""

    def __init__(self, world: World, container: str) -> None:
        self.world = world
        self.id = container
        self.path = f"{world.place}/{container}"
        self.serial = 0  # how often it was read
        self.policy: dict[str, Any] = {}
        self.started: dict[str, Any] | None = None  # start.json
        self.ended: dict[str, Any] | None = None  # exit.json
        self.health: dict[str, Any] | None = None
        self.published: dict[str, Any] | None = None  # by a plain user's way out
        self.asked: dict[str, Any] = {}  # docker.json
        self.places: Kept = {}  # where it is on networks (endpoints.py)
        self._state: tuple[int, dict[str, Any], Payload | None] = (0, {}, None)
        self.shown: tuple[Any, bytes] = ((), b"")  # by `ps`, and what it was made of
        self._spec: tuple[tuple[int, int], dict[str, Any]] = ((0, 0), {})

    def load(self, names: Collection[str] = ()) -> bool:
        """Read it, or only these files of it; False if it is not whole yet, or no more."""
        self.serial += 1
        for name in names or ("policy.json", *FILES):
            found = _read(f"{self.path}/{name}")
            if name == "policy.json":
                if not found:
                    return False
                self.policy = found
            elif name == OURS:
                self.asked = found or self.asked
            else:
                setattr(self, FILES[name], found)
        return True

    @property
    def name(self) -> str:
        return str(self.policy.get("name") or self.id[:12])

    @property
    def image(self) -> str:
        """What it was made of, as that was asked for."""
        return str(self.config.get("Image") or self.policy.get("image") or "")

    @property
    def created(self) -> int:
        """Nanoseconds since 1970."""
        return int(self.policy.get("created") or 0)

    @property
    def config(self) -> dict[str, Any]:
        """`Config`, as the client said it and the image completed it."""
        return self.asked.get("Config") or {}

    @property
    def host(self) -> dict[str, Any]:
        return self.asked.get("HostConfig") or {}

    @property
    def tty(self) -> bool:
        if "Tty" in self.config:
            return bool(self.config["Tty"])
        return bool((self.spec().get("process") or {}).get("terminal"))

    @property
    def labels(self) -> dict[str, str]:
        return self.config.get("Labels") or {}

    def spec(self) -> dict[str, Any]:
        """config.json: how it is run; read again when it is another."""
        for path in (f"{self.path}/config.json", f"{self.path}/bundle/config.json"):
            try:
                seen = os.stat(path)
            except OSError:
                continue
            stamp = (seen.st_mtime_ns, seen.st_ino)
            if self._spec[0] != stamp:
                self._spec = (stamp, _read(path) or {})
            return self._spec[1]
        return {}

    # -- what it does now ----------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What the runtime knows of it: state.json, {} where it knows nothing."""
        self._look()
        return self._state[1]

    def _look(self) -> Payload | None:
        path = f"{self.world.runtime}/{self.id}/state.json"
        try:
            stamp = os.stat(path).st_mtime_ns
        except OSError:
            self._state = (0, {}, None)
            return None
        if self._state[0] != stamp:
            known = _read(path) or {}
            self._state = (stamp, known, Payload(known))
        return self._state[2]

    @property
    def pid(self) -> int:
        """Of its first process; 0 where none lives."""
        payload = self._look()
        return payload.pid if payload and payload.lives else 0

    @property
    def status(self) -> str:
        """created, running, paused, restarting or exited."""
        if self.failed and self.asked.get("Unstarted"):
            return "created"
        if self.ended is not None:  # a start removes it before it says that it is one
            return "restarting" if self.ended.get("restarting") else "exited"
        if self.started is None and not self.state():
            return "created"
        payload = self._look()
        if payload and payload.lives:
            return "paused" if payload.frozen else "running"
        recorded = self.started is not None and os.path.isdir(f"{self.path}/io")  # perhaps by the next monitor
        return "running" if recorded or self.kept() else "exited"  # it is about to begin, or to be recorded

    @property
    def failed(self) -> str:
        """Why its last start failed; empty if it did not."""
        failed = (self.ended or {}).get("error") or (self.started is None and self.asked.get("Refuses"))
        return str(self.asked.get("Error") or "") if failed else ""

    @property
    def running(self) -> bool:
        return self.status in ("running", "paused", "restarting")

    @property
    def code(self) -> int:
        """Of the last end; 0 where there was none, 255 where nobody knows it."""
        code = (self.ended or {}).get("code", 128 if self.failed else 0)
        if code == 125 and self.failed:
            return 128  # so dockerd says that it did not start
        return 255 if code is None else int(code)

    def kept(self) -> bool:
        """Whether a process looks after it."""
        try:
            fs.Lock(f"{self.path}/lock", timeout=0, make=False).__enter__().__exit__()
        except Busy:
            return True
        except Error:
            pass
        return False

    def held(self) -> Held:
        return Held(self.path)


class Held:
    """A shared lock on a container's directory: it stays a moment when it ends, for who wants to know how."""

    def __init__(self, path: str) -> None:
        self._lock: fs.Lock | None = fs.Lock(path, shared=True, timeout=0, make=False)
        try:
            self._lock.__enter__()
        except Error:
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        if self._lock is not None:
            self._lock.__exit__()
            self._lock = None


def _read(path: str) -> dict[str, Any] | None:
    """A small document of a container; None where there is none, or only half."""
    try:
        with open(path, "rb", buffering=0) as file:
            found = document.loads(file.read(), path)
        return found if isinstance(found, dict) else None
    except (OSError, Error):
        return None
