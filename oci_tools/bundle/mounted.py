"""An overlay bundle mounted on its own `rootfs`, for runtimes that know nothing of our annotation.

The mount is the host's, and is there until it is undone or the host restarts; whether it is there
is looked up, never remembered.  root's is the kernel's overlayfs, made as `oci-run` makes it inside of
a container (runtime/overlay.py).  A plain user may mount nothing outside of a user namespace but FUSE
file systems: fuse-overlayfs(1) reads the same layers and marks.  `oci-run` takes the mount if it is there;
where it only was, it is told so by the place that FUSE worked in, for the kernel does not know all marks of FUSE.
"""

from __future__ import annotations

import os

from oci_tools import bundle, document, fs
from oci_tools.errors import Error, missing
from oci_tools.layer import store as stores
from oci_tools.runtime import overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PLACES = ("/usr/bin", "/usr/sbin", "/bin")


def mount(path: str) -> str:
    """Mount the layers of an overlay bundle on its rootfs, if they are not; its absolute path."""
    path = os.path.abspath(path)
    stacked = _stacked(path)
    if is_mounted(path):
        return path
    with stores.Store().lock():  # gc looks at the same bundle's config.json
        if os.geteuid() == 0:
            overlay.attach(document.load(f"{path}/config.json"), path, f"{path}/rootfs")
        else:
            _fuse(path, stacked)
    return path


def unmount(path: str) -> str:
    """Undo it; fine if it is not mounted."""
    path = os.path.abspath(path)
    stacked = _stacked(path)
    bundle.unmount(path)
    if os.geteuid():
        _as_overlayfs(path, stacked)
    return path


def _as_overlayfs(path: str, stacked: dict[str, Any]) -> None:
    """`oci-run` has the kernel stack what FUSE did until now."""
    from oci_tools.layer import upper

    upper_path = f"{path}/{stacked['upper']}"
    fd = os.open(upper_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        upper.as_overlayfs(fd)
    except OSError as error:
        raise Error("cannot change marks in", upper_path, error) from None
    finally:
        os.close(fd)
    fs.remove_tree(f"{path}/{stacked['work']}/{overlay.FUSE}")


def is_mounted(path: str) -> bool:
    return os.path.ismount(f"{path}/rootfs")


def _stacked(path: str) -> dict[str, Any]:
    if not bundle.is_bundle(path):
        raise Error("cannot mount", path, "it is no bundle of ours", f"it has no {bundle.RECORD}")
    found = bundle.overlay_of(path)
    if found is None:
        raise Error("cannot mount", path, "it is no overlay bundle", "its rootfs has all files")
    return found


def _fuse(path: str, stacked: dict[str, Any]) -> None:
    trees = [stores.Store(path=stacked["store"]).tree(digest) for digest in stacked["lower"]]
    # Its own place to work in: the kernel's has a directory of mode 0 in it.
    upper, work = f"{path}/{stacked['upper']}", fs.make_private(f"{path}/{stacked['work']}/{overlay.FUSE}")
    for one in (*trees, upper, work):
        if any(mark in one for mark in ",:\\"):
            raise Error("cannot mount", path, f"'{one}' has a comma, colon or backslash")
    program = next((f"{d}/fuse-overlayfs" for d in _PLACES if os.access(f"{d}/fuse-overlayfs", os.X_OK)), None)
    if program is None:
        raise missing("fuse-overlayfs", "cannot mount", path, "no --overlay")
    words = [program, "-o", f"lowerdir={':'.join(trees)},upperdir={upper},workdir={work}", f"{path}/rootfs"]
    child = os.posix_spawn(program, words, {"PATH": ":".join(_PLACES)})
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code or not is_mounted(path):
        _as_overlayfs(path, stacked)
        raise Error("cannot mount", path, f"fuse-overlayfs failed with exit code {code}")
