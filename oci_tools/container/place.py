"""A container's directory, and its name.

    containers/ID/          mode 0700; ID is 64 hex digits
        lock                held by the process that looks after the container
        policy.json         {"version", "created", "image", "name", "rm"}
        bundle/             config.json, rootfs, and of an overlay upper and work; or a link to a bundle
        hosts hostname resolv.conf
        log/                stdout and stderr of a detached container
        exit.json           {"version", "code", "finished"}, once it has ended and was kept
    names/NAME              a link to ../containers/ID, made exclusively

A container that is to be removed when it ends, and whose process was killed, is removed by a later
one-shot: its lock is free, and the runtime does not know it as running.
"""

from __future__ import annotations

import os
import time

from oci_tools import bundle as bundles
from oci_tools import document, fs
from oci_tools.errors import Busy, Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
HALF_MADE = 600  # seconds after which a container without policy was not left a moment ago
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class Place:
    """The directory of one container, held by its lock for a `with` block; removed at its end unless kept."""

    def __init__(self, image: str, name: str | None, keep: bool) -> None:
        if name is not None and not is_name(name):
            raise Usage("invalid container name", name, hint="letters, digits, '_', '.' and '-'")
        self.id = os.urandom(32).hex()
        self.path = f"{directory()}/{self.id}"
        self.bundle = f"{self.path}/bundle"
        self.name = name
        self.keep = keep
        self._image = image
        self._lock = fs.Lock(f"{self.path}/lock")

    def __enter__(self) -> Place:
        fs.make_private(directory())
        os.mkdir(self.path, 0o700)
        self._lock.__enter__()
        try:
            policy = {
                "version": VERSION,
                "created": time.time_ns(),
                "image": self._image,
                "name": self.name,
                "rm": not self.keep,
            }
            self.write("policy.json", document.dumps(policy))
            if self.name:
                _take_name(self.name, self.id)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None or not self.keep:
            self.remove()
        self._lock.__exit__()

    def write(self, name: str, data: bytes, mode: int = 0o600) -> str:
        """Write a small file; what is lost with the power is of no use after it."""
        path = f"{self.path}/{name}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            os.fchmod(fd, mode)
            fs.write_all(fd, data)
        finally:
            os.close(fd)
        return path

    def ended(self, code: int) -> None:
        """Record the end of a container that is kept."""
        record = {"version": VERSION, "code": code, "finished": time.time_ns()}
        fs.write(f"{self.path}/exit.json", document.dumps(record), 0o600)

    def remove(self) -> None:
        """Remove everything of the container, its name first."""
        remove(self.id, self.name)


def directory() -> str:
    """Where containers are."""
    return f"{fs.root()}/containers"


def is_name(text: str) -> bool:
    """Whether a container may be called so: as docker says, [a-zA-Z0-9][a-zA-Z0-9_.-]+."""
    return 1 < len(text) <= 255 and text[0] not in "_.-" and _NAME.issuperset(text)


def _take_name(name: str, container: str) -> None:
    names = fs.make_private(f"{fs.root()}/names")
    for last in (False, True):
        try:
            return os.symlink(f"../containers/{container}", f"{names}/{name}")
        except FileExistsError:
            if not last:
                sweep()
                if not os.path.exists(f"{names}/{name}"):
                    _unlink(f"{names}/{name}")
    raise Error(
        "container name is in use", name, f"by {os.path.basename(os.readlink(f'{names}/{name}'))[:12]}"
    )


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def remove(container: str, name: str | None) -> None:
    """Remove a container's name, directory, and hold on layers."""
    if name:
        link = f"{fs.root()}/names/{name}"
        try:
            if os.readlink(link) == f"../containers/{container}":
                os.unlink(link)
        except OSError:
            pass
    path = f"{directory()}/{container}"
    fs.remove_tree(path)
    bundles.release(f"{path}/bundle")


def sweep(runtime: str | None = None) -> None:
    """Remove what killed one-shots left behind."""
    from oci_tools.runtime import lifecycle, state

    root = runtime or f"{fs.run()}/runtime"
    for container in _others():
        path = f"{directory()}/{container}"
        try:
            age = time.time() - os.stat(path).st_mtime
            with fs.Lock(f"{path}/lock", timeout=0):
                # One that was left half-made has no policy; it may be a moment old, and not yet locked.
                known = os.path.exists(f"{path}/policy.json")
                policy: dict[str, Any] = (
                    document.load(f"{path}/policy.json") if known else {"rm": age > HALF_MADE}
                )
                if not policy.get("rm"):
                    continue
                if os.path.exists(state.directory(root, container)):
                    if lifecycle.query(root, container)["status"] == "running":
                        continue
                    lifecycle.delete(root, container, force=True)
                remove(container, policy.get("name"))
        except (Busy, Error, OSError):
            continue  # in use, or being made or removed by somebody


def _others() -> list[str]:
    try:
        return os.listdir(directory())
    except FileNotFoundError:
        return []
