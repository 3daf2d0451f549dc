"""`mount add` and `mount rm`: mounts of a container that runs already.

A copy of the mount is made on the host's side; a child of ours that has joined the container's mount
namespace, and nothing else of it, attaches it beneath the root, as at its creation: no link of the
image leads out and nothing is mounted over /proc.  Only what was added can be removed, so that no
mask and no read-only path is: the state holds

    mounted.json   {"/data": 1234}   destination: the mount's id, which a moved name cannot feign
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.linux import mount, process
from oci_tools.runtime import child, host_mounts, lifecycle, mounts, seal, state, sync
from oci_tools.runtime import source as sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_UMOUNT_NOFOLLOW = 8
_KINDS = ("bind", "tmpfs")  # another file system would show the host: proc its processes, sysfs its devices


def add(args: Any, root: str) -> None:
    """The verb `mount add`."""
    seal.ensure()
    options = [word for text in args.options for word in text.split(",")]
    entry = {"destination": args.dir, "source": args.source, "type": args.type, "options": options}
    if args.type not in _KINDS:
        raise Error("cannot mount", args.type, f"only {' and '.join(_KINDS)} can be added")
    if args.type == "bind" and not {"bind", "rbind"} & {*options}:
        entry["options"] = ["rbind", *options]
    step = mounts.Plan(entry, os.getcwd())
    if step.ignored():
        raise Error(f"cannot bind with '{step.ignored()[0]}' on", step.destination, "it is an option of a file system")
    if step.idmap is not None:
        raise Error("cannot map the ids of", step.destination, "not supported for an added mount")
    if step.link:
        raise Error("cannot copy the link", step.source, "not supported for an added mount")
    known = _running(root, args.id)
    tree = -1
    if step.bind:
        try:
            tree = sources.clone(step.source, step.recursive, step.follow_source)
        except OSError as error:
            raise Error(f"cannot mount '{step.source}' on", step.destination, error) from None

    def attach(top: mounts.Tree) -> dict[str, Any]:
        try:
            if tree >= 0:
                top.place_bind(step, tree)
            else:
                top.make(step)
                top.finish(read_only=False)
        except OSError as error:
            raise Error(f"cannot mount '{step.source}' on", step.destination, error) from None
        return _seen(top.fd, step.destination)

    with fs.Lock(f"{state.directory(root, args.id)}/mounted.lock"):
        told = _inside(known, attach, [tree] if tree >= 0 else [])
        _write(root, args.id, {**_read(root, args.id), told["path"]: told["mount"]})


def remove(args: Any, root: str) -> None:
    """The verb `mount rm`."""
    seal.ensure()
    known = _running(root, args.id)

    def detach(top: mounts.Tree) -> dict[str, Any]:
        try:
            seen = _seen(top.fd, args.dir)
            if added.get(seen["path"]) != seen["mount"]:
                raise Error("cannot unmount", args.dir, "no added mount is there")
            above = fs.open_beneath(top.fd, os.path.dirname(seen["path"]), os.O_PATH | os.O_DIRECTORY)
            os.fchdir(above)
            mount.umount2(os.path.basename(seen["path"]), mount.MNT_DETACH | _UMOUNT_NOFOLLOW)
        except OSError as error:
            raise Error("cannot unmount", args.dir, error) from None
        return seen

    with fs.Lock(f"{state.directory(root, args.id)}/mounted.lock"):
        added = _read(root, args.id)
        told = _inside(known, detach, [])
        _write(root, args.id, {path: number for path, number in added.items() if path != told["path"]})


def _running(root: str, name: str) -> dict[str, Any]:
    known = state.load(root, name)
    current = lifecycle.status(root, known)
    if current not in ("created", "running", "paused"):
        raise Error("cannot change the mounts of container", name, f"it is {current}")
    return known


def _read(root: str, name: str) -> dict[str, int]:
    path = f"{state.directory(root, name)}/mounted.json"
    found: dict[str, int] = document.load(path) if os.path.exists(path) else {}
    return found


def _write(root: str, name: str, mounted: dict[str, int]) -> None:
    fs.write(f"{state.directory(root, name)}/mounted.json", document.dumps(mounted), 0o600, sync=False)


# -- in the container's mount namespace ------------------------------------------------------


class _Top(mounts.Tree):
    """The root of a container that runs, as seen in its mount namespace."""

    def __init__(self, root: str) -> None:
        self.rootfs, self.label, self.late = "/", "", []
        self.fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _inside(known: dict[str, Any], action: Callable[[mounts.Tree], dict[str, Any]], fds: list[int]) -> dict[str, Any]:
    """What `action` tells, done in the mount namespace of a container, from where our /proc is out of sight."""
    target = os.pidfd_open(known["pid"])
    if process.start_time(known["pid"]) != known["startTime"]:
        raise Error("cannot change the mounts of container", known["id"], "it is stopped")
    ours, theirs = sync.pair()
    process.prctl(process.PR_SET_DUMPABLE, 0)
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    pid, pidfd = process.clone3(0)
    if pid == 0:
        try:
            ours.close()
            child.seal_imports()
            os.dup2(proc, _PROC, inheritable=False)
            theirs.send("done", **action(_Top(host_mounts.enter(known["pid"], target))))
            os._exit(0)
        except BaseException as error:
            child.report(theirs, error)
    theirs.close()
    for fd in (target, proc, *fds):
        os.close(fd)
    try:
        message, _ = ours.receive()
        if message is None:
            raise Error("cannot change the mounts of container", known["id"], "the child has ended unexpectedly")
        return message
    finally:
        os.waitpid(pid, 0)
        os.close(pidfd)


_PROC = 99  # the host's /proc, in that child


def _seen(root: int, path: str) -> dict[str, Any]:
    """Where a path of the container leads, and the id of the mount that is there."""
    fd = fs.open_beneath(root, path, os.O_PATH)
    try:
        info = os.open(f"self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=_PROC)
        lines = os.read(info, 4096).decode().splitlines()
        os.close(info)
        number = next(int(line.split()[1]) for line in lines if line.startswith("mnt_id:"))
        return {"path": os.readlink(f"self/fd/{fd}", dir_fd=_PROC), "mount": number}
    finally:
        os.close(fd)
