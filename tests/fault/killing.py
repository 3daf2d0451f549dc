"""The system calls of a command that change the world, and a kill -9 at one of them: by strace.

    calls = trace(words, ...)        the names of all of them in order
    kill(words, calls, at, ...)      the same words, killed as the call calls[at] is made; the exit code

strace counts the calls of each process by itself, and kills the first that comes to the number it is told.  So of
several processes, those calls are listed that such a number means: each process's that none before has made as often.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

CALLS = (
    "mkdir,mkdirat,openat,rename,renameat,renameat2,unlink,unlinkat,rmdir,symlink,symlinkat,link,linkat,mknod,mknodat,"
    "write,pwrite64,sendfile,copy_file_range,ftruncate,fallocate,chmod,fchmod,fchmodat,chown,fchown,fchownat,lchown,"
    "setxattr,lsetxattr,fsetxattr,utimensat,fsync,fdatasync,syncfs,flock,mount,move_mount,umount2,setns,unshare,ioctl"
)
_READING = ("O_RDONLY", "O_PATH")


def trace(words: list[Any], log: Path, **more: Any) -> list[str]:
    """Run a command to its end; what it called, and what it opened only to read is nothing."""
    done = _strace(words, log, (), **more)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{(done.stderr or b'').decode()}"
    found: list[str] = []
    own: Counter[tuple[str, str]] = Counter()
    most: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        pid, _, call = line.partition(" ") if line[:1].isdigit() else ("", "", line)
        name = call.strip().partition("(")[0] if "(" in call else ""
        if name and not name.startswith(("<", "+", "-")):
            own[pid, name] += 1
            if own[pid, name] > most[name]:
                most[name] += 1
                found.append(f"-{name}" if _reads(name, call) else name)
    return found


def _reads(name: str, call: str) -> bool:
    if name == "openat":
        return any(flag in call for flag in _READING) and "O_CREAT" not in call
    return name == "ioctl" and "FICLONE" not in call


def points(calls: list[str]) -> list[int]:
    """Where it is worth to kill: at every call that changes something."""
    return [at for at, name in enumerate(calls) if not name.startswith("-")]


def kill(words: list[Any], calls: list[str], at: int, log: Path, **more: Any) -> int:
    """Killed at its `at`th call; 0 if it came to its end: where several processes race, it makes others at times."""
    name = calls[at].removeprefix("-")
    when = sum(1 for each in calls[: at + 1] if each.removeprefix("-") == name)
    return _strace(words, log, ("-e", f"inject={name}:signal=KILL:when={when}"), **more).returncode


def _strace(
    words: list[Any], log: Path, how: tuple[str, ...], names: str = CALLS, whole: bool = True, **more: Any
) -> subprocess.CompletedProcess[bytes]:
    """`names` are the calls, `whole` says whether those of all processes that it has made count."""
    line = ["strace", *["-f"] * whole, "-qqq", "-o", log, "-e", f"trace={names}", *how, *words]
    return subprocess.run(line, **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more})
