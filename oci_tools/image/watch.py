"""How far the blobs of an image are that is copied, for whoever wants to know: registry/progress.py shows it."""

from __future__ import annotations

from oci_tools.image import manifest as manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from oci_tools.image.layout import Descriptor

    Tell = Callable[[str, str, int, int], None]  # digest, state, bytes there, bytes of all


class Watched:
    """A layout, or what is read as one, whose blobs tell how far they were read."""

    def __init__(self, view: Any, tops: Iterable[Descriptor], tell: Tell) -> None:
        self._view = view
        self._tell = tell
        for part in (part for top in tops for part in manifests.parts(view, top)):
            tell(part["digest"], "wait", 0, part["size"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def blob(self, descriptor: Descriptor) -> Stream:
        digest, size = descriptor["digest"], descriptor["size"]

        def told(there: int) -> None:
            self._tell(digest, "done" if there == size else "get", there, size)

        return Stream(self._view.blob(descriptor), told)

    def skip(self, descriptor: Descriptor) -> None:
        """This one need not be read: it is there."""
        self._tell(descriptor["digest"], "exists", descriptor["size"], descriptor["size"])


class Stream:
    """A stream that tells how much of it was read."""

    def __init__(self, stream: Any, told: Callable[[int], None]) -> None:
        self._stream = stream
        self._told = told
        self._there = 0

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        if data:
            self._there += len(data)
            self._told(self._there)
        return data

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
