"""How far the layers of an image are that somebody reads, whichever process it is, for who shows it.

    with Watched(image, tell) as watched: ...       tell(digest, state, bytes that were read, bytes that there are)

Readers write into a pipe which layer it is and how much they have by now; a thread here passes that on.
"""

from __future__ import annotations

import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from oci_tools.bundle import Image
    from oci_tools.image.layout import Descriptor, Layout

    Tell = Callable[[str, str, int, int], None]

EVERY = 1 << 18  # bytes of a layer between two words of its reader
_WORD = struct.Struct("<qq?")  # a layer's number, how much of it, whether it is unpacked now; no layer ends it


class Watched:
    """The layers of an image, from now on; `last` is False while they are only read and will be once more."""

    def __init__(self, image: Image, tell: Tell) -> None:
        self._image = image
        self._tell = tell
        self.last = True
        self._sizes = {layer["digest"]: layer["size"] for layer in image.layers}
        self._begun: set[str] = set()
        self._over: set[str] = set()

    def __enter__(self) -> Self:
        import threading

        for digest, size in self._sizes.items():
            self._tell(digest, "wait", 0, size)
        self._words, self._say = os.pipe()
        self._layout = self._image.layout
        watching: Any = _Layout(self._layout, self, list(self._sizes), self._say)
        self._image.layout = watching
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        os.write(self._say, _WORD.pack(-1, 0, False))
        self._thread.join()
        os.close(self._say)
        os.close(self._words)
        self._image.layout = self._layout
        for digest, size in self._sizes.items():
            if kind is None and digest not in self._over:
                self._tell(digest, "done" if digest in self._begun else "exists", size, size)

    def _listen(self) -> None:
        digests = list(self._sizes)
        while True:
            number, count, last = _WORD.unpack(os.read(self._words, _WORD.size))
            if number < 0:
                return
            digest = digests[number]
            self._begun.add(digest)
            is_over = last and count == self._sizes[digest]
            if digest not in self._over:
                state = "done" if is_over else "unpack" if last else "read"
                self._tell(digest, state, count, self._sizes[digest])
            if is_over:
                self._over.add(digest)


class _Layout:
    """A layout that says how far its blobs are."""

    def __init__(self, layout: Layout, watched: Watched, digests: list[str], say: int) -> None:
        self._layout = layout
        self._watched = watched
        self._digests = digests
        self._say = say

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layout, name)

    def blob(self, descriptor: Descriptor) -> Any:
        stream = self._layout.blob(descriptor)
        if descriptor["digest"] not in self._digests:
            return stream
        number = self._digests.index(descriptor["digest"])
        return _Stream(stream, number, descriptor["size"], self._watched.last, self._say)


class _Stream:
    def __init__(self, stream: Any, number: int, size: int, last: bool, say: int) -> None:
        self._stream = stream
        self._number = number
        self._size = size
        self._last = last
        self._say = say
        self._count = self._said = 0

    def read(self, count: int = -1) -> bytes:
        data: bytes = self._stream.read(count)
        self._count += len(data)
        if self._count - self._said >= EVERY or (self._count == self._size != self._said):
            self._said = self._count
            os.write(self._say, _WORD.pack(self._number, self._count, self._last))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> Self:
        self._stream.__enter__()
        return self

    def __exit__(self, *words: object) -> None:
        self._stream.__exit__(*words)
