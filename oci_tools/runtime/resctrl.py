"""`linux.intelRdt`: a class of service of the processor's cache and memory bandwidth, as files of resctrl.

runtime-spec, "Intel RDT"; the kernel's resctrl.rst.  A class that the container names and that exists
is joined, one that it does not name is made for it under its id, and only what was made
is removed with it.  `plan` is pure.
"""

from __future__ import annotations

import os

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Plan = list[tuple[str, str, str]]  # "make", "write": a path below the mount, and what is written


def plan(wanted: dict[str, Any], name: str) -> Plan:
    """What is to be done for a container before its process runs; "PID" stands for that."""
    group = wanted.get("closID") or name
    lines = [line for line in (wanted.get("l3CacheSchema"), wanted.get("memBwSchema")) if line]
    lines += wanted.get("schemata") or ()
    steps: Plan = [("make", group, "")] if group != "/" else []
    if lines:
        steps.append(("write", _below(group, "schemata"), "".join(f"{line}\n" for line in lines)))
    steps.append(("write", _below(group, "tasks"), "PID"))
    if wanted.get("enableMonitoring"):
        monitor = _below(group, f"mon_groups/{name}")
        steps += [("make", monitor, ""), ("write", f"{monitor}/tasks", "PID")]
    return steps


def mountpoint() -> str:
    """Where resctrl is mounted; an Error if it is nowhere."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            if after.startswith("resctrl "):
                return before.split(" ")[4]
    raise Error("config.json: linux.intelRdt: no resctrl is mounted on this host")


def join(wanted: dict[str, Any], name: str, pid: int) -> dict[str, list[str]]:
    """Put a container's first process into its class: where others join it, and what was made."""
    top, steps = mountpoint(), plan(wanted, name)
    made = apply(steps, top, pid, existing=bool(wanted.get("closID")))
    return {"tasks": [f"{top}/{path}" for kind, path, _ in steps if path.endswith("tasks")], "made": made}


def follow(tasks: list[str], pid: int) -> None:
    """Put another process where the first is."""
    for path in tasks:
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(str(pid))
        except OSError as error:
            raise Error("cannot join", path, error) from None


def change(known: dict[str, Any], lines: list[str]) -> None:
    """Write new lines into the class of a container."""
    tasks = (known.get("resctrl") or {}).get("tasks") or [""]
    if not tasks[0]:
        raise Error("cannot update container", known["id"], "it was made without linux.intelRdt")
    path = f"{os.path.dirname(tasks[0])}/schemata"
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise Error("cannot write", path, error) from None


def apply(steps: Plan, top: str, pid: int, existing: bool) -> list[str]:
    """Do it; the directories that were made.

    existing  the class was named: one that is there already must say what `schemata` would be written
    """
    made: list[str] = []
    try:
        for kind, path, text in steps:
            full = f"{top}/{path}"
            if kind == "make":
                try:
                    os.mkdir(full, 0o755)
                    made.append(full)
                except FileExistsError:
                    if not existing:
                        raise
            elif path.endswith("schemata") and existing and not made:
                _compare(full, text)
            else:
                with open(full, "w", encoding="utf-8") as file:
                    file.write(str(pid) if text == "PID" else text)
    except OSError as error:
        remove(made)
        raise Error("config.json: linux.intelRdt: cannot use", error.filename, error) from None
    except Error:
        remove(made)
        raise
    return made


def remove(made: list[str]) -> None:
    """Remove what `apply` made, a monitoring group before its class; absent is fine."""
    for path in reversed(made):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise Error("cannot remove", path, error) from None


def _compare(path: str, text: str) -> None:
    """A class that others made is not changed: it must already be what is asked for."""
    with open(path, encoding="utf-8") as file:
        there = {"".join(line.split()) for line in file}
    missing = [line for line in text.splitlines() if "".join(line.split()) not in there]
    if missing:
        raise Error("config.json: linux.intelRdt: the class exists with other schemata", path)


def _below(group: str, file: str) -> str:
    return file if group == "/" else f"{group}/{file}"
