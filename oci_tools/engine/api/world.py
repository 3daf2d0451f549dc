"""Every container, from its files (container.py): read once, read again when inotify says that they changed.

Events are taken from the kernel before every look, so that what a command has done is seen as soon as it has
ended.
"""

from __future__ import annotations

import os
import select
import sys
import threading

from oci_tools import fs
from oci_tools.engine.api.answers import Refused
from oci_tools.engine.api.container import FILES, Container
from oci_tools.linux import inotify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Self

_NAMES = inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM | inotify.IN_DELETE
_CHANGES = inotify.IN_CLOSE_WRITE | _NAMES
WRITTEN = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO
_REMEMBERED = 1024
OPENED = inotify.IN_CREATE | inotify.IN_OPEN


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
        """The container that an ID, a name or the unique beginning of an ID means; NAME/ALIAS: one that it links to."""
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
        above, slash, alias = wanted.partition("/")
        if slash:
            begun = [self.find(other) for other, called in self.find(above).policy.get("links", ()) if called == alias]
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
            changed, dirty = False, {each: set[str]() for each in self._waiting}  # and what of it: nothing is all
            for number, mask, name in self._watch.events():
                if mask & inotify.IN_Q_OVERFLOW:
                    names = {each for each in os.listdir(self.place) if each[0] != "."} | set(self._known)
                    dirty.update((each, set()) for each in names)
                elif number == self._top:
                    dirty[name] = set()
                elif number in self._numbers:
                    self._note(dirty, self._numbers[number], name)
                    if mask & inotify.IN_IGNORED:
                        del self._numbers[number]
                for one in self._logs.get(number, ()):
                    one.tell()
            for container, names in dirty.items():
                changed |= self._update(container, names)
            if changed:
                for one in self._all:
                    one.tell()

    @staticmethod
    def _note(dirty: dict[str, set[str]], container: str, name: str) -> None:
        """Remember which file of a container was changed."""
        if not name:
            dirty[container] = set()
        elif name in FILES or name == "policy.json":
            there = dirty.setdefault(container, {name})
            if there:
                there.add(name)

    def _update(self, container: str, names: Collection[str]) -> bool:
        known = self._known.get(container)
        if known is None:
            return self._begin(container)
        if not known.load(names):
            del self._known[container]
            self._gone[container] = sys.intern(known.image)  # the same of many
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
