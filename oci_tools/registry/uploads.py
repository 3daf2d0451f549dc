"""Uploads in flight: the blobs that clients are sending, in one piece or in many.

An upload is a file in its layout's .ingest/ (image/ingest.py), hashed as it grows.  It lives
as long as the server: a client that finds it gone begins again (distribution-spec,
BLOB_UPLOAD_UNKNOWN), and what a killed server left is swept by the layout's next writer.
"""

from __future__ import annotations

import os
import threading
import time

from oci_tools.image import digest as digests
from oci_tools.image.ingest import Ingest
from oci_tools.registry.storage import Repository

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

IDLE = 3600.0  # seconds after which an upload that nobody continues is dropped
LIMIT = 400  # uploads at the same time: each holds two descriptors


class Upload:
    """One upload; its lock is held by the request that adds to it."""

    def __init__(self, repository: Repository, algorithm: str) -> None:
        self.id = os.urandom(16).hex()
        self.repository = repository
        self.lock = threading.Lock()
        self.used = time.monotonic()
        self.over = False
        self._layout = repository.writer()
        self._ingest = Ingest(self._layout, None, algorithm, False)
        self._ingest.__enter__()
        self._layout.close()  # its own file is locked; gc need not wait for slow clients

    @property
    def offset(self) -> int:
        return self._ingest.offset

    def write(self, pieces: Iterable[bytes]) -> None:
        """Add what comes."""
        for piece in pieces:
            self._ingest.write(piece)
            self.used = time.monotonic()

    def finish(self, digest: str) -> bool:
        """Make it the blob of this digest; False: it is not."""
        algorithm, _ = digests.check(digest)
        try:
            if self._ingest.digest(algorithm) != digest:
                return False
            self._layout.hold()
            self._ingest.commit()
            return True
        finally:
            self.drop()

    def drop(self) -> None:
        """End it; what is not a blob by now is forgotten."""
        self.over = True
        self._ingest.__exit__()
        self._layout.close()


class Uploads:
    """All uploads by their ids."""

    def __init__(self) -> None:
        self._all: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def begin(self, repository: Repository, algorithm: str) -> Upload | None:
        """A new upload; None: there are too many."""
        self.expire()
        with self._lock:
            if len(self._all) >= LIMIT:
                return None
        upload = Upload(repository, algorithm)
        with self._lock:
            self._all[upload.id] = upload
        return upload

    def find(self, name: str, repository: Repository) -> Upload | None:
        with self._lock:
            upload = self._all.get(name)
        return upload if upload and upload.repository.name == repository.name else None

    def forget(self, upload: Upload) -> None:
        with self._lock:
            self._all.pop(upload.id, None)
        if not upload.over:
            upload.drop()

    def expire(self) -> None:
        """Drop those that nobody has continued for long."""
        with self._lock:
            old = [u for u in self._all.values() if time.monotonic() - u.used > IDLE and not u.lock.locked()]
        for upload in old:
            self.forget(upload)

    def count(self) -> int:
        return len(self._all)

    def close(self) -> None:
        for upload in list(self._all.values()):
            self.forget(upload)
