"""What a command imports, kept in one file: a third of its start is Python's looking for fifty modules.

Python finds each module in a directory's list, opens its .pyc, and checks it against the source.  Here the modules that
a command was seen to need lie in one file beside the .pyc files, to be believed as those are: an entry counts as
long as its source has the size and time that it had.  Whoever may write there writes it when a command ends that
missed something; who may not starts as Python does.

    __pycache__/COMMAND.cpython-313.archive
        Python's magic number, this form's, and the length of what comes next: 4, 1 and 4 bytes
        marshal of {module's name: (source, size, mtime_ns, is package, offset, length, modules that it imports first)}
        each module's code as marshal writes it, where the offsets count from
"""

import _thread
import gc
import marshal
import os
import posix
import sys
from fcntl import F_DUPFD_CLOEXEC, fcntl
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Entry = tuple[str, int, int, bool, int, int, tuple[str, ...]]

_MARK = MAGIC_NUMBER + b"2"
_HEAD, _LONGEST = 1 << 15, 1 << 24  # bytes that are read first; and at most, of a table
_FEW = 20_000  # objects that a short command makes: it ends before the collector would look at them
_HIGH = 500  # from here on are descriptors that are in no payload's way
_TOP = os.path.dirname(os.path.abspath(__file__))


def launch(name: str) -> None:
    """The end of every file in `bin/`: run `oci_tools.cmd.NAME`, its modules from its archive, and end the process."""
    gc.set_threshold(_FEW, *gc.get_threshold()[1:])
    archive = Archive(name)
    archive.use()
    from oci_tools import cli

    cli.launch(name, archive)


class Archive:
    """The modules of one command; a finder of `sys.meta_path`."""

    def __init__(self, command: str) -> None:
        self.path = f"{_TOP}/__pycache__/{command}.{sys.implementation.cache_tag}.archive"
        self.entries: dict[str, Entry] = {}
        self._fd = -1  # held, since a name may soon be another file's, which has other offsets
        self._file = (0, 0)  # what it is: who closes all descriptors may give its number to another
        self._start = 0  # what they count from

    def use(self) -> None:
        """Find modules here first, if there is such a file."""
        try:
            self._fd = _opened(self.path)
            self._file = _identity(self._fd)
            head = posix.pread(self._fd, _HEAD, 0)
            self._start = 9 + int.from_bytes(head[5:9], "little")
            if head[:5] != _MARK or self._start > _LONGEST:
                return
            if self._start > len(head):
                head += posix.pread(self._fd, self._start - len(head), len(head))
            self.entries = marshal.loads(memoryview(head)[9 : self._start])
        except (OSError, ValueError, EOFError, TypeError):
            return  # there is none, or it is no archive: Python finds the modules
        sys.meta_path.insert(0, self)

    def code(self, name: str) -> bytes:
        """A module's code as marshal wrote it."""
        _, _, _, _, at, length, _ = self.entries[name]
        if _identity(self._fd) != self._file:
            raise ValueError("its descriptor was closed")
        return posix.pread(self._fd, length, self._start + at)

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        entry = self.entries.get(name)
        if entry is None:
            return None
        source, size, mtime, package, _, _, first = entry
        if name.startswith("oci_tools") and not source.startswith(f"{_TOP}/"):
            return None  # this is a copy of another checkout, with its times
        try:
            found = posix.stat(source)
            if found.st_size != size or found.st_mtime_ns != mtime:
                return None
            code = marshal.loads(self.code(name))
            if not hasattr(code, "co_code"):
                return None  # of another archive, which has just taken this one's place
            loader = _Kept(name, source, code, first, self)
        except (OSError, ValueError, EOFError, TypeError):
            return None
        spec = ModuleSpec(name, loader, origin=source, is_package=package)
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [os.path.dirname(source)]
        return spec

    def load(self, name: str) -> None:
        """Import a module that another one is about to import, past most of what Python does for that.

        Not where there are threads, which Python's locks keep from a module that is half there.
        """
        if name in sys.modules or _thread._count():
            return
        above, _, last = name.rpartition(".")
        if above:
            self.load(above)
        spec: Any = self.find_spec(name)
        if spec is None or (above and above not in sys.modules):
            return
        module: Any = _MODULE(name)
        module.__spec__, module.__loader__, module.__file__ = spec, spec.loader, spec.origin
        module.__package__ = name if spec.submodule_search_locations else above
        if spec.submodule_search_locations:
            module.__path__ = spec.submodule_search_locations
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        if above:
            setattr(sys.modules[above], last, module)

    # -- writing -----------------------------------------------------------------------

    def keep(self) -> None:
        """Write what this process has imported and did not find here; whatever prevents it, it is done without."""
        missed = [name for name, module in list(sys.modules.items()) if _is_source(name, module)]
        if sys.dont_write_bytecode or all(name in _ALWAYS for name in missed):
            return
        if not os.access(os.path.dirname(self.path), os.W_OK):
            return
        beside = f"{self.path}.{os.getpid()}"
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "wb") as file:
                file.write(self._together(missed))
            os.rename(beside, self.path)
        except (OSError, ValueError, ImportError):
            try:
                os.unlink(beside)
            except OSError:
                pass

    def _together(self, missed: list[str]) -> bytes:
        codes: dict[str, tuple[tuple[str, int, int, bool], bytes, tuple[str, ...]]] = {}
        for name, (source, size, mtime, package, _, _, first) in self.entries.items():
            if name not in missed:
                codes[name] = (source, size, mtime, package), self.code(name), first
        for name in missed:
            module: Any = sys.modules[name]
            source = os.path.abspath(module.__spec__.origin)
            found = os.stat(source)  # before it is read, as Python does for a .pyc
            code = module.__spec__.loader.get_code(name)
            about = source, found.st_size, found.st_mtime_ns, hasattr(module, "__path__")
            codes[name] = about, marshal.dumps(code), _imported(source)

        table, at = {}, 0
        for name, (about, code, first) in codes.items():
            table[name] = (*about, at, len(code), tuple(each for each in first if each in codes))
            at += len(code)
        head = marshal.dumps(table)
        return b"".join((_MARK, len(head).to_bytes(4, "little"), head, *(code for _, code, _ in codes.values())))


_MODULE = type(sys)
# What is there before an archive can be used.
_ALWAYS = frozenset(("oci_tools", "oci_tools.bytecode"))


def _identity(fd: int) -> tuple[int, int]:
    found = posix.fstat(fd)
    return found.st_dev, found.st_ino


def _opened(path: str) -> int:
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return fcntl(fd, F_DUPFD_CLOEXEC, _HIGH)
    finally:
        posix.close(fd)


class _Kept(SourceFileLoader):
    """A module's loader as Python's own is, but for where its code comes from."""

    def __init__(self, name: str, source: str, code: "Any", first: "tuple[str, ...]", archive: Archive) -> None:
        super().__init__(name, source)
        self._code, self._first, self._archive = code, first, archive

    def get_code(self, fullname: str) -> "Any":
        return self._code

    def exec_module(self, module: "Any") -> None:
        for name in self._first:
            self._archive.load(name)
        exec(self._code, module.__dict__)


def _imported(source: str) -> "tuple[str, ...]":
    """What a source imports when it is executed, in order, as far as it does so unconditionally."""
    import ast

    found: list[str] = []
    with open(source, "rb") as file:
        for step in ast.parse(file.read()).body:
            if isinstance(step, ast.Import):
                found += [each.name for each in step.names]
            elif isinstance(step, ast.ImportFrom) and step.module and not step.level:
                found += [step.module, *(f"{step.module}.{each.name}" for each in step.names)]
    return tuple(dict.fromkeys(found))


def _is_source(name: str, module: "Any") -> bool:
    """Was it imported from a source of ours, or of Python's own library, in the usual way?"""
    spec = getattr(module, "__spec__", None)
    if spec is None or type(spec.loader) is not SourceFileLoader or spec.name != name:
        return False
    return name.partition(".")[0] in ("oci_tools", "struct", "__future__")
