"""An image in a directory as skopeo has it under `dir:`, for one image or index, which has no name there.

    version              "Directory Transport Version: 1.1"
    manifest.json        its manifest or index
    HEX.manifest.json    the manifests and indexes in that
    HEX                  configuration, layers and all else, each by the hex digits of its digest

`Directory` reads one as if it were a layout; `write` makes one, or another image of one that is there.
"""

from __future__ import annotations

import itertools
import os

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import manifest as manifests
from oci_tools.image.layout import MAX_DOCUMENT, Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.layout import Descriptor

VERSION = "Directory Transport Version: "
_WRITTEN = "1.1\n"
_BESIDE = ".new"  # ends the name of a directory that is not whole
_NEW = ".new"  # a file that is not
_OURS = r"[0-9a-f]{32,128}(\.manifest\.json)?|([0-9a-f]{32,128}\.)?signature-[0-9]+|(version[.0-9]+)?\.new"


class Directory(Layout):
    """One such directory, to be read; nobody else's changes are kept away."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        _check_version(self.path)
        data = _read(f"{self.path}/manifest.json")
        found = document.loads(data, f"{path}/manifest.json")
        if not isinstance(found, dict):
            raise Error("cannot read", f"{path}/manifest.json", "not an object")
        kind = manifests.kind(found, {})
        self.top = {"mediaType": kind, "digest": digests.of(data), "size": len(data)}

    def hold(self) -> Layout:
        return self

    def index(self) -> dict[str, Any]:
        return {"manifests": [dict(self.top)]}

    def blob_path(self, descriptor: Descriptor | str) -> str:
        digest = descriptor if isinstance(descriptor, str) else descriptor.get("digest")
        _, text = digests.check(digest)
        if digest == self.top["digest"]:
            return f"{self.path}/manifest.json"
        path = f"{self.path}/{text}.manifest.json"
        return path if os.path.exists(path) else f"{self.path}/{text}"


def _check_version(path: str) -> None:
    try:
        with open(f"{path}/version", encoding="utf-8") as file:
            said = file.read(100)
    except FileNotFoundError:
        return  # the first ones said nothing
    except (OSError, ValueError) as error:
        raise Error("cannot read", f"{path}/version", error if isinstance(error, OSError) else "not text") from None
    if not said.startswith(f"{VERSION}1."):
        raise Error("cannot read image in", path, f"unknown version: {said.strip()!r}")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_DOCUMENT + 1)
    except OSError as error:
        raise Error("cannot read", path, error) from None
    if len(data) > MAX_DOCUMENT:
        raise Error("cannot read", path, f"more than {MAX_DOCUMENT} bytes")
    return data


def write(view: Any, top: Descriptor, path: str) -> None:
    """An image, or of an index what is here, in place of such a directory, or of nothing.

    At any moment, also that of a kill, there is what was or what is to be, whole: a new one is made beside; in one
    that is there manifest.json changes last, and only then what it no longer leads to is removed.  So it stays the
    same directory, which may be a mount point.  What a killed run left the next one takes away.
    """
    path = os.path.abspath(path)
    try:
        if os.path.isdir(path):
            with fs.Lock(os.path.realpath(path)):
                _renew(view, top, path)
        else:
            _check_free(path)
            _make(view, top, path)
    except OSError as error:
        raise Error("cannot write", path, error) from None


def _make(view: Any, top: Descriptor, path: str) -> None:
    _sweep(path)
    beside = f"{path}.{os.getpid()}{_BESIDE}"
    try:
        os.mkdir(beside)
        with fs.Lock(beside):
            _fill(view, top, beside, [])
            os.rename(beside, path)
    except BaseException:
        fs.remove_tree(beside)
        raise


def _renew(view: Any, top: Descriptor, path: str) -> None:
    _check_free(path)
    import re

    before, made = set(os.listdir(path)), list[str]()
    try:
        _fill(view, top, path, made)
    except BaseException:
        _remove(path, {*made, _NEW} - before)
        raise
    _remove(path, {name for name in before.difference(made) if re.fullmatch(_OURS, name)})


def _fill(view: Any, top: Descriptor, path: str, made: list[str]) -> None:
    """Have the files of an image in a directory, its manifest last; `made` are their names."""
    made.append("version")
    fs.write(f"{path}/version", f"{VERSION}{_WRITTEN}".encode(), sync=False)
    parts = manifests.parts(view, top)
    for descriptor in itertools.chain((one for one in parts if one["digest"] != top["digest"]), [top]):
        name = _name(descriptor, top)
        _copy(view, descriptor, f"{path}/{_NEW}")
        made.append(name)
        os.rename(f"{path}/{_NEW}", f"{path}/{name}")


def _remove(path: str, names: set[str]) -> None:
    for name in names:
        fs.remove_tree(f"{path}/{name}")


def _sweep(path: str) -> None:
    """Remove what killed runs left beside."""
    where, name = os.path.split(path)
    try:
        left = [one for one in os.listdir(where) if one.startswith(f"{name}.") and one.endswith(_BESIDE)]
    except OSError:
        return
    for one in left:
        pid = one[len(name) + 1 : -len(_BESIDE)]
        if not pid.isdecimal() or os.path.exists(f"/proc/{pid}"):
            continue
        try:
            with fs.Lock(f"{where}/{one}", timeout=0, make=False):  # /proc may not show who makes it
                fs.remove_tree(f"{where}/{one}")
        except Error:
            continue


def _check_free(path: str) -> None:
    """Raise Error unless there is nothing, an empty directory, or one of these."""
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Error("cannot write", path, error) from None
    if names and not ("version" in names and _is_one(path)):
        raise Error("cannot write", path, "it is a directory of something else")


def _is_one(path: str) -> bool:
    with open(f"{path}/version", "rb") as file:
        return file.read(len(VERSION)) == VERSION.encode()


def _name(descriptor: Descriptor, top: Descriptor) -> str:
    if descriptor["digest"] == top["digest"]:
        return "manifest.json"
    _, text = digests.check(descriptor["digest"])
    kind = descriptor.get("mediaType")
    return f"{text}.manifest.json" if manifests.is_index(kind) or manifests.is_manifest(kind) else text


def _copy(view: Any, descriptor: Descriptor, path: str) -> None:
    with digests.Verifier(view.blob(descriptor), descriptor) as blob, open(path, "wb", buffering=0) as file:
        while data := blob.read(1 << 20):
            fs.write_all(file.fileno(), data)
