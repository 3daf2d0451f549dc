"""What is known of a container between two commands: one directory per container.

    ROOT/ID/state.json   {"ociVersion", "id", "pid", "startTime", "bundle", "rootfs", "created",
                          "owner", "cgroups", "annotations", "spec"...}; written once the process exists
    ROOT/ID/config.json  the configuration as it was at create: later edits have no effect
    ROOT/ID              locked by whoever makes or removes the container
    ROOT/ID/start.fifo   the created container waits on it, and answers on answer.fifo (`starting.py`)
    ROOT/ID/plain        the pid, then the cgroups, a line each: there if nothing else belongs to the container,
                         for the first lines of `bin/oci-run`, which start and delete such a one by themselves

The status is computed from the world, never stored: a pid with its start time is a
process for ever.  runtime-spec, "State".
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.errors import Busy, Error, Usage
from oci_tools.linux.process import start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = "1.2.1"  # of the runtime specification that `state` speaks

_FIRST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-"


def check_id(name: str) -> None:
    """Refuse what is no container id: [A-Za-z0-9_+-][A-Za-z0-9_+.-]*, at most 1024 long."""
    if not name or len(name) > 1024 or name[0] not in _FIRST or any(c not in _FIRST and c != "." for c in name):
        bad = next((c for at, c in enumerate(name) if c not in _FIRST and (c != "." or not at)), None)
        raise Error("invalid container id", name, f"invalid character `{bad}` in the ID" if bad else None)


def directory(root: str, name: str) -> str:
    return os.path.join(root, name)


def make(root: str, name: str) -> str:
    """The new container's state directory, made exclusively."""
    check_id(name)
    fs.make_private(root)
    path = directory(root, name)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        raise Error("container with given ID already exists", name) from None
    except OSError as error:
        raise Error("cannot make directory", path, error) from None
    return path


class Lock(fs.Lock):
    """Held by whoever makes or removes a container, on its directory: to look makes nothing."""

    def __init__(self, root: str, name: str, shared: bool = False, timeout: float | None = None) -> None:
        super().__init__(directory(root, name), shared, timeout, make=False)

    def is_current(self) -> bool:
        """Whether the directory still has its name: it may have been removed while we waited."""
        try:
            return os.path.samestat(os.fstat(self.fd), os.stat(self.path))
        except FileNotFoundError:
            return False


def save(root: str, name: str, state: dict[str, Any]) -> None:
    fs.write(f"{directory(root, name)}/state.json", document.dumps(state), 0o600, sync=False)


def mark_plain(root: str, state: dict[str, Any]) -> None:
    """Say so in `plain` if a created container needs no more than a shell can do."""
    more = any(state["hooks"].values()) or state.get("systemd") or state.get("resctrl")
    lines = [str(state["pid"]), *state["cgroups"].values()]
    place = directory(root, state["id"])
    if not more and not any("\n" in line for line in lines) and not os.path.exists(f"{place}/notify"):
        fs.write(f"{place}/plain", os.fsencode("".join(f"{line}\n" for line in lines)), 0o600, sync=False)


def load(root: str, name: str) -> dict[str, Any]:
    """The state of a container; an Error if there is none of that name.

    A directory without state.json belongs to a create that is under way or was killed:
    it is reported with pid 0, so that it can be deleted.
    """
    check_id(name)
    path = directory(root, name)
    try:
        with open(f"{path}/state.json", "rb") as file:
            state: dict[str, Any] = document.loads(file.read(), f"{path}/state.json")
        return state
    except FileNotFoundError:
        if not os.path.isdir(path):
            raise Error("container does not exist", name) from None
        return {"ociVersion": VERSION, "id": name, "pid": 0, "startTime": 0, "bundle": "", "cgroups": {}}
    except OSError as error:
        raise Error("cannot read the state of container", name, error) from None


def status(root: str, state: dict[str, Any]) -> str:
    """creating, created, running or stopped (paused is the cgroup's to say)."""
    known = bool(state["startTime"])
    lives = known and start_time(state["pid"]) == state["startTime"]
    if (lives or not known) and _being_made(root, state):
        return "creating"  # whoever holds the lock of one that has ended is removing it
    if not lives:
        return "stopped"
    from oci_tools.runtime import starting  # what makes and runs a container at once does without

    return "created" if starting.waits(directory(root, state["id"])) else "running"


def _being_made(root: str, state: dict[str, Any]) -> bool:
    """Whether a create is under way: it holds the lock of the directory as long as it lives."""
    try:
        with Lock(root, state["id"], shared=True, timeout=0):
            return False
    except Busy:
        return True
    except Error:
        return False  # the directory has gone


def public(root: str, state: dict[str, Any], current: str) -> dict[str, Any]:
    """The state document of the specification, as `state` prints it and hooks receive it."""
    shown = {
        "ociVersion": state["ociVersion"],
        "id": state["id"],
        "pid": 0 if current == "stopped" else state["pid"],
        "status": current,
        "bundle": state["bundle"],
        "rootfs": state.get("rootfs", ""),
        "created": state.get("created", ""),
        "owner": state.get("owner", ""),
    }
    if state.get("annotations"):
        shown["annotations"] = state["annotations"]
    return shown


def matching(root: str, name: str, regex: bool) -> list[str]:
    """The container of an id; or all in whose id a regular expression is found."""
    if not regex:
        return [name]
    import re

    try:
        pattern = re.compile(name)
    except re.error as error:
        raise Usage("invalid regular expression", name, str(error)) from None
    return [each for each in ids(root) if pattern.search(each)]


def ids(root: str) -> list[str]:
    """Every container under a state root."""
    try:
        return sorted(entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Error("cannot list", root, error) from None
