"""The packages in an image, out of the databases of dpkg, apk and rpm.

    /var/lib/dpkg/status, status.d/*            paragraphs "Name: value"
    /lib/apk/db/installed                       lines "P:name", "V:version"
    rpmdb.sqlite; Packages.db                   a row, or a blob between marks, for each header of rpm

A database is a stranger's: what cannot be read in it is passed over.
"""

from __future__ import annotations

import os
import struct

from oci_tools import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 256 << 20  # bytes of a database
_RPM = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
_APK = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
# rpm's tags: rpmtag.h
_NAME, _VERSION, _RELEASE, _EPOCH, _LICENSE, _VENDOR, _ARCH, _SOURCE = 1000, 1001, 1002, 1003, 1014, 1011, 1022, 1044
_INT32, _STRING, _I18N = 4, 6, 9


class Package:
    """One package; `kind` is deb, apk or rpm."""

    def __init__(self, kind: str, name: str, version: str, **said: str) -> None:
        self.kind = kind
        self.name = name
        self.version = version
        self.architecture = said.get("architecture", "")
        self.license = said.get("license", "")
        self.supplier = said.get("supplier", "")
        self.source = said.get("source", "")
        self.epoch = said.get("epoch", "")


class Distribution:
    """Whose packages they are: ID and VERSION_ID of os-release(5)."""

    def __init__(self, text: str) -> None:
        said = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
        self.name = said.get("ID", "").strip("\"'")
        self.version = said.get("VERSION_ID", "").strip("\"'")


class Tree:
    """The files of an image: a descriptor of its root, beneath which all is."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, path: str) -> bytes | None:
        try:
            fd = fs.open_beneath(self._fd, path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        with open(fd, "rb") as file:
            seen = os.fstat(fd)
            return file.read(LARGEST) if 0 < seen.st_size <= LARGEST and not seen.st_mode & 0o040000 else None

    def names(self, path: str) -> list[str]:
        try:
            fd = fs.open_beneath(self._fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return []
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)


def distribution(tree: Tree) -> Distribution:
    data = tree.read("etc/os-release") or tree.read("usr/lib/os-release") or b""
    return Distribution(data.decode("utf-8", "replace"))


def packages(tree: Tree) -> list[Package]:
    """All of them, by kind and name."""
    found = [*_dpkg(tree), *_apk(tree), *_rpm(tree)]
    return sorted(found, key=lambda one: (one.kind, one.name, one.version, one.architecture))


# -- dpkg, apk -----------------------------------------------------------------------------------


def _dpkg(tree: Tree) -> Iterator[Package]:
    parts = [tree.read("var/lib/dpkg/status") or b""]
    for name in tree.names("var/lib/dpkg/status.d"):  # images without dpkg
        if not name.endswith(".md5sums"):
            parts.append(tree.read(f"var/lib/dpkg/status.d/{name}") or b"")
    for data in parts:
        for paragraph in data.decode("utf-8", "replace").split("\n\n"):
            lines = [line for line in paragraph.split("\n") if line[:1] not in (" ", "\t")]
            said = dict(line.partition(": ")[::2] for line in lines)
            if said.get("Package") and said.get("Version") and _is_installed(said.get("Status", "")):
                yield Package(
                    "deb", said["Package"], said["Version"], architecture=said.get("Architecture", ""),
                    supplier=said.get("Maintainer", ""), source=said.get("Source", "").partition(" ")[0],
                )  # fmt: skip


def _is_installed(status: str) -> bool:
    return not status or status.endswith(" installed")


def _apk(tree: Tree) -> Iterator[Package]:
    data = next((data for path in _APK if (data := tree.read(path))), b"")
    for paragraph in data.decode("utf-8", "replace").split("\n\n"):
        said: dict[str, str] = {}
        for line in paragraph.split("\n"):
            if line[1:2] == ":":
                said.setdefault(line[0], line[2:])
        if said.get("P") and said.get("V"):
            yield Package(
                "apk", said["P"], said["V"], architecture=said.get("A", ""), license=said.get("L", ""),
                supplier=said.get("m", ""), source=said.get("o", ""),
            )  # fmt: skip


# -- rpm -------------------------------------------------------------------------------------------


def _rpm(tree: Tree) -> Iterator[Package]:
    for directory in _RPM:
        for name, headers in (("rpmdb.sqlite", _sqlite), ("Packages.db", _ndb), ("Packages", _berkeley)):
            if data := tree.read(f"{directory}/{name}"):
                for header in headers(data):
                    try:
                        package = _header(header)
                    except (struct.error, ValueError, IndexError):
                        continue
                    if package is not None:
                        yield package
                return


def _sqlite(data: bytes) -> list[bytes]:
    import sqlite3

    base = sqlite3.connect(":memory:")
    try:
        base.deserialize(data[:18] + b"\1\1" + data[20:])  # no write-ahead log, which is not here
        return [row[0] for row in base.execute("SELECT blob FROM Packages") if isinstance(row[0], bytes)]
    except sqlite3.Error:
        return []
    finally:
        base.close()


def _ndb(data: bytes) -> Iterator[bytes]:
    """rpm's own database: slots of 16 bytes in the first pages say where the blobs are, in blocks of 16."""
    if data[:4] != b"RpmP" or len(data) < 32:
        return
    pages = struct.unpack_from("<I", data, 12)[0]
    for at in range(32, min(pages * 4096, len(data) - 15), 16):
        mark, number, block, _ = struct.unpack_from("<4sIII", data, at)
        start = block * 16
        if mark != b"Slot" or not number or data[start : start + 4] != b"BlbS":
            continue
        length = struct.unpack_from("<I", data, start + 12)[0]
        yield data[start + 16 : start + 16 + length]


def _berkeley(data: bytes) -> Iterator[bytes]:
    """Berkeley DB's hash, which rpm had before 4.16: pages of items, in turn keys and values, which a table behind
    the page's head finds; a value that is too long for that is in a chain of pages of its own."""
    order = next((each for each in "<>" if data[12:16] == struct.pack(f"{each}I", 0x061561)), "")
    size = struct.unpack_from(f"{order}I", data, 20)[0] if order and len(data) > 24 else 0
    if size < 512:
        return
    for start in range(size, len(data) - size + 1, size):
        count, kind = struct.unpack_from(f"{order}H", data, start + 20)[0], data[start + 25]
        if kind not in (2, 13):  # P_HASH_UNSORTED, P_HASH
            continue
        places = struct.unpack_from(f"{order}{min(count, (size - 26) // 2)}H", data, start + 26)
        for before, at in zip(places[::2], places[1::2], strict=False):
            if at < before < size and data[start + at] == 1:  # H_KEYDATA
                yield data[start + at + 1 : start + before]
            elif at + 12 <= size and data[start + at] == 3:  # H_OFFPAGE
                yield _chained(data, order, size, *struct.unpack_from(f"{order}II", data, start + at + 4))


def _chained(data: bytes, order: str, size: int, page: int, length: int) -> bytes:
    found = b""
    while page and len(found) < length and (start := page * size) + size <= len(data):
        page, _, used = struct.unpack_from(f"{order}IHH", data, start + 16)
        if not 0 < used <= size - 26:
            break
        found += data[start + 26 : start + 26 + used]
    return found


def _header(data: bytes) -> Package | None:
    """A header of rpm: counts of entries and bytes, entries (tag, type, offset, count), bytes."""
    count, size = struct.unpack_from(">II", data)
    store = 8 + 16 * count
    said: dict[int, str] = {}
    for at in range(8, min(store, len(data) - 15), 16):
        tag, kind, offset, _ = struct.unpack_from(">IIiI", data, at)
        place = store + offset
        if not store <= place < min(store + size, len(data)) or tag in said:
            continue
        if kind in (_STRING, _I18N):
            said[tag] = data[place : data.index(b"\0", place)].decode("utf-8", "replace")
        elif kind == _INT32:
            said[tag] = str(struct.unpack_from(">I", data, place)[0])
    if not said.get(_NAME) or not said.get(_VERSION) or said[_NAME] == "gpg-pubkey":
        return None
    version = f"{said[_VERSION]}-{said[_RELEASE]}" if said.get(_RELEASE) else said[_VERSION]
    return Package(
        "rpm", said[_NAME], version, architecture=said.get(_ARCH, ""), license=said.get(_LICENSE, ""),
        supplier=said.get(_VENDOR, ""), source=said.get(_SOURCE, ""), epoch=said.get(_EPOCH, ""),
    )  # fmt: skip
