"""Who a container runs as: a user of the image, looked up in the image's own files.

image-spec config.md, "User": `user`, `uid`, `user:group`, `uid:gid` and mixtures.  The
files are a stranger's: they are read beneath the rootfs, only if they are regular files,
and only so much (a huge /etc/group is a denial of service: CVE-2026-47262); a number is never
looked up as a name, and ends below 2^32 - 1 (CVE-2024-40635, CVE-2026-30892: numbers that
wrapped around to root).  No nsswitch, no getpwnam: those would read the host's.
"""

from __future__ import annotations

import os
import stat

from oci_tools import fs
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Read = Callable[[str], bytes | None]

MAX_FILE = 1 << 20  # bytes of passwd or group that are read
MAX_ID = (1 << 32) - 2  # 2^32 - 1 is -1: "leave it as it is" to setresuid(2)
MAX_GROUPS = 65536  # NGROUPS_MAX


def resolve(text: str, rootfs: int | str | Read | None) -> dict[str, Any]:
    """`text` as runtime-spec's `process.user`: uid, gid, additionalGids.

    As Docker: without a group, the user's own from passwd and all groups that list the
    user; with one, only that.  The first of additionalGids is the group itself, so that a
    file's group permissions cannot be shed by dropping it (CVE-2022-36109).
    `rootfs` None: there are no files to look into, so only numbers can be said.
    """
    name, colon, group = text.partition(":")
    if rootfs is None:
        if not is_numeric(text):
            raise Error("cannot look up user", text, "no root file system to look in", "say it in numbers")
        uid, gid = _id(name or "0", text), _id(group or "0", text)
        return {"uid": uid, "gid": gid, "additionalGids": [gid]}
    read = reader(rootfs)
    uid, gid, login = _user(name, text, read)
    if group:
        gid = _group(group, text, read)
        return {"uid": uid, "gid": gid, "additionalGids": [gid]}
    others = list(dict.fromkeys(_memberships(login, read))) if login else []
    return {"uid": uid, "gid": gid, "additionalGids": [gid, *(other for other in others if other != gid)]}


def is_numeric(text: str) -> bool:
    """Whether a user is said in numbers alone, or not at all: nothing has to be looked up."""
    name, _, group = text.partition(":")
    return number(name, "0") and number(group, "0")


def group(text: str, rootfs: int | str | Read | None) -> int:
    """The gid of one group, by number or by name (`--group-add`)."""
    if rootfs is None and not number(text):
        raise Error("cannot look up group", text, "no root file system to look in", "say it in numbers")
    return _group(text, text, reader(rootfs) if rootfs is not None else _nothing)


def home(uid: int, rootfs: int | str | Read) -> str:
    """The home directory of a user, "/" if the files do not say."""
    for fields in _entries(reader(rootfs), "etc/passwd", 6):
        if number(fields[2]) and len(fields[2]) <= 10 and int(fields[2]) == uid:
            return fields[5] or "/"
    return "/"


def number(text: str, empty: str = "") -> bool:
    """Is it written as a number?  Digits only: no sign, space, underscore or other script."""
    text = text or empty
    return text.isascii() and text.isdigit()


def reader(rootfs: int | str | Read) -> Read:
    """A function that reads a file beneath a tree, or that function itself."""
    if callable(rootfs):
        return rootfs
    if isinstance(rootfs, int):
        return lambda path: read_beneath(rootfs, path)

    def read(path: str) -> bytes | None:
        try:
            fd = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Error("cannot open rootfs", rootfs, error) from None
        try:
            return read_beneath(fd, path)
        finally:
            os.close(fd)

    return read


def read_beneath(rootfd: int, path: str) -> bytes | None:
    """A regular file of at most MAX_FILE bytes beneath a tree; None if there is none."""
    try:
        # O_NONBLOCK: a FIFO in its place would be waited for, for ever
        fd = fs.open_beneath(rootfd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Error("cannot read", f"/{path}", error) from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Error("cannot read", f"/{path}", "not a regular file")
        return _read(fd, path)
    except OSError as error:
        raise Error("cannot read", f"/{path}", error) from None
    finally:
        os.close(fd)


def _read(fd: int, path: str) -> bytes:
    parts, size = [], 0
    while part := os.read(fd, MAX_FILE + 1 - size):
        parts.append(part)
        size += len(part)
        if size > MAX_FILE:
            raise Error("cannot read", f"/{path}", f"larger than {MAX_FILE} bytes")
    return b"".join(parts)


def _nothing(path: str) -> bytes | None:
    return None


def _id(text: str, whole: str) -> int:
    if len(text) > 10 or int(text) > MAX_ID:
        raise Error("invalid user", whole, f"ids end at {MAX_ID}")
    return int(text)


def _entries(read: Read, path: str, least: int) -> Iterator[list[str]]:
    """The lines of passwd or group that have as many fields."""
    data = read(path)
    if data and len(data) > MAX_FILE:
        raise Error("cannot read", f"/{path}", f"larger than {MAX_FILE} bytes")
    for line in (data or b"").split(b"\n"):
        fields = line.decode("utf-8", "surrogateescape").strip().split(":")
        if len(fields) >= least and fields[0] and fields[0][0] != "#":
            yield fields


def _user(name: str, whole: str, read: Read) -> tuple[int, int, str | None]:
    """The user's uid, group, and name in passwd (None if it is not there)."""
    wanted = _id(name or "0", whole) if number(name, "0") else None
    for fields in _entries(read, "etc/passwd", 4):
        uid, gid = fields[2:4]
        if not (number(uid) and number(gid)):
            continue
        if fields[0] == name if wanted is None else len(uid) <= 10 and int(uid) == wanted:
            return _id(uid, whole), _id(gid, whole), fields[0]
    if wanted is None:
        raise Error("unable to find user", name, "no matching entries in passwd file")
    return wanted, 0, None


def _group(name: str, whole: str, read: Read) -> int:
    if number(name):
        return _id(name, whole)
    for fields in _entries(read, "etc/group", 3):
        if fields[0] == name and number(fields[2]):
            return _id(fields[2], whole)
    raise Error("unable to find group", name, "no matching entries in group file")


def _memberships(login: str, read: Read) -> Iterator[int]:
    """The groups that list this user."""
    found = 0
    for fields in _entries(read, "etc/group", 4):
        if login in fields[3].split(",") and number(fields[2]) and len(fields[2]) <= 10:
            found += 1
            if found > MAX_GROUPS:
                raise Error("cannot read", "/etc/group", f"more than {MAX_GROUPS} groups of user '{login}'")
            if int(fields[2]) <= MAX_ID:
                yield int(fields[2])
