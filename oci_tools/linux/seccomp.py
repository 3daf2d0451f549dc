"""seccomp(2): filters on system calls, and the descriptor on which a supervisor hears of them."""

from __future__ import annotations

from struct import pack

from oci_tools.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_GET_ACTION_AVAIL = 2

SECCOMP_FILTER_FLAG_TSYNC = 1
SECCOMP_FILTER_FLAG_LOG = 2
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 32

# What a filter returns: an action in the upper 16 bits, its datum in the lower.
SECCOMP_RET_KILL_PROCESS = 0x80000000
SECCOMP_RET_KILL_THREAD = 0x00000000
SECCOMP_RET_TRAP = 0x00030000
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_USER_NOTIF = 0x7FC00000
SECCOMP_RET_TRACE = 0x7FF00000
SECCOMP_RET_LOG = 0x7FFC0000
SECCOMP_RET_ALLOW = 0x7FFF0000

_PR_SET_NO_NEW_PRIVS = 38


def no_new_privs() -> None:
    """No execve(2) gives more privileges from here on; without CAP_SYS_ADMIN a filter needs it."""
    libc.call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def sock_fprog(program: bytes) -> tuple[Any, Any]:
    """The struct that `set_mode_filter` takes, and the program it points to, held together."""
    held = libc.hold(program)  # struct sock_filter { u16 code; u8 jt, jf; u32 k; } []
    return libc.hold(pack("H6xQ", len(program) // 8, libc.address(held))), held


def set_mode_filter(fprog: tuple[Any, Any], flags: int) -> int:
    """Put a filter on this thread and its future children; the listener if the flags ask for one, else 0."""
    return libc.call("seccomp", SECCOMP_SET_MODE_FILTER, flags, libc.address(fprog[0]))


def action_available(action: int) -> bool:
    """Whether this kernel knows an action."""
    try:
        libc.call("seccomp", SECCOMP_GET_ACTION_AVAIL, 0, pack("I", action))
    except OSError:
        return False
    return True


def flags_supported(flags: int) -> bool:
    """Whether this kernel knows all of these: it looks at them before it looks for a program (EFAULT)."""
    try:
        libc.call("seccomp", SECCOMP_SET_MODE_FILTER, flags, None)
    except OSError as error:
        return error.errno == 14
    return False
