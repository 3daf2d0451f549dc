"""System calls that Python has no function for, through libc's syscall(2).

`import ctypes` costs 4 ms; the C module beneath it costs 0.4, so the few types
that are needed are made here.  Everything else in this room is a thin function
over `call`, named and ordered as the kernel's manual pages are.  Not for policy,
retries or messages: an error is an OSError with the errno and the path given.
"""

from __future__ import annotations

import _ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Pointer(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "P"  # takes an int, bytes or None


class _Byte(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class _Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long


_syscall = _Function(_ctypes.dlsym(_ctypes.dlopen(None, 0), "syscall"))  # type: ignore[arg-type]
_syscall.argtypes = (_Long,) + (_Pointer,) * 6

# Numbers from 424 on are the same everywhere; older ones are x86-64's, or the
# generic table's, which aarch64 and riscv64 share (asm-generic/unistd.h).
_X86_64 = {
    "ptrace": 101, "personality": 135, "pivot_root": 155, "prctl": 157, "setrlimit": 160, "mount": 165,
    "umount2": 166, "sethostname": 170, "setdomainname": 171, "capget": 125, "capset": 126,
    "ioprio_set": 251, "keyctl": 250, "unshare": 272, "fstatfs": 138, "prlimit64": 302, "setns": 308,
    "sched_setattr": 314,
    "seccomp": 317, "bpf": 321, "execveat": 322, "set_mempolicy": 238, "syncfs": 306, "copy_file_range": 326,
    "sync_file_range": 277,
    "name_to_handle_at": 303, "add_key": 248, "memfd_create": 319, "renameat2": 316, "inotify_init1": 294,
    "inotify_add_watch": 254, "inotify_rm_watch": 255,
}  # fmt: skip
_GENERIC = {
    "ptrace": 117, "personality": 92, "pivot_root": 41, "prctl": 167, "setrlimit": 164, "mount": 40,
    "umount2": 39, "sethostname": 161, "setdomainname": 162, "capget": 90, "capset": 91,
    "ioprio_set": 30, "keyctl": 219, "unshare": 97, "fstatfs": 44, "prlimit64": 261, "setns": 268, "sched_setattr": 274,
    "seccomp": 277, "bpf": 280, "execveat": 281, "set_mempolicy": 237, "syncfs": 267, "copy_file_range": 285,
    "sync_file_range": 84,
    "name_to_handle_at": 264, "add_key": 217, "memfd_create": 279, "renameat2": 276, "inotify_init1": 26,
    "inotify_add_watch": 27, "inotify_rm_watch": 28,
}  # fmt: skip
_NEW = {
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_send_signal": 424, "pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437,
    "pidfd_getfd": 438, "mount_setattr": 442, "quotactl_fd": 443, "set_mempolicy_home_node": 450,
}  # fmt: skip
NR = {**(_X86_64 if os.uname().machine == "x86_64" else _GENERIC), **_NEW}


def call(name: str, *args: int | bytes | None, subject: object = None) -> int:
    """Make the system call `name`; its result, or an OSError that carries `subject`."""
    result: int = _syscall(NR[name], *args, *(0,) * (6 - len(args)))
    if result < 0:
        errno = _ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), subject)
    return result


def string(text: str | bytes) -> bytes:
    """A C string: what the file system's encoding makes of it, without NUL inside."""
    data = os.fsencode(text)
    if b"\0" in data:
        raise OSError(22, os.strerror(22), text)
    return data  # bytes objects are NUL-terminated in memory


def buffer(size: int) -> Any:
    """`size` zeroed bytes that a call may write to; take `address` to pass, `bytes()` to read."""
    return type("buffer", (_ctypes.Array,), {"_type_": _Byte, "_length_": size})()


def hold(data: bytes | bytearray) -> Any:
    """A buffer with this content."""
    held = buffer(len(data))
    memoryview(held).cast("B")[:] = data
    return held


def address(held: Any) -> int:
    """Where a buffer lies in memory."""
    return int(_ctypes.addressof(held))


M_ARENA_MAX = -8


def mallopt(param: int, value: int) -> None:
    """How libc allocates from now on, mallopt(3).  One that is not glibc has no such function, and its own ways."""
    try:
        found = _Function(_ctypes.dlsym(_ctypes.dlopen(None, 0), "mallopt"))  # type: ignore[arg-type]
    except OSError:
        return
    found.argtypes = (_Long, _Long)
    found(param, value)
