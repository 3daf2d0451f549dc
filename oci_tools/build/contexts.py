"""Where a build's files and images come from: the context, named contexts, the store, a registry.

    context   a directory; `-`, an archive or a Dockerfile on standard input; a git or http URL
    named     --build-context NAME=that, or docker-image://REF, oci-layout://LAYOUT:TAG, IMAGE of a layout
    image     a name in the default store, else of its registry; a layout by its path
"""

from __future__ import annotations

import os
import sys

from oci_tools import compress
from oci_tools.build import calling, hashes, ignore, remote, texts
from oci_tools.build.picking import Origin
from oci_tools.bundle import Image
from oci_tools.errors import Error, Usage
from oci_tools.image import layout as layouts
from oci_tools.image import ref as refs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from oci_tools.build.place import Layer, Place
    from oci_tools.image.layout import Layout

DOCKERFILES = ("Dockerfile", "Containerfile", "dockerfile")


class Contexts:
    """The contexts of one build; trees are opened when they are asked for."""

    def __init__(self, place: Place, word: str, named: dict[str, str], call: calling.Call, pull: bool) -> None:
        import threading

        self.place = place
        self.word = word
        self.named = named
        self.dockerfile: bytes | None = None  # when it came instead of a context
        self.keep_git = False  # the .git of one that comes by git
        self._unpacked = False  # from an archive, whose files keep their owners
        self.directory: str | None = None
        self.remote: str | None = None  # the commit or digest of a context that was fetched
        self.made: int | None = None  # when that was made; times: of named ones
        self.times: dict[str, int | None] = {}
        self._call = call
        self._pull, self.alone, self._pulled = pull, False, set[tuple[str, str]]()  # alone: no registry is asked
        self._origins: dict[str, Origin] = {}
        self._images: dict[tuple[str, str], Image] = {}
        self._elsewhere: dict[str, Elsewhere] = {}  # by the layouts that stand for them
        self._lock = threading.RLock()
        self.ignorefile: str | None = None
        self.patterns: list[str] = []
        self.read_files: list[str] = []  # the Dockerfile, the ignore file; and images: name -> handle, for --depfile
        self.bases: dict[str, str] = {}

    # -- the context --------------------------------------------------------------------------

    def open(self) -> None:
        """Have the context as a directory; one that turns out to be a Dockerfile is that."""
        if self.word == "-":
            self._take(_stdin(), "standard input")
        elif repository := remote.git(self.word):
            self.remote = remote.commit_of(repository)
            self.directory = remote.check_out(repository, self.place.fresh("git"), self.keep_git)
            self.made = repository.made
        elif remote.is_url(self.word):
            path = self.place.fresh("context")
            self.remote, self.made, _ = remote.download(self.word, path)
            with open(path, "rb", buffering=0) as file:
                self._take(compress.read_pieces(file), self.word)
            if self.made is None and self.directory is not None:
                self.made = remote.newest(self.directory)
        else:
            if not os.path.isdir(self.word):
                why = "not a directory" if os.path.exists(self.word) else "no such file or directory"
                raise Error("cannot use context", self.word, why)
            self.directory = os.path.abspath(self.word)

    def _take(self, pieces: Iterator[bytes], subject: str) -> None:
        found = remote.plain(pieces, subject)
        head = b""
        for piece in found:
            head += piece
            if len(head) >= 512:
                break
        if not head:
            raise Error("cannot use context", subject, "it is empty")
        if remote.is_archive(head):
            path = self.place.fresh("context")
            remote.unpack(_chain(head, found), path, self.place.owner, subject)
            self.directory, self._unpacked = path, True
            return
        data = texts.joined(head, found, subject)
        if b"\0" in data:
            raise Error("cannot use context", subject, "it is neither an archive nor a Dockerfile")
        self.dockerfile = data

    def is_local(self) -> bool:
        """Whether the context is a directory of the host, whose files a make can depend on."""
        return self.directory is not None and self.directory == os.path.abspath(self.word)

    def read(self, file: str | None) -> tuple[bytes, str]:
        """The Dockerfile's text, and how it is called; finds the ignore file that goes with it."""
        if self.dockerfile is not None:
            return self.dockerfile, "Dockerfile"
        if file == "-":
            if self.word == "-":
                raise Usage("the context and the Dockerfile cannot both be standard input")
            self.ignore(None)
            return texts.joined(b"", _stdin(), "standard input"), "Dockerfile"
        if file and remote.is_url(file):
            path = self.place.fresh("dockerfile")
            remote.download(file, path)
            self.ignore(None)
            return texts.read(path), file
        path = self._find(file)
        self.ignore(path)
        if self.is_local() or (file and os.path.exists(file)):
            self.read_files.append(path)
        return texts.read(path, self.directory), os.path.relpath(path, self.directory) if file is None else file

    def _find(self, file: str | None) -> str:
        if file is not None and self.is_local():
            inside = os.path.join(str(self.directory), file)
            return file if os.path.exists(file) or not os.path.exists(inside) else inside
        if self.directory is None:
            raise Error("cannot read Dockerfile", file or "Dockerfile", "there is no context")
        names = [file] if file is not None else DOCKERFILES
        for name in names:
            if os.path.lexists(f"{self.directory}/{name}"):
                return f"{self.directory}/{name}"
        path = f"{self.word}/{names[0]}"
        raise Error("cannot read Dockerfile", path, "no such file or directory", "-f names another")

    def ignore(self, dockerfile: str | None) -> None:
        """Find the patterns of what is left out: those of the Dockerfile, else those of the context."""
        places = [self.ignorefile or f"{dockerfile}.dockerignore"] if self.ignorefile or dockerfile else []
        if self.directory is not None and not self.ignorefile:
            places += [f"{self.directory}/.dockerignore", f"{self.directory}/.containerignore"]
        for path in places:
            if texts.is_there(path, None if path == self.ignorefile else self.directory):
                if self.is_local():
                    self.read_files.append(path)
                self.patterns = texts.patterns(path, self.directory)
                return

    # -- trees ---------------------------------------------------------------------------------

    def origin(self, name: str = "") -> Origin:
        """The context, or a named one that is a tree."""
        with self._lock:
            if name not in self._origins:
                self._origins[name] = self._main() if not name else self._named(name, self.named[name])
            return self._origins[name]

    def _main(self) -> Origin:
        if self.directory is None:
            path = self.place.fresh("nothing")
            os.mkdir(path, 0o700)
            return self._tree(path, [], None)
        keep = f"{self.place.path}/hashes" if self.is_local() else None
        place = self.directory if self.is_local() else ""
        return self._tree(self.directory, self.patterns, keep, self._unpacked, place)

    def _named(self, name: str, word: str) -> Origin:
        if repository := remote.git(word):
            path = remote.check_out(repository, self.place.fresh("git"))
            self.times[name] = repository.made
            return self._tree(path, [], None)
        if remote.is_url(word):
            path, tree = self.place.fresh("context"), self.place.fresh("context")
            _, changed, _ = remote.download(word, path)
            with open(path, "rb", buffering=0) as file:
                remote.unpack(compress.read_pieces(file), tree, self.place.owner, word)
            self.times[name] = remote.newest(tree) if changed is None else changed
            return self._tree(tree, [], None, owners=True)
        self.times[name] = None
        if not os.path.isdir(word):
            raise Error(f"cannot use build context '{name}'", word, "no such directory")
        path = f"{word}/.dockerignore"
        patterns = texts.patterns(path, word) if texts.is_there(path, word) else []
        return self._tree(word, patterns, f"{self.place.path}/hashes", place=os.path.abspath(word))

    def _tree(
        self, path: str, patterns: list[str], keep: str | None, owners: bool = False, place: str = ""
    ) -> Origin:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Error("cannot use context", path, error) from None
        return Origin(fd, ignore.Patterns(patterns), hashes.Hashes(keep, path), owners, place)

    def is_tree(self, name: str) -> bool:
        """Whether a named context is a tree of files and no image."""
        return name in self.named and image_of(self.named[name]) is None

    def close(self) -> None:
        for origin in self._origins.values():
            origin.hashes.save()
            os.close(origin.fd)
        self._origins.clear()

    # -- images --------------------------------------------------------------------------------

    def image(self, name: str, platform: str | None, say: Callable[[str], None]) -> Image:
        """An image by the name that a Dockerfile gives it."""
        with self._lock:
            if (name, platform or "") not in self._images:
                self._images[name, platform or ""] = self._image(name, platform, say)
            return self._images[name, platform or ""]

    def known(self, name: str, platform: str | None) -> dict[str, Any] | None:
        """The configuration of an image that is here already; None where it is not."""
        word = image_of(self.named[name.lower()]) if name.lower() in self.named else name
        try:
            at = refs.locate(word or "")
            layout = layouts.at(at) if at.kind == "layout" else layouts.store()
            return Image(layout, layout.find(at.name if at.kind == "layout" else str(at.ref or word)), platform).config
        except Error:
            return None

    def _image(self, name: str, platform: str | None, say: Callable[[str], None]) -> Image:
        word = name
        if name in self.named:
            word = image_of(self.named[name]) or ""
            if not word:
                raise Error(f"build context '{name}' is no image", self.named[name])
        at = refs.locate(word)
        if at.kind == "layout":
            found = Image(layouts.at(at), layouts.at(at).find(at.name), platform, at.name)
        elif at.kind in ("oci-archive", "docker-archive", "dir"):
            raise Error("cannot build on an archive", word, hint="oci-image load puts it into the store")
        else:
            found = self._stored(word, at, platform, say)
        where = layouts.store().path if found.layout.path in self._elsewhere else found.layout.path
        self.bases[name] = f"{where}@{found.descriptor['digest']}"
        return found

    def layers(self, image: Image) -> list[Layer]:
        """The layers of an image; of one that a registry has they come when somebody needs one."""
        from oci_tools.build.place import Layer

        elsewhere = self._elsewhere.get(image.layout.path)
        bring = elsewhere.bring if elsewhere else None
        pairs = zip(image.layers, image.diff_ids, strict=True)
        return [Layer(layer, diff_id, image.layout, bring) for layer, diff_id in pairs]

    def _stored(self, word: str, at: refs.Place, platform: str | None, say: Callable[[str], None]) -> Image:
        ref = str(at.ref) if at.ref else word
        key = (ref, platform or "")
        ask = (self._pull and key not in self._pulled) or (at.kind == "registry" and not self.alone)
        if at.ref is not None and ask:
            self._pulled.add(key)
            return self._in_registry(ref, platform, say)
        try:
            return self._in_store(ref, platform)
        except Error:
            if at.ref is None or key in self._pulled or self.alone:
                raise
        return self._in_registry(ref, platform, say)

    def _in_store(self, ref: str, platform: str | None) -> Image:
        layout: Layout = layouts.store()
        found = Image(layout, layout.find(ref), platform, ref)
        for part in (found.manifest["config"], *found.layers):
            if not layout.has(part):
                raise Error("missing blob", part["digest"])
        return found

    def _in_registry(self, ref: str, platform: str | None, say: Callable[[str], None]) -> Image:
        """What a registry says of an image; layers that are not in the store are there until they are needed."""
        say(f"resolving {ref}")
        elsewhere = Elsewhere(self._call, ref, platform, self.place.fresh("image"), say)
        found = elsewhere.image()
        try:
            stored = self._in_store(ref, platform)
            if stored.descriptor["digest"] == found.descriptor["digest"]:
                return stored
        except Error:
            pass
        self._elsewhere[found.layout.path] = elsewhere
        return found


class Elsewhere:
    """An image in a registry of which only manifest and configuration are here, in the layout `path`."""

    def __init__(
        self, call: calling.Call, ref: str, platform: str | None, path: str, say: Callable[[str], None]
    ) -> None:
        import threading

        self._pull = ["pull", "--progress", "none", *(["--platform", platform] if platform else [])]
        self._call = call
        self._ref = ref
        self._platform = platform
        self._path = path
        self._digest = ""
        self._say = say
        self._lock = threading.Lock()

    def image(self) -> Image:
        calling.output(self._call, [*self._pull, "--only", "config", self._ref, f"{self._path}:image"])
        layout = layouts.Layout.open(self._path)
        found = Image(layout, layout.find("image"), self._platform, self._ref)
        self._digest = found.descriptor["digest"]
        return found

    def bring(self, layers: list[Layer]) -> None:
        """Pull it into the store, with its name."""
        with self._lock:
            store = layouts.store()
            if not all(store.has(layer.descriptor) for layer in layers):
                self._say(f"pulling {self._ref}")
                calling.output(self._call, [*self._pull, self._ref])
            if not all(store.has(layer.descriptor) for layer in layers):  # the name is another image's by now
                calling.output(self._call, [*self._pull, f"{refs.Ref.parse(self._ref).name}@{self._digest}"])
            for layer in layers:
                layer.layout = store


def image_of(word: str) -> str | None:
    """The image that a named context means; None for a tree."""
    if word.startswith("docker-image://"):
        return word.removeprefix("docker-image://")
    if word.startswith("oci-layout://"):
        path = word.removeprefix("oci-layout://")
        return path if path.startswith(("/", "./", "../")) else f"./{path}"
    if word.startswith("oci:"):
        return word
    if word.startswith(("/", "./", "../")) and not os.path.isdir(word) and not remote.git(word):
        return word
    if os.path.isfile(f"{word}/oci-layout"):
        return word if word.startswith(("/", "./", "../")) else f"./{word}"
    return None


def _stdin() -> Iterator[bytes]:
    if sys.stdin.isatty():
        raise Usage("standard input is a terminal", hint="a context or a Dockerfile is read from it")
    while data := os.read(0, 1 << 18):
        yield data


def _chain(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from pieces
