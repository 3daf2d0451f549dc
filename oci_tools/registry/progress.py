"""How far a copy is: for people on stderr, for machines on a descriptor (contracts.md, `--status-fd`).

    {"op": "pull", "id": "sha256:...", "state": "get", "current": 1048576, "total": 3408729}

states: wait, get or send, done, exists, mounted.  Callers tell it from several threads.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from oci_tools import document
from oci_tools.errors import Error

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
        self._blobs: dict[str, list[float]] = {}  # id: current, total, when it began, when last told
        self._states: dict[str, str] = {}
        self._drawn = 0.0  # when
        self._lines = 0  # on the terminal
        self.quiet = not (self._terminal or self._plain or self._json or status_fd is not None)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            with self._lock:
                self._draw(last=True)

    def tell(self, name: str, state: str, current: int = 0, total: int = 0) -> None:
        """A blob's state and how many of its bytes are there."""
        if self.quiet:
            return
        now = time.monotonic()
        with self._lock:
            entry = self._blobs.setdefault(name, [0, total, now, 0.0])
            changed = self._states.get(name) != state
            self._states[name] = state
            entry[0], entry[1] = current, total
            if not changed and now - entry[3] < EVERY:
                return
            entry[3] = now
            self._say(name, state, current, total, changed)
            if self._terminal and (changed or now - self._drawn >= EVERY):
                self._drawn = now
                self._draw()

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
        elif self._plain and changed and state not in ("wait", "get", "send"):
            sys.stderr.write(f"{short(name)} {size(total)} {state}\n")
            sys.stderr.flush()

    def _draw(self, last: bool = False) -> None:
        """One line for each blob that moves, below one that sums up."""
        current = sum(entry[0] for entry in self._blobs.values())
        total = sum(entry[1] for entry in self._blobs.values())
        lines = [f"{self._op} {size(current)} of {size(total)}"]
        if not last:
            lines += [self._line(name) for name, state in self._states.items() if state in ("get", "send")]
        up = f"\x1b[{self._lines}A" if self._lines else ""
        sys.stderr.write(f"{up}\r\x1b[J" + "\n".join(line[:100] for line in lines) + "\n")
        sys.stderr.flush()
        self._lines = len(lines)

    def _line(self, name: str) -> str:
        current, total, began, _ = self._blobs[name]
        spent = time.monotonic() - began
        rate = current / spent if spent > 0.2 else 0.0
        left = f", {(total - current) / rate:.0f} s left" if rate else ""
        return f"  {short(name)} {size(current)} of {size(total)}{f', {size(rate)}/s' if rate else ''}{left}"


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
