"""`unshare`: a command in a user namespace like that of one's own rootless containers.

Where a plain user is root over what the containers made: files of subordinate ids can be looked at,
changed and removed there.  The ids are those of ids.py; with a mount namespace of its own.  Root within
a container that may mount nothing gets all ids that he has.
"""

from __future__ import annotations

import errno
import os

from oci_tools.errors import Error
from oci_tools.linux import process
from oci_tools.runtime import apart, child, executable, ids, namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(args: Any, _: str) -> int:
    """The verb: does not return where the command could be executed, except for its parent, with its exit code."""
    if os.geteuid() == 0 and apart.may_mount():
        raise Error("cannot unshare", None, "root's containers are in no user namespace of its own", "nsenter(1)")
    words = args.cmd or [os.environ.get("SHELL") or "/bin/sh"]
    program = executable.find(words[0], dict(os.environ))
    maps = ids.of_user() if os.geteuid() else {name: _same(name) for name in ("uid_map", "gid_map")}
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = process.clone3(process.CLONE_NEWUSER | process.CLONE_NEWNS)
    except OSError as error:
        why = "a container's system call filter may refuse it" if error.errno in (errno.ENOSYS, errno.EPERM) else None
        raise Error("cannot make a user namespace", None, error, why) from None
    if pid == 0:
        _become(reader, writer, program, words)
    os.close(reader)
    try:
        _map(pid, maps)
        os.write(writer, b"1")
    finally:
        os.close(writer)  # without a word: the child ends
    from oci_tools.runtime import foreground

    with foreground.Signals() as signals:
        return foreground.wait(pidfd, pid, -1, signals)


def _map(pid: int, maps: dict[str, list[dict[str, int]]]) -> None:
    """Give the namespace its ids; one id where newuidmap(1) may give no others, as with no new privileges."""
    try:
        namespaces.map_ids(pid, maps)
    except Error as error:
        with open(f"/proc/{pid}/uid_map", encoding="utf-8") as file:
            if file.read().strip() or sum(entry["size"] for entry in maps["uid_map"]) == 1:
                raise
        os.write(2, f"oci-run: warning: {error}: there is one id\n".encode())
        one = {name: [{**entries[0], "size": 1}] for name, entries in maps.items()}
        if os.geteuid() == 0:  # without CAP_SETGID: as a plain user does
            namespaces.deny_groups(pid)
        namespaces.map_ids(pid, one)


def _same(name: str) -> list[dict[str, int]]:
    """All ids that there are, as they are: for who is root within a container."""
    with open(f"/proc/self/{name}", encoding="utf-8") as file:
        rows = [[int(word) for word in line.split()] for line in file]
    return [{"containerID": inside, "hostID": inside, "size": size} for inside, _, size in rows]


def _become(reader: int, writer: int, program: str, words: list[str]) -> None:
    try:
        os.close(writer)
        if os.read(reader, 1):
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            child.reset_signals()
            os.execve(program, words, os.environ)
    except OSError as error:
        os.write(2, f"oci-run: {executable.refused(words[0], error)}\n".encode())
    os._exit(126)
