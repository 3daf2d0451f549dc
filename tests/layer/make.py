"""Layers for tests: archives from a few words, unpacked as an image's would be."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable
from typing import Any

from oci_tools.layer import merge, owner
from oci_tools.layer.apply import Source
from oci_tools.layer.limits import Limits
from oci_tools.layer.write import Writer

T = 1_600_000_000_000_000_000  # the time of what says none


class Sink:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def archive(*entries: Any) -> bytes:
    """An archive of entries.

    "a/b"            a file with its name as content;  "d/" a directory;  "l>t" a link;  "h=t" a hard link
    ("a", b"data")   a file with this content
    {...}            the arguments of Writer.entry, and "data"
    """
    sink = Sink()
    writer = Writer(sink)
    for entry in entries:
        if isinstance(entry, str):
            entry = _word(entry)
        elif isinstance(entry, tuple):
            entry = {"name": entry[0], "data": entry[1]}
        entry = {"kind": "f", "mode": 0o755 if entry.get("kind") == "d" else 0o644, "uid": 0, "gid": 0, "mtime": T, **entry}
        for key in ("name", "link"):
            if isinstance(entry.get(key), str):
                entry[key] = os.fsencode(entry[key])
        data = entry.pop("data", b"")
        writer.entry(size=len(data), **entry)
        writer.data(data)
        writer.end()
    writer.close()
    return sink.data


def _word(word: str) -> dict[str, Any]:
    if word.endswith("/"):
        return {"kind": "d", "name": word.removesuffix("/")}
    for mark, kind, mode in ((">", "l", 0o777), ("=", "h", 0o644)):
        name, found, link = word.partition(mark)
        if found:
            return {"kind": kind, "name": name, "link": link, "mode": mode}
    return {"name": word, "data": word.encode()}


def source(data: bytes) -> Source:
    """A layer of these bytes, with the digests that they have."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return Source(lambda: io.BytesIO(data), digest, len(data), digest)


def unpack(
    path: os.PathLike[str] | str,
    *layers: Iterable[Any] | bytes,
    limits: Limits | None = None,
    warn: Callable[[str], None] | None = None,
    whose: owner.Owner | None = None,
) -> None:
    """Unpack layers over each other into a new directory."""
    sources = [source(layer if isinstance(layer, bytes) else archive(*layer)) for layer in layers]
    merge.flatten(sources, os.fspath(path), whose or owner.for_process(warn), limits or Limits())
