"""Every container, from its files: read once, read again when inotify says that they changed.

    $OCI_ROOT/containers/ID/policy.json start.json exit.json health.json    container/place.py, `oci-run`'s
                            docker.json   ours: what the client said at create, see create.py
    $OCI_RUN/runtime/ID/state.json        pid and start time of what runs

Events are taken from the kernel before every look, so that what a command has done is seen as soon as it has
ended.  Whether a process lives is asked of the kernel each time.
"""

from __future__ import annotations

import os
import select
import threading

from oci_tools import document, fs
from oci_tools.engine.api.answers import Refused
from oci_tools.engine.api.payload import Payload
from oci_tools.errors import Busy, Error
from oci_tools.linux import inotify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

OURS = "docker.json"
_NAMES = inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM | inotify.IN_DELETE
_CHANGES = inotify.IN_CLOSE_WRITE | _NAMES
WRITTEN = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO
_REMEMBERED = 4096
OPENED = inotify.IN_CREATE | inotify.IN_OPEN
_FILES = ("start.json", "exit.json", "health.json", "monitor.json", "published.json", OURS)


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
        self._state: tuple[int, dict[str, Any], Payload | None] = (0, {}, None)
        self.shown: tuple[Any, bytes] = ((), b"")  # by `ps`, and what it was made of
        self._spec: tuple[tuple[int, int], dict[str, Any]] = ((0, 0), {})

    def load(self) -> bool:
        """Read it; False if it is not whole yet, or no more."""
        policy = _read(f"{self.path}/policy.json")
        if not policy:
            return False
        self.serial += 1
        self.policy = policy
        self.started, self.ended, self.health, self.published = (
            _read(f"{self.path}/{name}") for name in ("start.json", "exit.json", "health.json", "published.json")
        )
        self.asked = _read(f"{self.path}/{OURS}") or self.asked
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
        if self.ended is not None and not (self.started or {}).get("started", 0) > self.ended.get("finished", 0):
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


class World:
    """All containers, and who wants to hear of changes."""

    def __init__(self) -> None:
        self.root = fs.root()
        self.place = fs.make_private(f"{self.root}/containers")
        self.runtime = f"{fs.run()}/runtime"
        self._lock = threading.RLock()
        self._watch = inotify.Watch()
        self._top = self._watch.add(self.place, _NAMES)
        self._known: dict[str, Container] = {}
        self._waiting: set[str] = set()  # found, but not whole yet
        self._numbers: dict[int, str] = {}  # of inotify -> container
        self._gone: dict[str, str] = {}  # what those were made of that were removed: their events are asked for later
        self._logs: dict[int, set[Subscription]] = {}
        self._all: set[Subscription] = set()
        for name in os.listdir(self.place):
            self._begin(name)

    def follow(self) -> None:
        """Hear of changes for those who wait for them; for a thread of its own, does not return."""
        poll = select.poll()
        poll.register(self._watch.fileno(), select.POLLIN)
        while True:
            poll.poll()
            self._refresh()

    # -- finding -------------------------------------------------------------------------------

    def all(self) -> list[Container]:
        """Every container, newest first."""
        self._refresh()
        with self._lock:
            found = list(self._known.values())
        return sorted(found, key=lambda each: each.created, reverse=True)

    def get(self, container: str) -> Container | None:
        """The container of an ID, as it is now."""
        self._refresh()
        return self._known.get(container)

    def image(self, container: str) -> str | None:
        """What a container was made of, as that was asked for, also of one that was removed not long ago."""
        known = self.get(container)
        return known.image if known is not None else self._gone.get(container)

    def find(self, word: str) -> Container:
        """The container that an ID, a name or the unique beginning of an ID means."""
        self._refresh()
        with self._lock:
            if word in self._known:
                return self._known[word]
            wanted = word.removeprefix("/")
            named = [each for each in self._known.values() if each.policy.get("name") == wanted]
            if named:
                return named[0]
            begun = [each for each in self._known.values() if word and each.id.startswith(word)]
        if len(begun) > 1:
            raise Refused(400, f"multiple IDs found with provided prefix: {word}")
        if not begun:
            raise Refused(404, f"No such container: {word}")
        return begun[0]

    # -- hearing -------------------------------------------------------------------------------

    def subscribe(self, place: str = "", mask: int = WRITTEN) -> Subscription:
        """Be told, until the end of a `with` block, that some container changed, or something in a directory."""
        return Subscription(self, place, mask)

    def _join(self, one: Subscription) -> None:
        with self._lock:
            if not one.place:
                self._all.add(one)
                return
            try:
                number = self._watch.add(one.place, one.mask)
            except OSError:
                return  # no log there yet: changes of the container tell
            self._logs.setdefault(number, set()).add(one)
            one.number = number

    def _leave(self, one: Subscription) -> None:
        with self._lock:
            self._all.discard(one)
            others = self._logs.get(one.number)
            if others is not None:
                others.discard(one)
                if not others:
                    del self._logs[one.number]
                    self._watch.remove(one.number)

    def _refresh(self) -> None:
        """Take what the kernel tells."""
        with self._lock:
            changed, dirty = False, set(self._waiting)
            for number, mask, name in self._watch.events():
                if mask & inotify.IN_Q_OVERFLOW:
                    dirty |= {each for each in os.listdir(self.place) if each[0] != "."} | set(self._known)
                elif number == self._top:
                    dirty.add(name)
                elif number in self._numbers:
                    if not name or name in _FILES or name == "policy.json":
                        dirty.add(self._numbers[number])
                    if mask & inotify.IN_IGNORED:
                        del self._numbers[number]
                for one in self._logs.get(number, ()):
                    one.tell()
            for container in dirty:
                changed |= self._update(container)
            if changed:
                for one in self._all:
                    one.tell()

    def _update(self, container: str) -> bool:
        known = self._known.get(container)
        if known is None:
            return self._begin(container)
        if not known.load():
            del self._known[container]
            self._gone[container] = known.image
            if len(self._gone) > _REMEMBERED:
                del self._gone[next(iter(self._gone))]
        return True

    def _begin(self, container: str) -> bool:
        """Begin to watch a container; whether it is one."""
        self._waiting.discard(container)
        if len(container) != 64 or container[0] == ".":
            return False
        found = Container(self, container)
        try:
            self._numbers[self._watch.add(found.path, _CHANGES)] = container
        except OSError:
            return False
        if not found.load():
            self._waiting.add(container)
            return False
        self._known[container] = found
        return True


class Subscription:
    """An eventfd that becomes readable when there is news."""

    def __init__(self, world: World, place: str, mask: int) -> None:
        self._world = world
        self.place = place
        self.mask = mask
        self.number = -1

    def __enter__(self) -> Self:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._world._join(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._world._leave(self)
        os.close(self._fd)

    def fileno(self) -> int:
        return self._fd

    def tell(self) -> None:
        os.eventfd_write(self._fd, 1)

    def heard(self) -> None:
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            pass


def _read(path: str) -> dict[str, Any] | None:
    """A small document of a container; None where there is none, or only half."""
    try:
        with open(path, "rb", buffering=0) as file:
            found = document.loads(file.read(), path)
        return found if isinstance(found, dict) else None
    except (OSError, Error):
        return None


def until(gone: int, *news: Subscription, timeout: float | None = None) -> bool:
    """Wait for news; False if the client of the socket `gone` has gone."""
    poll = select.poll()
    for one in news:
        poll.register(one.fileno(), select.POLLIN)
    poll.register(gone, select.POLLRDHUP | select.POLLHUP)
    ready = dict(poll.poll(None if timeout is None else timeout * 1000))
    for one in news:
        one.heard()
    return gone not in ready
