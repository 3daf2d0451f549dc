"""Where mounts of a container go: made beneath its root if missing, with no link of the image leading out.

runtime-spec, "Mounts", destination; CVE-2024-45310 and CVE-2025-52881 are what a maker by name allows.
"""

from __future__ import annotations

import os
import stat


def create(rootfd: int, path: str, directory: bool) -> None:
    """Make what is missing of `path` beneath the root: directories 0755, last a file 0644 if asked.

    Component by component, links read and followed inside the root by ourselves, nothing
    made through a link; a dangling link is completed where it points.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")][::-1]
    opened: list[int] = []
    links = 0
    try:
        while parts:
            part = parts.pop()
            here = opened[-1] if opened else rootfd
            if part == "..":
                if opened:
                    os.close(opened.pop())
                continue
            found = open_or_make(here, part, directory or bool(parts))
            if stat.S_ISLNK(os.fstat(found).st_mode):
                links += 1
                if links > 40:
                    raise OSError(40, os.strerror(40), path)
                link = os.readlink("", dir_fd=found)
                os.close(found)
                if link.startswith("/"):
                    while opened:
                        os.close(opened.pop())
                parts += [p for p in link.split("/") if p not in ("", ".")][::-1]
            else:
                opened.append(found)
    finally:
        for fd in opened:
            os.close(fd)


def open_or_make(here: int, part: str, directory: bool) -> int:
    """A descriptor of a name in an open directory, made if missing; of the link if it is one."""
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(part, flags, dir_fd=here)
    except FileNotFoundError:
        if directory:
            os.mkdir(part, 0o755, dir_fd=here)
        else:
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=here))
        return os.open(part, flags, dir_fd=here)


def make_link(parent: int, path: str, target: str) -> None:
    """A link at the last component of `path`, in `parent`, which is closed; fine if the same is there."""
    name = os.path.basename(path)
    try:
        os.symlink(target, name, dir_fd=parent)
    except FileExistsError:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode) or os.readlink(name, dir_fd=parent) != target:
            raise
    finally:
        os.close(parent)
