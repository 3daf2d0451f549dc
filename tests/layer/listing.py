"""A tree of files as lines that can be compared: what `../shared/layers` calls a line of a tree."""

from __future__ import annotations

import hashlib
import os
import stat

_KINDS = {
    stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p", stat.S_IFCHR: "c", stat.S_IFBLK: "b",
}  # fmt: skip


class Line:
    """One name: path, type, mode, uid:gid, size, mtime, content or target or device, xattrs, first of its links."""

    def __init__(self, path: bytes, seen: os.stat_result, name: bytes, leaders: dict[int, str]) -> None:
        self.path = escaped(name)
        self.kind = _KINDS[stat.S_IFMT(seen.st_mode)]
        self.mode = f"{stat.S_IMODE(seen.st_mode):04o}"
        self.owner = f"{seen.st_uid}:{seen.st_gid}"
        self.size = str(seen.st_size if self.kind == "f" else 0)
        self.mtime = "{}.{:09d}".format(*divmod(seen.st_mtime_ns, 1_000_000_000))
        self.what = ""
        if self.kind == "f":
            with open(path, "rb") as file:
                self.what = f"sha={hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"
        elif self.kind == "l":
            self.what = f"->{escaped(os.readlink(path))}"
        elif self.kind in "cb":
            self.what = f"dev={os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}"
        names = sorted(os.listxattr(path, follow_symlinks=False))
        self.xattrs = " ".join(f"{n}={os.getxattr(path, n, follow_symlinks=False).hex()}" for n in names)
        linked = self.kind != "d" and seen.st_nlink > 1
        self.leader = "=" + leaders.setdefault(seen.st_ino, self.path) if linked else ""

    def text(self, mtime: str | None = None) -> str:
        """The line; `mtime` in place of the real one."""
        time = self.mtime if mtime is None else mtime
        return " ".join((self.path, self.kind, self.mode, self.owner, self.size, time, self.what, self.xattrs, self.leader))


def escaped(name: bytes) -> str:
    return "".join(chr(c) if 32 <= c < 127 else {10: "\\n", 9: "\\t"}.get(c, f"\\x{c:02x}") for c in name)


def lines(root: os.PathLike[str] | str) -> list[Line]:
    """All names below a directory."""
    found: list[Line] = []
    leaders: dict[int, str] = {}

    def walk(directory: bytes, prefix: bytes) -> None:
        for name in sorted(os.listdir(directory)):
            path = directory + b"/" + name
            seen = os.lstat(path)
            found.append(Line(path, seen, prefix + name, leaders))
            if stat.S_ISDIR(seen.st_mode):
                walk(path, prefix + name + b"/")

    walk(os.fsencode(root), b"")
    return found


def tree(root: os.PathLike[str] | str, times: bool = True) -> list[str]:
    """All lines of a tree, with times or without."""
    return [line.text(None if times else "") for line in lines(root)]
