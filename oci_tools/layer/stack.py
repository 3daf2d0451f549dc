"""Layers of the store, stacked: what is missing is unpacked, what overlayfs would show wrongly is found.

See `store.py` for what a stack must make good.  Trees of the store are looked at here component
by component and without following links: their content is an image's.
"""

from __future__ import annotations

import os
import stat
from itertools import chain

from oci_tools.errors import Error
from oci_tools.layer import lookup, merge, store
from oci_tools.layer.walk import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from oci_tools.layer.apply import Source
    from oci_tools.layer.limits import Limits
    from oci_tools.layer.owner import Owner

MADE_MAX = 16 << 20  # bytes of what is made in every bundle's upper directory, ROW for a directory besides its path
ROW = 500


def build(kept: store.Store, sources: Sequence[Source], owner: Owner, limits: Limits) -> store.Chain:
    """Have all layers in the store; what to stack, and what to make in the upper directory."""
    store.sweep(kept.path)
    owner.stacked = True
    missing: dict[str, Source] = {}
    for source in sources:
        assert source.diff_id is not None
        if not kept.has(source.diff_id):
            missing.setdefault(source.diff_id, source)
    _unpack(kept, missing, owner, limits)
    lower = [source.diff_id for source in sources if source.diff_id]
    lower = [digest for at, digest in enumerate(lower) if digest not in lower[at + 1 :]]
    found = _chain(kept, lower) or _chain(kept, [_flatten(kept, sources, owner, limits)])
    assert found is not None
    return found


def _chain(kept: store.Store, lower: list[str]) -> store.Chain | None:
    """What to stack of layers, the lowest first; None if they are to be one tree."""
    said = _said(kept, lower)
    if said is None:
        return None
    with _Stack([kept.tree(digest) for digest in lower], said) as stack:
        if stack.leads_away():
            return None
        root = stack.row(b"")
        start = max((at for at, known in enumerate(said) if b"" in known["opaques"]), default=0)
        if not start:
            return stack.chain(lower, root)
    # An opaque root hides all that is lower, save how the root is.
    lower, said = lower[start:], said[start:]
    with _Stack([kept.tree(digest) for digest in lower], said) as stack:
        return stack.chain(lower, root)


def _said(kept: store.Store, lower: list[str]) -> list[dict[str, Any]] | None:
    """What is said of layers, the paths as sets of bytes; None if one cannot be stacked, or it is too much."""
    found, room = [], store.ROOM
    for digest in lower:
        known = kept.says(digest)
        for name in store.LISTS:
            known[name] = {os.fsencode(path) for path in known[name]}
            room -= sum(map(store.weight, known[name]))
        if known["links"] or room < 0:
            return None
        found.append(known)
    return found


def _unpack(kept: store.Store, missing: dict[str, Source], owner: Owner, limits: Limits) -> None:
    from oci_tools.layer import marks

    places = []
    try:
        for digest in sorted(missing):  # one order for all processes: no two wait for each other
            places.append((digest, kept.new(digest).__enter__()))
        work = [(digest, place) for digest, place in places if not kept.has(digest)]
        sources = [missing[digest] for digest, _ in work]
        with merge.Unpackers(sources, [place.place for _, place in work], owner, limits) as layers:
            for (_, place), layer in zip(work, layers, strict=True):
                with layer.tree:
                    place.say(marks.finish(layer, owner))
        if work:
            _sync(kept.path)
        for _, place in work:
            place.commit()
    finally:
        for _, place in places:
            place.__exit__()


def _sync(path: str) -> None:
    """Have everything on disk before it gets a name that is trusted from then on."""
    from oci_tools.linux import libc

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc.call("syncfs", fd)
    except OSError as error:
        raise Error("cannot write", path, error) from None
    finally:
        os.close(fd)


def _flatten(kept: store.Store, sources: Sequence[Source], owner: Owner, limits: Limits) -> str:
    """All layers as one tree."""
    import hashlib

    names = " ".join(source.diff_id or "" for source in sources)
    digest = f"sha256:{hashlib.sha256(f'flat {names}'.encode()).hexdigest()}"
    with kept.new(digest) as fresh:
        if not kept.has(digest):
            merge.flatten(sources, fresh.place, owner, limits)
            _sync(kept.path)
            fresh.say(store.NOTHING)
            fresh.commit()
    return digest


class _Stack:
    """Trees over each other, the lowest first, and what was said about each."""

    def __init__(self, trees: list[str], said: list[dict[str, Any]]) -> None:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self._fds = [os.open(tree, flags) for tree in trees]
        self._said = said

    def __enter__(self) -> _Stack:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def chain(self, lower: list[str], root: list[Any]) -> store.Chain | None:
        """These layers as a chain; None if too much would have to be made for it."""
        hidden = self.ghosts()
        made = None if hidden is None else self.made(hidden)
        if hidden is None or made is None:
            return None
        return store.Chain(lower[::-1], [root, *made[1:]], [os.fsdecode(path) for path in hidden])

    def leads_away(self) -> bool:
        """Whether a directory that a layer only implies is a link below, or one for marks alone a file."""
        for at, known in enumerate(self._said):
            for path in known["implied"]:
                for below in range(at - 1, -1, -1):
                    kind, _ = self._look(below, path)
                    if kind == "link" or (kind == "other" and path in known["hollow"]):
                        return True
                    if kind not in ("none", "dir"):
                        break
        return False

    def ghosts(self) -> list[bytes] | None:
        """What has to be hidden, sorted: whiteouts, and directories for them, where nothing lower is.

        None if it is too much: every bundle has to hide it.
        """
        found: set[bytes] = set()
        for path in sorted(set[bytes]().union(*(known["hollow"] for known in self._said)), key=len):
            if not _is_below(path, found) and self._is_hollow(path):
                found.add(path)
        room = store.ROOM
        for at, known in enumerate(self._said):
            for path in known["hiding"]:
                if path in found or _is_below(path, found) or self._covers(at, path):
                    continue
                for name in self._whiteouts(at, path):
                    if all(self._look(above, name)[0] == "none" for above in range(at + 1, len(self._fds))):
                        found.add(name)
                        room -= store.weight(name)
                        if room < 0:
                            return None
        return sorted(found)

    def _covers(self, at: int, path: bytes) -> bool:
        """Whether a layer's directory has a lower one, so that overlayfs shows none of its whiteouts."""
        kinds = (self._look(below, path)[0] for below in range(at - 1, -1, -1))
        return next((kind for kind in kinds if kind != "none"), "hidden") not in ("hidden", "other", "link")

    def _whiteouts(self, at: int, path: bytes) -> Iterator[bytes]:
        """The whiteouts in a directory of a layer."""
        with lookup.Stack([f"/proc/self/fd/{self._fds[at]}"]) as tree:
            fd = tree.open(path)
        if fd is None:
            return
        try:
            for name in names(fd):
                seen = os.lstat(name, dir_fd=fd)
                if stat.S_ISCHR(seen.st_mode) and seen.st_rdev == 0:
                    yield path + b"/" + name if path else name
        finally:
            os.close(fd)

    def _is_hollow(self, path: bytes) -> bool:
        """Whether a directory would be seen that is only there for marks."""
        shown = False
        for at in range(len(self._fds) - 1, -1, -1):
            kind, _ = self._look(at, path)
            if kind in ("dir", "marked", "opaque"):
                shown = True
                if path not in self._said[at]["hollow"]:
                    return False
            elif kind != "none":
                break
        return shown

    def made(self, hidden: list[bytes]) -> list[list[Any]] | None:
        """The directories whose attributes overlayfs would take from a layer that does not know them.

        And those in which names have to be `hidden`.  None if they are too many: every bundle has to make them.
        """
        wanted = {b""}
        room = MADE_MAX
        implied = {path for known in self._said for path in known["implied"]}
        for path in chain((path for path in implied if self._shows_wrong(path)), map(_parent, hidden)):
            while path not in wanted:
                wanted.add(path)
                room -= ROW + len(path)
                if room < 0:
                    return None
                path = _parent(path)
        rows = []
        for path in sorted(wanted):
            rows.append(self.row(path))
            room -= sum(map(len, rows[-1][5].values()))
            if room < 0:
                return None
        return rows

    def _shows_wrong(self, path: bytes) -> bool:
        """Whether the highest layer that has a directory only implies it, and a lower one knows it."""
        known = self._known(path)
        kinds = (self._look(at, path)[0] for at in range(len(self._fds) - 1, known or 0, -1))
        return known is not None and any(kind in ("dir", "opaque", "marked") for kind in kinds)

    def _known(self, path: bytes) -> int | None:
        """The highest layer that says what a visible directory is like."""
        for at in range(len(self._fds) - 1, -1, -1):
            kind, _ = self._look(at, path)
            if kind in ("dir", "opaque", "marked"):
                if self._said[at]["root"] if not path else path not in self._said[at]["implied"]:
                    return at
            if kind == "marked" and path in self._said[at]["opaques"]:
                continue  # an opaque directory hides what is in it, not what it is
            if kind not in ("dir", "none"):
                return None
        return None

    def row(self, path: bytes) -> list[Any]:
        """A directory as `store.Chain.made` has it."""
        at = self._known(path)
        if at is None:
            return [os.fsdecode(path), 0o755, os.geteuid(), os.getegid(), None, {}]
        seen = self._look(at, path)[1]
        assert seen is not None
        xattrs = self._xattrs(at, path)
        return [
            os.fsdecode(path),
            stat.S_IMODE(seen.st_mode),
            seen.st_uid,
            seen.st_gid,
            seen.st_mtime_ns,
            xattrs,
        ]

    def _look(self, at: int, path: bytes) -> tuple[str, os.stat_result | None]:
        """What a layer has at a path.

        "none"    nothing
        "dir"     a directory, through which lower ones are seen
        "marked"  a directory that is opaque: it hides what is in lower ones
        "opaque"  a directory in one that is opaque
        "link"    it is a symbolic link, or in one
        "other"   something else
        "hidden"  a whiteout, or it is in one or in something else: nothing lower is seen
        """
        fd = os.dup(self._fds[at])
        kind = "dir"
        try:
            seen = os.fstat(fd)
            parts = path.split(b"/") if path else []
            for number, part in enumerate(parts, 1):
                try:
                    inner = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                except FileNotFoundError:
                    return ("none" if kind == "dir" else "hidden"), None
                kind = "opaque" if kind == "marked" else kind
                os.close(fd)
                fd = inner
                seen = os.fstat(fd)
                if stat.S_ISLNK(seen.st_mode):
                    return "link", None
                if not stat.S_ISDIR(seen.st_mode):
                    whiteout = stat.S_ISCHR(seen.st_mode) and seen.st_rdev == 0
                    return ("hidden" if whiteout or number < len(parts) else "other"), None
                if kind == "dir" and lookup.is_opaque(fd):
                    kind = "marked"
            return kind, seen
        finally:
            os.close(fd)

    def _xattrs(self, at: int, path: bytes) -> dict[str, str]:
        fd = os.open(b"/proc/self/fd/%d" % self._fds[at], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in path.split(b"/") if path else ():
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                os.close(fd)
                fd = inner
            names = [name for name in os.listxattr(fd) if not name.startswith(lookup.MARKS)]
            return {name: os.fsdecode(os.getxattr(fd, name)) for name in names if name != "security.selinux"}
        except OSError:
            return {}
        finally:
            os.close(fd)


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _is_below(path: bytes, others: set[bytes]) -> bool:
    """Whether a path is in one of these directories."""
    parts = path.split(b"/")
    return any(b"/".join(parts[:end]) in others for end in range(1, len(parts)))
