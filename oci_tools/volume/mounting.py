"""Volumes with a file system of their own: mounted at `_data` while a container uses them, and no longer.

The first container's start mounts it, under the lock of the volume's directory, and the last one's end unmounts
it, as docker's local driver does; what a killed process left mounted is unmounted by the next end, or by `rm`.
Of a plain user, who cannot mount for others, only a tmpfs can be had: in each container its own (container/).
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools import volume as volumes
from oci_tools.errors import Busy, Error, reason
from oci_tools.linux import loop, mount
from oci_tools.volume import backing, room, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# word of `o` -> (bits to clear, bits to set) of mount(2)
_FLAGS = {
    "ro": (0, mount.MS_RDONLY), "rw": (mount.MS_RDONLY, 0), "nosuid": (0, mount.MS_NOSUID),
    "suid": (mount.MS_NOSUID, 0), "nodev": (0, mount.MS_NODEV), "dev": (mount.MS_NODEV, 0),
    "noexec": (0, mount.MS_NOEXEC), "exec": (mount.MS_NOEXEC, 0), "sync": (0, mount.MS_SYNCHRONOUS),
    "async": (mount.MS_SYNCHRONOUS, 0), "dirsync": (0, mount.MS_DIRSYNC), "noatime": (0, mount.MS_NOATIME),
    "atime": (mount.MS_NOATIME, 0), "nodiratime": (0, mount.MS_NODIRATIME), "diratime": (mount.MS_NODIRATIME, 0),
    "relatime": (0, mount.MS_RELATIME), "norelatime": (mount.MS_RELATIME, 0),
    "strictatime": (0, mount.MS_STRICTATIME), "nostrictatime": (mount.MS_STRICTATIME, 0),
    "lazytime": (0, mount.MS_LAZYTIME), "defaults": (0, 0),
}  # fmt: skip
_SMB = ("cifs", "smb3")
_REMOTE = ("nfs", "nfs4", *_SMB)
_CREDENTIALS = {"username": "username", "user": "username", "password": "password", "pass": "password",
                "password2": "password2", "domain": "domain", "dom": "domain"}  # fmt: skip


def needs(volume: volumes.Volume) -> bool:
    """Whether a volume's files are there only while something is mounted."""
    return volume.backing.kind == "mount" or os.path.exists(f"{volume.path}/{room.DISK}")


def ready(names: Iterable[str]) -> None:
    """Have what these volumes need mounted."""
    for name in names:
        volume = volumes.load(name)
        if needs(volume):
            # Who reads in it all the while holds a shared lock too.
            with fs.Lock(volume.path, shared=True):
                if is_mounted(volume):
                    continue
            with fs.Lock(volume.path):
                if not is_mounted(volume):
                    _mount(volume)
        elif volume.backing.kind == "bind" and not os.path.isdir(volume.data):
            raise Error("cannot use volume", name, f"its device '{volume.data}' is not a directory")


def release(names: Iterable[str], but: str = "") -> None:
    """Unmount what no running container uses any more, the container `but` aside."""
    used = users.all_users() if names else {}
    for name in names:
        volume = volumes.find(name)
        if volume is None or not needs(volume) or not is_mounted(volume):
            continue
        try:
            with fs.Lock(volume.path, timeout=0):
                if not users.running(one for one in used.get(name, ()) if one != but):
                    unmount(volume)
        except Busy:
            pass  # whoever holds it comes here at its own end


def is_mounted(volume: volumes.Volume) -> bool:
    return os.path.ismount(f"{volume.path}/_data")


def check_mounted(volume: volumes.Volume) -> None:
    """An Error if somebody has unmounted it meanwhile."""
    if needs(volume) and not is_mounted(volume):
        raise Busy("cannot use volume", volume.name, "it was unmounted meanwhile")


def unmount(volume: volumes.Volume) -> None:
    """Unmount it, however often it was mounted."""
    unmount_at(f"{volume.path}/_data", volume.name)


def unmount_at(path: str, name: str) -> None:
    try:
        while os.path.ismount(path):
            mount.umount2(path, mount.UMOUNT_NOFOLLOW | mount.MNT_DETACH)
    except OSError as error:
        raise Error("cannot unmount volume", name, error) from None


def _mount(volume: volumes.Volume) -> None:
    if os.geteuid() != 0:
        raise Error("cannot mount volume", volume.name, "only root can")
    made, target = volume.backing, f"{volume.path}/_data"
    try:
        if made.kind == "mount":
            flags, data = parse(made)
            mount.mount(made.device, target, made.type, flags, data or None)
            return
        _mount_disk(f"{volume.path}/{room.DISK}", target)
    except OSError as error:
        told = f"{made.type} '{made.device}': " if made.kind == "mount" else ""
        raise Error("cannot mount volume", volume.name, f"{told}{reason(error)}") from None


def _mount_disk(disk: str, target: str) -> None:
    fd, device = loop.attach(disk)
    try:
        mount.mount(device, target, "ext4", 0, None)
    finally:
        os.close(fd)


def exchange(volume: volumes.Volume, disk: str) -> None:
    """Let a volume that nobody uses have another file system, in the file `disk`."""
    with fs.Lock(volume.path):
        unmount(volume)
        try:
            os.rename(disk, f"{volume.path}/{room.DISK}")
        except OSError as error:
            raise Error("cannot import volume", volume.name, error) from None


class Disk:
    """The file system in `disk`, which is nobody's yet, mounted at `target` for a `with` block."""

    def __init__(self, disk: str, target: str) -> None:
        self._disk, self._target = disk, target

    def __enter__(self) -> None:
        try:
            _mount_disk(self._disk, self._target)
        except OSError as error:
            raise Error("cannot mount", self._disk, error) from None

    def __exit__(self, *_: object) -> None:
        mount.umount2(self._target, mount.UMOUNT_NOFOLLOW)


def parse(made: backing.Backing) -> tuple[int, str]:
    """The flags and data of mount(2): of a remote host's name, as docker does, its address now."""
    flags, data = 0, []
    for word in made.words:
        if word in _FLAGS:
            clear, bits = _FLAGS[word]
            flags = flags & ~clear | bits
        elif word.startswith("addr=") and made.type in _REMOTE:
            data.append(f"addr={_address(word[5:])}")
        elif word.startswith("credentials=") and made.type in _SMB:
            data += _credentials(word.partition("=")[2])
        else:
            data.append(word)
    return flags, ",".join(data)


def _credentials(path: str) -> list[str]:
    """The words that a file stands for, which no kernel reads: a NAME=VALUE a line, as mount.cifs(8) has it."""
    try:
        with open(path, encoding="utf-8") as file:
            pairs = [line.strip().partition("=") for line in file if "=" in line and not line.lstrip().startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise Error("cannot read credentials", path, error) from None
    known = [(_CREDENTIALS.get(name.strip().lower()), value) for name, _, value in pairs]
    return [f"{name}={value.replace(',', ',,')}" for name, value in known if name]


def _address(host: str) -> str:
    import socket

    try:
        return str(socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)[0][4][0])
    except OSError as error:
        raise Error("cannot find host", host, error.strerror or "no address") from None
