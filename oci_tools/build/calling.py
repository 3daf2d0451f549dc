"""Other commands of the house, called by their contract: words, descriptors, an exit code.

A build is given `call(words, fds)`: `cmd/build.py` has a warm forker for RUN, other commands are executed.
"""

from __future__ import annotations

import os
import sys

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn, Protocol

    class Begun(Protocol):
        """A command that runs; `wait` gives its exit code, as a shell says it."""

        def wait(self) -> int: ...

    # words; descriptors of the child -> ours
    Call = Callable[[Sequence[str], Mapping[int, int]], Begun]


IN_CHROOT = "--in-chroot"  # `oci-build --in-chroot BUNDLE`, which only a build calls: runtime/chrooted.py


class Child:
    """A child process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def wait(self) -> int:
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return code if code >= 0 else 128 - code


def execute(words: Sequence[str], fds: Mapping[int, int]) -> Child:
    """Start `oci-WORD WORDS...` with these descriptors, in a process group of its own.

    A Ctrl-C of the terminal is then for us alone, who know what has to be ended and in which order.
    """
    path = program(words[0])
    actions = [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in fds.items()]
    try:
        return Child(os.posix_spawn(path, [path, *words[1:]], os.environ, file_actions=actions, setpgroup=0))
    except OSError as error:
        raise Error("cannot execute", path, error) from None


def program(name: str) -> str:
    """The path of a command beside ours."""
    return f"{os.path.dirname(os.path.realpath(sys.argv[0]))}/oci-{name}"


def become(words: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Be another command from now on."""
    path = program(words[0])
    try:
        os.execve(path, [path, *words[1:]], env)
    except OSError as error:
        raise Error("cannot execute", path, error) from None


def end(call: Call, container: str) -> None:
    """End a container, and forget it; one that has ended is fine."""
    try:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        begun = call(["run", "delete", "--force", container], {0: null, 1: null, 2: null})
        os.close(null)
        begun.wait()
    except (Error, OSError):
        pass


def output(call: Call, words: Sequence[str], path: str = "/dev/null") -> str:
    """What a command prints that reads the file `path`; an Error with its last line where it fails."""
    given = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    error_reader, error_writer = os.pipe2(os.O_CLOEXEC)
    try:
        begun = call(words, {0: given, 1: writer, 2: error_writer})
    finally:
        for fd in (given, writer, error_writer):
            os.close(fd)
    said, wrong = drain([reader, error_reader], lambda at, data: None)
    code = begun.wait()
    if code:
        line = (wrong.decode("utf-8", "replace").strip().split("\n") or [""])[-1]
        line = line.removeprefix(f"oci-{words[0]}: ") or f"oci-{words[0]} ended with code {code}"
        raise Error(line, code=75 if code == 75 else 1)
    return said.decode("utf-8", "surrogateescape")


def drain(fds: Sequence[int], told: Callable[[int, bytes], None]) -> list[bytes]:
    """Read descriptors to their ends, and close them; `told` hears each piece as it comes."""
    import select

    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    parts: dict[int, list[bytes]] = {fd: [] for fd in fds}
    left = set(fds)
    while left:
        for fd, _ in poll.poll():
            data = os.read(fd, 1 << 16)
            if data:
                parts[fd].append(data)
                told(list(fds).index(fd), data)
            else:
                poll.unregister(fd)
                left.discard(fd)
                os.close(fd)
    return [b"".join(parts[fd]) for fd in fds]
