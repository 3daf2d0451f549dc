"""An image in a directory as skopeo has it under `dir:`, for one image or index, which has no name there.

    version              "Directory Transport Version: 1.1"
    manifest.json        its manifest or index
    HEX.manifest.json    the manifests and indexes in that
    HEX                  configuration, layers and all else, each by the hex digits of its digest

`Directory` reads one as if it were a layout; `write` makes one, beside, and gives it its name when it is whole.
"""

from __future__ import annotations

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
_OURS = "1.1\n"


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
    """An image, or of an index what is here, in place of such a directory, or of nothing."""
    path = os.path.abspath(path)
    _check_free(path)
    beside = f"{path}.{os.getpid()}.new"
    try:
        os.mkdir(beside)
        for descriptor in manifests.parts(view, top):
            _copy(view, descriptor, f"{beside}/{_name(descriptor, top)}")
        fs.write(f"{beside}/version", f"{VERSION}{_OURS}".encode(), sync=False)
        if os.path.exists(path):
            os.rename(path, f"{beside}.old")
        os.rename(beside, path)
        fs.remove_tree(f"{beside}.old")
    except OSError as error:
        fs.remove_tree(beside)
        raise Error("cannot write", path, error) from None
    except BaseException:
        fs.remove_tree(beside)
        raise


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
    with digests.Verifier(view.blob(descriptor), descriptor) as blob, open(path, "xb", buffering=0) as file:
        while data := blob.read(1 << 20):
            fs.write_all(file.fileno(), data)
