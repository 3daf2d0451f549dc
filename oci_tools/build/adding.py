"""COPY and ADD: from the context, a stage, an image, a named context, here-documents; and for ADD by http and git."""

from __future__ import annotations

import os

from oci_tools.build import chmod, copying, hashes, ignore, picking, remote
from oci_tools.build.copying import Target
from oci_tools.build.picking import Origin, Pick
from oci_tools.build.position import Wrong
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.build.instructions import Instruction
    from oci_tools.build.lines import Heredoc
    from oci_tools.build.listing import Listing
    from oci_tools.build.picking import Tell
    from oci_tools.build.progress import Step
    from oci_tools.build.stages import Building
    from oci_tools.bundle.step import Packed, Root

    Put = Callable[[Target], None]

FILE_MODE = 0o600  # of what comes by http
UNNAMED = "__unnamed__"  # what has no name in its URL, as BuildKit calls it
LARGEST = 512  # bytes that tell an archive


class Source:
    """One thing to add: what stands for it in the cache's key, how it is put into a root; `tree`: it is a directory."""

    def __init__(self, said: object, put: Put, tree: Pick | None = None) -> None:
        self.said = said
        self.put = put
        self.tree = tree


class Adding:
    """One COPY or ADD, its words with their variables."""

    def __init__(self, stage: Building, one: Instruction) -> None:
        self.stage = stage
        self.one = one
        expand = stage.expander(one)
        flags = one.flags
        self.sources = [expand(word) for word in one.sources]
        self.contents = [(heredoc.name, self._content(heredoc)) for heredoc in one.contents]
        self.dest = expand(one.dest)
        self.chown = expand(flags["chown"]) if flags["chown"] is not None else ""
        self.chmod = expand(flags["chmod"]) if flags["chmod"] is not None else ""
        self.checksum = expand(flags["checksum"]) if flags.get("checksum") else None
        self.parents = bool(flags.get("parents"))
        self.link = bool(flags["link"])
        self.patterns = [expand(word) for word in flags["exclude"]]
        self.exclude = self._patterns()
        self.modes = chmod.modes(self.chmod) if self.chmod else None
        if self.chmod and self.modes is None:
            raise one.wrong(f'invalid chmod parameter: "{self.chmod}"', self.chmod, "it is octal, or like u=rwX,go=rX")
        self.path = self._path()

    def _patterns(self) -> ignore.Patterns | None:
        try:
            return ignore.Patterns(self.patterns) if self.patterns else None
        except Error as error:
            raise self.one.wrong(str(error), str(error.subject)) from None

    def _content(self, heredoc: Heredoc) -> bytes:
        text = heredoc.chomped()
        if heredoc.expand:
            text = self.stage.scope.expand(self.one, text, self.stage.result.settings.env, raw=True)
        return text.encode("utf-8", "surrogateescape")

    def _path(self) -> str:
        """The destination, absolute; with a slash at its end if it is a directory by what is written."""
        settings = self.stage.result.settings
        workdir = "/" if self.link and not self.dest.startswith("/") and not settings.workdir else settings.workdir
        path = os.path.normpath(os.path.join("/", workdir, self.dest))
        path = "/" + path.lstrip("/")
        if self.dest in (".", "") or self.dest.endswith(("/", "/.", "/..")) or self.dest == "..":
            return path.rstrip("/") + "/"
        return path

    # -- where from ----------------------------------------------------------------------------

    def origin(self) -> tuple[Origin, str | None]:
        """The tree that files come from, and what it is if that is known without looking into it."""
        shared = self.stage.shared
        name = self.one.flags.get("from")
        if not name:
            return shared.contexts.origin(), None
        return origin_of(self.stage, self.one, name)

    def all(self, origin: Origin | None, tell: Tell) -> list[Source]:
        """The sources, found."""
        found = []
        for word in self.sources:
            try:
                found += self._of_word(word, origin, tell)
            except Wrong:
                raise
            except Error as error:
                raise self.one.wrong(str(error), word).with_code(error.code) from None
        for name, data in self.contents:
            found.append(Source(("text", name, hashes.short(data)), self._writer(name, data, 0o644)))
        return found

    def _of_word(self, word: str, origin: Origin | None, tell: Tell) -> list[Source]:
        if repository := self._repository(word):
            return [self._git(repository)]
        if remote.is_url(word):
            if self.one.name == "COPY":
                raise self.one.wrong("source can't be a URL for COPY", word, "ADD can")
            return [self._http(word)]
        if self.checksum:
            raise self.one.wrong("checksum can't be specified for non-HTTP(S) & non-Git sources", word)
        assert origin is not None
        return self._local(origin, word, tell)

    def _repository(self, word: str) -> remote.Git | None:
        """What a word means that is a git URL; as one of others is where it is said what becomes of .git."""
        return remote.git(word, self.one.flags["keep_git_dir"] is not None) if self.one.name == "ADD" else None

    def _local(self, origin: Origin, word: str, tell: Tell) -> list[Source]:
        picks = picking.pick(origin, word, self.parents, self.exclude)
        unpacking = self.one.name == "ADD" and self.one.flags["unpack"] is not False
        found: list[Source] = []
        for pick in picks:
            said = picking.digest(origin, [pick], self.exclude, tell)
            if unpacking and not pick.is_directory() and _is_archive(origin, pick):
                found.append(Source(("archive", said), self._unpacker(origin, pick)))
            else:
                tree = pick if pick.is_directory() and not self.parents else None
                found.append(Source(("files", said), self._copier(origin, pick), tree))
        return found

    def _copier(self, origin: Origin, pick: Pick) -> Put:
        return lambda into: copying.copy(origin, [pick], self.path, into, self.exclude)

    def _writer(self, name: str, data: bytes, mode: int) -> Put:
        return lambda into: copying.write(name, [data], self.path, into, mode)

    def _unpacker(self, origin: Origin, pick: Pick) -> Put:
        def put(into: Target) -> None:
            fd = os.open(f"/proc/self/fd/{origin.fd}/{pick.path}", os.O_RDONLY | os.O_CLOEXEC)
            self._unpack(fd, pick.name, into)

        return put

    def _unpack(self, fd: int, name: str, into: Target) -> None:
        from oci_tools import compress

        tree = self.stage.shared.place.fresh("archive")
        with open(fd, "rb", buffering=0) as file:
            remote.unpack(compress.read_pieces(file), tree, self.stage.shared.place.owner, name)
        self._tree(tree, True, into)

    def _tree(self, tree: str, owners: bool, into: Target) -> None:
        """Put all of a directory there; of an archive as it has it, save that --chown is for that too."""
        fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            whole = Origin(fd, owners=owners)
            path = self.path.rstrip("/") + "/"
            if owners:
                os.close(into.directory(path))
                into = Target(into.fd, into.owner, None, into.time, into.single, True)
            copying.copy(whole, picking.pick(whole, "/"), path, into, self.exclude)
        finally:
            os.close(fd)

    def _git(self, repository: remote.Git) -> Source:
        keep = repository.keep if self.one.flags["keep_git_dir"] is None else bool(self.one.flags["keep_git_dir"])
        if self.checksum and not remote.HEX.match(self.checksum):
            what = f"invalid checksum {self.checksum}, expected hex commit hash"
            raise self.one.wrong(what, self.one.flags["checksum"])
        commit = remote.commit_of(repository)
        if self.checksum and not commit.startswith(self.checksum):
            said = self.one.flags["checksum"]
            raise self.one.wrong(f"expected checksum to match {self.checksum}, got {commit}", said)

        def put(into: Target) -> None:
            repository.keep = keep
            tree = remote.check_out(repository, self.stage.shared.place.fresh("git"))
            self._tree(tree, False, into)

        return Source(("git", commit, repository.directory, keep), put)

    def _http(self, url: str) -> Source:
        place = self.stage.shared.place
        path = place.fresh("download")
        digest, changed, name = remote.download(url, path, self.checksum)
        name = name or UNNAMED
        time = changed if changed is not None else self.stage.options.epoch

        def put(into: Target) -> None:
            if self.one.flags["unpack"]:
                return self._unpack(os.open(path, os.O_RDONLY | os.O_CLOEXEC), url, into)
            dated = Target(into.fd, into.owner, into.mode, into.time, into.single)
            if dated.time is None and time is not None:
                dated.time = time * 1_000_000_000
            with open(path, "rb", buffering=0) as file:
                copying.write(name, iter(lambda: file.read(1 << 18), b""), self.path, dated, FILE_MODE)

        return Source(("http", digest, name, changed, bool(self.one.flags["unpack"])), put)

    # -- the step --------------------------------------------------------------------------------

    def parts(self) -> dict[str, Any]:
        return {
            "do": self.one.name, "dest": self.path, "chown": self.chown, "chmod": self.chmod, "link": self.link,
            "parents": self.parents, "exclude": tuple(self.patterns),
        }  # fmt: skip

    def target(self, root: Root) -> Target:
        return Target(root.mount(), self.owner(root), self.modes, None, self.stage.single())

    def owner(self, root: Root) -> tuple[int, int] | None:
        """Whose the files are; None: as they have it."""
        names = root  # what is linked lies on nothing; who is who, the image below knows
        if self.link and not _numeric(self.chown):
            names = self.stage.shared.place.view(self.stage.result.layers)
        try:
            return names.owner(self.chown) if self.chown else None
        except Error as error:
            raise self.one.wrong(str(error), self.chown) from None

    def text(self) -> str:
        flags = [f"--from={self.one.flags['from']}"] if self.one.flags.get("from") else []
        flags += [f"--{name}={value}" for name, value in (("chown", self.chown), ("chmod", self.chmod)) if value]
        words = [*flags, *self.sources, *(f"<<{name}" for name, _ in self.contents), self.dest]
        return f"{self.one.name} {' '.join(words)}"


def add(stage: Building, one: Instruction) -> None:
    """Do a COPY or an ADD."""
    work = Adding(stage, one)
    text = work.text()
    found: list[Source] = []
    origin, identity = work.origin() if work.sources else (None, None)

    def content(files: Listing) -> dict[str, Any]:
        found[:] = work.all(origin, stage.shared.teller(origin, files) if origin is not None else files.add)
        return {"content": tuple(source.said for source in found)} | ({"files": files.digest()} if files else {})

    def act(root: Root, step: Step) -> Packed | None:
        if (one_tree := _only_tree(found)) and stage.is_last(one) and not stage.single() and origin is not None:
            from oci_tools.build import straight

            way = straight.way_to(root, work.path)
            if way is not None:
                owner = work.owner(root)
                return straight.copy(work, origin, one_tree, root, Target(-1, owner, work.modes), way)
        into = work.target(root)
        for source in found:
            source.put(into)
        return None

    quick = None
    if identity is not None and not any(remote.git(word) or remote.is_url(word) for word in work.sources):
        texts = tuple((name, hashes.short(data)) for name, data in work.contents)
        quick = {"from": identity, "sources": tuple(work.sources), "contents": texts}
    stage.step(one, text, work.parts(), act, said=text, content=content, quick=quick, alone=work.link)


def _only_tree(found: list[Source]) -> Pick | None:
    """The directory that is all there is to copy."""
    return found[0].tree if len(found) == 1 else None


def _numeric(text: str) -> bool:
    return all(part.isdigit() for part in text.split(":"))


def origin_of(stage: Building, one: Instruction, name: str) -> tuple[Origin, str | None]:
    """The tree of a stage, an image or a named context, and what it is if that is known."""
    shared = stage.shared
    if shared.contexts.is_tree(name.lower()):
        return shared.contexts.origin(name.lower()), None
    other = shared.graph.find(name)
    if other is not None:
        if other is stage.stage:
            raise one.wrong(f"circular dependency detected on stage: {name}", name)
        result = shared.result(other)
        layers, identity = result.layers, result.identity()
    elif name == "scratch":
        raise one.wrong('"scratch" has no files to take', name)
    else:
        named = name.lower() in shared.contexts.named
        try:
            image = shared.contexts.image(name.lower() if named else name, stage.platform or None, shared.progress.say)
        except Error as error:
            raise one.wrong(f"{name}: {error}", name).with_code(error.code) from None
        layers = shared.contexts.layers(image)
        identity = hashes.digest_of(tuple(image.diff_ids))
    return Origin(lambda: shared.place.view(layers).mount()), identity


def _is_archive(origin: Origin, pick: Pick) -> bool:
    from oci_tools import compress

    try:
        with open(f"/proc/self/fd/{origin.fd}/{pick.path}", "rb", buffering=0) as file:
            if not os.path.isfile(f"/proc/self/fd/{file.fileno()}"):
                return False
            head = b""
            for piece in remote.plain(compress.read_pieces(file), pick.path):
                head += piece
                if len(head) >= LARGEST:
                    break
            return remote.is_archive(head)
    except (Error, OSError):
        return False
