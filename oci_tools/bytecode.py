"""What a command imports, kept in one file: a third of its start is Python's looking for fifty modules.

Python finds each module in a directory's list, opens its .pyc, and checks it against the source.  Here the modules that
a verb was seen to need lie in one piece beside the .pyc files, to be believed as those are: an entry counts as
long as its source has the size and time that it had.  In one piece a name that fifty modules use is read once.
Whoever may write there writes it when a command ends that missed something; who may not starts as Python does.

    __pycache__/COMMAND.cpython-313.archive
        Python's magic number, this form's, and the length of what comes next: 4, 1 and 4 bytes
        marshal of {verb ("" where there is none): (offset, length)}
        for each verb, from where the offsets count, marshal of
            {module's name: (source, size, mtime_ns, is package, modules that it imports first, code)}
            code is what its first run needed; of what a later one needed, bytes of marshal: most do without
"""

import sys

from oci_tools import abstract  # noqa: F401 (before `os`)

# isort: split
import _signal
import _thread
import gc
import marshal
import os
import posix
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Entry = tuple[str, int, int, bool, tuple[str, ...], Any]

_MARK = MAGIC_NUMBER + b"3"
_FEW = 20_000  # objects that a short command makes: it ends before the collector would look at them
_MODULE: "Any" = type(sys)
_LONGEST = 1 << 16  # bytes of a table
_ALWAYS = frozenset(("oci_tools", "oci_tools.abstract", "oci_tools.bytecode"))  # there before an archive can be used
_TOP = os.path.dirname(os.path.realpath(__file__))


def launch(name: str) -> None:
    """The end of every file in `bin/`: run `oci_tools.cmd.NAME`, its modules from its archive, and end the process."""
    gc.set_threshold(_FEW, *gc.get_threshold()[1:])
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_streams()
    archive = Archive(name)
    archive.use(sys.argv[1:])
    from oci_tools import cli

    try:
        if _signal.getsignal(_signal.SIGINT) == _signal.SIG_DFL:  # as the lines before left it, if nobody ignores it
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        cli.launch(name, archive)
    except KeyboardInterrupt:
        os._exit(130)


def _open_streams() -> None:
    """Streams that the caller has closed are /dev/null, as for peers; or the next file we open would be one of them."""
    while (fd := posix.open("/dev/null", posix.O_RDWR)) < 3:
        posix.set_inheritable(fd, True)
    posix.close(fd)
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, "w" if fd else "r", closefd=False))


class Archive:
    """The modules of one command; a finder of `sys.meta_path`."""

    def __init__(self, command: str) -> None:
        self.path = f"{_TOP}/__pycache__/{command}.{sys.implementation.cache_tag}.archive"
        self.verb: str | None = None  # whose modules these are
        self.entries: dict[str, Entry] = {}
        self._missed = False

    def use(self, words: "list[str]") -> None:
        """Find modules here first, if there are any for what these words seem to say."""
        try:
            for verb, group in _read(self.path, lambda known: _verb(known, words)).items():
                self.verb, self.entries = verb, _loaded(group)
        except (OSError, ValueError, EOFError, TypeError):
            pass  # there is none, or it is no archive: Python finds the modules
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        entry = self.entries.pop(name, None)
        if entry is None or not _is_valid(name, entry):
            self._missed = self._missed or _is_kept(name)
            return None
        source, _, _, package, first, code = entry
        if type(code) is bytes:
            code = marshal.loads(code)
        spec = ModuleSpec(name, _Kept(name, source, code, first, self), origin=source, is_package=package)
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
        module = _MODULE(name)
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

    def keep(self, verb: str) -> None:
        """Write what this process has imported and did not find here; whatever prevents it, it is done without."""
        if not self._missed or sys.dont_write_bytecode or not os.access(os.path.dirname(self.path), os.W_OK):
            return
        beside = f"{self.path}.{os.getpid()}"
        try:
            groups = self._groups()
            if verb in groups and verb != self.verb:
                return  # only the words were misread
            groups[verb] = marshal.dumps(_imported(_loaded(groups.get(verb, b""))))
            table, at = {}, 0
            for each, group in groups.items():
                table[each] = at, len(group)
                at += len(group)
            head = marshal.dumps(table)
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644), "wb") as file:
                file.write(b"".join((_MARK, len(head).to_bytes(4, "little"), head, *groups.values())))
            os.rename(beside, self.path)
        except (OSError, ValueError, EOFError, TypeError, ImportError):
            try:
                os.unlink(beside)
            except OSError:
                pass

    def _groups(self) -> dict[str, bytes]:
        """What the file has by now of each verb."""
        try:
            return _read(self.path, list)
        except (FileNotFoundError, ValueError, EOFError, TypeError):
            return {}


def _imported(known: "dict[str, Entry]") -> "dict[str, Entry]":
    """The entries of a verb, as far as they are valid, with what this process has imported."""
    found = {name: entry for name, entry in known.items() if _is_valid(name, entry)}
    for name, module in list(sys.modules.items()):
        if name in found or not _is_source(name, module):
            continue
        spec: Any = module.__spec__
        source = os.path.abspath(spec.origin)
        status = os.stat(source)  # before it is read, as Python does for a .pyc
        first, code = _compiled(source)
        about = source, status.st_size, status.st_mtime_ns, hasattr(module, "__path__")
        late = known and (name not in known or type(known[name][5]) is bytes)
        found[name] = *about, first, marshal.dumps(code) if late else code
    for name, (source, size, time, package, first, code) in found.items():
        found[name] = source, size, time, package, tuple(each for each in first if each in found), code
    return found


def _read(path: str, choose: "Callable[[dict[str, tuple[int, int]]], list[str]]") -> "dict[str, bytes]":
    """The modules of the verbs that are chosen from those that an archive has; ValueError: it is none."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        head = posix.pread(fd, 4096, 0)
        start = 9 + int.from_bytes(head[5:9], "little")
        if head[:5] != _MARK or start > _LONGEST:
            raise ValueError("not an archive of this Python")
        if start > len(head):
            head += posix.pread(fd, start - len(head), len(head))
        table = marshal.loads(memoryview(head)[9:start])
        return {verb: posix.pread(fd, table[verb][1], start + table[verb][0]) for verb in choose(table)}
    finally:
        posix.close(fd)


def _loaded(group: bytes) -> "dict[str, Entry]":
    try:
        entries: dict[str, Entry] = marshal.loads(group)
        return entries
    except (ValueError, EOFError, TypeError):
        return {}  # there is none yet, or it was cut off: it is made anew


def _verb(known: "dict[str, tuple[int, int]]", words: "list[str]") -> "list[str]":
    """The verb, so far as it shows without knowing which options take a value; a wrong one costs time."""
    said = words[:1] if words and words[0][:1] != "-" else words
    return [word for word in (*said, "") if word in known][:1]


def _is_valid(name: str, entry: "Entry") -> bool:
    source = entry[0]
    if not source.startswith(f"{_TOP}/") and name.startswith("oci_tools"):
        return False  # this is a copy of another checkout, with its times
    try:
        found = posix.stat(source)
    except OSError:
        return False
    return found.st_size == entry[1] and found.st_mtime_ns == entry[2]


class _Kept(SourceFileLoader):
    """A module's loader as Python's own is, but for where its code comes from."""

    def __init__(self, name: str, source: str, code: "Any", first: "tuple[str, ...]", archive: Archive) -> None:
        super().__init__(name, source)
        self._code, self._first, self._archive = code, first, archive

    def get_code(self, fullname: str) -> "Any":
        return self._code or super().get_code(fullname)

    def exec_module(self, module: "Any") -> None:
        for name in self._first:
            self._archive.load(name)
        exec(self._code, module.__dict__)
        self._code = None  # it was for this once


def _compiled(source: str) -> "tuple[tuple[str, ...], Any]":
    """What a source imports when it is executed, in order, as far as it does so unconditionally; and its code.

    That is without what people read of functions, docstrings and annotations, and with the language's future as a flag.
    """
    import __future__

    import ast

    with open(source, "rb") as file:
        tree = ast.parse(file.read())
    flags = 0
    for future in [step for step in tree.body if isinstance(step, ast.ImportFrom) and step.module == "__future__"]:
        tree.body.remove(future)
        flags |= sum(getattr(__future__, each.name).compiler_flag for each in future.names)
    first: list[str] = []
    for step in tree.body:
        if isinstance(step, ast.Import):
            first += [each.name for each in step.names]
        elif isinstance(step, ast.ImportFrom) and step.module and not step.level:
            first += [step.module, *(f"{step.module}.{each.name}" for each in step.names)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.copy_location(ast.Pass(), node)]
        elif isinstance(node, ast.arg):
            node.annotation = None
    return tuple(dict.fromkeys(first)), compile(tree, source, "exec", flags, dont_inherit=True)


def _is_kept(name: str) -> bool:
    """Of ours, or of Python's own library what is used everywhere?"""
    return name.partition(".")[0] in ("oci_tools", "struct")


def _is_source(name: str, module: "Any") -> bool:
    """Was it imported from a source, in the usual way or from here?"""
    spec = getattr(module, "__spec__", None)
    if spec is None or type(spec.loader) not in (SourceFileLoader, _Kept) or spec.name != name:
        return False
    return _is_kept(name) and name not in _ALWAYS
