"""Something new that is made beside its place, and is there whole or not at all.

    with Fresh(path) as fresh: ...make `fresh.place`...; fresh.done()

    .NAME.oci-unpack.new/    while it is being made, locked; what a killed maker left is replaced
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Busy, Error


class Fresh:
    """A place for what will be `path`, which is not there yet or is an empty directory."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        parent, name = os.path.split(self.path)
        self._work = f"{parent}/.{name}.oci-unpack.new"
        self.place = f"{self._work}/new"
        self._lock = fs.Lock(f"{self._work}/", timeout=0)  # with the slash nothing is made where it has gone

    def __enter__(self) -> Fresh:
        try:
            if os.path.lexists(self.path) and (os.path.islink(self.path) or os.listdir(self.path)):
                raise Error("cannot unpack into", self.path, "it is there already")
            try:
                os.mkdir(self._work, 0o700)  # set-id files of images are not reachable by other users
            except FileExistsError:
                pass
        except NotADirectoryError:
            raise Error("cannot unpack into", self.path, "it is there already") from None
        except OSError as error:
            raise Error("cannot make directory", self.path, error) from None
        try:
            self._lock.__enter__()
        except Busy:
            raise self._busy() from None
        try:
            seen = os.lstat(self._work)
            if not os.path.samestat(os.fstat(self._lock.fd), seen):
                raise self._busy()
            if seen.st_uid != os.geteuid():  # under /tmp anybody can make the name first
                raise Error("cannot use directory", self._work, "it belongs to another user")
            fs.remove_tree(self.place)
        except BaseException as error:
            self._lock.__exit__()
            if isinstance(error, FileNotFoundError):  # the other one has just finished
                raise self._busy() from None
            raise
        return self

    def _busy(self) -> Busy:
        return Busy("cannot unpack into", self.path, "another process is unpacking into it")

    def done(self) -> None:
        """Give it its name."""
        try:
            if os.path.isdir(self.path) and not os.path.isdir(self.place):
                os.rmdir(self.path)
            os.rename(self.place, self.path)
        except OSError as error:
            raise Error("cannot unpack into", self.path, error) from None

    def __exit__(self, *_: object) -> None:
        fs.remove_tree(self._work)
        self._lock.__exit__()
