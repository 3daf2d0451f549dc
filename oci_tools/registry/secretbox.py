"""Private keys as `cosign generate-key-pair` locks them: scrypt (RFC 7914), then NaCl's secretbox.

    -----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----      base64 of
    {"kdf": {"name": "scrypt", "params": {"N", "r", "p"}, "salt"},
     "cipher": {"name": "nacl/secretbox", "nonce"}, "ciphertext"}

A secretbox is a Poly1305 tag, then what XSalsa20 made of the message (Bernstein, "Extending the Salsa20
nonce").  scrypt and Poly1305 are the library's; XSalsa20 it does not have, and for the few hundred bytes of
a key these lines cost less than one more package with a C library in it.  Not for anything that is long.
"""

from __future__ import annotations

from binascii import a2b_base64
from struct import pack, unpack

from oci_tools import document
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[bytes, bytes, bytes], bool]  # whether a Poly1305 key and message have a tag

NAMES = (b"ENCRYPTED SIGSTORE PRIVATE KEY", b"ENCRYPTED COSIGN PRIVATE KEY")
MAX_MEMORY = 256 << 20  # bytes that scrypt may take: cosign's own parameters ask for 64 MiB
SIGMA = b"expand 32-byte k"
TAG = 16  # bytes


def is_locked(data: bytes) -> bool:
    """Whether this is a key in cosign's own form."""
    return any(b"-----BEGIN " + name + b"-----" in data for name in NAMES)


def unlock(data: bytes, name: object, password: bytes, check: Check) -> bytes:
    """The key within, as PKCS #8 in DER."""
    try:
        text = data.partition(b"-----BEGIN ")[2].partition(b"-----")[2].partition(b"-----END ")[0]
        found = document.loads(a2b_base64(text), str(name))
        kdf, cipher = found["kdf"], found["cipher"]
        if kdf["name"] != "scrypt" or cipher["name"] != "nacl/secretbox":
            raise Error("cannot use key", name, f"it is locked by {kdf['name']} and {cipher['name']}")
        numbers = [kdf["params"][key] for key in ("N", "r", "p")]
        salt, nonce, box = (a2b_base64(text) for text in (kdf["salt"], cipher["nonce"], found["ciphertext"]))
        key = _key(password, salt, *numbers)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise Error("cannot use key", name, "its form is not cosign's") from None
    opened = open_box(key, nonce, box, check) if len(nonce) == 24 else None
    if opened is None:
        raise Error("cannot use key", name, "the password is wrong, or the key is damaged")
    return opened


def _key(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    from hashlib import scrypt

    return scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=MAX_MEMORY, dklen=32)


def open_box(key: bytes, nonce: bytes, box: bytes, check: Check) -> bytes | None:
    """What is in a secretbox; None if this key and nonce (32 and 24 bytes) did not make it."""
    tag, hidden = box[:TAG], box[TAG:]
    stream = _xsalsa20(key, nonce, 32 + len(hidden))
    if not check(stream[:32], hidden, tag):
        return None
    return bytes(a ^ b for a, b in zip(hidden, stream[32:], strict=True))


# -- XSalsa20 -----------------------------------------------------------------------------


def _xsalsa20(key: bytes, nonce: bytes, count: int) -> bytes:
    """The first bytes of the key stream."""
    state = _rounds(_state(key, nonce[:16]))
    inner = pack("<8I", *(state[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))  # HSalsa20
    blocks = []
    for number in range(-(-count // 64)):
        begin = _state(inner, nonce[16:] + pack("<Q", number))
        blocks.append(pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(_rounds(begin), begin, strict=True))))
    return b"".join(blocks)[:count]


def _state(key: bytes, place: bytes) -> list[int]:
    k, p, s = unpack("<8I", key), unpack("<4I", place), unpack("<4I", SIGMA)
    return [s[0], *k[:4], s[1], *p, s[2], *k[4:], s[3]]


def _rounds(state: list[int]) -> list[int]:
    """Salsa20's twenty rounds: columns, then rows."""
    x = list(state)
    columns = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
    rows = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))
    for a, b, c, d in (columns + rows) * 10:
        for to, one, other, by in ((b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18)):
            word = (x[one] + x[other]) & 0xFFFFFFFF
            x[to] ^= (word << by | word >> (32 - by)) & 0xFFFFFFFF
    return x
