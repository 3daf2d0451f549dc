"""What was chosen of an image in a registry, as the layout that it is read from: nothing is kept on disk.

    Passing   stands for a layout: documents are in memory, blobs come as they are read
    Between   the same for a push, which reads a blob again where it was cut
"""

from __future__ import annotations

import os

from oci_tools import fetch, fs
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image.kept import Kept
from oci_tools.image.layout import MAX_DOCUMENT
from oci_tools.registry.copy import WORTH, is_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.layout import Descriptor
    from oci_tools.registry.choose import Chosen
    from oci_tools.registry.copy import Remote

CHUNK = 1 << 20  # bytes read at once


class Passing:
    """What is to be pulled, as the layout that an archive is written from.

    All that is led to is here, but for manifests that nobody has chosen.
    """

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen
        self._read = Kept()  # configurations

    def has(self, descriptor: Descriptor) -> bool:
        digest = descriptor["digest"]
        return digest in self._chosen.documents or not (is_document(descriptor) or digest in self._chosen.lacks)

    def read(self, descriptor: Descriptor, limit: int = MAX_DOCUMENT) -> bytes:
        """A document, or a configuration: verified."""
        digest = descriptor["digest"]
        found = self._here(digest)
        if found is not None:
            return found
        if not self.has(descriptor):
            raise Error("missing blob", digest)
        if descriptor["size"] > limit:
            raise Error("cannot read blob", digest, f"{descriptor['size']} bytes are more than {limit}")
        with digests.Verifier(self.blob(descriptor), descriptor) as stream:
            data: bytes = stream.read()
        self._read.put(digest, data)
        return data

    def _here(self, digest: str) -> bytes | None:
        found = self._chosen.documents.get(digest)
        return self._read.get(digest) if found is None else found

    def blob(self, descriptor: Descriptor) -> Any:
        from io import BytesIO

        found, beside = self._here(descriptor["digest"]), self._chosen.beside
        if found is not None:
            return BytesIO(found)
        if beside and beside.has(descriptor):
            return beside.blob(descriptor)
        return _Passage(self._chosen.remote, descriptor)


class _Passage:
    """A blob as a stream; a cut is followed by another request from there on."""

    def __init__(self, remote: Remote, descriptor: Descriptor) -> None:
        self._remote = remote
        self._descriptor = descriptor
        self._answer: fetch.Answer | None = None
        self._offset = 0
        self._attempt = 0
        self._mark = 0  # how far it was at the first of these attempts

    def read(self, size: int) -> bytes:
        client = self._remote.options.client
        while True:
            try:
                return self._read(size)
            except fetch.Lost:
                self.close()
                if self._offset - self._mark >= WORTH:
                    self._attempt, self._mark = 0, self._offset
                if self._attempt >= client.retries:
                    raise
                client.pause(self._attempt)
                self._attempt += 1

    def _read(self, size: int) -> bytes:
        if self._offset == self._descriptor["size"]:
            return b""
        if self._answer is None:
            self._answer, at = self._remote.blob(self._descriptor, self._offset)
            while at < self._offset:  # the registry knows no ranges: what was passed on is skipped
                at += len(self._answer.read(min(CHUNK, self._offset - at)) or self._short())
        data = self._answer.read(size) or self._short()
        self._offset += len(data)
        state = "done" if self._offset == self._descriptor["size"] else "get"
        self._remote.options.progress.tell(
            self._descriptor["digest"], state, self._offset, self._descriptor["size"]
        )
        return data

    def _short(self) -> bytes:
        raise fetch.Lost("cannot fetch blob", self._descriptor["digest"], "it ends too early")

    def close(self) -> None:
        if self._answer:
            self._answer.close()
        self._answer = None


class Between(Passing):
    """What goes from one registry to another: of the blobs, those in flight are files without a name for as long."""

    def index(self) -> dict[str, Any]:
        return {"manifests": list(self._chosen.referrers)}

    def blob_path(self, descriptor: Descriptor) -> str:
        return str(descriptor["digest"])

    def hold(self) -> Between:
        return self

    def blob(self, descriptor: Descriptor) -> Any:
        stream = super().blob(descriptor)
        directory = f"{fs.make_private(fs.root())}/cache"
        try:
            fd = os.open(fs.make_private(directory), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Error("cannot write in", directory, error) from None
        file = open(fd, "r+b", buffering=0)  # noqa: SIM115
        try:
            with digests.Verifier(stream, descriptor) as whole:
                while data := whole.read(CHUNK):
                    fs.write_all(file.fileno(), data)
            file.seek(0)
        except OSError as error:
            file.close()
            raise Error("cannot write in", directory, error) from None
        except BaseException:
            file.close()
            raise
        return file
