"""Whose the files of a layer are on this host, and their other attributes.

    Owner     what the layer says, as it says: root, or root of a user namespace
    Single    a plain user owns everything; who else should is remembered in the attribute
              `user.rootlesscontainers`, the protobuf message {uint32 uid = 1, uint32 gid = 2}
              that umoci, runrootless and PRoot share; 0:0 needs none

Attributes are set in the order in which the kernel lets them be: content, owner, extended attributes,
mode, times.  Writing and chown(2) clear set-id bits and `security.capability`, and a plain user cannot
give an attribute to a file that is read-only.

Attributes that mean something to the host and not to the image are refused: labels of the host's
SELinux policy, overlayfs's own marks (a layer could hide or redirect what lies below it), and the
attribute above.
"""

from __future__ import annotations

import errno
import os
import stat

from oci_tools.errors import Error, quote, reason
from oci_tools.layer import lookup
from oci_tools.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NOMAP = "nomap-"  # how the keys begin of files that are no id of the user who has them (container/nomap.py)
REMEMBER = b"user.rootlesscontainers"
NOOP = 0xFFFFFFFF  # in it, of an id that nobody has changed: root's
MARKS = tuple(map(os.fsencode, lookup.MARKS))
_REFUSED = (*MARKS, REMEMBER)
_SILENT = (b"security.selinux",)  # umoci, docker and podman leave it out too; nobody misses it


class Owner:
    """Ownership as layers say it.  `warn` hears, once for each kind, what could not be kept."""

    key = ""  # part of the layer store's keys
    single = False
    trusted = True  # the kernel lets it set trusted.*: overlayfs's marks are there, else in user.*
    stacked = False  # what is unpacked will be under overlayfs, to which a device 0:0 is a whiteout

    def __init__(self, warn: Callable[[str], None] | None = None) -> None:
        self.me = (os.geteuid(), os.getegid())
        self.told: dict[str, str] = {}
        self._warn = warn

    def ids(self, uid: int, gid: int) -> tuple[int, int]:
        """The host's ids for those of a layer."""
        return uid, gid

    def warn(self, kind: str, text: str) -> None:
        if kind not in self.told:
            self.told[kind] = text
            if self._warn:
                self._warn(text)

    def mute(self) -> None:
        """Only keep in `told` what could not be kept: for a process whose words another passes on."""
        self._warn = None

    # -- setting -------------------------------------------------------------------------

    def file(self, fd: int, made: int, mode: int, uid: int, gid: int, xattrs: dict[bytes, bytes]) -> None:
        """The attributes of an open file that was just made with the mode `made`."""
        ids = self.ids(uid, gid)
        if ids != self.me:
            os.fchown(fd, *ids)
        if xattrs:
            self._xattrs(fd, xattrs)
        if mode != made:
            os.fchmod(fd, mode)

    def directory(self, fd: int, mode: int, uid: int, gid: int, xattrs: dict[bytes, bytes]) -> None:
        """The attributes of an open directory."""
        os.fchown(fd, *self.ids(uid, gid))
        os.fchmod(fd, mode)
        if xattrs:
            self._xattrs(fd, xattrs)

    def other(self, at: int, name: bytes, mode: int, uid: int, gid: int, xattrs: dict[bytes, bytes]) -> None:
        """The attributes of a link, a device or a fifo; `mode` is -1 for a link, which has none."""
        ids = self.ids(uid, gid)
        if ids != self.me:
            os.chown(name, *ids, dir_fd=at, follow_symlinks=False)
        if mode >= 0:
            os.chmod(name, mode, dir_fd=at, follow_symlinks=False)
        if xattrs:
            self._xattrs(b"/proc/self/fd/%d/%s" % (at, name), xattrs)

    def _xattrs(self, file: int | bytes, xattrs: dict[bytes, bytes]) -> None:
        for name, value in xattrs.items():
            if name.startswith(_REFUSED):
                self.warn("refused", f"the attribute {quote(name)} is refused: it is the host's own")
            elif not name.startswith(_SILENT):
                self._xattr(file, name, value)

    def _xattr(self, file: int | bytes, name: bytes, value: bytes) -> None:
        try:
            os.setxattr(file, name, value, follow_symlinks=isinstance(file, int))
        except OSError as error:
            space = name.partition(b".")[0]
            soft = error.errno in (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EINVAL)
            if not soft or (error.errno != errno.EOPNOTSUPP and space == b"user" and isinstance(file, int)):
                raise Error("cannot set attribute", name, error) from None
            kind = f"{space.decode('ascii', 'replace')}.*"
            self.warn(kind, f"attributes {quote(kind)} are not kept: {reason(error)}")


class Single(Owner):
    """Everything belongs to one plain user."""

    single = True
    trusted = False

    def __init__(self, warn: Callable[[str], None] | None = None) -> None:
        super().__init__(warn)
        self.key = f"single-{self.me[0]}-{self.me[1]}"

    def ids(self, uid: int, gid: int) -> tuple[int, int]:
        return self.me

    def file(self, fd: int, made: int, mode: int, uid: int, gid: int, xattrs: dict[bytes, bytes]) -> None:
        super().file(fd, made, mode, uid, gid, self._remember(uid, gid, xattrs))

    def directory(self, fd: int, mode: int, uid: int, gid: int, xattrs: dict[bytes, bytes]) -> None:
        # A directory that its owner may not write in takes no user attribute: mode comes last.
        os.fchmod(fd, mode | 0o700)
        super().directory(fd, mode | 0o700, uid, gid, self._remember(uid, gid, xattrs))
        if mode & 0o700 != 0o700:
            os.fchmod(fd, mode)

    def _remember(self, uid: int, gid: int, xattrs: dict[bytes, bytes]) -> dict[bytes, bytes]:
        kept = {name: value for name, value in xattrs.items() if not name.startswith(_REFUSED)}
        if len(kept) < len(xattrs):
            self.warn("refused", "attributes that are the host's own are refused")
        return {**kept, REMEMBER: remember(uid, gid)} if (uid, gid) != (0, 0) else kept

    def _xattrs(self, file: int | bytes, xattrs: dict[bytes, bytes]) -> None:
        for name, value in xattrs.items():
            if not name.startswith(_SILENT):
                self._xattr(file, name, value)


class Inside(Owner):
    """Ownership as layers say it, by who is root in a user namespace with more ids than one."""

    trusted = False

    def __init__(self, maps: dict[str, list[dict[str, int]]], warn: Callable[[str], None] | None = None) -> None:
        super().__init__(warn)
        self.key = key(maps)


def key(maps: dict[str, list[dict[str, int]]]) -> str:
    """A name of a mapping {"uidMappings", "gidMappings"}: part of the layer store's keys, and of a bundle's record."""
    import zlib

    text = repr([[(e["containerID"], e["hostID"], e["size"]) for e in maps[name]] for name in sorted(maps)])
    return f"ids-{zlib.crc32(text.encode()):08x}"


def higher(key: str) -> int:
    """By how much the ids on disk are above those of an image, where its files are kept under this key."""
    return 1 if key.startswith(NOMAP) else 0


def own_maps() -> dict[str, list[dict[str, int]]] | None:
    """The mapping of the user namespace that we are in; None for the host's own."""
    if process.in_host_user_namespace():
        return None
    made = {}
    for member, file in (("uidMappings", "uid_map"), ("gidMappings", "gid_map")):
        with open(f"/proc/self/{file}", encoding="utf-8") as lines:
            rows = [[int(word) for word in line.split()] for line in lines]
        made[member] = [{"containerID": inside, "hostID": host, "size": size} for inside, host, size in rows]
    return made


def for_namespace(warn: Callable[[str], None] | None = None) -> Owner:
    """The same as `for_process`, of who may be root in a user namespace only."""
    maps = own_maps() if os.geteuid() == 0 else None
    if maps is None:
        return for_process(warn)
    single = all(sum(entry["size"] for entry in entries) == 1 for entries in maps.values())
    return Single(warn) if single else Inside(maps, warn)


def for_process(warn: Callable[[str], None] | None = None) -> Owner:
    """The ownership that this process can give: everything as root, else its own."""
    return Owner(warn) if os.geteuid() == 0 else Single(warn)


def read(path: bytes, follow: bool, but: tuple[bytes, ...] = ()) -> dict[bytes, bytes]:
    """The extended attributes of a file, save those whose names begin with one of `but`; FileNotFoundError if it
    has just gone."""
    found = {}
    try:
        for name in map(os.fsencode, os.listxattr(path, follow_symlinks=follow)):
            if not name.startswith(but):
                found[name] = os.getxattr(path, name, follow_symlinks=follow)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):  # one has just gone; there can be none
            raise Error("cannot read attributes of", path.split(b"/", 5)[-1], reason(error)) from None
    return found


# -- user.rootlesscontainers -----------------------------------------------------------------


def remember(uid: int, gid: int) -> bytes:
    """The attribute's value; a field of 0 is left out, as protobuf does."""
    return (b"\x08" + _varint(uid) if uid else b"") + (b"\x10" + _varint(gid) if gid else b"")


def recall(value: bytes) -> tuple[int, int]:
    """The (uid, gid) that the attribute says; an Error for what is no such message."""
    found = {1: 0, 2: 0}
    at = 0
    try:
        while at < len(value):
            key, at = _read_varint(value, at)
            number, at = _read_varint(value, at)
            if key & 7 or key >> 3 not in found or not 0 <= number <= NOOP:
                raise IndexError
            found[key >> 3] = 0 if number == NOOP else number
    except IndexError:
        raise Error("cannot read attribute", REMEMBER, f"not an owner: {value!r}") from None
    return found[1], found[2]


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes(data + bytes((number,)))


def _read_varint(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = value[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


def on_disk(mode: int, uid: int, gid: int, remembered: bytes | None) -> tuple[int, int]:
    """The owner that an image should see of a file found on disk by a plain user: its own is root."""
    if remembered is not None and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return recall(remembered)
    return (0 if uid == os.geteuid() else uid, 0 if gid == os.getegid() else gid)
