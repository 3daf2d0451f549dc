"""The program that is executed: found as execvp(3) does; and why the kernel will not execute one that is there.

execve(2) says "no such file or directory" of a program whose interpreter is missing (the word after #!, the loader of
a dynamic executable), and "exec format error" of all that it does not know.  Formats: execve(2), elf(5).
"""

from __future__ import annotations

import os
import stat
import sys

from oci_tools.errors import Error

_ENOENT, _ENOEXEC, _ENOTDIR = 2, 8, 20  # without loading `errno`: this is on the way of every start
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NESTED = 5  # interpreters that are scripts themselves, as deep as the kernel goes
_PT_INTERP = 3
# e_machine of elf(5): an image's architecture, and uname(2)'s word for it
_MACHINES = {
    3: ("386", "i686"), 21: ("ppc64le", "ppc64le"), 22: ("s390x", "s390x"), 40: ("arm", "armv7l"),
    62: ("amd64", "x86_64"), 183: ("arm64", "aarch64"), 243: ("riscv64", "riscv64"), 258: ("loong64", "loongarch64"),
}  # fmt: skip


def find(name: str, environ: dict[str, str]) -> str:
    """The program that execvp(3) would run; exit codes 127 and 126 are the engines' words."""
    if "/" in name:
        _check(name, name)
        return name
    denied = False
    for directory in environ.get("PATH", "").split(":") if name else ():
        path = f"{directory or '.'}/{name}"
        try:
            _check(path, name)
            return path
        except Error as error:
            denied = denied or error.code == 126
    if denied:
        raise refused(name, PermissionError(13, os.strerror(13)))
    raise Error(f'exec: "{name}": executable file not found in $PATH', code=127)


def _check(path: str, name: str) -> None:
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(21, os.strerror(21))
        # faccessat2(2), and what older profiles of seccomp know: our ids are all the same by now.
        if not os.access(path, os.X_OK, effective_ids=True) and not os.access(path, os.X_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        raise refused(name, error) from None


def refused(name: str, error: OSError, tried: bool = False) -> Error:
    """An execve(2) that would fail, or was `tried`, in Go's words: 127 not there, 126 there but not to be executed."""
    code = 127 if error.errno in (_ENOENT, _ENOTDIR) else 126
    if tried:
        return Error(f"exec {name}", None, error, _why(name, error), code)
    return Error(f'exec: "{name}"', None, error, code=code)


def _why(path: str, error: OSError) -> str | None:
    """What is wrong with a program that is there; None if that is not known.  It is as hostile as its image."""
    head = _head(path)
    if head is None:
        return None
    if error.errno == _ENOENT:
        return _missing(head)
    return _unknown(head) if error.errno == _ENOEXEC else None


def _head(path: str | bytes) -> bytes | None:
    try:
        fd = os.open(path, _READ)
    except OSError:
        return None
    try:
        return os.read(fd, 4096) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except OSError:
        return None
    finally:
        os.close(fd)


def _missing(head: bytes) -> str | None:
    for _ in range(_NESTED):
        name = _interpreter(head)
        if not name:
            return None
        if not os.path.exists(name):
            dos = name.endswith(b"\r") and os.path.exists(name[:-1])
            why = ": its lines end with carriage returns" if dos else ""
            return f'no interpreter "{os.fsdecode(name)}"{why}'
        found = _head(name)
        if found is None:
            return None
        head = found
    return None


def _interpreter(head: bytes) -> bytes:
    """The program that executes it; empty where it needs none, or does not say."""
    if head.startswith(b"#!"):
        line = head[2:].split(b"\n", 1)[0].replace(b"\t", b" ")
        return line.strip(b" ").split(b" ", 1)[0]
    if not head.startswith(b"\x7fELF"):
        return b""
    word = 8 if head[4:5] == b"\2" else 4
    table = _number(head, 24 + word, word)
    size, count = (_number(head, 30 + 3 * word + at, 2) for at in (0, 2))
    for header in range(table, min(table + size * count, len(head)), size or 1):
        if _number(head, header, 4) == _PT_INTERP:
            start, length = (_number(head, header + at * word, word) for at in (1, 4))
            return head[start : start + length].rstrip(b"\0")
    return b""


def _number(head: bytes, at: int, size: int) -> int:
    return int.from_bytes(head[at : at + size], sys.byteorder)


def _unknown(head: bytes) -> str | None:
    if not head:
        return "it is empty"
    if not head.startswith(b"\x7fELF"):
        return None if head.startswith(b"#!") else "it is no executable, and has no #! line"
    name, ours = _MACHINES.get(_number(head, 18, 2), ("", ""))
    return f"it is for {name}: --platform takes another image" if name and ours != os.uname().machine else None
