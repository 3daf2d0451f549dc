"""The end of a container, seen from outside: `stop` and `rm`."""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.container import ending, events, names, place
from oci_tools.container.options import STOP_SIGNAL
from oci_tools.errors import Busy, Error
from oci_tools.runtime import lifecycle, signals
from oci_tools.runtime import state as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STOP_SECONDS = 10
_GRACE = 10.0  # seconds in which a process that looks after a container should be done with its end


def stop(root: str, container: str, signal: str | None, seconds: int | None) -> None:
    """Ask it to end, kill it if it does not; of one that does not run it is no error.

    seconds  how long to wait; None: as its --stop-timeout says, or STOP_SECONDS
    """
    if seconds is None:
        seconds = int(names.policy(container).get("stopTimeout", STOP_SECONDS))
    with ending.Ending(root, container) as watched:
        if watched.pidfd < 0 and watched.keeper < 0:
            return
        _settle(container)
        if watched.pidfd < 0:
            watched.code()  # it was about to be started again
            return
        number = signals.number(signal) if signal else stop_signal(states.load(root, container))
        try:
            paused = lifecycle.query(root, container)["status"] == "paused"
            _kill(root, container, number)
            if paused:
                lifecycle.freeze(root, container, False)
            if not watched.ends(None if seconds < 0 else seconds):
                _kill(root, container, 9)
        except Error:
            if not watched.ends(0):
                raise  # it has not just ended by itself
        watched.code()
    events.tell(container, "stop")


def _kill(root: str, container: str, number: int) -> None:
    events.tell(container, "kill", signal=number)
    lifecycle.kill(root, container, number)


def stop_signal(known: dict[str, Any]) -> int:
    """The signal that asks a container to end, by its state or specification."""
    return signals.number(str((known.get("annotations") or {}).get(STOP_SIGNAL) or "TERM"))


def _settle(container: str) -> None:
    """Have it not started again."""
    place.mark(container, True)
    monitor_hears(container, b"stop")


def monitor_hears(container: str, line: bytes) -> None:
    """Say something to a container's monitor (streams.py), if it has one."""
    try:
        fd = os.open(f"{names.place(container)}/io/ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fs.write_all(fd, line + b"\n")
    except OSError:
        pass
    finally:
        os.close(fd)


def replace(root: str, name: str) -> None:
    """Remove the container that has a name, if there is one."""
    names.check(name)
    found = names.find(name, root)
    if found is not None and names.policy(found).get("name") == name:
        remove(root, found, force=True)


def remove(root: str, container: str, force: bool, volumes: bool = False) -> None:
    """Remove a container with all that it wrote; with `volumes` the unnamed ones that were made for it too."""
    runs = os.path.isdir(states.directory(root, container))
    if runs and not force and names.exit_code(container) is None:  # else who looks after it is clearing up
        current = lifecycle.query(root, container)["status"]
        if current != "stopped":
            raise Error("cannot remove container", container, f"it is {current}", "oci-run stop, or -f")
    if force:
        _settle(container)
    if runs:
        if force and names.exit_code(container) is None and names.policy(container):
            events.tell(container, "kill", signal=9)
        lifecycle.delete(root, container, force=True)
    if not os.path.isdir(names.place(container)):
        return
    try:
        with place.Place.again(container, _GRACE) as held:
            if os.path.isdir(states.directory(root, container)):
                raise Error("cannot remove container", container, "it was started meanwhile")
            held.remove(volumes)
    except Busy:
        raise Busy("cannot remove container", container, "another process looks after it") from None
    except Error:
        if os.path.isdir(names.place(container)):
            raise  # else it has removed itself
