"""One header of a tar archive: its fields, what they say of numbers and names, its checksum.

    name 0,100  mode 100,8  uid 108,8  gid 116,8  size 124,12  mtime 136,12  checksum 148,8
    type 156,1  link 157,100  magic 257,6  version 263,2  major 329,8  minor 337,8  prefix 345,155

are offset and length of each in its 512 bytes.  As in Go, with which nearly every other unpacker reads.
"""

from __future__ import annotations

import struct
import zlib

FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s6s2s64x8s8s155s12s")


def sums_up(block: bytes, field: bytes, said: int) -> bool:
    """Whether a checksum is that of a header: the sum of all bytes with its own as spaces.

    Some old writers summed signed bytes.  adler32's low half is the sum plus one modulo 65521, at a hundredth of the
    price of sum().
    """
    rest = 256 - sum(field)
    if ((zlib.adler32(block) & 0xFFFF) - 1 + rest - said) % 65521 == 0:
        return True
    return sum(block) - 256 * sum(byte > 127 for byte in block) + rest == said


def number(field: bytes) -> int | None:
    """A number: octal digits between spaces and NULs, or base-256 with the top bit set; None if it is neither."""
    if field[0] & 0x80:
        # 0x80 alone leads a positive number, 0xff a negative one in two's complement.
        value = int.from_bytes(field, "big") - (1 << 8 * len(field) - 1)
        value = value if field[0] < 0xC0 else value - (1 << 8 * len(field) - 1)
        return value if -(1 << 63) <= value < 1 << 63 else None
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if not digits.isdigit():
        digits = digits.partition(b"\0")[0]  # what follows is somebody's memory
    try:
        return int(digits, 8) if digits.isdigit() else None
    except ValueError:
        return None


def prefix(magic: bytes, version: bytes, field: bytes, end: bytes) -> bytes:
    """What stands before a name.

    star marks itself at the header's end, and keeps two times in the last 24 bytes.  GNU has two times at the start;
    what can be none is a prefix, as Go wrote it until 1.8, and Docker with it, with owners too large for ustar.
    """
    found = field[: 131 if end.endswith(b"tar\0") else 155].partition(b"\0")[0]
    if magic == b"ustar\0":
        return found
    if (magic, version) != (b"ustar ", b" \0"):
        return b""
    times = (field[:12], field[12:24])
    fits = all(not time[0] or number(time) is not None for time in times)
    whole = field.partition(b"\0")[0]
    return b"" if fits or not whole.isascii() else whole
