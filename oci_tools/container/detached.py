"""`-d` in its simple form: a process of our own stays with the container until it has ended.

It holds the container's lock, keeps its output in `log/`, records its end in `exit.json`, and removes
it if that was asked for.  Not here: restarting, attaching, rotated logs (room `engine`).
"""

from __future__ import annotations

import os

from oci_tools.errors import Error
from oci_tools.runtime import launch, lifecycle, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.container.place import Place


def run(root: str, held: Place, spec: dict[str, Any]) -> int:
    """Start the container, print its id, and leave it to the process that stays."""
    keep, held.keep = held.keep, True  # what happens to it is not up to this process any more
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _stay(root, held, spec, keep, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    if said[:3] != b"ok\n":
        held.keep = False
        os.waitpid(pid, 0)
        code, _, text = said.decode("utf-8", "replace").partition(" ")
        raise Error(text or "the container's process ended unexpectedly", code=int(code or 1))
    print(held.id)
    return 0


def _stay(root: str, held: Place, spec: dict[str, Any], keep: bool, writer: int) -> None:
    """The process that stays.  Does not return."""
    try:
        _let_go(held)
        lifecycle.run(root, held.id, held.bundle, spec, launch.Options(detach=True))
        pid = state.load(root, held.id)["pid"]
        os.write(writer, b"ok\n")
    except BaseException as error:
        os.write(writer, f"{getattr(error, 'code', 1)} {error}".encode("utf-8", "replace"))
        os._exit(1)
    try:
        os.close(writer)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        held.ended(code if code >= 0 else 128 - code)
        lifecycle.delete(root, held.id, force=True)
        if not keep:
            held.remove()
    finally:
        os._exit(0)


def _let_go(held: Place) -> None:
    """Leave the caller's session, directory and streams."""
    os.setsid()
    os.chdir("/")
    os.mkdir(f"{held.path}/log", 0o700)
    for fd, name in ((0, "/dev/null"), (1, f"{held.path}/log/stdout"), (2, f"{held.path}/log/stderr")):
        flags = os.O_RDONLY if fd == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        opened = os.open(name, flags | os.O_CLOEXEC, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
