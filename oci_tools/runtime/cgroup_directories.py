"""The directories of cgroups: made with what a new group needs to be joined, written to, removed.

What they are for, `cgroup.py` says.
"""

from __future__ import annotations

import os
import time

from oci_tools.errors import Error

MOUNT = "/sys/fs/cgroup"


def make_v1(path: str, names: str) -> bool:
    """mkdir -p in a v1 hierarchy, and if it is new; what others made of a way through cpuset may still be empty."""
    try:
        os.mkdir(path, 0o755)
        new = True
    except FileExistsError:
        new = False
    except FileNotFoundError:
        make_v1(os.path.dirname(path), names)
        return make_v1(path, names)
    if "cpuset" in names.split(",") and (new or _is_empty_cpuset(path)):
        make_v1(os.path.dirname(path), names)
        _inherit_cpuset(path)
    return new


def make_v2(path: str) -> bool:
    """mkdir -p in the v2 hierarchy, every controller enabled all the way down, also where others made the way.

    Whether it is new.
    """
    parent, new = MOUNT, False
    for part in os.path.relpath(path, MOUNT).split("/"):
        _delegate(parent)
        parent = f"{parent}/{part}"
        try:
            os.mkdir(parent, 0o755)
            new = True
        except FileExistsError:
            new = False
    return new


def _delegate(parent: str) -> None:
    """Enable every controller of a v2 group for the groups beneath it."""
    try:
        with open(f"{parent}/cgroup.controllers", encoding="utf-8") as file:
            available = file.read().split()
        with open(f"{parent}/cgroup.subtree_control", encoding="utf-8") as file:
            enabled = file.read().split()
    except OSError:
        return
    wanted = [f"+{name}" for name in available if name not in enabled]
    for words in ([" ".join(wanted), *wanted] if wanted else ()):
        try:
            write(parent, "cgroup.subtree_control", words)
        except Error:
            continue  # a group with processes, or a controller in use by v1: the limit itself will say so
        if words == " ".join(wanted):
            return


def _is_empty_cpuset(path: str) -> bool:
    for file in ("cpuset.cpus", "cpuset.mems"):
        with open(f"{path}/{file}", encoding="utf-8") as opened:
            if not opened.read().strip():
                return True
    return False


def _inherit_cpuset(path: str) -> None:
    """A new v1 cpuset is empty, and nothing may join it so."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        with open(f"{path}/{file}", encoding="utf-8") as own:
            if own.read().strip():
                continue
        with open(f"{os.path.dirname(path)}/{file}", encoding="utf-8") as parent:
            write(path, file, parent.read().strip())


def write(directory: str, file: str, *values: str) -> None:
    """Each value by a write(2) of its own, as these files want it."""
    value = values[0]
    try:
        fd = os.open(f"{directory}/{file}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            for value in values:
                os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise Error(f"cannot write '{value}' to", f"{directory}/{file}", error) from None


def remove(path: str) -> None:
    """rmdir, waiting for members that are dying."""
    for pause in (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
        if pause:
            time.sleep(pause)
        try:
            return os.rmdir(path)
        except FileNotFoundError:
            return
        except OSError as error:
            last = error
    raise Error("cannot remove cgroup", path, last)


def not_joined(file: str) -> tuple[str, None]:
    """What it is that a process cannot be put into a group, in the words of runc, which its callers know."""
    return f"cannot join cgroup: adding pid 0 to cgroups: {os.path.dirname(file)}/cgroup.procs", None
