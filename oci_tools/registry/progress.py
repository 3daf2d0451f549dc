"""How far work on blobs is: for people on stderr, for machines on a descriptor (contracts.md, `--status-fd`).

    {"op": "pull", "id": "sha256:...", "state": "get", "current": 1048576, "total": 3408729}

states: wait; get, send, read, unpack or pack; done, exists, mounted.  A total of 0 is one that nobody knows
yet.  Callers tell it from several threads.  A registry that counts pulls is a line too, at the end: its host as
the id, state "limit", how many are left, of how many.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from oci_tools import document
from oci_tools.errors import Error

MOVING = ("get", "send", "read", "unpack", "pack")
EVERY = 0.1  # seconds between two looks of a person, or two lines of a machine, at the same blob


class Progress:
    """The blobs of one pull or push and how far each is."""

    def __init__(self, op: str, mode: str = "none", status_fd: int | None = None) -> None:
        self._op = op
        self._terminal = mode == "auto" and sys.stderr.isatty()
        self._plain = mode == "plain"
        self._json = mode == "json"
        self._fd = status_fd
        self._lock = threading.Lock()
        self._blobs: dict[str, _Blob] = {}  # those that are not over yet: there may be many thousand
        self._over = 0  # bytes of the others
        self._limits: dict[str, tuple[int, int]] = {}  # host: pulls left, of how many (0: not said)
        self._moved = 0  # bytes that came or went since `_began`, not those that were there
        self._began = 0.0
        self._drawn = 0.0  # when
        self._lines = 0  # on the terminal
        self.quiet = not (self._terminal or self._plain or self._json or status_fd is not None)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._terminal and (self._blobs or self._over):
                self._draw(last=True)
            for host, (left, of) in self._limits.items():
                self._limit(host, left, of)

    def tell(self, name: str, state: str, current: int = 0, total: int = 0) -> None:
        """A blob's state and how many of its bytes are there."""
        if self.quiet:
            return
        now = time.monotonic()
        with self._lock:
            blob = self._blobs.setdefault(name, _Blob())
            changed = blob.state != state
            if changed and state in MOVING:
                blob.start, blob.began = current, now  # what was there has no rate
                self._began = self._began or now
            elif state in MOVING or blob.state in MOVING:
                self._moved += max(0, current - blob.current)
            blob.state, blob.current, blob.total = state, current, total
            if not changed and now - blob.told < EVERY:
                return
            blob.told = now
            if state not in ("wait", *MOVING):
                del self._blobs[name]
                self._over += total
            self._say(name, state, current, total, changed)
            if self._terminal and (changed or now - self._drawn >= EVERY):
                self._drawn = now
                self._draw()

    def limit(self, host: str, left: str, of: str) -> None:
        """What a registry says of the pulls that are left, in `RateLimit-Remaining` and `RateLimit-Limit`."""
        count, total = (text.partition(";")[0].strip() for text in (left, of))
        if not self.quiet and _number(count):
            with self._lock:
                self._limits[host] = int(count), int(total) if _number(total) else 0

    def _limit(self, host: str, left: int, of: int) -> None:
        self._say(host, "limit", left, of, False)
        if self._terminal or self._plain:
            sys.stderr.write(f"{host}: {left}{f' of {of}' if of else ''} pulls left\n")
            sys.stderr.flush()

    def _say(self, name: str, state: str, current: int, total: int, changed: bool) -> None:
        said = {"op": self._op, "id": name, "state": state, "current": current, "total": total}
        line = document.dumps(said) + b"\n"
        if self._fd is not None:
            try:
                os.write(self._fd, line)
            except OSError as error:
                raise Error("cannot write", "--status-fd", error) from None
        if self._json:
            sys.stderr.write(line.decode())
            sys.stderr.flush()
        elif self._plain and changed and state not in ("wait", *MOVING):
            sys.stderr.write(f"{short(name)} {size(total)} {state}\n")
            sys.stderr.flush()

    def _draw(self, last: bool = False) -> None:
        """One line for each blob that moves, below one that sums up."""
        blobs = self._blobs.values()
        current = self._over + sum(blob.current for blob in blobs)
        total = self._over + sum(blob.total for blob in blobs)
        spent = time.monotonic() - self._began if self._began else 0.0
        lines = [self._op + _far(current, total, self._moved, spent)]
        width, height = _room()
        if not last:
            moving = [(name, blob) for name, blob in self._blobs.items() if blob.state in MOVING]
            lines += [f"  {short(name)}{blob.far()}" for name, blob in moving][: height - 2]
        up = f"\x1b[{self._lines}A" if self._lines else ""
        sys.stderr.write(f"{up}\r\x1b[J" + "\n".join(line[: width - 1] for line in lines) + "\n")
        sys.stderr.flush()
        self._lines = len(lines)


class _Blob:
    """How far one blob is, and since when it moves."""

    state = ""
    current = total = start = 0
    began = told = 0.0

    def far(self) -> str:
        return _far(self.current, self.total, self.current - self.start, time.monotonic() - self.began)


def _far(current: int, total: int, moved: int, spent: float) -> str:
    """How much there is, how fast it moves, and how long that takes."""
    # Nobody knows how much a pipe has, or a layer that is packed.
    text = f" {size(current)} of {size(total)}" if total and total >= current else f" {size(current)}"
    if spent < 0.2 or not moved:
        return text
    rate = moved / spent
    left = f", {clock((total - current) / rate)} left" if current < total else ""
    return f"{text}, {size(rate)}/s{left}"


def clock(seconds: float) -> str:
    """A time for people: 9 s, 4:05, 1:02:03."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16


def _room() -> tuple[int, int]:
    """Columns and lines of the terminal: what is longer wraps, and could not be drawn over."""
    try:
        columns, lines = os.get_terminal_size(2)
    except OSError:
        columns = lines = 0
    return columns or 80, max(lines or 24, 3)


def short(name: str) -> str:
    """A digest as people compare them."""
    algorithm, colon, text = name.partition(":")
    return f"{algorithm}:{text[:12]}" if colon else name


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
