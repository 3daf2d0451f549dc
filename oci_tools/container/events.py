"""What happens to containers: one line a change in OCI_ROOT/events, in the form of Docker's events.

    {"Type": "container", "Action": "die", "Actor": {"ID", "Attributes": {"image", "name", "exitCode", labels...}},
     "scope": "local", "time": seconds, "timeNano": nanoseconds}

Whoever changes something appends a line, in one write(2), after it was done; that fails silently, for no container
shall wait for room on a disk.  A full file becomes events.1; two are kept.
"""

from __future__ import annotations

import os
import time

from oci_tools import document, fs
from oci_tools.container import names
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from oci_tools.cli import Args

SIZE = 4 << 20  # bytes of one file
_FILTERS = ("container", "event", "image", "label", "type")


def path() -> str:
    return f"{fs.root()}/events"


def tell(container: str, action: str, policy: dict[str, Any] | None = None, **more: Any) -> None:
    """Append that something has happened to a container."""
    try:
        known = names.policy(container) if policy is None else policy
        attributes = {**(known.get("labels") or {}), "image": known.get("image", ""), "name": known.get("name") or ""}
        attributes.update({name: str(value) for name, value in more.items()})
        append("container", action, container, attributes)
    except (OSError, Error):
        pass


def append(kind: str, action: str, subject: str, attributes: dict[str, str]) -> None:
    now = time.time_ns()
    line = document.dumps({
        "Type": kind, "Action": action, "Actor": {"ID": subject, "Attributes": attributes},
        "scope": "local", "time": now // 1_000_000_000, "timeNano": now,
    })  # fmt: skip
    fd = os.open(path(), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, line + b"\n")
        if os.fstat(fd).st_size > SIZE:
            _rotate(fd)
    finally:
        os.close(fd)


def _rotate(fd: int) -> None:
    """Begin another file, if nobody else has meanwhile."""
    with fs.Lock(fs.root(), timeout=1):
        if os.path.samestat(os.stat(path()), os.fstat(fd)):
            os.rename(path(), f"{path()}.1")


# -- reading -----------------------------------------------------------------------------------


def stream(args: Args) -> Iterator[str]:
    """The events that `args` ask for, a JSON line each: those since a time, then new ones until another."""
    from oci_tools.container import log

    wanted = _wanted(args.filter)
    since = _nanoseconds(log.since(args.since)) if args.since else None
    until = _nanoseconds(log.since(args.until)) if args.until else None
    for line in _lines(since is not None, until):
        event = document.loads(line)
        when = event["timeNano"]
        if until is not None and when > until:
            return
        if (since is None or when >= since) and _matches(event, wanted):
            yield line.decode()


def _nanoseconds(stamp: bytes) -> int:
    import calendar

    whole, _, rest = stamp.decode().rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) * 1_000_000_000 + int(rest)


def _wanted(words: list[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in _FILTERS or not equals:
            raise Usage("invalid value for --filter", word, hint=f"one of {', '.join(_FILTERS)}, = and a value")
        found.setdefault(name, set()).add(value)
    return found


def _matches(event: dict[str, Any], wanted: dict[str, set[str]]) -> bool:
    attributes = event["Actor"]["Attributes"]
    subject = event["Actor"]["ID"]
    seen: dict[str, Callable[[str], bool]] = {
        "container": lambda word: subject.startswith(word) or attributes.get("name") == word,
        "event": lambda word: event["Action"].partition(":")[0] == word,
        "image": lambda word: attributes.get("image") == word,
        "label": lambda word: word.partition("=")[0] in attributes
        and word.partition("=")[2] in ("", attributes[word.partition("=")[0]]),
        "type": lambda word: event["Type"] == word,
    }
    return all(any(seen[name](word) for word in words) for name, words in wanted.items())


def _lines(history: bool, until: int | None) -> Iterator[bytes]:
    """Whole lines, the older file's first with `history`; then new ones as they come, until that time."""
    import select

    from oci_tools.linux import inotify

    fs.make_private(fs.root())
    with inotify.Watch() as watch:
        watch.add(fs.root(), inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO)
        fds = [fd for fd in (_opened(f"{path()}.1") if history else -1, _opened(path())) if fd >= 0]
        if not history:
            for fd in fds:
                os.lseek(fd, 0, os.SEEK_END)
        rest = b""
        poll = select.poll()
        poll.register(watch.fileno(), select.POLLIN)
        while True:
            while fds:
                data = os.read(fds[0], 1 << 16)
                if not data and len(fds) == 1 and not _is_old(fds[0]):
                    break
                data = data or os.read(fds[0], 1 << 16)  # written between our read and its being renamed
                if not data:
                    os.close(fds.pop(0))
                *lines, rest = (rest + data).split(b"\n")
                yield from lines
            left = None if until is None else (until - time.time_ns()) / 1e6
            if left is not None and left <= 0:
                return
            poll.poll(left)
            watch.drain()
            if not fds and (fd := _opened(path())) >= 0:
                fds.append(fd)


def _opened(name: str) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _is_old(fd: int) -> bool:
    """Whether another file has its name."""
    try:
        return not os.path.samestat(os.stat(path()), os.fstat(fd))
    except FileNotFoundError:
        return True
