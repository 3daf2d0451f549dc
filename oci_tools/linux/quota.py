"""Project quotas: ioctl_xfs_fsgetxattr(2), quotactl_fd(2) (Linux 5.14), which xfs and ext4 understand."""

from __future__ import annotations

import fcntl
import os
import struct

from oci_tools.linux import caps, libc

FS_IOC_FSGETXATTR = 0x801C581F
FS_IOC_FSSETXATTR = 0x401C5820
FS_XFLAG_PROJINHERIT = 0x200
PRJQUOTA = 2
Q_GETQUOTA = 0x800007
Q_SETQUOTA = 0x800008
Q_XGETQSTATV = 0x5808
FS_QUOTA_PDQ_ENFD = 1 << 5
QIF_BLIMITS = 1
QIF_ILIMITS = 4
_BLOCK = 1024  # bytes in which limits are counted
_XATTR = struct.Struct("IIIII8x")  # fsxattr: xflags, extsize, nextents, projid, cowextsize
_DQBLK = struct.Struct("8QI4x")  # if_dqblk: hard, soft, used blocks; hard, soft, used inodes; times; valid


def enforced(path: str) -> bool:
    """Whether the file system of a directory limits projects."""
    held = libc.hold(bytes((1,)) + bytes(255))  # fs_quota_statv, version 1
    try:
        _quotactl(path, Q_XGETQSTATV, 0, held)
    except OSError:
        return False
    return bool(int.from_bytes(bytes(held)[2:4], "little") & FS_QUOTA_PDQ_ENFD)


def set_project(path: str, project: int) -> None:
    """Let a directory, and what will be made in it, belong to a project."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        data = bytearray(_XATTR.size)
        fcntl.ioctl(fd, FS_IOC_FSGETXATTR, data)
        flags, extent, count, _, cow = _XATTR.unpack(data)
        fcntl.ioctl(fd, FS_IOC_FSSETXATTR, _XATTR.pack(flags | FS_XFLAG_PROJINHERIT, extent, count, project, cow))
    finally:
        os.close(fd)


def set_limits(path: str, project: int, size: int, inodes: int) -> None:
    """How many bytes and files a project may have; 0: any."""
    blocks = -(-size // _BLOCK)
    held = libc.hold(_DQBLK.pack(blocks, blocks, 0, inodes, inodes, 0, 0, 0, QIF_BLIMITS | QIF_ILIMITS))
    _quotactl(path, Q_SETQUOTA, project, held)


def usage(path: str, project: int) -> tuple[int, int]:
    """Bytes that a project has, and may have."""
    held = libc.hold(bytes(_DQBLK.size))
    _quotactl(path, Q_GETQUOTA, project, held)
    hard, _, used, *_ = _DQBLK.unpack(bytes(held))
    return used, hard * _BLOCK


class Obeyed:
    """For a `with` block our own writing is limited too: ext4 lets who has CAP_SYS_RESOURCE pass."""

    def __enter__(self) -> None:
        self._had = caps.capget()
        effective, permitted, inheritable = self._had
        caps.capset(effective & ~(1 << caps.NAMES.index("CAP_SYS_RESOURCE")), permitted, inheritable)

    def __exit__(self, *_: object) -> None:
        caps.capset(*self._had)


def _quotactl(path: str, command: int, number: int, held: object) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc.call("quotactl_fd", fd, command << 8 | PRJQUOTA, number, libc.address(held))
    finally:
        os.close(fd)
