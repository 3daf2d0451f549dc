"""`top`: the processes of a container as the host's ps(1) shows them: its lines are chosen by their column PID."""

from __future__ import annotations

import os

from oci_tools.errors import Error, missing
from oci_tools.runtime import lifecycle, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

USUAL = ["-ef"]
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def lines(root: str, container: str, words: list[str]) -> Iterator[str]:
    """The header, then a line for each process of the container."""
    known = state.load(root, container) if os.path.isdir(state.directory(root, container)) else None
    if known is None or state.status(root, known) == "stopped":
        raise Error("cannot list processes of container", container, "it is not running")
    pids = {str(pid) for pid in lifecycle.processes(root, container)}
    header, *rest = _ps(words or USUAL) or [""]
    columns = header.split()
    if "PID" not in columns:
        raise Error("cannot list processes", " ".join(words), "ps shows no column PID", "-o pid,...")
    at = columns.index("PID")
    yield header
    for line in rest:
        fields = line.split()
        if len(fields) > at and fields[at] in pids:
            yield line


def _ps(words: list[str]) -> list[str]:
    """What the host's ps prints."""
    program = next((f"{place}/ps" for place in _PATH.split(":") if os.access(f"{place}/ps", os.X_OK)), None)
    if program is None:
        raise missing("ps", "cannot list processes")
    reader, writer = os.pipe2(os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, writer, 1)]
    try:
        pid = os.posix_spawn(program, ["ps", *words], {"PATH": _PATH, "LC_ALL": "C"}, file_actions=actions)
    finally:
        os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as pipe:
        text = pipe.read()
    if os.waitpid(pid, 0)[1]:
        raise Error("cannot list processes", " ".join(words), "ps refuses that")
    return text.splitlines()
