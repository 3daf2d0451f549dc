"""How much a volume may hold: by a project quota where the file system has them (xfs, ext4), else by a file
system of its own in a sparse file, which takes no more room than it holds.

A project is a number that a directory hands on to all that is made in it: ioctl_xfs_fsgetxattr(2),
quotactl_fd(2).  Numbers of ours begin at `_FIRST` and are kept in the volumes' records.
"""

from __future__ import annotations

import os

from oci_tools import volume as volumes
from oci_tools.errors import Error, missing
from oci_tools.linux import quota

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.volume.backing import Backing

_FIRST = 0x0C100000
_LEAST = 1 << 20  # bytes of a file system
DISK = "disk"
_FORMAT = ("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1")


def limit(name: str, beside: str, made: Backing) -> int | None:
    """Let the volume that is being made in the directory `beside` have no more than was asked for; its project."""
    if os.geteuid() != 0:
        raise Error("cannot limit the size of volume", name, "only root can")
    if not quota.enforced(beside):
        _format(name, beside, made)
        return None
    project = _free_project()
    try:
        quota.set_project(f"{beside}/_data", project)
        quota.set_limits(beside, project, made.size, made.inodes)
    except OSError as error:
        raise Error("cannot limit the size of volume", name, error) from None
    return project


def unlimited(path: str, project: int) -> None:
    """A volume is gone, and its project with it."""
    try:
        quota.set_limits(path, project, 0, 0)
    except OSError:
        pass  # the file system has no quotas any more


def used(volume: volumes.Volume) -> tuple[int, int] | None:
    """Bytes that a volume with a project holds and may hold, without looking at its files."""
    project = volume.record.get("project")
    if project is None:
        return None
    try:
        return quota.usage(volume.path, project)
    except OSError:
        return None


def _free_project() -> int:
    taken = {volume.record.get("project") for volume in volumes.everything()}
    return next(number for number in range(_FIRST, _FIRST + len(taken) + 1) if number not in taken)


def _format(name: str, beside: str, made: Backing) -> None:
    """Make a file system with nothing in it, not even what mkfs puts there."""
    from oci_tools.volume import mounting

    disk, data = f"{beside}/{DISK}", f"{beside}/_data"
    size = max(made.size, _LEAST)
    words = [*_FORMAT, *(["-N", str(made.inodes)] if made.inodes else []), disk]
    fd = os.open(disk, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, size)
    except OSError as error:
        raise Error("cannot limit the size of volume", name, error) from None
    finally:
        os.close(fd)
    run(words, f"cannot limit the size of volume '{name}'")
    with mounting.Disk(disk, data):
        try:
            os.rmdir(f"{data}/lost+found")
            os.chmod(data, 0o755 if made.mode is None else made.mode)
            os.chown(data, made.uid, made.gid)
        except OSError as error:
            raise Error("cannot limit the size of volume", name, error) from None


def run(words: list[str], what: str) -> None:
    """Run a program of the host to its end."""
    import shutil
    import subprocess

    path = os.environ.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    found = shutil.which(words[0], path=f"{path}:/usr/sbin:/sbin")
    if found is None:
        raise missing(words[0], what)
    done = subprocess.run([found, *words[1:]], stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().split("\n")[-1]
        raise Error(what, None, said or f"{words[0]} ended with code {done.returncode}")
