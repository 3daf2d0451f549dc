"""Which files COPY and ADD take: words and wildcards of an instruction, found in a tree.

A tree is a context, a stage, an image: what is in it is reached beneath its root only, links included.  What
`.dockerignore` leaves out is not there.  A wildcard matches one name of a path, as Go's `filepath.Match` has it;
with `--parents` there is `**` too.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat

from oci_tools import fs
from oci_tools.build import hashes, ignore
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Tell = Callable[[bytes, str], None]

_PATH = os.O_PATH | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Origin:
    """A tree that files come from.

    fd       its root; may be given as a function that opens it when somebody looks into it
    ignored  what is left out of it; None: nothing
    hashes   what its files are
    owners   whether files keep theirs
    place    the directory of the host that it is, if it is one that a make can depend on
    """

    def __init__(
        self,
        fd: int | Callable[[], int],
        ignored: ignore.Patterns | None = None,
        known: hashes.Hashes | None = None,
        owners: bool = True,
        place: str = "",
    ) -> None:
        self._fd = fd
        self.place = place
        self.ignored = ignored if ignored else None
        self.hashes = known or hashes.Hashes(None, "")
        self.owners = owners

    @property
    def fd(self) -> int:
        if not isinstance(self._fd, int):
            self._fd = self._fd()
        return self._fd

    def hides(self, path: str) -> bool:
        return self.ignored is not None and bool(path) and self.ignored.match(path)


class Pick:
    """One thing that is taken: its real path beneath the root, and the name that it was found by.

    parents  the directories, from the pivot of `--parents` on, that it keeps
    """

    __slots__ = ("name", "parents", "path", "seen")

    def __init__(self, path: str, name: str, seen: os.stat_result, parents: str = "") -> None:
        self.path = path
        self.name = name
        self.seen = seen
        self.parents = parents

    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.seen.st_mode)


class Item:
    """One name on its way: `to` is its path beneath the destination ("" is the destination itself)."""

    __slots__ = ("at", "name", "path", "seen", "to")

    def __init__(self, to: bytes, at: int, name: bytes, path: bytes, seen: os.stat_result) -> None:
        self.to = to
        self.at = at
        self.name = name
        self.path = path
        self.seen = seen


def pick(origin: Origin, word: str, parents: bool = False, exclude: ignore.Patterns | None = None) -> list[Pick]:
    """What a word of an instruction means; none only for a wildcard that matches nothing."""
    pivot = ""
    if parents:
        before, dot, after = word.partition("/./")
        pivot = _clean(before) if dot else ""
        word = f"{before}/{after}" if dot else word
    path = _clean(word)
    wild = is_wild(path)
    found = _glob(origin, path, parents) if wild else [path]
    picks = []
    for one in found:
        if exclude and one and wild and exclude.match(one.rpartition("/")[2]):
            continue
        picks.append(_resolve(origin, one, _behind(pivot, one) if parents else "", parents))
    return picks


def _behind(pivot: str, path: str) -> str:
    """What of a path is kept: all behind the shortest beginning that the pivot, which may have wildcards, matches."""
    parts = path.split("/")
    for end in range(len(parts) + 1):
        if _fits(pivot.split("/") if pivot else [], parts[:end]):
            return "/".join(parts[end:])
    return path


def _fits(pattern: list[str], parts: list[str]) -> bool:
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _fits(pattern[1:], parts) or _fits(pattern, parts[1:])
    first = component(pattern[0]).match(parts[0]) if is_wild(pattern[0]) else pattern[0] == parts[0]
    return bool(first) and _fits(pattern[1:], parts[1:])


def is_wild(path: str) -> bool:
    return any(c in path for c in "*?[\\")


def _clean(word: str) -> str:
    """A path beneath the root: `..` stops there."""
    return posixpath.normpath("/" + word).lstrip("/")


def _resolve(origin: Origin, path: str, kept: str, parents: bool) -> Pick:
    if origin.hides(path) and not _shows(origin, path):
        raise Error(f'"/{path}": not found', hint="it is left out by the ignore file")
    try:
        fd = fs.open_beneath(origin.fd, path or ".", _PATH | (os.O_NOFOLLOW if parents else 0))
    except FileNotFoundError:
        raise hashes.gone(f"/{path}") from None
    except OSError as error:
        raise Error("cannot read", f"/{path}", error) from None
    try:
        real = os.readlink(f"/proc/self/fd/{fd}")
        seen = os.fstat(fd)
    finally:
        os.close(fd)
    top = os.readlink(f"/proc/self/fd/{origin.fd}")
    real = real[len(top) :].strip("/") if real.startswith(top) else path
    if real != path and origin.hides(real) and not _shows(origin, real):
        raise Error(f'"/{path}": not found', hint=f"it is a link to '{real}', which the ignore file leaves out")
    return Pick(real, path.rpartition("/")[2], seen, kept)


def _shows(origin: Origin, path: str) -> bool:
    """Whether what is left out is a directory that has something that is not."""
    if origin.ignored is None or not origin.ignored.may_show(path):
        return False
    try:
        fd = fs.open_beneath(origin.fd, path, _DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return next(_below(origin, fd, os.fsencode(path), b"", None, None, None), None) is not None
    finally:
        os.close(fd)


# -- wildcards ----------------------------------------------------------------------------------


def _glob(origin: Origin, path: str, deep: bool) -> list[str]:
    """The paths that match, sorted."""
    parts = path.split("/")
    for part in parts:
        ignore.check(part)
    return sorted(set(_matching(origin, "", parts, deep, False)))


def _matching(origin: Origin, base: str, parts: list[str], deep: bool, walked: bool) -> Iterator[str]:
    """Paths below `base` that match; behind a wildcard no link is followed (`walked`)."""
    if not parts:
        yield base
        return
    part, rest = parts[0], parts[1:]
    if part == "**" and deep:
        yield from _matching(origin, base, rest, deep, True)
        for name, is_directory in _names(origin, base):
            below = f"{base}/{name}".lstrip("/")
            if is_directory:
                yield from _matching(origin, below, parts, deep, True)
            elif not rest:
                yield below
        return
    if not is_wild(part):
        below = f"{base}/{part}".lstrip("/")
        there = _is_directory(origin, below) if walked and rest else _is_there(origin, below)
        if there and (not origin.hides(below) or _shows(origin, below)):
            yield from _matching(origin, below, rest, deep, walked)
        return
    rule = component(part)
    for name, is_directory in _names(origin, base):
        below = f"{base}/{name}".lstrip("/")
        if rule.match(name) and (not rest or is_directory):
            if not origin.hides(below) or (is_directory and _shows(origin, below)):
                yield from _matching(origin, below, rest, deep, True)


def component(part: str) -> re.Pattern[str]:
    """A wildcard for one name as a regular expression; several stars are as one."""
    return ignore.compiled(re.sub(r"(\\.)|\*+", lambda found: found[1] or "*", part))


def _names(origin: Origin, path: str) -> list[tuple[str, bool]]:
    try:
        fd = fs.open_beneath(origin.fd, path or ".", _DIRECTORY)
    except OSError:
        return []
    try:
        with os.scandir(fd) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    finally:
        os.close(fd)


def _is_there(origin: Origin, path: str) -> bool:
    try:
        os.close(fs.open_beneath(origin.fd, path, _PATH | os.O_NOFOLLOW))
        return True
    except OSError:
        return False


def _is_directory(origin: Origin, path: str) -> bool:
    """Whether a name is a directory, and no link to one."""
    try:
        os.close(fs.open_beneath(origin.fd, path, _PATH | os.O_DIRECTORY | os.O_NOFOLLOW))
        return True
    except OSError:
        return False


# -- what is in it ----------------------------------------------------------------------------------


def items(origin: Origin, one: Pick, exclude: ignore.Patterns | None = None) -> Iterator[Item]:
    """Everything of a pick, a directory before what is in it, in one order."""
    if not one.is_directory():
        parent, _, name = one.path.rpartition("/")
        fd = fs.open_beneath(origin.fd, parent or ".", _DIRECTORY)
        try:
            path = os.fsencode(one.path)
            yield Item(b"", fd, os.fsencode(name), path, one.seen)
        finally:
            os.close(fd)
        return
    fd = fs.open_beneath(origin.fd, one.path or ".", _DIRECTORY)
    try:
        yield Item(b"", fd, b".", os.fsencode(one.path), one.seen)
        yield from _below(origin, fd, os.fsencode(one.path), b"", exclude, None, None)
    finally:
        os.close(fd)


def _below(
    origin: Origin, fd: int, path: bytes, to: bytes, exclude: ignore.Patterns | None, above: list[bool] | None,
    above_exclude: list[bool] | None,
) -> Iterator[Item]:  # fmt: skip
    names: list[bytes] = []
    directories: set[bytes] = set()
    with os.scandir(fd) as entries:
        for entry in entries:
            names.append(os.fsencode(entry.name))
            if entry.is_dir(follow_symlinks=False):
                directories.add(names[-1])
    names.sort()
    for name in names:
        here = path + b"/" + name if path else name
        there = to + b"/" + name if to else name
        hidden, kept = _left_out(origin.ignored, here, above)
        hidden_too, kept_too = _left_out(exclude, there, above_exclude)
        if name not in directories:
            if not (hidden or hidden_too):
                yield Item(there, fd, name, here, os.lstat(name, dir_fd=fd))
            continue
        if (hidden and not _may(origin.ignored, here)) or (hidden_too and not _may(exclude, there)):
            continue
        yield from _directory(origin, fd, name, here, there, exclude, kept, kept_too, hidden or hidden_too)


def _directory(
    origin: Origin, at: int, name: bytes, here: bytes, there: bytes, exclude: ignore.Patterns | None,
    kept: list[bool] | None, kept_too: list[bool] | None, hidden: bool,
) -> Iterator[Item]:  # fmt: skip
    """A directory with what is in it; one that is left out only if something in it is not."""
    fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
    try:
        own = Item(there, at, name, here, os.fstat(fd))
        inside = _below(origin, fd, here, there, exclude, kept, kept_too)
        if hidden:
            first = next(inside, None)
            if first is None:
                return
            yield own
            yield first
        else:
            yield own
        yield from inside
    finally:
        os.close(fd)


def _left_out(
    patterns: ignore.Patterns | None, path: bytes, above: list[bool] | None
) -> tuple[bool, list[bool] | None]:
    return patterns.below(os.fsdecode(path), above) if patterns else (False, None)


def _may(patterns: ignore.Patterns | None, path: bytes) -> bool:
    return patterns is not None and patterns.may_show(os.fsdecode(path))


# -- what it is -------------------------------------------------------------------------------------


def digest(
    origin: Origin, picks: Iterable[Pick], exclude: ignore.Patterns | None, tell: Tell | None = None
) -> str:
    """A digest of all that a COPY takes: names, types, modes, owners that are kept, attributes and contents.

    tell  hears of each path and its own digest
    """
    import hashlib

    from oci_tools.layer.diff import HOST

    whole = hashlib.sha256()
    for one in picks:
        whole.update(hashes.digest_of(("pick", one.name if not one.is_directory() else "", one.parents)).encode())
        for item in items(origin, one, exclude):
            said = _said(origin, item, HOST)
            text = hashes.digest_of(said)
            whole.update(text.encode())
            if tell is not None:
                tell(item.path, text)
    return whole.hexdigest()


def _said(origin: Origin, item: Item, host: tuple[bytes, ...]) -> tuple[object, ...]:
    mode = item.seen.st_mode
    kind = hashes.kind_of(mode)
    owner = (item.seen.st_uid, item.seen.st_gid) if origin.owners else ()
    content: object = b""
    if kind == "f":
        content = origin.hashes.file(item.path, item.at, item.name, item.seen)
    elif kind == "l":
        content = os.readlink(item.name, dir_fd=item.at)
        mode = 0
    elif kind in "cb":
        content = item.seen.st_rdev
    attributes = hashes.xattrs(b"/proc/self/fd/%d/%b" % (item.at, item.name), host)
    return (item.to, kind, stat.S_IMODE(mode), owner, content, attributes)
