"""Volumes: named directories that outlive containers, and that several may share.

    volumes/NAME/        mode 0700
        volume.json      {"version", "created", "labels", "options", "anonymous", "readonly", "project"}; "image"
                         of one that began with what that image has
        _data/           what is in it; of one with a file system of its own where that is mounted (mounting.py)
        ids              there if files in it may belong to a plain user's subordinate ids: he changes it as their root
        disk             that file system, in a sparse file, where a size was asked for and there is no quota
    volumes/.NAME.new/   one that is being made, or taken away
    volumes/.lock        exclusive: volumes come, go or change their names; shared: one is being given to a container

Who uses a volume is read from the containers on disk (users.py), never remembered.  Names are
docker's: letters, digits, `_`, `.` and `-`, the first a letter or digit.
"""

from __future__ import annotations

import os
import time

from oci_tools import document, fs
from oci_tools.errors import Error, Usage
from oci_tools.linux import process
from oci_tools.volume import backing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

VERSION = 1
MARK = "ids"
_MAX = 240  # bytes of a name: a file's name has 255, and it gets some more while it is made
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


class Volume:
    """One volume: its name, its directory `path`, its record, and where its files are (`data`)."""

    def __init__(self, name: str, record: dict[str, Any]) -> None:
        self.name = name
        self.record = record
        self.path = f"{directory()}/{name}"

    @property
    def backing(self) -> backing.Backing:
        """What its options say of where its bytes are."""
        return backing.read(self.record["options"])

    @property
    def data(self) -> str:
        """The directory that a container is given; of one that is bound, that of the host."""
        made = self.backing
        return made.device if made.kind == "bind" else f"{self.path}/_data"

    @property
    def driver(self) -> str:
        """"image" of one that began with what an image has (podman's), else "local"."""
        return "image" if self.record.get("image") else "local"

    @property
    def options(self) -> dict[str, str]:
        """As everybody may see them."""
        image = self.record.get("image")
        return {"image": image} if image else backing.shown(self.record["options"])

    @property
    def anonymous(self) -> bool:
        return bool(self.record["anonymous"])

    @property
    def readonly(self) -> bool:
        return bool(self.record["readonly"])

    def save(self) -> None:
        fs.write(f"{self.path}/volume.json", document.dumps(self.record), 0o600)

    def mark(self) -> None:
        """Remember that a container whose ids are not only the user's own has it."""
        if not is_marked(self.name):
            fs.write(f"{self.path}/{MARK}", b"", 0o600, sync=False)


def directory() -> str:
    """Where volumes are kept; not made here."""
    return f"{fs.root()}/volumes"


def is_marked(name: str) -> bool:
    return os.path.exists(f"{directory()}/{name}/{MARK}")


def lock(shared: bool = False) -> fs.Lock:
    """What keeps volumes as they are for a `with` block."""
    return fs.Lock(f"{fs.make_private(directory())}/.lock", shared=shared)


def check(name: str) -> str:
    """A name that a volume may have."""
    if not name or name[0] not in _LETTERS or set(name) - _LETTERS - set("_.-") or len(name) > _MAX:
        raise Usage("invalid volume name", name, f"1 to {_MAX} of [a-zA-Z0-9_.-], the first a letter or digit")
    return name


def names() -> list[str]:
    """Every volume that there is, sorted."""
    try:
        found = os.listdir(directory())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Error("cannot read directory", directory(), error) from None
    return sorted(name for name in found if not name.startswith("."))


def load(name: str) -> Volume:
    """The volume of a name; an Error if there is none, or its record is damaged."""
    check(name)
    path = f"{directory()}/{name}/volume.json"
    try:
        record = document.load(path)
    except Error:
        if not os.path.lexists(f"{directory()}/{name}"):
            raise Error("no such volume", name) from None
        raise
    shapes = (("labels", dict), ("options", dict), ("created", int), ("anonymous", bool), ("readonly", bool))
    if not isinstance(record, dict) or any(not isinstance(record.get(key), kind) for key, kind in shapes):
        raise Error("damaged record of volume", name, f"in {path}")
    return Volume(name, record)


def find(name: str) -> Volume | None:
    """The same, or None if there is none."""
    return load(name) if os.path.lexists(f"{directory()}/{check(name)}") else None


def everything() -> list[Volume]:
    """Every volume that there is; those that go meanwhile are passed over."""
    found = []
    for name in names():
        try:
            found.append(load(name))
        except Error:
            if os.path.lexists(f"{directory()}/{name}"):
                raise
    return found


def unnamed() -> str:
    """A name for a volume that nobody named."""
    return os.urandom(32).hex()


def create(
    name: str, options: dict[str, str] | None = None, labels: dict[str, str] | None = None, anonymous: bool = False
) -> Volume:
    """Make a volume, or have it, if there is one with the same options."""
    with lock():
        return have(name, options or {}, labels or {}, anonymous)


def of_image(
    name: str, image: str, labels: dict[str, str], anonymous: bool, fill: Callable[[str], object]
) -> Volume:
    """Make a volume that begins with what an image has, put into a directory by `fill`; or have it, if it is there."""
    with lock():
        known = find(name)
        if known:
            if known.record.get("image") != image:
                raise Error("volume already exists with other options", name)
            return known
        with Making(check(name)) as making:
            making.record.update(labels=labels, anonymous=anonymous, image=image)
            fill(making.data)
            return making.done()


def have(name: str, options: dict[str, str], labels: dict[str, str], anonymous: bool) -> Volume:
    """The same; the lock is held, exclusive unless there is one."""
    made = backing.read(options)
    known = find(name)
    if known:
        if options and options != known.record["options"]:
            raise Error("volume already exists with other options", name)
        return known
    with Making(check(name)) as making:
        making.record.update(labels=labels, options=options, anonymous=anonymous)
        making.begin(made)
        return making.done()


def sweep() -> None:
    """Remove what killed processes left half made or half removed; the lock is held."""
    from oci_tools.volume import mounting

    for name in os.listdir(directory()):
        if name.startswith(".") and name.endswith(".new"):
            left = f"{directory()}/{name}"
            if is_marked(name) and os.geteuid():
                continue  # for the next who is
            mounting.unmount_at(f"{left}/_data", name)
            fs.remove_tree(left)


class Making:
    """A volume that is being made, for a `with` block: nobody sees it before `done`, and then whole.

    The lock is held by the caller.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.beside = f"{directory()}/.{name}.new"
        self.data = f"{self.beside}/_data"
        self.record: dict[str, Any] = {
            "version": VERSION, "created": time.time_ns(), "labels": {}, "options": {}, "anonymous": False,
            "readonly": False, "project": None,
        }  # fmt: skip

    def __enter__(self) -> Making:
        sweep()
        try:
            os.mkdir(self.beside, 0o700)
            fs.make_roomy(self.data)
            os.chmod(self.data, 0o755)
        except OSError as error:
            raise Error("cannot make volume", self.name, error) from None
        return self

    def __exit__(self, *_: object) -> None:
        fs.remove_tree(self.beside)

    def begin(self, made: backing.Backing) -> None:
        """Give it the size and owner that its options ask for."""
        from oci_tools.volume import room

        if made.size or made.inodes:
            self.record["project"] = room.limit(self.name, self.beside, made)
        try:
            if made.kind == "plain":
                os.chown(self.data, made.uid, made.gid)
                if made.mode is not None:
                    os.chmod(self.data, made.mode)
        except OSError as error:
            raise Error("cannot make volume", self.name, error) from None

    def done(self) -> Volume:
        if os.geteuid() == 0 and not process.in_host_user_namespace():
            fs.write(f"{self.beside}/{MARK}", b"", 0o600, sync=False)
        fs.write(f"{self.beside}/volume.json", document.dumps(self.record), 0o600)
        try:
            os.rename(self.beside, f"{directory()}/{self.name}")
            fs.sync_directory(directory())
        except OSError as error:
            raise Error("cannot make volume", self.name, error) from None
        return Volume(self.name, self.record)
