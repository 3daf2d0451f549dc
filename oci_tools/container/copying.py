"""`cp`: files between the host and containers or bundles; and `export`.

Whatever the two sides are, a tar archive goes from one to the other:

    source    a process of its own, since to read a container's files may mean to enter its user namespace,
              writes it into a pipe: first one letter, f d or c (the content of a directory), then the
              archive, all of it under the one name TOP
    target    this process puts it in its place (extract.py)

What a name means is docker's: a directory that is there takes SOURCE in, else DESTINATION is what it will be
called; of SOURCE/. only the content is copied.  Links on the way are followed where they are, inside a container
as the container would itself; one that is SOURCE itself is copied as a link, one that is DESTINATION followed.
"""

from __future__ import annotations

import os
import stat

from oci_tools import fs
from oci_tools.container import names, rootfs
from oci_tools.errors import Error, Usage
from oci_tools.layer import diff
from oci_tools.layer.stream import Stream
from oci_tools.layer.walk import Found
from oci_tools.layer.write import Writer
from oci_tools.linux import libc
from oci_tools.runtime import sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from oci_tools.cli import Args

    Warn = Callable[[str], None]

_TOP = b"x"
_LINKS_MAX = 40  # path_resolution(7)
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
# File systems that hold no files: what is in them is made up when it is read (magic numbers: statfs(2)).
_MADE_UP = frozenset(
    (0x9FA0, 0x62656572, 0x27E0EB, 0x63677270, 0x1CD1, 0x19800202, 0x64626720, 0x74726163, 0x73636673,
     0xCAFE4A11, 0x6E736673, 0xF97CFF8C, 0xDE5E81E4, 0x42494E4D)
)  # fmt: skip


def copy(root: str, args: Args, warn: Warn) -> None:
    """`oci-run cp SOURCE DESTINATION`."""
    source, target = Side.of(root, args.source), Side.of(root, args.destination)
    if source.word is None and target.word is None:
        raise Usage("nothing to copy between", hint="one of SOURCE and DESTINATION is ID:PATH")
    for side in source, target:  # now: a plain user's may have us go on elsewhere, which no fork could
        if side.word is not None and not rootfs.is_path(side.word):
            names.need(side.word, root)
    owner = None if args.archive else (0, 0)
    if target.word is None and owner:
        owner = os.geteuid(), os.getegid()
    if target.is_stream:
        _refuse_terminal()
        with source:
            source.pack(Stream(1), args.follow_link, warn)
    elif source.is_stream:
        with target, open(0, "rb", buffering=0, closefd=False) as stream:
            target.take(stream, None, owner, warn)
    else:
        with _Packer(source, args.follow_link, warn) as packer, target:
            target.take(packer.stream, packer.kind + source.name(), owner, warn)


def export(root: str, word: str, output: str | None, warn: Warn) -> None:
    """All files of a container or bundle, without what is mounted in it, as a flat tar archive."""
    if output is None:
        _refuse_terminal()
        _export(root, word, Stream(1), warn)
        return
    path = os.path.realpath(output) if os.path.islink(output) else output  # the file that a link names
    with fs.Output(path, 0o666) as fd:
        _export(root, word, Stream(fd, output), warn)


def _export(root: str, word: str, stream: Stream, warn: Warn) -> None:
    with rootfs.Rootfs(root, word, mounts=False) as opened:
        writer = Writer(stream)
        diff.Packing(writer, single=opened.single, warn=warn, live=True).tree(opened.fd)
        writer.close()


def _refuse_terminal() -> None:
    if os.isatty(1):
        raise Usage("an archive is not for a terminal", hint="put it into a file or pipe")


# -- a side ------------------------------------------------------------------------------------


class Side:
    """SOURCE or DESTINATION, opened in a `with` block.

    word  the container, or the path of the bundle; None: the host
    path  bytes, as it was said; b"-" is a stream
    """

    def __init__(self, root: str, word: str | None, path: bytes) -> None:
        self._root = root
        self.word = word
        self.path = path
        self._opened: rootfs.Rootfs | None = None
        self.is_stream = word is None and path == b"-"

    @classmethod
    def of(cls, root: str, text: str) -> Side:
        """ID:PATH, BUNDLE:PATH, or a path of the host."""
        if not text:
            raise Usage("an empty path")
        if not rootfs.is_path(text):
            word, colon, path = text.partition(":")
            return cls(root, word, os.fsencode(path or "/")) if colon else cls(root, None, os.fsencode(text))
        at = text.find(":")
        while at >= 0:
            if rootfs.is_bundle(text[:at]):
                return cls(root, text[:at], os.fsencode(text[at + 1 :] or "/"))
            at = text.find(":", at + 1)
        return cls(root, None, os.fsencode(text))

    def name(self) -> bytes:
        """The last name of its path; none if there is nothing but a directory's content."""
        last = self.path.rstrip(b"/").rpartition(b"/")[2]
        return b"" if last in (b".", b"..") else last

    def top(self) -> bytes:
        """What a stream calls its directory: as docker, `.` where only the content is meant, and `/` the root."""
        if self.path.rstrip(b"/").rpartition(b"/")[2] == b".":
            return b"."
        return os.path.normpath(b"/" + self.path.lstrip(b"/")).rpartition(b"/")[2] or b"/"

    def __enter__(self) -> Self:
        if self.word is not None:
            self._opened = rootfs.Rootfs(self._root, self.word)
            self._opened.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened:
            self._opened.__exit__()

    def says(self, path: bytes | None = None) -> str:
        """How it is called in messages."""
        text = os.fsdecode(self.path if path is None else path)
        return text if self.word is None else f"{self.word}:{text}"

    def _open(self, base: int, path: bytes) -> int:
        """A directory of ours, or beneath `base`."""
        return os.open(path or b".", _DIRECTORY) if base < 0 else fs.open_beneath(base, path, _DIRECTORY)

    def _find(self, follow: bool, write: bool = False) -> tuple[int, int, bytes, bytes]:
        """Where its path leads: the directory it is in, the root beneath which that is found (-1: ours) by which
        path, and its name there, empty for the directory.

        A link that it is itself is followed if told.
        """
        base, path, opened = -1, self.path, self._opened
        if opened:
            base, path = opened.at(path, write)
        for _ in range(_LINKS_MAX):
            head, slash, name = path.rpartition(b"/")
            if name in (b"", b".", b".."):
                head, slash, name = path, b"", b""
            head = head or slash
            at = self._open(base, head)
            if opened and base == opened.fd:  # a link may have led to where something would be mounted
                base, path = opened.at(opened.real(at) + b"/" + name, write)
                if base != opened.fd:
                    os.close(at)
                    continue
            if not name:
                return at, base, head, b""
            try:
                target = os.readlink(name, dir_fd=at) if follow else b""
            except OSError:
                target = b""
            if not target:
                return at, base, head, name
            os.close(at)
            path = target if target.startswith(b"/") else (head + b"/" if head else b"") + target
        raise OSError(40, os.strerror(40))

    # -- as a source ---------------------------------------------------------------------------

    def pack(self, stream: Any, follow: bool, warn: Warn, head: Callable[[bytes], Any] | None = None) -> None:
        """Write an archive of what is there; `head` is told first what it is, and the top name is TOP then."""
        try:
            at, _, _, name = self._find(follow)
            seen = os.lstat(name, dir_fd=at) if name else os.fstat(at)
            if name and stat.S_ISDIR(seen.st_mode):
                at = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
        except OSError as error:
            raise Error("cannot copy", self.says(), error) from None
        directory = stat.S_ISDIR(seen.st_mode)
        if head:
            head(b"f" if not directory else b"d" if self.name() else b"c")
        top = _TOP if head else self.top() if directory else b""
        single = bool(self._opened and self._opened.single)
        writer = _Under(stream, top, directory)
        packing = diff.Packing(writer, single=single, warn=warn, live=True)
        if directory:
            packing.root(at)
            packing.tree(at, enters=_enters(at))
        else:
            packing.put(Found(self.name(), at, name, seen))
        writer.close()

    # -- as a target ---------------------------------------------------------------------------

    def take(self, stream: Any, source: bytes | None, owner: tuple[int, int] | None, warn: Warn) -> None:
        """Take an archive: `source` is the letter of what it holds and its name; None for any archive of people's."""
        from oci_tools.container.extract import Extraction, Target

        try:
            at, base, path, name = self._find(follow=True, write=True)
            kind = _kind(at, name)
            if kind == "d":
                path = b"/".join(part for part in (path, name) if part)
            os.close(at)
            if source is None:
                if kind != "d":
                    raise NotADirectoryError(20, os.strerror(20))
                rename = None
            elif kind == "d":
                rename = b"" if source[:1] == b"c" else source[1:]
            elif kind and source[:1] != b"f":
                raise OSError(20, "a directory cannot take the place of a file")
            else:
                rename = name
            if base < 0:
                target = Target(self._open(base, path), b"", True)
            else:
                target = Target(base, path, False)
        except OSError as error:
            raise Error("cannot copy to", self.says(), error) from None
        Extraction(target, owner, rename, warn).run(stream)


def _kind(at: int, name: bytes) -> str:
    """ "d" for a directory, "f" for anything else, "" for nothing."""
    try:
        return "d" if not name or stat.S_ISDIR(os.lstat(name, dir_fd=at).st_mode) else "f"
    except FileNotFoundError:
        return ""


def _enters(rootfd: int) -> Callable[[Found], bool]:
    """Whether a directory is to be gone into: not if its file system makes up what is in it."""
    known = {os.fstat(rootfd).st_dev: True}

    def enters(found: Found) -> bool:
        device = found.seen.st_dev
        if device not in known:
            fd = os.open(found.name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=found.at)
            try:
                held = libc.buffer(120)
                libc.call("fstatfs", fd, libc.address(held))
                known[device] = int.from_bytes(bytes(held)[:8], "little") not in _MADE_UP
            finally:
                os.close(fd)
        return known[device]

    return enters


class _Under(Writer):
    """Puts everything below one top name, or calls the one thing so; without one, as it is."""

    def __init__(self, stream: Any, top: bytes, directory: bool) -> None:
        super().__init__(stream)
        self._top = top
        self._directory = directory

    def entry(self, kind: str, name: bytes, *fields: Any, **more: Any) -> None:
        if self._top:
            above = self._top.rstrip(b"/")  # the root's members are below an empty name
            name = above + b"/" + name if self._directory and name != b"." else above
            if kind == "h":
                more["link"] = above + b"/" + more["link"]
        super().entry(kind, name, *fields, **more)


# -- the two processes ----------------------------------------------------------------------------


class _Packer:
    """The process that packs a source, for a `with` block: its `stream`, and what `kind` the source is of."""

    def __init__(self, source: Side, follow: bool, warn: Warn) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self._errors, errors = os.pipe2(os.O_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            os.close(reader)
            _pack(source, follow, warn, writer, errors)
        os.close(writer)
        os.close(errors)
        self.stream = os.fdopen(reader, "rb", buffering=0)

    def __enter__(self) -> Self:
        self.kind = self.stream.read(1)
        if not self.kind:
            self.__exit__()
            raise Error("cannot copy", None, "the process that reads the source was killed")
        return self

    def __exit__(self, *_: object) -> None:
        """What went wrong over there is the reason of what went wrong here."""
        self.stream.close()
        with open(self._errors, "rb") as errors:
            said = errors.read()
        os.waitpid(self._pid, 0)
        if said:
            from oci_tools import document

            raise sync.revive(document.loads(said, "message of the process that reads")) from None


def _pack(source: Side, follow: bool, warn: Warn, out: int, errors: int) -> None:
    """The process that packs.  Does not return."""
    try:
        stream = Stream(out)
        with source:
            source.pack(stream, follow, warn, stream.write)
    except (BrokenPipeError, KeyboardInterrupt):
        pass  # the other side has its own reason
    except BaseException as error:
        from oci_tools import document

        fs.write_all(errors, document.dumps(sync.told(error)))
    finally:
        os._exit(0)
