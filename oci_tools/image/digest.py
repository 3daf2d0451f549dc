"""Digests and what they promise: image-spec, descriptor.md.

    digest      "sha256:" and 64 lower-case hex digits, or "sha512:" and 128
    descriptor  {"mediaType": ..., "digest": ..., "size": bytes, ...}

Everything that is read by a descriptor is checked against it, here.  Not here:
what a digest names (layout.py), what a document says (manifest.py).
"""

from __future__ import annotations

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ALGORITHMS = {"sha256": 64, "sha512": 128}  # hex digits
HEX = frozenset("0123456789abcdef")

# `import hashlib` takes 5 ms and `_hashlib` (OpenSSL) 3; the interpreter's own code is there at
# once but five times slower, which evens out at about this many bytes.
_SMALL = 1 << 20


def check(digest: object) -> tuple[str, str]:
    """The (algorithm, hex) of a digest; an Error for anything that is none."""
    if not isinstance(digest, str):
        raise Error("not a digest", digest)
    algorithm, _, text = digest.partition(":")
    if algorithm not in ALGORITHMS:
        raise Error("not a digest", digest, "it does not begin with sha256: or sha512:")
    if len(text) != ALGORITHMS[algorithm] or not HEX.issuperset(text):
        raise Error("not a digest", digest, f"{algorithm} is {ALGORITHMS[algorithm]} lower-case hex digits")
    return algorithm, text


def valid(digest: object) -> bool:
    """Whether this is a digest."""
    try:
        check(digest)
    except Error:
        return False
    return True


def check_descriptor(descriptor: Any) -> tuple[str, str, int]:
    """The (algorithm, hex, size) of a descriptor; an Error where it promises nothing.

    A size that is negative, fractional or true would end a reader's counting early.
    """
    if not isinstance(descriptor, dict):
        raise Error("not a descriptor", repr(descriptor)[:80])
    algorithm, text = check(descriptor.get("digest"))
    size = descriptor.get("size")
    if type(size) is not int or size < 0:
        raise Error("not a descriptor", descriptor["digest"], f"its size is {size!r}")
    return algorithm, text, size


def of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of some bytes."""
    hasher = _hasher(algorithm, len(data))
    hasher.update(data)
    return f"{algorithm}:{hasher.hexdigest()}"


def new(algorithm: str = "sha256") -> Any:
    """A hash object for a stream: OpenSSL's, which uses the processor's own instructions."""
    if algorithm not in ALGORITHMS:
        raise Error("unknown digest algorithm", algorithm)
    try:
        return getattr(__import__("_hashlib"), f"openssl_{algorithm}")()
    except (ImportError, AttributeError, ValueError):
        import hashlib

        return hashlib.new(algorithm)


def _hasher(algorithm: str, size: int) -> Any:
    """A hash object for so many bytes: OpenSSL is faster, and takes 4 ms to load."""
    digester = _small(algorithm) if size < _SMALL else None
    return new(algorithm) if digester is None else digester()


def _small(algorithm: str) -> Any:
    """The interpreter's own hash, named differently before 3.12; None where it was left out."""
    for module in ("_sha2", f"_{algorithm}"):
        try:
            return getattr(__import__(module), algorithm)
        except (ImportError, AttributeError):
            pass
    return None


def embedded(descriptor: dict[str, Any]) -> bytes | None:
    """The content that a descriptor carries in `data`, verified (image-spec, descriptor.md)."""
    text = descriptor.get("data")
    if not isinstance(text, str):
        return None
    from binascii import a2b_base64

    try:
        data = a2b_base64(text)
    except ValueError:
        data = b""
    algorithm, _ = check(descriptor["digest"])
    return data if of(data, algorithm) == descriptor["digest"] else None


class Verifier:
    """A stream that is exactly what its descriptor says, or an Error.

    Bytes pass through `read` and are counted and hashed.  The first byte too many is an
    Error, before it is passed on; the digest is judged as soon as the last byte has come, so
    that a reader who knows the length and stops there has it checked too; an early end is
    an Error.  A tar reader stops at the archive's end: it calls `drain` afterwards.
    """

    def __init__(self, stream: Any, descriptor: dict[str, Any]) -> None:
        algorithm, self._hex, self.size = check_descriptor(descriptor)
        self.digest: str = descriptor["digest"]
        self.count = 0
        self._stream = stream
        self._hash = _hasher(algorithm, self.size)
        self._checked = False

    def read(self, n: int = -1) -> bytes:
        """At most n bytes; all that are left for a negative n; b"" at the end."""
        if n == 0:
            return b""
        if n < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        data: bytes = self._stream.read(min(n, self.size - self.count + 1))  # an endless stream ends here
        self._hash.update(data)
        self.count += len(data)
        if self.count > self.size:
            raise Error("wrong size of blob", self.digest, f"more than {self.size} bytes")
        if self.count == self.size and not self._checked:
            self._checked = True
            if self._hash.hexdigest() != self._hex:
                raise Error("wrong digest of blob", self.digest, f"content has {self._hash.hexdigest()}")
        elif not data and self.count < self.size:
            raise Error("wrong size of blob", self.digest, f"{self.count} bytes of {self.size}")
        return data

    def readinto(self, buffer: Any) -> int:
        """As `read`, into a buffer: what io.BufferedReader asks for."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def drain(self) -> None:
        """Read what is left, so that all of it is checked."""
        while self.read(1 << 20):
            pass

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close:
            close()

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
