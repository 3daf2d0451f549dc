"""The table of `ps` and `list` as runc prints them, for who reads those."""

from __future__ import annotations

import os

from oci_tools.errors import Error, missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def processes(pids: list[int], options: Sequence[str]) -> str:
    """What ps(1) says, with these options, of the processes with these pids and of no others."""
    lines = _ps([*options] or ["-ef"]).splitlines()
    if not lines or "PID" not in lines[0].split():
        raise Error("cannot find the column PID in what 'ps' prints", " ".join(options))
    at = lines[0].split().index("PID")
    wanted = {*map(str, pids)}
    kept = [line for line in lines[1:] if line.split()[at : at + 1] and line.split()[at] in wanted]
    return "".join(f"{line}\n" for line in [lines[0], *kept])


def _ps(words: list[str]) -> str:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    environment = {"PATH": os.defpath, **os.environ}
    try:
        pid = os.posix_spawnp("ps", ["ps", *words], environment, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    except FileNotFoundError:
        raise missing("ps", "cannot list processes", hint="--format json") from None
    finally:
        os.close(writer)
    with open(reader, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise Error("cannot run", "ps", f"exit status {code}")
    return text


def containers(found: list[dict[str, Any]]) -> str:
    """The states of containers in columns."""
    names = ("id", "pid", "status", "bundle", "created", "owner")
    rows = [[name.upper() for name in names], *([str(each[name]) for name in names] for each in found)]
    widths = [max(12, *(len(row[at]) + 3 for row in rows)) for at in range(len(names))]
    padded = ("".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in padded)
