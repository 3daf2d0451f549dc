"""What a build tells while it works: to people, to logs, to programs.

    plain   lines for a log: `#3 [web 2/4] RUN make`, `#3 0.12 output`, `#3 DONE 1.2s`
    tty     the steps at work, each with its time and the end of its output, drawn over and over
    json    the lines of --status-fd (contracts.md) on stderr
    none    nothing, save the whole output of a step that failed

    status  {"op": "build", "id", "state": "running|cached|done|error", "step", "of", "text", "current", "total"}
            {"op": "build", "state": "noted", "text", "instructions": of all stages}: one that makes no files
            {"op": "build", "id", "stream": {"fd", "data": base64}}      {"op": "build", "image"}  {"exit": N}
"""

from __future__ import annotations

import os
import sys
import time

from oci_tools import document
from oci_tools.errors import Error, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TAIL = 6  # lines of output under a step on a terminal
KEPT = 4 << 20  # bytes of a step's output that are kept for when it fails


class Step:
    """One step: its number, what it is called, its place in its stage."""

    def __init__(self, number: int, text: str, label: str, at: int, of: int) -> None:
        self.number = number
        self.text = text
        self.label = label  # "web 2/4", "" for what belongs to no stage
        self.at = at
        self.of = of
        self.began = time.monotonic()
        self.output: list[bytes] = []
        self.size = 0
        self.cut = False
        self.rest = {1: b"", 2: b""}

    def name(self) -> str:
        text = printable(self.text.replace("\n", " "))
        return f"[{self.label}] {text}" if self.label else text


class Progress:
    """Tells of steps; several threads may."""

    def __init__(self, mode: str, status_fd: int | None = None, log: str | None = None) -> None:
        """log  a file to which all goes that people would see"""
        import threading

        self._fd = 2 if log is None else _opened(log)
        if log is not None and mode in ("auto", "tty"):
            mode = "plain"
        if mode == "auto":
            mode = "tty" if sys.stderr.isatty() else "none"
        self.mode = mode
        self._status = status_fd
        if status_fd is not None:
            try:
                os.fstat(status_fd)
            except OSError as error:
                raise Error("cannot write", "--status-fd", error) from None
        self._lock = threading.RLock()
        self._count = 0
        self.instructions = 0  # of all stages that are built
        self._running: list[Step] = []
        self._drawn = 0
        self._done = 0
        self._last = 0.0

    # -- what happens ---------------------------------------------------------------------------

    def begin(self, text: str, label: str = "", at: int = 0, of: int = 0) -> Step:
        with self._lock:
            self._count += 1
            step = Step(self._count, text, label, at, of)
            self._running.append(step)
            self._tell(step, {"state": "running"})
            if self.mode == "plain":
                self._write(f"#{step.number} {step.name()}\n")
            self._draw()
            return step

    def log(self, step: Step, fd: int, data: bytes) -> None:
        """A piece of a step's output."""
        with self._lock:
            if step.size < KEPT:
                step.output.append(data)
                step.size += len(data)
            else:
                step.cut = True
            if self._status is not None or self.mode == "json":
                from binascii import b2a_base64

                self._tell(step, {"stream": {"fd": fd, "data": b2a_base64(data, newline=False).decode()}})
            *lines, step.rest[fd] = (step.rest[fd] + data).split(b"\n")
            if self.mode == "plain":
                self._lines(step, lines)
            self._draw(seldom=True)

    def end(self, step: Step, state: str, why: str = "") -> None:
        """A step is "done", "cached" or ended with an "error"."""
        with self._lock:
            self._running.remove(step)
            self._done += 1
            if self.mode == "plain":
                self._lines(step, [rest for rest in step.rest.values() if rest])
                seconds = time.monotonic() - step.began
                word = {"done": f"DONE {seconds:.1f}s", "cached": "CACHED", "error": f"ERROR: {printable(why)}"}[state]
                self._write(f"#{step.number} {word}\n\n")
            elif self.mode == "tty":
                self._erase()
                seconds = time.monotonic() - step.began
                word = {"done": f"{seconds:5.1f}s", "cached": "cached", "error": " error"}[state]
                self._write(f"{word}  {step.name()}"[: _size()[0]] + "\n")
            more: dict[str, Any] = {"current": self._done, "total": self._count}
            self._tell(step, {"state": state, **({"error": why} if why else {}), **more})
            self._draw()

    def note(self, text: str) -> None:
        """An instruction that makes no files: people do not see it, a status tells it."""
        with self._lock:
            self._tell(None, {"state": "noted", "text": text, "instructions": self.instructions})

    def say(self, text: str, wanted: bool = False) -> None:
        """A line to people; `wanted`: somebody asked for it, whatever else is told."""
        with self._lock:
            self._erase()
            if self.mode == "json":
                self._tell(None, {"text": text})
            elif wanted or self.mode != "none":
                self._write(f"{printable(text)}\n")
            self._draw()

    def failed(self, step: Step) -> None:
        """Show the whole output of a step that failed, where it was not shown as it came."""
        with self._lock:
            self._erase()
            if self.mode in ("none", "tty") and step.output:
                data = b"".join(step.output)
                more = b"[the rest is left out]\n" if step.cut else b""
                self._write(f"{step.name()}\n")
                self._write_bytes(data + (b"" if data.endswith(b"\n") else b"\n") + more)

    def result(self, **said: Any) -> None:
        """The last words of the status stream."""
        with self._lock:
            self._erase()
            self._tell(None, said)

    # -- to programs ----------------------------------------------------------------------------

    def _tell(self, step: Step | None, said: dict[str, Any]) -> None:
        if self._status is None and self.mode != "json":
            return
        about: dict[str, Any] = {"op": "build"}
        if step is not None:
            about.update(id=str(step.number))
            if "state" in said:
                about.update(step=step.at, of=step.of, text=step.name(), instructions=self.instructions)
        line = document.dumps({**about, **said}) + b"\n"
        if self._status is not None:
            try:
                view = memoryview(line)
                while view:
                    view = view[os.write(self._status, view) :]
            except OSError:
                self._status = None  # who listened has gone
        if self.mode == "json":
            self._write_bytes(line)

    # -- to people --------------------------------------------------------------------------------

    def _lines(self, step: Step, lines: list[bytes]) -> None:
        seconds = time.monotonic() - step.began
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
            self._write(f"#{step.number} {seconds:.3f} {printable(text.expandtabs())}\n")

    def _write(self, text: str) -> None:
        self._write_bytes(text.encode("utf-8", "replace"))

    def _write_bytes(self, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            pass  # nobody listens

    def _erase(self) -> None:
        if self.mode == "tty" and self._drawn:
            self._write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0

    def _draw(self, seldom: bool = False) -> None:
        if self.mode != "tty":
            return
        now = time.monotonic()
        if seldom and now - self._last < 0.1:
            return
        self._last = now
        self._erase()
        lines = []
        for step in self._running[:8]:
            lines.append(f"{now - step.began:5.1f}s  {step.name()}")
            tail = b"".join(step.output[-40:]).split(b"\n")[-TAIL:]
            shown = [printable(line.decode("utf-8", "replace").expandtabs()) for line in tail if line.strip()]
            lines += [f"        {line}" for line in shown]
        width, height = _size()
        lines = lines[: height - 1]  # what has left the screen could not be taken back
        self._write("".join(line[:width] + "\n" for line in lines))
        self._drawn = len(lines)


def _opened(log: str) -> int:
    try:
        return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise Error("cannot write", log, error) from None


def _size() -> tuple[int, int]:
    """Columns that a line may have, and lines of the terminal."""
    try:
        columns, lines = os.get_terminal_size(2)
    except OSError:
        columns, lines = 0, 0
    return max((columns or 101) - 1, 20), lines or 24
