"""Work that is done in a process of its own: what it gives, plain values, or its Error comes back.

    with Beside(work) as beside: ...; beside.result()
    seeing(work)    in one that may read all that is the user's own
    tell(work)      in such a process: plain values, which `result` makes a value or an Error of again
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Error, reason
from oci_tools.linux import libc, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Beside:
    """A process that works while this one goes on; it ends with this one, or at the end of the `with` block."""

    def __init__(self, work: Callable[[], Any]) -> None:
        import marshal

        self._fd, out = os.pipe2(os.O_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(self._fd)
                libc.call("prctl", 1, 9)  # PR_SET_PDEATHSIG, SIGKILL
                fs.write_all(out, marshal.dumps(tell(work)))
            finally:
                os._exit(0)
        os.close(out)

    def result(self) -> Any:
        """What came of it; waits."""
        import marshal

        with open(self._fd, "rb", closefd=False) as file:
            data = file.read()
        return result(marshal.loads(data) if data else ("died",))

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until it has ended: who wants that it ends early tells it so before."""
        os.close(self._fd)
        os.waitpid(self._pid, 0)


def seeing(work: Callable[[], Any]) -> Any:
    """The result of `work` by who may read and enter all that is the user's own, whatever its mode.

    A plain user may in a user namespace in which he stays who he is, capabilities(7); where he can have none, it is
    done here.
    """
    if os.geteuid() == 0:
        return work()
    with Beside(lambda: [work()] if _sees() else None) as beside:
        found = beside.result()
    return found[0] if found else work()


def _sees() -> bool:
    maps = [(f"{kind}_map", f"{at} {at} 1") for kind, at in (("gid", os.getegid()), ("uid", os.geteuid()))]
    try:
        process.unshare(process.CLONE_NEWUSER)
        process.prctl(process.PR_SET_PDEATHSIG, 9)  # SIGKILL; unshare(2) took it back
        for name, text in (("setgroups", "deny"), *maps):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    except OSError:
        return False
    return True


def tell(work: Callable[[], Any]) -> tuple[Any, ...]:
    """Do the work; what there is to tell of it."""
    try:
        return ("done", work())
    except Error as error:
        subject = None if error.subject is None else str(Error("", error.subject))[2:-1]
        cause = None if error.cause is None else reason(error.cause)
        return ("error", error.what, subject, cause, error.hint, error.code)
    except KeyboardInterrupt:
        return ("error", "interrupted", None, None, None, 130)
    except BaseException:
        import traceback

        return ("bug", traceback.format_exc())


def result(said: tuple[Any, ...]) -> Any:
    """The value, or the Error."""
    if said[0] == "done":
        return said[1]
    if said[0] == "error":
        raise Error(*said[1:])
    if said[0] == "bug":
        raise RuntimeError(said[1])
    raise Error("cannot work in a process of its own", None, "it was killed")
