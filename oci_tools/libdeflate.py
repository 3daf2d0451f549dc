"""gzip members by libdeflate: through its binding, or by ctypes where there is only the library, as in Debian.

Both make the same bytes.  Only this module imports `deflate`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

LIBRARY = "libdeflate.so.0"


class Compressor:
    """Makes members of one level (0-12), in one thread at a time; a `with` block gives its memory back.

    Raises ImportError where there is neither the binding nor the library.
    """

    def __init__(self, level: int) -> None:
        self._level = level
        self._binding: Any = None
        try:
            import deflate

            self._binding = deflate
        except ImportError:
            self._load()

    def _load(self) -> None:
        import ctypes

        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise ImportError(str(error)) from None
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        for name, result, *words in (
            ("alloc_compressor", pointer, ctypes.c_int),
            ("free_compressor", None, pointer),
            ("gzip_compress_bound", size, pointer, size),
            ("gzip_compress", size, pointer, ctypes.c_char_p, size, pointer, size),
        ):
            function = getattr(self._library, f"libdeflate_{name}")
            function.restype, function.argtypes = result, words
        self._held = self._library.libdeflate_alloc_compressor(self._level)
        if not self._held:
            raise MemoryError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._binding is None:
            self._library.libdeflate_free_compressor(self._held)

    def gzip(self, data: bytes) -> bytes | bytearray:
        """One gzip member of these bytes, without a name or a time."""
        if self._binding is not None:
            made: bytes | bytearray = self._binding.gzip_compress(data, self._level)
            return made
        import ctypes

        room = bytearray(self._library.libdeflate_gzip_compress_bound(self._held, len(data)))
        place = ctypes.addressof(ctypes.c_char.from_buffer(room))
        size = self._library.libdeflate_gzip_compress(self._held, data, len(data), place, len(room))
        return room[:size]
