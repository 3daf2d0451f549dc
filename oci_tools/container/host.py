"""What the options of a container ask of the world, in one place, so that all else about them is pure."""

from __future__ import annotations

import os
import stat

from oci_tools.errors import Error
from oci_tools.linux import caps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oci_tools.runtime.user import Read

MAX_FILE = 1 << 20  # bytes of a file of variables


class Device:
    """A device node of the host."""

    def __init__(self, path: str, seen: os.stat_result) -> None:
        self.path = path
        self.kind = "b" if stat.S_ISBLK(seen.st_mode) else "c"
        self.major = os.major(seen.st_rdev)
        self.minor = os.minor(seen.st_rdev)
        self.mode = stat.S_IMODE(seen.st_mode) & 0o777
        self.uid = seen.st_uid
        self.gid = seen.st_gid


class Host:
    """The host as it is; `rootfs` is where the image's users are looked up."""

    def __init__(self, rootfs: int | str | Read | None = None) -> None:
        self.rootfs = rootfs
        self.environ: Mapping[str, str] = os.environ
        self.rootless = os.geteuid() != 0

    def text(self, path: str) -> str:
        """The text of a file that the caller names."""
        try:
            with open(path, "rb", buffering=0) as file:
                data = file.read(MAX_FILE + 1)
        except OSError as error:
            raise Error("cannot read", path, error) from None
        if len(data) > MAX_FILE:
            raise Error("cannot read", path, f"larger than {MAX_FILE} bytes")
        return data.decode("utf-8", "surrogateescape")

    def absolute(self, path: str) -> str:
        return os.path.abspath(os.path.expanduser(path))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def hostname(self) -> str:
        return os.uname().nodename

    def cpus(self) -> int:
        return os.cpu_count() or 1

    def capabilities(self) -> list[str]:
        """All that this process could hand on: its bounding set."""
        have = caps.bounding()
        return [name for number, name in enumerate(caps.NAMES) if have >> number & 1]

    def devices(self, path: str) -> list[Device]:
        """The device at `path`, or those in the directory there, sorted by name."""
        try:
            seen = os.stat(path)
        except OSError as error:
            raise Error("cannot use device", path, error) from None
        if stat.S_ISDIR(seen.st_mode):
            return sorted(self._below(path), key=lambda device: device.path)
        if not (stat.S_ISCHR(seen.st_mode) or stat.S_ISBLK(seen.st_mode)):
            raise Error("cannot use device", path, "not a device node")
        return [Device(path, seen)]

    def _below(self, directory: str) -> Iterator[Device]:
        # What a container has its own of is not the host's to give (moby, HostDevices).
        for entry in os.scandir(directory):
            if entry.name in ("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"):
                continue
            try:
                seen = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # gone meanwhile
            if stat.S_ISDIR(seen.st_mode):
                yield from self._below(entry.path)
            elif stat.S_ISCHR(seen.st_mode) or stat.S_ISBLK(seen.st_mode):
                yield Device(entry.path, seen)
