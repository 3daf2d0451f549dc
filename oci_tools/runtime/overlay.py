"""The root of an overlay bundle: layers of the store below, the bundle's own directory on top.

The annotation `io.oci-tools.overlay` of config.json says which (oci-bundle(5)):

    {"lower": [diff ids, top first], "upper": "upper", "work": "work", "store": "/var/lib/oci/layers"}

It is mounted by `oci-run` inside the container's mount namespace, so nothing stays mounted
and nothing needs to be unmounted.  A config.json may come from a stranger by way of an
engine: a diff id can only name a tree of the store, and upper and work only directories
beneath the bundle.  Everything is opened by the runtime and mounted by descriptor.
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.linux import mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ANNOTATION = "io.oci-tools.overlay"
_HEX = frozenset("0123456789abcdef")


class Overlay:
    """An overlay to be mounted by the container side: open descriptors of its directories."""

    def __init__(self, spec: dict[str, Any], bundle: str, user: bool) -> None:
        """`user`: it will be mounted in a user namespace, where marks are in user.overlay.*."""
        wanted = document.loads(spec["annotations"][ANNOTATION], ANNOTATION)
        self.user = user
        self.lower: list[int] = []
        self.upper = self.work = -1
        try:
            store = os.open(_store(wanted), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self.lower = [_layer(store, digest) for digest in wanted["lower"]]
            os.close(store)
            top = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self.upper = fs.open_beneath(top, wanted["upper"], os.O_PATH | os.O_DIRECTORY)
            self.work = fs.open_beneath(top, wanted["work"], os.O_PATH | os.O_DIRECTORY)
            os.close(top)
        except OSError as error:
            raise Error("cannot open the layers of", bundle, error, "unpack the image again") from None
        except (KeyError, TypeError, AttributeError):
            raise Error(f"config.json: annotations: bad value of {ANNOTATION}") from None

    @property
    def fds(self) -> list[int]:
        return [*self.lower, self.upper, self.work]

    def mount(self) -> int:
        """The detached mount; the descriptors are closed."""
        context = mount.fsopen("overlay")
        try:
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "source", "overlay")
            for fd in self.lower:
                _set(context, "lowerdir+", fd)
            _set(context, "upperdir", self.upper)
            _set(context, "workdir", self.work)
            if self.user:
                mount.fsconfig(context, mount.FSCONFIG_SET_FLAG, "userxattr", None)
            mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE, None, None)
            return mount.fsmount(context)
        except OSError as error:
            raise Error("cannot mount the layers", None, error) from None
        finally:
            os.close(context)
            for fd in self.fds:
                os.close(fd)


def _set(context: int, key: str, fd: int) -> None:
    """A directory by descriptor (Linux 6.13), before that by the descriptor's name."""
    try:
        mount.fsconfig(context, mount.FSCONFIG_SET_FD, key, None, fd)
    except OSError as error:
        if error.errno != 22:
            raise
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, key, f"/proc/self/fd/{fd}")


def _store(wanted: dict[str, Any]) -> str:
    """The store that is meant: ours, or a part of it for one ownership mapping."""
    own = f"{fs.root()}/layers"
    path = os.path.normpath(wanted.get("store") or own)
    if path != own and not path.startswith(f"{own}/"):
        raise Error(f"config.json: annotations: {ANNOTATION}: not in the layer store", path)
    return path


def _layer(store: int, digest: str) -> int:
    algorithm, _, text = digest.partition(":")
    if algorithm not in ("sha256", "sha512") or not text or not _HEX.issuperset(text):
        raise Error(f"config.json: annotations: {ANNOTATION}: not a diff id", digest)
    return os.open(f"{algorithm}/{text}", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=store)
