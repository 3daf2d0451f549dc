"""Images at rest, read from the default store's files: image-spec's layout, manifest and configuration.

    $OCI_ROOT/images/index.json     names -> manifests or indexes; read again when it was replaced
    $OCI_ROOT/images/blobs/...      documents, which never change: kept once read

An image's Id is its configuration's digest, as the API has it.  Changes are `oci-image`'s.
"""

from __future__ import annotations

import os
import re
import threading

from oci_tools import document, fs
from oci_tools.engine.api import times
from oci_tools.engine.api.answers import Refused
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REF_NAME = "org.opencontainers.image.ref.name"
_LIMIT = 4 << 20  # bytes of a document
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
HERE = _MACHINES.get(os.uname().machine, os.uname().machine)
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)

_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}")


def familiar(name: str) -> str:
    """A full name as people write it: docker.io/library/alpine:latest is alpine:latest."""
    return name.removeprefix("docker.io/").removeprefix("library/") if name.startswith("docker.io/") else name


def full(text: str, tag: str = "latest") -> str:
    """A name in full, with this tag where it has none; what is no name is returned as it is."""
    name, at, digest = text.partition("@")
    first, slash, _ = name.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not is_host:
        name = f"docker.io/{name}"
    elif first in ("docker.io", "index.docker.io"):
        rest = name.partition("/")[2]
        name = f"docker.io/{rest if '/' in rest else f'library/{rest}'}"
    if at:
        return f"{name}@{digest}"
    return name if ":" in name.rpartition("/")[2] or not tag else f"{name}:{tag}"


def check(text: str) -> None:
    """Refuse what can be no name of an image, in dockerd's words."""
    name, at, digest = text.partition("@")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    path = f"{head}{slash}{last}"
    first, slash, rest = path.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        path = rest
    shown = path if "/" in path else f"library/{path}"
    if path != path.lower():
        raise Refused(400, f"invalid reference format: repository name ({shown}) must be lowercase")
    if (at and not _DIGEST.fullmatch(digest)) or not _REPOSITORY.fullmatch(path):
        raise Refused(400, "invalid reference format")
    if colon and not _TAG.fullmatch(tag):
        raise Refused(400, "invalid tag format")


class Image:
    """One image of the store.

    names     full names; digests  the descriptors' in index.json, the first is the one to use
    """

    def __init__(self, store: Store, config: str, manifest: dict[str, Any], digest: str) -> None:
        self.store = store
        self.id = config
        self.manifest = manifest
        self.digest = digest  # the manifest's
        self.names: list[str] = []
        self.tops: list[str] = []

    @property
    def document(self) -> dict[str, Any]:
        """The image's configuration, all of it."""
        return self.store.blob(self.id)

    @property
    def config(self) -> dict[str, Any]:
        """What it says of containers: `config` of its configuration."""
        return self.document.get("config") or {}

    @property
    def created(self) -> int:
        """Nanoseconds since 1970; 0 if its configuration does not say."""
        return times.read(self.document.get("created")) or 0

    @property
    def size(self) -> int:
        return sum(int(layer.get("size") or 0) for layer in self.manifest.get("layers") or ())

    @property
    def word(self) -> str:
        """What our commands call it by."""
        return f"{self.store.path}@{self.tops[0]}"

    def called(self, name: str) -> str:
        """What our commands are told for it: a name by which it was asked for, if it has that one."""
        known = full(name)
        return known if known in self.names else self.word

    def repo_tags(self) -> list[str]:
        return [familiar(name) for name in self.names if "@" not in name]

    def repo_digests(self) -> list[str]:
        repositories = {familiar(_repository(name)) for name in self.names}
        return sorted(f"{repository}@{self.tops[0]}" for repository in repositories)


def _repository(name: str) -> str:
    name = name.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


class Store:
    """The default store."""

    def __init__(self) -> None:
        self.path = f"{fs.root()}/images"
        self._lock = threading.Lock()
        self._stamp = (0, 0)
        self._images: list[Image] = []
        self._blobs: dict[str, dict[str, Any]] = {}

    def blob(self, digest: str) -> dict[str, Any]:
        """A document by its digest."""
        found = self._blobs.get(digest)
        if found is None:
            algorithm, _, text = digest.partition(":")
            if not (algorithm.isalnum() and text.isalnum()):
                return {}
            try:
                with open(f"{self.path}/blobs/{algorithm}/{text}", "rb") as file:
                    found = document.loads(file.read(_LIMIT), digest)
            except (OSError, Error):
                return {}
            if not isinstance(found, dict):
                return {}
            self._blobs[digest] = found
        return found

    def all(self) -> list[Image]:
        """Every image, newest first."""
        try:
            seen = os.stat(f"{self.path}/index.json")
        except FileNotFoundError:
            return []
        stamp = (seen.st_mtime_ns, seen.st_ino)
        with self._lock:
            if stamp != self._stamp:
                self._images = self._read()
                self._stamp = stamp
            return self._images

    def _read(self) -> list[Image]:
        try:
            entries = document.load(f"{self.path}/index.json").get("manifests") or []
        except (Error, AttributeError):
            return []
        found: dict[str, Image] = {}
        for entry in entries:
            chosen = self._choose(entry, None)
            config = ((chosen or {}).get("config") or {}).get("digest")
            if chosen is None or not config or not self.blob(config):
                continue
            image = found.setdefault(config, Image(self, config, chosen, self._digest(entry)))
            if entry["digest"] not in image.tops:
                image.tops.append(entry["digest"])
            name = (entry.get("annotations") or {}).get(REF_NAME)
            if name:
                image.names.append(name)
        return sorted(found.values(), key=lambda image: image.created, reverse=True)

    def _digest(self, entry: dict[str, Any]) -> str:
        return str(entry["digest"])

    def _choose(self, entry: dict[str, Any], platform: str | None) -> dict[str, Any] | None:
        """The manifest of an entry; of an index the one for a platform, for this host's without one."""
        found = self.blob(entry["digest"])
        if "manifests" not in found:
            return found if "config" in found else None
        system, machine, *_ = [*(platform or f"linux/{HERE}").split("/"), ""]
        for each in found["manifests"]:
            said = each.get("platform") or {}
            if said.get("os") == system and said.get("architecture") == (machine or HERE):
                chosen = self.blob(each["digest"])
                if "config" in chosen:
                    return chosen
        return None

    def find(self, word: str, platform: str = "") -> Image:
        """The image that a name, an Id or the beginning of one means; refused in dockerd's words."""
        image = self.look(word)
        if image is None:
            check(word)
            shown = word if ":" in word.rpartition("/")[2] or "@" in word else f"{word}:latest"
            raise Refused(404, f"No such image: {shown}")
        if platform and not _fits(image.document, platform):
            said = f"{image.document.get('os')}/{image.document.get('architecture')}"
            raise Refused(
                404, f"image with reference {word} was found but does not match the specified platform: "
                f"wanted {platform}, actual: {said}",
            )  # fmt: skip
        return image

    def look(self, word: str) -> Image | None:
        images, name = self.all(), full(word)
        for image in images:
            if name in image.names:
                return image
        digest = word.partition("@")[2] or (word if word.startswith("sha256:") else "")
        for image in images:
            if digest and (digest in image.tops or digest == image.id):
                return image
        text = word.removeprefix("sha256:")
        if text and set(text) <= set("0123456789abcdef"):
            found = [image for image in images if image.id.partition(":")[2].startswith(text)]
            if len(found) == 1:
                return found[0]
        return None


def _fits(config: dict[str, Any], platform: str) -> bool:
    parts = platform.split("/")
    said = [config.get("os"), config.get("architecture"), config.get("variant")]
    if len(parts) == 1:
        return parts[0] in said[:2]
    return all(not said[at] or part == said[at] for at, part in enumerate(parts[:3]))
