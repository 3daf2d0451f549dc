"""A container's directory.

    containers/ID/          mode 0700; ID is 64 hex digits
        lock                held by the process that looks after the container, which writes its pid in it
        policy.json         {"version", "created", "image", "name", "rm", "labels", "waits", "interactive", "log",
                            "stopTimeout", "pidfile", "keeperPidfile", "split", "project" (room.py),
                            "restart" (restart.py), "health" (health.py), "requires": names};
                            "volumes" that were made for it, "mounted": those to mount for each start
        bundle/             config.json, rootfs, and of an overlay upper and work; or a link to a bundle
        images/             bundles of images that are mounted in it
        config.json         how the bundle of somebody else is run, if the container is kept
        hosts hostname resolv.conf
        start.json          {"version", "started", "restarts": by its policy}, once it was started and is kept
        stopped             it was ended by somebody, and is not to be started again before that is said
        io/                 the streams of a detached container: streams.py
        log/                what it wrote: log.py
        health.json         {"Status", "FailingStreak", "Log"}: health.py
        exit.json           {"version", "code", "finished", "signal", "oomKilled", "error", "restarting"}, once it has
                            ended and was kept or is waited for; code is null if nobody knows it
        reaped              what `ocid`, which got it when its monitor died, saw of its end: a wait status
    containers/.ID/         the same while it is being removed
    names/NAME              names.py

Who reads in it (`wait`, `logs`, `cp`) holds the directory itself with a shared lock: one that is to
be removed when it ends gives them a moment to read what they came for.

A container that is to be removed when it ends, and whose process was killed, is removed by a later
one-shot: its lock is free, and the runtime does not know it as running.  What is removed loses its place first:
nobody finds half a container, or makes a file in a directory that is being emptied.
"""

from __future__ import annotations

import os
import time
from errno import EDQUOT, ENOSPC

from oci_tools import document, fs
from oci_tools.container import events, joining, names
from oci_tools.errors import Busy, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
HALF_MADE = 600  # seconds after which a container without policy was not left a moment ago
GRACE = 10.0  # seconds in which who waits for a container's end can read it before it is removed


class Place:
    """The directory of one container, held by its lock for a `with` block; removed at its end unless kept.

    keep  what becomes of it when the container has ended
    left  it has become somebody else's to look after: the end of the block removes nothing
    fresh it was made by this block
    """

    def __init__(self, image: str, name: str | None, keep: bool, more: dict[str, Any] | None = None) -> None:
        if name is not None:
            names.check(name)
        self._have(os.urandom(32).hex())
        self.lock = fs.Lock(f"{self.path}/lock")
        self.keep = keep
        self.left = False
        self.policy = {
            "version": VERSION, "created": time.time_ns(), "image": image, "name": name, "rm": not keep,
            **(more or {}),
        }  # fmt: skip
        self.fresh = True
        self.volumes: fs.Lock | None = None  # keeps them until config.json says that they are used

    def _have(self, container: str) -> None:
        self._begun = time.monotonic()
        self.id = container
        self.path = names.place(container)
        self.bundle = f"{self.path}/bundle"

    @classmethod
    def again(cls, container: str, timeout: float | None = None) -> Place:
        """The directory of a container that there is, to be held once nobody else does; never removed by an error."""
        made = cls.__new__(cls)
        made._have(container)
        made.lock = fs.Lock(f"{made.path}/lock", timeout=timeout, make=False)
        made.fresh = False
        made.volumes = None
        made.left = True
        return made

    def __enter__(self) -> Place:
        if not self.fresh and self.lock.fd >= 0:
            return self
        if self.fresh:
            fs.make_private(names.directory())
            os.mkdir(self.path, 0o700)
        self.lock.__enter__()
        try:
            if self.fresh:
                self.write("policy.json", document.dumps(self.policy))
                if self.policy["name"]:
                    names.take(self.policy["name"], self.id)
            else:
                self.policy = names.policy(self.id)
                if not self.policy:
                    raise Error("no such container", self.id, "it was removed meanwhile")
                self.keep = not self.policy["rm"]
            if self.fresh:
                events.tell(self.id, "create", self.policy)
        except BaseException:
            if self.fresh:
                self.remove()
            self.lock.__exit__()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.settle()
        if not self.left and (kind is not None or not self.keep):
            self.remove()
        self.lock.__exit__()

    def say(self, more: dict[str, Any]) -> None:
        """Put more into policy.json."""
        self.policy.update(more)
        self.write("policy.json", document.dumps(self.policy))

    def settle(self) -> None:
        """What keeps its volumes from being removed is in its directory now."""
        if self.volumes:
            self.volumes.__exit__()
            self.volumes = None

    def write(self, name: str, data: bytes, mode: int = 0o600) -> str:
        """Write a small file; what is lost with the power is of no use after it."""
        path = f"{self.path}/{name}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            os.fchmod(fd, mode)
            fs.write_all(fd, data)
        except OSError as error:
            raise Error("cannot write", path, error) from None
        finally:
            os.close(fd)
        return path

    def note(self, **more: Any) -> None:
        """Have policy.json say more; who reads it meanwhile sees the old or the new."""
        self.policy.update(more)
        fs.write(f"{self.path}/policy.json", document.dumps(self.policy), 0o600, sync=False)

    def spec(self) -> dict[str, Any]:
        """The specification that it is started with again."""
        own = f"{self.path}/config.json"
        spec: dict[str, Any] = document.load(own if os.path.exists(own) else f"{self.bundle}/config.json")
        return spec

    def respec(self, spec: dict[str, Any]) -> None:
        """Have it be started by another specification from the next time on."""
        own = f"{self.path}/config.json"
        path = own if os.path.exists(own) or os.path.islink(self.bundle) else f"{self.bundle}/config.json"
        fs.write(path, document.dumps(spec), 0o600)

    def looked_after(self) -> None:
        """Say that this process looks after it, from its start on."""
        self._begun = time.monotonic()
        os.pwrite(self.lock.fd, b"%-10d\n" % os.getpid(), 0)
        if self.policy.get("keeperPidfile"):
            fs.write_to(self.policy["keeperPidfile"], b"%d" % os.getpid())
        if self.policy.get("split"):
            from oci_tools.container import leaving

            leaving.step_aside()

    def mark(self, stopped: bool) -> None:
        """Say whether somebody has ended it."""
        mark(self.id, stopped)

    def stopped(self) -> bool:
        return os.path.exists(f"{self.path}/stopped")

    def begins(self, spec: dict[str, Any], states: str, **more: Any) -> None:
        """Say that it is started now, by `spec`, whose namespaces of others become those that are there now."""
        if self.policy.get("joins"):
            from oci_tools.container import host, namespaces

            namespaces.rejoin(spec, self.policy["joins"], host.Host(states=states))
        if self.policy.get("mounted"):
            from oci_tools.container import volumes

            volumes.begin(self)
        if "networks" in self.policy:
            joining.join(self.id, self.policy)
        if not self.keep and not self.policy.get("waits"):
            return
        for name in ("exit.json", "reaped", "health.json"):
            try:
                os.unlink(f"{self.path}/{name}")
            except FileNotFoundError:
                pass
        record = {"version": VERSION, "started": time.time_ns(), **more}
        fs.write(f"{self.path}/start.json", document.dumps(record), 0o600, sync=False)

    def ended(self, code: int | None, **more: Any) -> None:
        """Record the end of the container where somebody wants to know; of one that goes, give them a moment."""
        ran = int(time.monotonic() - self._begun)
        if self.policy.get("mounted"):
            from oci_tools.container import volumes

            volumes.end(self)
        if "networks" in self.policy or self.policy.get("ports"):
            joining.leave_quietly(self.id)
        wanted = self.keep or not self._alone(0)
        if wanted:
            self._record({"version": VERSION, "code": code, "finished": time.time_ns(), **more})
        # Not before: who hears of it asks how it ended.
        events.tell(self.id, "die", self.policy, exitCode=255 if code is None else code, execDuration=ran)
        if wanted and not self.keep:
            self._alone(GRACE)

    def _alone(self, seconds: float) -> bool:
        """Whether nobody wants to know of its end, or they do not any more within that time."""
        try:
            fs.Lock(self.path, timeout=seconds).__enter__().__exit__()
        except Busy:
            return False
        return True

    def _record(self, record: dict[str, Any]) -> None:
        """Write exit.json; where there is no room for it, over start.json, which has some."""
        data = document.dumps(record)
        try:
            fs.write(f"{self.path}/exit.json", data, 0o600, sync=not record.get("restarting"))
        except Error as error:
            if not isinstance(error.cause, OSError) or error.cause.errno not in (ENOSPC, EDQUOT):
                raise
            data = document.dumps({**names.start(self.id), "end": record})
            fd = os.open(f"{self.path}/start.json", os.O_WRONLY | os.O_CLOEXEC)  # not truncated: its block is ours
            try:
                fs.write_all(fd, data)
            finally:
                os.close(fd)

    def settled(self) -> None:
        """It is not started again after all."""
        record = names.end(self.id)
        record.pop("restarting", None)
        self._record(record)

    def remove(self, volumes: bool = False) -> None:
        """Remove everything of the container, its name first; with `volumes` those made for it."""
        remove(self.id, volumes or self.fresh)


def mark(container: str, stopped: bool) -> None:
    """Say whether somebody has ended a container, which its restart policy heeds."""
    path = f"{names.place(container)}/stopped"
    try:
        if stopped:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        else:
            os.unlink(path)
    except FileNotFoundError:
        pass


def keeper(container: str) -> int:
    """A pidfd of the process that looks after a container, -1 if there is none."""
    path = f"{names.place(container)}/lock"
    try:
        with open(path, "rb", buffering=0) as file:
            pidfd = os.pidfd_open(int(file.read() or b"0"))
    except (OSError, ValueError):
        return -1
    try:
        fs.Lock(path, timeout=0, make=False).__enter__().__exit__()
    except Busy:
        return pidfd
    except Error:
        pass  # it has gone
    os.close(pidfd)
    return -1


def remove(container: str, volumes: bool = False) -> None:
    """Remove a container's name, directory, and hold on layers; its unnamed volumes too if it is one that goes at its
    end, or with `volumes`."""
    try:
        os.rename(names.place(container), f"{names.directory()}/.{container}")
    except FileNotFoundError:
        return  # somebody else did it
    _let_go(container, volumes)


def _let_go(container: str, volumes: bool) -> None:
    """The rest of a removal, also of one that was killed on the way."""
    from oci_tools import bundle as bundles

    path, away = names.place(container), f"{names.directory()}/.{container}"
    try:
        policy = names.policy(f".{container}")
    except Error:
        policy = {}  # its maker was killed as he wrote it
    if policy.get("name"):
        names.give_back(policy["name"], container)
    if "networks" in policy:
        joining.leave_quietly(container)
    images = names.listed(f"{away}/images")
    fs.remove_tree(away)
    if "project" in policy:
        from oci_tools.container import room

        room.release(policy)
    for each in (f"{path}/bundle", *(f"{path}/images/{number}" for number in images)):
        bundles.release(each)
    events.tell(container, "destroy", policy)
    if policy.get("volumes") and (volumes or policy.get("rm")):
        from oci_tools.container.volumes import drop

        drop(policy["volumes"])


def _runs(root: str, container: str) -> bool:
    """Whether the runtime has a living process of a container."""
    from oci_tools.runtime import lifecycle, state

    if not os.path.exists(state.directory(root, container)):
        return False
    return bool(lifecycle.query(root, container)["status"] != "stopped")


def _half_made(path: str, old: bool) -> bool:
    """Whether somebody was killed as he made a container whose lock is free: its bundle is not whole, or missing."""
    bundle = f"{path}/bundle"
    if not os.path.exists(f"{path}/policy.json") or os.path.islink(bundle):
        return False
    return os.path.isdir(f"{bundle}/.oci-unpack.new") or (old and not os.path.exists(bundle))


def sweep(runtime: str | None = None) -> None:
    """Remove what killed one-shots left behind."""
    from oci_tools.runtime import lifecycle, state

    root = runtime or f"{fs.run()}/runtime"
    for container in names.listed(names.directory()):
        path = names.place(container)
        try:
            # One that was left half-made or half-removed has no lock or no policy; it may be a moment old.
            old = time.time() - os.stat(path).st_mtime > HALF_MADE
            if not os.path.exists(f"{path}/lock"):
                if old:
                    fs.remove_tree(path)
                continue
            with fs.Lock(f"{path}/lock", timeout=0, make=False):
                if container[0] == ".":
                    _let_go(container[1:], volumes=False)
                    continue
                if _half_made(path, old):
                    remove(container)
                    continue
                policy = names.policy(container) or {"rm": old}
                if "networks" in policy and not _runs(root, container):
                    joining.leave(container)
                if not policy.get("rm") or (policy.get("waits") and not names.was_started(container)):
                    continue
                if os.path.exists(state.directory(root, container)):
                    if lifecycle.query(root, container)["status"] in ("running", "paused"):
                        continue
                    lifecycle.delete(root, container, force=True)
                remove(container)
        except (Busy, Error, OSError):
            continue  # in use, or being made or removed by somebody
