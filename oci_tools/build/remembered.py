"""Digests of very many files in little memory, and in a file from build to build.

    b"OCIHASH3", number of records, number of places     as `_HEAD` packs them
    8 bytes of the name's hash, 16 of the hash of what stat(2) said, 32 of the file's    a record
    a number of a record counted from 1, or 0            a place, 4 bytes

A record lies at the first free place from the one that its name's hash gives, modulo the number of places, which is
a power of 2.  The file is of this host: its numbers have its order of bytes.
"""

from __future__ import annotations

import os
import struct
from array import array

from oci_tools import fs

MAGIC = b"OCIHASH3"
_HEAD = struct.Struct("<8sQQ")
_NAME, _SIZE = 8, 56
_LEAST = 1 << 10  # places
_STRANGERS = 10_000  # records that nobody asked for, and may stay


class Remembered:
    """The digests of one directory's files; `changed`: there are others than in the file."""

    def __init__(self, path: str | None) -> None:
        from hashlib import blake2b

        self._hash = blake2b
        self.changed = False
        self._records = bytearray()
        self._places = array("I", bytes(4 * _LEAST))
        self._asked = bytearray()  # of each record, whether somebody did
        if path:
            self._load(path)

    def _load(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                magic, count, places = _HEAD.unpack(file.read(_HEAD.size))
                whole = _HEAD.size + count * _SIZE + places * 4
                sound = magic == MAGIC and count < places and not places & (places - 1)
                if not sound or os.fstat(file.fileno()).st_size != whole:
                    return
                records = bytearray(file.read(count * _SIZE))
                found = array("I", file.read(places * 4))
        except (OSError, struct.error):
            return
        if max(found) <= count:
            self._records, self._places, self._asked = records, found, bytearray(count)

    def save(self, path: str) -> None:
        if self._asked.count(0) > self._asked.count(1) + _STRANGERS:
            self._forget()
        with fs.Output(path, 0o600, replace=True) as fd:
            fs.write_all(fd, _HEAD.pack(MAGIC, len(self._asked), len(self._places)))
            fs.write_all(fd, self._records)
            fs.write_all(fd, memoryview(self._places).cast("B"))

    def _forget(self) -> None:
        """Keep only what was asked for."""
        kept = bytearray()
        for number, asked in enumerate(self._asked):
            if asked:
                kept += self._records[number * _SIZE : (number + 1) * _SIZE]
        self._records, self._asked = kept, bytearray(b"\1" * (len(kept) // _SIZE))
        self._place(_LEAST)

    def _place(self, places: int) -> None:
        """Give every record its place anew, with room for as many more."""
        while places < 2 * len(self._asked):
            places *= 2
        self._places = array("I", bytes(4 * places))
        for number in range(len(self._asked)):
            at, _ = self._find(bytes(self._records[number * _SIZE : number * _SIZE + _NAME]), fresh=True)
            self._places[at] = number + 1

    def _find(self, name: bytes, fresh: bool = False) -> tuple[int, int]:
        """The place of a name's hash, and its record, 0 if there is none; with `fresh` there can be none."""
        last = len(self._places) - 1
        at = int.from_bytes(name, "little") & last
        while number := self._places[at]:
            start = (number - 1) * _SIZE
            if not fresh and self._records[start : start + _NAME] == name:
                return at, number
            at = (at + 1) & last
        return at, 0

    def find(self, name: bytes, said: bytes) -> bytes | None:
        """The digest of a file of which stat(2) says the same as before."""
        key = self._hash(name, digest_size=_NAME).digest()
        _, number = self._find(key)
        if not number:
            return None
        self._asked[number - 1] = 1
        start = (number - 1) * _SIZE + _NAME
        if self._records[start : start + 16] != self._hash(said, digest_size=16).digest():
            return None
        return bytes(self._records[start + 16 : start + 48])

    def put(self, name: bytes, said: bytes, digest: bytes) -> None:
        key = self._hash(name, digest_size=_NAME).digest()
        record = key + self._hash(said, digest_size=16).digest() + digest
        self.changed = True
        at, number = self._find(key)
        if number:
            self._records[(number - 1) * _SIZE : number * _SIZE] = record
            return
        self._records += record
        self._asked.append(1)
        self._places[at] = len(self._asked)
        if 2 * len(self._asked) > len(self._places):
            self._place(len(self._places))
