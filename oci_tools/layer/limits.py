"""How much a layer may ask for: what is hostile is stopped before it hurts, what is real never is."""

from __future__ import annotations

from oci_tools import compress
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FREE = 64 << 20  # plain bytes that need no blob of any size
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Limits:
    """The limits of one unpacking; each is an option, `--limit NAME=N`.

    entries    members of one layer's archive
    names      files and directories of all layers, where they are only read (image/files.py) and not unpacked
    size       plain bytes of one layer: what it may expand to, and how large one file may say it is
    expansion  plain bytes for each byte of a blob, from 64 MiB on; the default is more than any compression reaches
    path       bytes of a path or of a link's target
    header     bytes of one extended header, in which attributes and long names are
    xattrs     extended attributes of one file
    attributes bytes of the extended attributes that are kept to the end of a layer: of its directories, the same once

    And what is no limit: with `keep_links` an entry for a directory where there is a link to one is about that, and
    with `skip_roots` one without a name that is no directory is passed over, as ADD does.
    """

    __slots__ = (
        "attributes", "entries", "expansion", "header", "keep_links", "names", "path", "size", "skip_roots", "xattrs",
    )  # fmt: skip

    def __init__(self) -> None:
        self.keep_links = False
        self.skip_roots = False
        self.entries = 10_000_000
        self.names = 10_000_000
        self.size = 1 << 40
        self.expansion = 1 << 16
        self.path = 4096
        self.header = 1 << 20
        self.xattrs = 256
        self.attributes = 16 << 20

    @classmethod
    def parse(cls, words: Iterable[str]) -> Limits:
        """The defaults with some `NAME=N` changed; N may end in K, M, G or T."""
        limits = cls()
        names = [name for name in cls.__slots__ if name not in ("keep_links", "skip_roots")]
        for word in words:
            name, _, text = word.partition("=")
            unit = text[-1:].upper() if text[-1:].upper() in _UNITS else ""
            digits = text[: len(text) - len(unit)]
            if name not in names or not (digits.isascii() and digits.isdigit() and len(digits) < 20):
                raise Usage("not a limit", word, hint=f"NAME=N with one of {', '.join(names)}")
            setattr(limits, name, int(digits) * _UNITS[unit])
        return limits

    def expand(self, pieces: Iterable[bytes], subject: object) -> Iterator[bytes]:
        """`compress.expand`, of what expands no more than it may."""
        given = 0

        def counted() -> Iterator[bytes]:
            nonlocal given
            for piece in pieces:
                given += len(piece)
                yield piece

        most, plain = self.expansion, 0
        for piece in compress.expand(counted(), subject):
            plain += len(piece)
            if plain > _FREE and plain > most * given:
                why = f"it expands to more than {most} times its size"
                raise Error("layer is too large", subject, why, "--limit expansion=N")
            yield piece
