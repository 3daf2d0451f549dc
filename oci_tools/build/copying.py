"""Putting files into a root: what COPY, ADD and WORKDIR do, as BuildKit does it.

    into = Target(rootfd, uid, gid, mode, time)
    copy(origin, picks, dest, into, exclude)

A directory's content goes into the destination; a file becomes it, or goes into it if that is a directory or ends
with a slash.  Directories that are missing are made, mode 0755, for the owner that is asked for.  Links in the
destination's path are followed beneath the root; those that are copied are not.  Hard links stay what they are.
"""

from __future__ import annotations

import os
import stat

from oci_tools import fs
from oci_tools.build import hashes
from oci_tools.build.picking import Item, Origin, Pick, items
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oci_tools.build.ignore import Patterns

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
PIECE = 1 << 30
LINKS = 40  # as many as the kernel follows


class Target:
    """A root that files are put in, and what they get.

    owner   (uid, gid); None: as they have it, and 0:0 for directories that are made
    mode    changes the mode of each; None: as it is
    time    nanoseconds, of everything; None: as it is
    replace  what is there of another type goes, as an archive has it
    """

    def __init__(
        self,
        fd: int,
        owner: tuple[int, int] | None,
        mode: Callable[[int, bool], int] | None = None,
        time: int | None = None,
        single: bool = False,
        replace: bool = False,
    ) -> None:
        self.fd = fd
        self.owner = owner
        self.mode = mode
        self.time = time
        self.single = single
        self.replace = replace

    def directory(self, path: str, follow: bool = True) -> int:
        """A descriptor of a directory; what is missing of its path is made."""
        try:
            return fs.open_beneath(self.fd, path.strip("/") or ".", _DIRECTORY)
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            raise Error(f"cannot copy to non-directory: {path}") from None
        except OSError as error:
            raise Error("cannot open directory", path, error) from None
        parent, _, name = path.rstrip("/").rpartition("/")
        fd = self.directory(parent or "/")
        try:
            return self._make(fd, os.fsencode(name), path)
        finally:
            os.close(fd)

    def _make(self, fd: int, name: bytes, path: str) -> int:
        try:
            os.mkdir(name, 0o755, dir_fd=fd)
        except FileExistsError:  # a link that leads nowhere yet: what it leads to is made
            target = os.readlink(name, dir_fd=fd)
            beside = os.path.dirname(path.rstrip("/"))
            return self.directory(os.path.normpath(os.path.join(beside, os.fsdecode(target))))
        made = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
        os.fchmod(made, 0o755)
        self.chown(made, self.owner or (0, 0))
        if self.time is not None:
            os.utime(made, ns=(self.time, self.time))
        return made

    def chown(self, file: int, owner: tuple[int, int]) -> None:
        if self.single:
            from oci_tools.layer import owner as owners

            if owner != (0, 0):
                os.setxattr(file, owners.REMEMBER, owners.remember(*owner))
        else:  # whatever it is: a directory may have given it a group
            os.chown(file, *owner)

    def chown_link(self, name: bytes, at: int, owner: tuple[int, int]) -> None:
        if not self.single:
            os.chown(name, *owner, dir_fd=at, follow_symlinks=False)

    def is_directory(self, path: str) -> bool:
        try:
            os.close(fs.open_beneath(self.fd, path.strip("/") or ".", _DIRECTORY))
            return True
        except OSError:
            return False

    def path_of(self, path: str) -> str:
        """Where a path leads whose last name may be a link, be there anything or not."""
        for _ in range(LINKS):
            try:
                fd = fs.open_beneath(self.fd, path.strip("/") or ".", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                return path
            try:
                if not stat.S_ISLNK(os.fstat(fd).st_mode):
                    return path
                target = os.readlink("", dir_fd=fd).rstrip("/")
            finally:
                os.close(fd)
            path = os.path.join(os.path.dirname(path), target)  # with its `..`: the kernel knows where that leads
        raise Error("cannot write", path, "too many links")


def copy(origin: Origin, picks: Iterable[Pick], dest: str, into: Target, exclude: Patterns | None = None) -> None:
    """Put what is picked at an absolute path of the root; one that ends with a slash is a directory."""
    work = _Copy(origin, into)
    for one in picks:
        if one.parents:
            work.with_parents(one, dest, exclude)
        elif one.is_directory():
            work.content(one, dest, exclude)
        elif dest.endswith("/") or into.is_directory(dest):
            work.one(one, into.directory(dest), os.fsencode(one.name))
        else:
            parent, _, name = into.path_of(dest).rpartition("/")
            work.one(one, into.directory(parent or "/"), os.fsencode(name))


def write(name: str, pieces: Iterable[bytes], dest: str, into: Target, mode: int = 0o644) -> None:
    """Put a new file, of a here-document or from elsewhere, at a path as `copy` reads it."""
    if dest.endswith("/") or into.is_directory(dest):
        at, base = into.directory(dest), os.fsencode(name)
    else:
        parent, _, last = into.path_of(dest).rpartition("/")
        at, base = into.directory(parent or "/"), os.fsencode(last)
    try:
        _make_room(at, base)
        fd = os.open(base, _NEW, 0o600, dir_fd=at)
        try:
            for piece in pieces:
                fs.write_all(fd, piece)
            into.chown(fd, into.owner or (0, 0))
            os.fchmod(fd, into.mode(mode, False) if into.mode else mode)
            if into.time is not None:
                os.utime(fd, ns=(into.time, into.time))
        finally:
            os.close(fd)
    except OSError as error:
        raise Error("cannot write", dest, error) from None
    finally:
        os.close(at)


class _Copy:
    """One copying: remembers hard links."""

    def __init__(self, origin: Origin, into: Target) -> None:
        from oci_tools.layer.diff import HOST

        self._origin = origin
        self._into = into
        self._links: dict[tuple[int, int], str] = {}
        self._host = HOST

    def one(self, one: Pick, at: int, name: bytes) -> None:
        """A pick that is no directory; `at` is closed."""
        try:
            for item in items(self._origin, one):
                self._put(item, at, name)
        finally:
            os.close(at)

    def content(self, one: Pick, dest: str, exclude: Patterns | None) -> None:
        """What is in a directory."""
        top = self._into.directory(dest)
        self._fill(one, top, exclude)

    def with_parents(self, one: Pick, dest: str, exclude: Patterns | None) -> None:
        """A pick with the directories that it is in."""
        parts = one.parents.split("/")
        holder = one.path.removesuffix(one.parents).strip("/")
        at = self._into.directory(dest)
        for part in parts if one.is_directory() else parts[:-1]:
            holder = f"{holder}/{part}".strip("/")
            below = self._enter(at, os.fsencode(part))
            os.close(at)
            at = below
            fd = fs.open_beneath(self._origin.fd, holder, _DIRECTORY)
            try:
                seen = os.fstat(fd)
                self._describe(at, Item(b"", fd, b".", os.fsencode(holder), seen))
            finally:
                os.close(fd)
        if one.is_directory():
            self._fill(one, at, exclude)
        else:
            self.one(one, at, os.fsencode(parts[-1]))

    def _fill(self, one: Pick, top: int, exclude: Patterns | None) -> None:
        """Put a directory's content into an open one, which is closed; it gets the directory's time, and only that."""
        levels: list[tuple[bytes, int, Item | None]] = [(b"", top, None)]
        try:
            for item in items(self._origin, one, exclude):
                if not item.to:
                    levels[0] = (b"", top, item)
                    continue
                parent, _, name = item.to.rpartition(b"/")
                while levels[-1][0] != parent:
                    self._leave(levels.pop())
                at = levels[-1][1]
                if stat.S_ISDIR(item.seen.st_mode):
                    levels.append((item.to, self._enter(at, name), item))
                    self._describe(levels[-1][1], item)
                else:
                    self._put(item, at, name)
        except OSError as error:
            raise Error("cannot copy", os.fsdecode(item.path), error) from None
        finally:
            while levels:
                self._leave(levels.pop())

    def _leave(self, level: tuple[bytes, int, Item | None]) -> None:
        """A directory has all that it will have: now its time can be set."""
        _, fd, item = level
        if item is not None:
            self._date(fd, item.seen)
        os.close(fd)

    def _enter(self, at: int, name: bytes) -> int:
        """A descriptor of a directory in another, made if it is missing."""
        try:
            os.mkdir(name, 0o700, dir_fd=at)
        except FileExistsError:
            pass
        try:
            return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
        except OSError:
            if self._into.replace:
                os.unlink(name, dir_fd=at)
                return self._enter(at, name)
            raise Error(f"cannot copy to non-directory: {os.fsdecode(name)}") from None

    # -- one name -----------------------------------------------------------------------------

    def _put(self, item: Item, at: int, name: bytes) -> None:
        kind = hashes.kind_of(item.seen.st_mode)
        try:
            _make_room(at, name, self._into.replace)
            if item.seen.st_nlink > 1 and self._linked(item, at, name):
                return
            if kind == "f":
                self._file(item, at, name)
            else:
                self._other(item, at, name, kind)
        except OSError as error:
            raise Error("cannot copy", os.fsdecode(item.path), error) from None

    def _linked(self, item: Item, at: int, name: bytes) -> bool:
        """Make a hard link to a copy that is there already."""
        same = (item.seen.st_dev, item.seen.st_ino)
        first = self._links.get(same)
        if first is None:
            self._links[same] = os.path.join(os.readlink(f"/proc/self/fd/{at}"), os.fsdecode(name))
            self._at = at
            return False
        top = os.readlink(f"/proc/self/fd/{self._into.fd}").rstrip("/")
        try:
            fd = fs.open_beneath(self._into.fd, first[len(top) :].strip("/"), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=at, follow_symlinks=True)
            return True
        except OSError:
            return False
        finally:
            os.close(fd)

    def _file(self, item: Item, at: int, name: bytes) -> None:
        mode = self._mode(item.seen.st_mode, False)
        source = os.open(item.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=item.at)
        try:
            made = os.open(name, _NEW, 0o600, dir_fd=at)
            try:
                while os.sendfile(made, source, None, PIECE):
                    pass
                self._into.chown(made, self._owner(item.seen))
                os.fchmod(made, mode)
                self._attributes(source, made)
                self._date(made, item.seen)
            finally:
                os.close(made)
        finally:
            os.close(source)

    def _other(self, item: Item, at: int, name: bytes, kind: str) -> None:
        if kind == "l":
            os.symlink(os.readlink(item.name, dir_fd=item.at), name, dir_fd=at)
            self._into.chown_link(name, at, self._owner(item.seen))
        else:
            mode = self._mode(item.seen.st_mode, False)
            made = stat.S_IFREG if kind == "s" else stat.S_IFMT(item.seen.st_mode)  # a socket is an empty file
            os.mknod(name, made | 0o600, item.seen.st_rdev, dir_fd=at)
            self._into.chown_link(name, at, self._owner(item.seen))
            os.chmod(name, mode, dir_fd=at)
        time = item.seen.st_mtime_ns if self._into.time is None else self._into.time
        os.utime(name, ns=(time, time), dir_fd=at, follow_symlinks=False)

    def _describe(self, fd: int, item: Item) -> None:
        """Give a directory what the other has; its time comes last."""
        self._into.chown(fd, self._owner(item.seen))
        os.fchmod(fd, self._mode(item.seen.st_mode, True))
        source = os.open(item.name, _DIRECTORY, dir_fd=item.at)
        try:
            self._attributes(source, fd)
        finally:
            os.close(source)

    def _attributes(self, source: int, made: int) -> None:
        for name in os.listxattr(source):
            if not os.fsencode(name).startswith(self._host):
                try:
                    os.setxattr(made, name, os.getxattr(source, name))
                except OSError:
                    continue  # what cannot be kept here is what nobody here can have

    def _owner(self, seen: os.stat_result) -> tuple[int, int]:
        if self._into.owner is not None:
            return self._into.owner
        return (seen.st_uid, seen.st_gid) if self._origin.owners else (0, 0)

    def _mode(self, mode: int, is_directory: bool) -> int:
        mode = stat.S_IMODE(mode)
        return self._into.mode(mode, is_directory) if self._into.mode else mode

    def _date(self, fd: int, seen: os.stat_result) -> None:
        time = seen.st_mtime_ns if self._into.time is None else self._into.time
        os.utime(fd, ns=(time, time))


def _make_room(at: int, name: bytes, replace: bool = False) -> None:
    """Take away what has a name; a directory only to `replace` it."""
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        if not replace:
            raise Error(f"cannot replace to directory {os.fsdecode(name)} with file") from None
        fs.remove_tree(f"/proc/self/fd/{at}/{os.fsdecode(name)}")
