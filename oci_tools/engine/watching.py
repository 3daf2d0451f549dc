"""Watching the monitors of containers: boot, adoption, and the record of what `ocid` has to reap itself.

What there is to watch is told by the events of OCI_ROOT and by the directory of the runtime's states, both by
inotify(7); what is to be done about it is asked of the forker, at most a few at once.
"""

from __future__ import annotations

import os
from collections import deque
from socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    SCM_RIGHTS,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOL_SOCKET,
    socket,
)

from oci_tools import document, fs
from oci_tools.engine import containers
from oci_tools.engine.containers import Held
from oci_tools.errors import Error
from oci_tools.linux import inotify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_tools.engine.forker import Asker, Call
    from oci_tools.engine.supervisor import Loop

_AT_ONCE = 4  # commands
_SOON = 0.2  # seconds after which a change among the runtime's states is looked at
_AGAIN = 1.0  # seconds after which what could not be asked or done is tried again
_TRIES = 5


class Watcher:
    """All containers that were detached, and what is held of them."""

    def __init__(self, loop: Loop, asker: Asker, say: Callable[[str], None]) -> None:
        self._loop = loop
        self._asker = asker
        self._say = say
        self._held: dict[str, Held] = {}
        self._todo: deque[tuple[Held, str, int]] = deque()
        self._running = 0
        self._starting: set[str] = set()
        self._scanning = False
        self._rest = b""
        self._events = -1

    def start(self, boot: bool) -> None:
        """Adopt what runs; at boot, start what should run."""
        fs.make_private(f"{fs.root()}/containers")
        fs.make_private(f"{fs.run()}/runtime")
        self._keeping()
        self._watch = inotify.Watch()
        self._watch.add(fs.root(), inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO)
        self._watch.add(f"{fs.run()}/runtime", inotify.IN_CREATE | inotify.IN_DELETE)
        self._loop.watch(self._watch.fileno(), self._changed)
        self._reopen(os.SEEK_END)
        self._scan()
        if boot:
            for container in containers.at_boot():
                held = self._held.setdefault(container, Held(container))
                if held.monitor < 0 and not held.pid and not held.adopting:
                    self._starting.add(container)
                    self._todo.append((held, "start", _TRIES))
            self._next()

    def _keeping(self) -> None:
        """The socket to which monitors send what is to outlive them."""
        path = f"{fs.run()}/ocid.keep"
        self._keep = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        directory = os.open(fs.run(), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        before = os.umask(0o177)
        try:
            self._keep.bind(f"/proc/self/fd/{directory}/ocid.keep")  # the path itself may be too long for one
        finally:
            os.umask(before)
            os.close(directory)
        self._loop.watch(self._keep.fileno(), self._take)

    def _take(self) -> None:
        try:
            data, ancillary, _, _ = self._keep.recvmsg(256, CMSG_SPACE(64), MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        fds = [
            int.from_bytes(passed[at : at + 4], "little")
            for level, kind, passed in ancillary if (level, kind) == (SOL_SOCKET, SCM_RIGHTS)
            for at in range(0, len(passed) - 3, 4)
        ]  # fmt: skip
        container, _, name = data.decode("ascii", "replace").partition(" ")
        held = self._held.get(container)
        if held is None and containers.record(container, "policy"):
            held = self._held.setdefault(container, Held(container))
        if held is not None and name in ("master", "stdin"):
            held.keep(name, fds.pop() if fds else -1)
        for fd in fds:
            os.close(fd)

    # -- what happens ----------------------------------------------------------------------------

    def _changed(self) -> None:
        self._watch.drain()
        for line in self._lines():
            try:
                event = document.loads(line)
                action, container = event["Action"], event["Actor"]["ID"]
            except (Error, KeyError, TypeError):
                continue
            if action == "start":
                self._look(container)
            elif action == "destroy" and container in self._held:
                self._forget(self._held.pop(container))
        if not self._scanning:
            self._scanning = True
            self._loop.later(_SOON, self._scan)

    def _lines(self) -> list[bytes]:
        """New lines of the events."""
        if self._events < 0:
            self._reopen(os.SEEK_SET)
        if self._events < 0:
            return []
        found: list[bytes] = []
        while True:
            data = os.read(self._events, 1 << 16)
            if not data:
                try:
                    same = os.path.samestat(os.stat(f"{fs.root()}/events"), os.fstat(self._events))
                except FileNotFoundError:
                    same = True
                if same:
                    return found
                data = os.read(self._events, 1 << 16)
                if not data:
                    self._reopen(os.SEEK_SET)
                    continue
            *lines, self._rest = (self._rest + data).split(b"\n")
            found += lines

    def _reopen(self, whence: int) -> None:
        if self._events >= 0:
            os.close(self._events)
        self._rest = b""
        try:
            self._events = os.open(f"{fs.root()}/events", os.O_RDONLY | os.O_CLOEXEC)
            os.lseek(self._events, 0, whence)
        except FileNotFoundError:
            self._events = -1

    def _scan(self) -> None:
        """Look at all that there are."""
        self._scanning = False
        there = set(containers.ids())
        for container in there:
            held = self._held.get(container)
            if (held is None or held.monitor < 0) and containers.detached(container):
                self._look(container)
            elif held is not None:
                held.let_go()
        for container in [each for each in self._held if each not in there]:
            self._forget(self._held.pop(container))

    def _look(self, container: str) -> None:
        held = self._held.setdefault(container, Held(container))
        known = held.monitor
        held.look()
        if held.monitor >= 0 and known < 0:
            self._loop.watch(held.monitor, lambda: self._ended(held))
            if not held.kept:
                containers.tell(container, b"keep\n")
        elif held.monitor < 0 and containers.orphan(container):
            self._adopt(held)

    def _forget(self, held: Held) -> None:
        if held.monitor >= 0:
            self._loop.forget(held.monitor)
        held.close()

    def _ended(self, held: Held) -> None:
        """A monitor has ended: because its container has, or it was killed."""
        self._loop.forget(held.monitor)
        os.close(held.monitor)
        held.monitor = -1
        if not containers.record(held.id, "policy"):
            self._held.pop(held.id, None)
            held.close()
        elif containers.orphan(held.id):
            self._adopt(held)
        else:
            held.forget_payload()
            self._look(held.id)  # it may have been started again already

    def _adopt(self, held: Held) -> None:
        if not held.adopting and held.id not in self._starting:
            held.adopting = True
            self._todo.append((held, "adopt", _TRIES))
            self._next()

    # -- what is done about it -----------------------------------------------------------------

    def _next(self) -> None:
        while self._todo and self._running < _AT_ONCE:
            held, verb, tries = self._todo.popleft()
            if verb == "start" and self._waits(held.id):
                self._todo.append((held, verb, tries))
                if all(each[1] == "start" and self._waits(each[0].id) for each in self._todo):
                    return  # until one of those that are being started is done
                continue
            self._ask(held, verb, tries)

    def _waits(self, container: str) -> bool:
        """Whether another that it requires is still to be started."""
        wanted = containers.record(container, "policy").get("requires", [])
        return any(other in self._starting for other in wanted if other != container)

    def _ask(self, held: Held, verb: str, tries: int) -> None:
        words, fds = held.given() if verb == "adopt" else ([], {})
        try:
            call = self._asker.ask(("run", verb, *words, held.id), {2: 2, **fds}, cwd="/", wait=False)
        except OSError:
            self._again(held, verb, tries)
            return
        self._running += 1
        self._loop.watch(call.fileno(), lambda: self._advance(call, held, verb, tries))

    def _again(self, held: Held, verb: str, tries: int) -> None:
        def retry() -> None:
            self._todo.append((held, verb, tries))
            self._next()

        self._loop.later(_AGAIN, retry)

    def _advance(self, call: Call, held: Held, verb: str, tries: int) -> None:
        news = call.advance()
        if news not in ("ended", "lost"):
            return
        self._loop.forget(call.fileno())
        call.close()
        self._running -= 1
        # A monitor that was killed before it could say so is no reason to leave its container alone.
        again = call.code == 75 or (verb == "adopt" and call.code and containers.orphan(held.id))
        if tries and (news == "lost" or again):
            self._again(held, verb, tries - (news != "lost"))
        else:
            self._done(held, verb, call.code)
        self._next()

    def _done(self, held: Held, verb: str, code: int | None) -> None:
        held.adopting = False
        self._starting.discard(held.id)
        if code:
            self._say(f"cannot {verb} container '{held.id[:12]}': oci-run ended with code {code}")
        elif containers.record(held.id, "policy"):
            self._look(held.id)

    # -- what came to us ---------------------------------------------------------------------------

    def reaped(self, pid: int, status: int) -> None:
        """Note how a container has ended whose monitor had died: `oci-run adopt` reads it."""
        for held in self._held.values():
            if held.pid == pid:
                try:
                    fs.write(f"{containers.place(held.id)}/reaped", b"%d\n" % status, 0o600, sync=False)
                except Error:
                    pass  # a full disk, or it is gone; the pidfd knows as well
                return
