"""Capability sets of the calling thread: capget(2), capset(2), capabilities(7)."""

from __future__ import annotations

from struct import pack, unpack

from oci_tools.linux import libc
from oci_tools.linux.process import PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, PR_CAP_AMBIENT_RAISE
from oci_tools.linux.process import PR_CAPBSET_DROP, PR_CAPBSET_READ, prctl

# In the kernel's order: the index is the number (include/uapi/linux/capability.h).
NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip

_HEADER = pack("Ii", 0x20080522, 0)  # version 3: 64-bit sets, the calling thread


def capget() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) as bit sets."""
    data = libc.buffer(24)
    libc.call("capget", _HEADER, libc.address(data))
    low = unpack("6I", bytes(data))
    return low[0] | low[3] << 32, low[1] | low[4] << 32, low[2] | low[5] << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    sets = (effective, permitted, inheritable)
    libc.call("capset", _HEADER, pack("6I", *(s & 0xFFFFFFFF for s in sets), *(s >> 32 for s in sets)))


def bounding() -> int:
    """The bounding set; the kernel's last capability ends it."""
    found = 0
    for number in range(64):
        try:
            found |= prctl(PR_CAPBSET_READ, number) << number
        except OSError:
            break
    return found


def drop_bounding(number: int) -> None:
    prctl(PR_CAPBSET_DROP, number)


def raise_ambient(number: int) -> None:
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


def clear_ambient() -> None:
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
