"""`wait`: until something is true of a container.

    stopped      it has ended, and is not about to be started again; one that waits to be started is awaited
    not-running  the same, but what does not run now has nothing to wait for: docker's default
    next-exit    it ends, from now on, whether it is started again or not
    removed      it is no more
    healthy      its health check says so; an Error if it ends, or has none
"""

from __future__ import annotations

from oci_tools import document
from oci_tools.container import ending, names
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def until(root: str, container: str, condition: str) -> str:
    """Wait, and what is to be printed: the exit code, or the condition."""
    with ending.Ending(root, container) as watched:
        if condition == "healthy":
            return _healthy(watched)
        if condition == "next-exit":
            return str(_next_exit(watched))
        if condition == "not-running" and watched.pidfd < 0 and watched.keeper < 0:
            return str(names.exit_code(container) or 0)
        code = watched.code() if condition != "removed" or watched.pidfd >= 0 else names.exit_code(container) or 0
        if condition == "removed":
            watched.removed()
    if code is None:
        raise Error("the exit code is not known", container, "nobody was there when it ended")
    return str(code)


def _healthy(watched: ending.Ending) -> str:
    if not names.policy(watched.id).get("health"):
        raise Error("cannot wait for container to be healthy", watched.id, "it has no health check")
    while _status(watched) != "healthy":
        if watched.over or watched.told:
            raise Error("container is not healthy", watched.id, "it has ended")
        watched.turn({})
    return "healthy"


def _status(watched: ending.Ending) -> str:
    try:
        return str(document.load(f"{watched.path}/health.json")["Status"])
    except Error:
        return "starting"


def _next_exit(watched: ending.Ending) -> int:
    def finished() -> Any:
        return names.end(watched.id).get("finished")

    before = finished()
    while finished() in (None, before):
        if watched.over and finished() == before:
            raise Error("container does not run", watched.id)
        watched.turn({})
    code = names.end(watched.id)["code"]
    if code is None:
        raise Error("the exit code is not known", watched.id, "nobody was there when it ended")
    return int(code)
