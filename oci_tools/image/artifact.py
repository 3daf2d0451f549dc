"""Files as an artifact: image-spec, manifest.md, "Guidelines for Artifact Usage", as oras reads and writes it.

    {"mediaType": OCI_MANIFEST, "artifactType": TYPE, "config": the empty one,
     "layers": [{"mediaType", "digest", "size", "annotations": {"org.opencontainers.image.title": PATH}}],
     "subject": what it is about}

PATH is relative, with "/".  One that would lead out of the directory into which files are written is refused, and
no link in there is followed out of it.
"""

from __future__ import annotations

import os
import stat

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import manifest as manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import FileIO
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout

TITLE = "org.opencontainers.image.title"
UNKNOWN = "application/vnd.unknown.artifact.v1"  # as oras calls what nobody named
FILE = "application/octet-stream"
EMPTY = b"{}"
BLOCK = 1 << 20  # bytes read at once


def create(
    layout: Layout,
    files: Iterable[tuple[str, str]],
    kind: str | None = None,
    subject: Descriptor | None = None,
    annotations: dict[str, str] | None = None,
) -> Descriptor:
    """Put an artifact of files, (path, media type or ""), into a layout that is held; its descriptor."""
    empty = layout.put(EMPTY, manifests.OCI_EMPTY)
    layers = [_put(layout, path, media_type or FILE) for path, media_type in files]
    titles = [layer["annotations"][TITLE] for layer in layers]
    twice = next((title for title in titles if titles.count(title) > 1), None)
    if twice is not None:
        raise Error("two files are called", twice)
    made: dict[str, Any] = {"schemaVersion": 2, "mediaType": manifests.OCI_MANIFEST, "artifactType": kind or UNKNOWN}
    made |= {"config": empty, "layers": layers or [empty]}  # a list without any is not understood everywhere
    if subject:
        made["subject"] = {key: subject[key] for key in ("mediaType", "digest", "size")}
    if annotations:
        made["annotations"] = annotations
    return {**layout.put(document.dumps(made), manifests.OCI_MANIFEST), "artifactType": made["artifactType"]}


def _put(layout: Layout, path: str, media_type: str) -> Descriptor:
    title = os.path.normpath(path)
    if os.path.isabs(title) or title.startswith(".."):
        title = os.path.basename(title)
    try:
        with open(path, "rb", buffering=0) as file, layout.ingest() as ingest:
            while data := file.read(BLOCK):
                ingest.write(data)
            return {**ingest.commit(media_type), "annotations": {TITLE: title}}
    except OSError as error:
        raise Error("cannot read", path, error) from None


def extract(layout: Layout, descriptor: Descriptor, directory: str) -> list[str]:
    """Write an artifact's files into a directory, made if missing; their paths.

    All of them are verified before the first gets its name; none takes the place of a file that is there, and then
    none gets its name.
    """
    named = list(_named(layout, descriptor))
    if not named:
        raise Error("no files in", descriptor["digest"], "none of its parts has a title")
    made: list[tuple[int, str]] = []  # files without a name yet
    done: list[str] = []
    try:
        os.makedirs(directory, exist_ok=True)
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Error("cannot make directory", directory, error) from None
    try:
        for title, layer in named:
            fd = _parent(root, directory, title)
            try:
                made.append((_nameless(fd, layout, layer, f"{directory}/{title}"), title))
            finally:
                os.close(fd)
        for fd, title in made:
            _name(root, directory, fd, title)
            done.append(title)
    except BaseException:
        for title in done:
            os.unlink(title, dir_fd=root)
        raise
    finally:
        for fd, _ in made:
            os.close(fd)
        os.close(root)
    return [f"{directory}/{title}" for _, title in made]


def lay(layout: Layout, descriptor: Descriptor, directory: str, ours: bool) -> list[tuple[str, str, str]]:
    """Have an artifact's files in a directory that is made: digest, title or "", and path of each.

    Of a layout that is `ours`, where what is kept was verified, they are the blobs themselves by a second name.
    """
    found = manifests.load(layout, descriptor)
    if found.get("mediaType", manifests.OCI_MANIFEST) != manifests.OCI_MANIFEST or not found.get("layers"):
        raise Error("no artifact", descriptor["digest"], "it has no files")
    titles = {id(layer): title for title, layer in _named(layout, descriptor, found)}
    made = []
    try:
        os.makedirs(directory)
        at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Error("cannot make directory", directory, error) from None
    try:
        for number, layer in enumerate(found["layers"]):
            path = f"{directory}/{number}"
            if not (ours and _second_name(layout.blob_path(layer), path)):
                fd = _nameless(at, layout, layer, path)
                try:
                    _name(at, directory, fd, str(number))
                finally:
                    os.close(fd)
            made.append((layer["digest"], titles.get(id(layer), ""), path))
    finally:
        os.close(at)
    return made


def _second_name(path: str, new: str) -> bool:
    """Whether a blob could be given another name."""
    try:
        os.link(path, new, follow_symlinks=False)
    except OSError:
        return False
    if stat.S_ISREG(os.lstat(new).st_mode):
        return True
    os.unlink(new)
    return False


def _named(layout: Layout, descriptor: Descriptor, found: Any = None) -> Iterator[tuple[str, Descriptor]]:
    found = found or manifests.load(layout, descriptor)
    for layer in found.get("layers", ()):
        title = (layer.get("annotations") or {}).get(TITLE)
        if title is None:
            continue
        parts = title.split("/") if isinstance(title, str) else [""]
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise Error("invalid title of", layer["digest"], document.shown(title))
        yield title, layer


def _parent(root: int, directory: str, title: str) -> int:
    """The directory that a file goes into, opened; it is made if it is missing."""
    at = os.dup(root)
    try:
        for part in title.split("/")[:-1]:
            try:
                os.mkdir(part, dir_fd=at)
            except FileExistsError:
                pass
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
    except OSError as error:
        os.close(at)
        raise Error("cannot write", f"{directory}/{title}", error) from None
    return at


def _nameless(fd: int, layout: Layout, layer: Descriptor, path: str) -> int:
    """A layer's content as a file that has no name, verified."""
    file: FileIO = layout.blob(layer)
    with digests.Verifier(file, layer) as stream:
        try:
            out = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=fd)
        except OSError as error:
            raise Error("cannot write", path, error) from None
        try:
            while data := stream.read(BLOCK):
                fs.write_all(out, data)
        except OSError as error:
            os.close(out)
            raise Error("cannot write", path, error) from None
        except BaseException:
            os.close(out)
            raise
    return out


def _name(root: int, directory: str, fd: int, title: str) -> None:
    at = _parent(root, directory, title)
    try:
        os.link(f"/proc/self/fd/{fd}", os.path.basename(title), dst_dir_fd=at, follow_symlinks=True)
    except OSError as error:
        raise Error("cannot write", f"{directory}/{title}", error) from None
    finally:
        os.close(at)
