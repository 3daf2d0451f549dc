"""Garbage: what nothing in index.json leads to, removed once its grace has ended.

    a manifest that lost its name     stays until `grace` seconds after; so do what refers to it
                                      (`subject`) and what it is made of
    a manifest that never had one     stays: somebody keeps it by digest; but what refers to an image
                                      that goes, goes with it, also under a tag of cosign's
    a blob that nothing leads to      goes when it is older than `grace`
    a beginning in .ingest/           goes when it is older than `grace` and nobody writes it

This takes the lock that writers of blobs share, so it never meets a blob that waits for its name;
`grace` protects the work of tools that know no lock, and whoever still reads by digest.  Where a
document cannot be understood, every digest in its bytes counts as led to.  Files that
are no blobs are not ours and stay.
"""

from __future__ import annotations

import os
import time

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import ingest
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image.names import signed, tag_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout


LONGEST = len("sha512:") + 128  # characters of a digest


class Result:
    """What was removed, or with `dry_run` would be.

    images  the entries that left index.json
    blobs   digest -> bytes
    kept    entries without a name whose grace has not ended
    shared  blobs were left alone, since other layouts may have them too
    """

    def __init__(self) -> None:
        self.images: list[Descriptor] = []
        self.blobs: dict[str, int] = {}
        self.kept = 0
        self.shared = False


def collect(layout: Layout, grace: float, dry_run: bool = False) -> Result:
    """Remove garbage that is older than `grace` seconds.

    Entries leave index.json first and blobs after, so that being killed costs nothing but space.
    """
    layout.close()  # our own hold would keep us out
    before = time.time() - grace
    result = Result()

    def judge(index: dict[str, Any]) -> set[str]:
        live = _live(layout, index["manifests"], before, result)
        gone = {id(entry) for entry in result.images}
        index["manifests"] = [entry for entry in index["manifests"] if id(entry) not in gone]
        return live

    if not os.path.isdir(f"{layout.path}/blobs"):
        return result
    with fs.Lock(f"{layout.path}/blobs/"):
        live = judge(layout.index()) if dry_run else layout.update(judge)
        if os.path.islink(f"{layout.path}/blobs"):  # others count on them
            result.shared = True
        else:
            _sweep(layout, live, before, result, remove=not dry_run)
        if not dry_run:
            ingest.sweep(layout, grace)
            _sweep_documents(layout)
    return result


# -- what is led to ----------------------------------------------------------------------


def _live(layout: Layout, entries: list[Descriptor], before: float, result: Result) -> set[str]:
    """The digests that stay; entries whose grace has ended are put into the result.

    One of those stays if it refers to something that stays, which may again be referred to.
    """
    live: set[str] = set()
    ended: list[tuple[Descriptor, str | None]] = []  # with the digest that each refers to
    for entry in entries:
        gone, about = _has_ended(entry, before), signed(tag_of(layouts.ref_name(entry) or ""))
        if gone or about or _hangs(entry):
            subject = about or _subject(layout, entry)
            if gone or (subject and _is_old(layout, subject, before)):
                ended.append((entry, subject))
                continue
        result.kept += layouts.annotation(entry, layouts.UNTAGGED) is not None
        _mark(layout, entry, live)
    while True:
        kept = [subject in live or entry.get("digest") in live for entry, subject in ended]
        if not any(kept):
            break
        for (entry, _), stays in zip(ended, kept, strict=True):
            if stays:
                _mark(layout, entry, live)
        ended = [pair for pair, stays in zip(ended, kept, strict=True) if not stays]
    result.images = [entry for entry, _ in ended]
    return live


def _hangs(entry: Descriptor) -> bool:
    """Whether an entry has no name, so that it may be there only for what it refers to."""
    return layouts.ref_name(entry) is None and layouts.annotation(entry, layouts.UNTAGGED) is None


def _is_old(layout: Layout, digest: str, before: float) -> bool:
    """Whether a blob is here and no grace keeps it: if nothing else leads to it, it goes now."""
    try:
        return os.stat(layout.blob_path(digest)).st_mtime <= before
    except (OSError, Error):
        return False


def _has_ended(entry: Descriptor, before: float) -> bool:
    lost = layouts.annotation(entry, layouts.UNTAGGED)
    if lost is None or layouts.ref_name(entry) is not None:
        return False
    return seconds(lost) <= before


def seconds(stamp: str) -> float:
    """A time as `names.stamp` writes it; infinitely late if it is none, so that nothing is lost."""
    import calendar

    try:
        return float(calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")))
    except (ValueError, OverflowError):
        return float("inf")


def _subject(layout: Layout, descriptor: Descriptor) -> str | None:
    try:
        subject = manifests.load(layout, descriptor).get("subject")
    except Error:
        return None
    digest = subject.get("digest") if isinstance(subject, dict) else None
    return digest if isinstance(digest, str) else None


def _mark(layout: Layout, top: Descriptor, live: set[str]) -> None:
    """Add all that is reached from a descriptor."""
    for descriptor, found in manifests.walk(layout, top):
        live.add(descriptor["digest"])
        if found is None and (descriptor is top or _is_document(descriptor)):
            _mark_unknown(layout, descriptor["digest"], live)


def _is_document(descriptor: Descriptor) -> bool:
    kind = descriptor.get("mediaType")
    known = kind in (*manifests.CONFIGS, manifests.OCI_EMPTY)
    return isinstance(kind, str) and kind.endswith("json") and not known


def _mark_unknown(layout: Layout, digest: str, live: set[str]) -> None:
    """Add every digest in the bytes of a document of another kind, and in those documents."""
    import re

    todo = [digest]
    while todo:
        try:
            with open(layout.blob_path(todo.pop()), "rb") as file:
                rest = b""
                while data := file.read(1 << 20):
                    for found in re.findall(b"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", rest + data):
                        if (text := found.decode()) not in live:
                            live.add(text)
                            todo.append(text)
                    rest = (rest + data)[-LONGEST:]
        except (OSError, Error):
            continue


# -- what is not --------------------------------------------------------------------------


def _sweep(layout: Layout, live: set[str], before: float, result: Result, remove: bool) -> None:
    for digest, entry in stored(layout):
        if digest in live:
            continue
        try:
            seen = entry.stat(follow_symlinks=False)
            if seen.st_mtime > before:
                continue
            if remove:
                os.unlink(entry.path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Error("cannot remove blob", entry.path, error) from None
        result.blobs[digest] = seen.st_size


def _sweep_documents(layout: Layout) -> None:
    """Remove what killed writers of index.json left beside it."""
    with fs.Lock(f"{layout.path}/"):
        for name in os.listdir(layout.path):
            if name.startswith(("index.json.", "oci-layout.")) and name.endswith(".new"):
                os.unlink(f"{layout.path}/{name}")


def stored(layout: Layout) -> Iterable[tuple[str, os.DirEntry[str]]]:
    """Every blob in a layout: its digest by its name, and its file."""
    for algorithm in digests.ALGORITHMS:
        try:
            with os.scandir(f"{layout.path}/blobs/{algorithm}") as entries:
                found = [(f"{algorithm}:{e.name}", e) for e in entries]
        except FileNotFoundError:
            continue
        yield from sorted((pair for pair in found if digests.valid(pair[0])), key=lambda pair: pair[0])


def unmake(path: str) -> None:
    """Remove a layout that was made for what then failed, if nothing is in it and nobody else is at it."""
    try:
        with fs.Lock(f"{path}/"), fs.Lock(f"{path}/blobs/", timeout=0):
            empty = os.path.islink(f"{path}/blobs") or not os.listdir(f"{path}/blobs/sha256")
            if not layouts.Layout.open(path).index()["manifests"] and empty:
                os.unlink(f"{path}/oci-layout")
                for name in ("index.json", "blobs"):
                    fs.remove_tree(f"{path}/{name}")
                os.rmdir(path)
    except (Error, OSError):
        pass
