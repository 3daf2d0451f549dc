"""What a bind mount shows, cloned: runtime-spec, "Mounts"; open_tree(2).

What is behind `/./` in a source may be a stranger's, a path in a volume that a container writes in: it is looked
for beneath what is before, and no link that leads out of there is followed (moby's safepath).  Other runtimes take
it for the plain path.
"""

from __future__ import annotations

import os
from errno import EAGAIN, EXDEV

from oci_tools.linux import mount
from oci_tools.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
_TRIES = 100  # of a path with .. in it, while somebody moves directories on it: openat2(2), EAGAIN


def clone(source: str, recursive: bool, follow: bool = True) -> int:
    """A detached mount of the file or directory `source`, with what is mounted in it; or of the link that it is."""
    flags = mount.OPEN_TREE_CLONE | (mount.AT_RECURSIVE if recursive else 0)
    flags |= 0 if follow else mount.AT_SYMLINK_NOFOLLOW
    above, _, below = source.partition("/./")
    if not below:
        return mount.open_tree(mount.AT_FDCWD, source, flags)
    top = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return beneath(top, below, flags)
    finally:
        os.close(top)


def beneath(top: int, path: str, flags: int = mount.OPEN_TREE_CLONE) -> int:
    """The same of a path beneath a directory, which no link leads out of."""
    found = opened(top, path)
    try:
        return mount.open_tree(found, "", flags | mount.AT_EMPTY_PATH)
    finally:
        os.close(found)


def opened(top: int, path: str, flags: int = os.O_PATH) -> int:
    """A descriptor of a path beneath a directory; one that leads out of it is an error."""
    for left in reversed(range(_TRIES)):
        try:
            return openat2(top, path, flags | os.O_CLOEXEC, 0, _BENEATH)
        except OSError as error:
            if error.errno == EXDEV:
                raise OSError(EXDEV, "path escapes from its directory", path) from None
            if error.errno != EAGAIN or not left:
                raise
    raise AssertionError
