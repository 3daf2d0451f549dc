"""What comes from elsewhere: files by http, trees by git, archives unpacked.

Git is the program; it is given no way to ask for a password, no hooks, and no protocol that runs commands.
"""

from __future__ import annotations

import os
import re

from oci_tools import compress, fs
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.build.place import Place

LARGEST = 1 << 40  # bytes of a download
HEX = re.compile(r"[0-9a-f]{7,64}\Z")


# -- git -------------------------------------------------------------------------------------------


class Git:
    """A repository and what is meant in it.

    ref         a branch, tag or commit ("" for its head)
    directory   of it ("" for all)
    checksum    the commit that it must be, or how its name begins ("" for any)
    keep        whether .git stays, where the words of an instruction do not say
    submodules  whether they are fetched
    made        when its commit was made, once it was checked out
    """

    def __init__(self, url: str, ref: str, directory: str, text: str) -> None:
        self.url = url
        self.ref = ref
        self.directory = directory
        self.text = text
        self.checksum = ""
        self.keep = False
        self.submodules = True
        self.made: int | None = None


def git(text: str, sure: bool = False) -> Git | None:
    """The repository that a word means; None if it is no git URL.

    git://, ssh://, USER@HOST:PATH, github.com/..., http(s)://....git, or any URL where it is sure; `#REF:DIRECTORY`
    behind it, or in a query ref=, tag=, branch=, commit= or checksum=, subdir=, keep-git-dir=, submodules=.
    """
    url, _, fragment = text.partition("#")
    url, _, query = url.partition("?")
    if url.startswith("github.com/"):
        url = f"https://{url}"
    elif not url.startswith(("git://", "ssh://")) and not re.match(r"[\w-]+@[\w.-]+:", url) and not (
        is_url(url) and (sure or url.endswith(".git"))
    ):
        return None
    ref, _, directory = fragment.partition(":")
    made = Git(url, ref, directory, text)
    _query(made, query)
    if made.ref.startswith("-") or made.directory.startswith("-") or made.checksum.startswith("-"):
        raise Usage("invalid git URL", text)
    made.directory = made.directory.strip("/")
    return made


def _query(made: Git, query: str) -> None:
    """What the query of a URL says more; it must not say otherwise than the fragment."""
    from urllib.parse import unquote

    said: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        if name not in _QUERIES:
            raise Usage(f"unexpected query '{name}' in git URL", made.text, hint=", ".join(_QUERIES))
        if name in said:
            raise Usage(f"query '{name}' has multiple values", made.text)
        if not value and name not in _SWITCHES:
            raise Usage(f"query '{name}' has no value", made.text)
        said[name] = unquote(value)
    if "tag" in said and "branch" in said:
        raise Usage("branch conflicts with tag", made.text)
    for name, prefix in (("ref", ""), ("tag", "refs/tags/"), ("branch", "refs/heads/")):
        if name in said:
            ref = prefix + said[name].removeprefix(prefix)
            if made.ref not in ("", ref):
                raise Usage(f'ref conflicts: "{made.ref}" vs "{ref}"', made.text)
            made.ref = ref
    if made.directory and said.get("subdir", made.directory) != made.directory:
        raise Usage(f'subdir conflicts: "{made.directory}" vs "{said["subdir"]}"', made.text)
    made.directory = made.directory or said.get("subdir", "")
    made.checksum = said.get("commit", said.get("checksum", ""))
    made.ref = made.ref or made.checksum
    for name in _SWITCHES:
        if said.get(name, "").lower() not in ("", "0", "1", "t", "f", "true", "false"):
            raise Usage(f"invalid {name} value", said[name])
    made.keep = said.get("keep-git-dir", "false").lower() in ("", "1", "t", "true")
    made.submodules = said.get("submodules", "true").lower() in ("", "1", "t", "true")


_SWITCHES = ("keep-git-dir", "submodules")
_QUERIES = ("ref", "tag", "branch", "commit", "checksum", "subdir", *_SWITCHES)


def commit_of(repository: Git) -> str:
    """The commit that is meant, without fetching it; a commit's own name is taken as it is."""
    commit, tag = _meant(repository)
    if not (commit.startswith(repository.checksum) or (tag and tag.startswith(repository.checksum))):
        raise Error(f"expected checksum to match {repository.checksum}, got {commit}", repository.text)
    return commit


def _meant(repository: Git) -> tuple[str, str]:
    """A commit, and the tag's own object if it was meant by one that has it."""
    if HEX.match(repository.ref) and len(repository.ref) in (40, 64):
        return repository.ref, ""
    said = _git(["ls-remote", "--", repository.url], None, repository)
    lines = [line.partition("\t") for line in said.splitlines()]
    refs = {name: commit for commit, _, name in lines}
    ref = repository.ref or "HEAD"
    for name in (f"refs/tags/{ref}", f"refs/heads/{ref}", ref):
        if name in refs:
            return refs.get(f"{name}^{{}}", refs[name]), refs[name]
    found = {commit for commit in refs.values() if HEX.match(ref) and commit.startswith(ref)}
    if len(found) == 1:
        return found.pop(), ""
    if HEX.match(ref):
        return ref, ""
    raise Error(f"repository does not contain ref {ref}", repository.text)


def check_out(repository: Git, into: str, keep_git: bool = False) -> str:
    """Have the tree of a commit in a new directory; the path of the part that is meant."""
    commit = commit_of(repository)
    os.mkdir(into, 0o700)
    _git(["init", "-q", *(["--object-format=sha256"] if len(commit) == 64 else []), "."], into, repository)
    _git(["remote", "add", "origin", "--", repository.url], into, repository)
    try:
        _git(["fetch", "-q", "--depth=1", "--no-tags", "origin", commit], into, repository)
    except Error:  # a server that gives no commit by its name: all of it, or the ref
        named = repository.ref and not HEX.match(repository.ref)
        wanted = repository.ref if named else "+refs/heads/*:refs/remotes/origin/*"
        _git(["fetch", "-q", "--tags", "origin", wanted], into, repository)
    _git(["-c", "advice.detachedHead=false", "checkout", "-q", "--detach", commit], into, repository)
    repository.made = int(_git(["log", "-1", "--format=%ct"], into, repository))
    if os.path.exists(f"{into}/.gitmodules") and repository.submodules:
        _git(["submodule", "update", "-q", "--init", "--recursive", "--depth=1"], into, repository)
    _settle(into)
    if not (keep_git or repository.keep):
        fs.remove_tree(f"{into}/.git")
    if not repository.directory:
        return into
    fd = os.open(into, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = fs.open_beneath(fd, repository.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return os.readlink(f"/proc/self/fd/{found}")
        finally:
            os.close(found)
    except OSError as error:
        raise Error("no such directory in the repository", repository.directory, error) from None
    finally:
        os.close(fd)


def _settle(top: str) -> None:
    """Modes that do not depend on a umask: 644, and 755 for directories and what is executable."""
    for directory, names, files in os.walk(top):
        for name in names:
            if not os.path.islink(f"{directory}/{name}"):
                os.chmod(f"{directory}/{name}", 0o755)
        for name in files:
            path = f"{directory}/{name}"
            if not os.path.islink(path):
                os.chmod(path, 0o755 if os.stat(path).st_mode & 0o100 else 0o644)


def _git(words: list[str], cwd: str | None, repository: Git) -> str:
    import subprocess

    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env.update(
        GIT_TERMINAL_PROMPT="0", GIT_ALLOW_PROTOCOL="http:https:git:ssh", GIT_CONFIG_NOSYSTEM="1", LC_ALL="C.UTF-8",
        GIT_CONFIG_GLOBAL="/dev/null", GIT_LFS_SKIP_SMUDGE="1",
    )  # fmt: skip
    env.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    try:
        done = subprocess.run(
            ["git", "-c", "core.hooksPath=/dev/null", *words], cwd=cwd, env=env, stdin=subprocess.DEVNULL,
            capture_output=True,
        )  # fmt: skip
    except OSError as error:
        raise Error("cannot run git", None, error, "apt install git") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().split("\n")
        said = next((line for line in lines if line.startswith(("fatal:", "error:", "remote:"))), lines[-1])
        raise Error("cannot fetch", repository.text, said.partition(": ")[2] or said)
    return done.stdout.decode("utf-8", "replace")


# -- http --------------------------------------------------------------------------------------------


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def download(url: str, path: str, checksum: str | None = None) -> tuple[str, int | None, str]:
    """Get a file; its digest, when it changed last (seconds) if the server says, and its name."""
    from oci_tools import fetch
    from oci_tools.image import digest as digests

    algorithm = digests.check(checksum)[0] if checksum else "sha256"
    hasher = digests.new(algorithm)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with fetch.Client() as client, client.request("GET", url) as answer:
            if answer.status != 200:
                raise Error("cannot fetch", fetch.shown(url), f"the server answered {answer.status}")
            size = 0
            while data := answer.read():
                hasher.update(data)
                size += len(data)
                if size > LARGEST:
                    raise Error("cannot fetch", fetch.shown(url), f"larger than {LARGEST} bytes")
                fs.write_all(fd, data)
            changed = _date(answer.header("Last-Modified"))
            name = _name(answer.header("Content-Disposition"), url)
    except OSError as error:
        raise Error("cannot write", path, error) from None
    finally:
        os.close(fd)
    found = f"{algorithm}:{hasher.hexdigest()}"
    if checksum and found != checksum:
        raise Error(f"digest mismatch {found}: {checksum}", fetch.shown(url))
    return found, changed, name


def made(word: str, place: Place) -> int | None:
    """When what a git or http URL gives was made: its commit, Last-Modified, else the newest file of an archive."""
    if repository := git(word):
        check_out(repository, place.fresh("git"))
        return repository.made
    path, tree = place.fresh("download"), place.fresh("archive")
    changed = download(word, path)[1]
    if changed is None:
        with open(path, "rb", buffering=0) as file:
            unpack(compress.read_pieces(file), tree, place.owner, word)
        changed = newest(tree)
    return changed


def newest(tree: str) -> int:
    """The time of the newest file of a tree, which is not its root."""
    found = [0.0]
    for directory, names, files in os.walk(tree):
        found.append(max((os.lstat(f"{directory}/{name}").st_mtime for name in [*names, *files]), default=0.0))
    return int(max(found))


def _date(text: str) -> int | None:
    if not text:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError):
        return None


def _name(disposition: str, url: str) -> str:
    """A file's name: what the server says, else the last part of the URL's path; "" if there is none."""
    from urllib.parse import unquote, urlsplit

    found = re.search(r'filename="?([^";]+)"?', disposition)
    name = os.path.basename(found[1]) if found else os.path.basename(unquote(urlsplit(url).path))
    return "" if name in (".", "..", "/") else name


# -- archives ------------------------------------------------------------------------------------------


def is_archive(head: bytes) -> bool:
    """Whether a file's first 512 bytes, plain, begin a tar archive."""
    if len(head) < 512:
        return False
    if head[257:262] == b"ustar":
        return True
    try:  # what came before POSIX: nothing but the checksum tells
        wanted = int(head[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    return sum(head[:148]) + sum(head[156:512]) + 8 * 32 == wanted and bool(head[0])


def plain(pieces: Iterator[bytes], subject: str) -> Iterator[bytes]:
    """The plain bytes of what may be compressed: as for layers, and with xz and bzip2."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= 512:
            break
    kind = compress.kind(head)
    rest = _joined(head, pieces)
    if kind not in ("xz", "bzip2"):
        return compress.expand(rest, subject)
    return _other(kind, rest, subject)


def _joined(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from pieces


def _other(kind: str, pieces: Iterator[bytes], subject: str) -> Iterator[bytes]:
    import bz2
    import lzma

    def engine() -> Any:
        return lzma.LZMADecompressor() if kind == "xz" else bz2.BZ2Decompressor()

    work = engine()
    try:
        for piece in pieces:
            while piece:
                data = work.decompress(piece)
                if data:
                    yield data
                piece = b""
                if work.eof:
                    piece, work = work.unused_data.lstrip(b"\0"), engine()
    except (lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise Error("cannot decompress", subject, str(error).lower()) from None


class Pieces:
    """An iterator of bytes as a stream that is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = piece
        data, self._left = (self._left, b"") if size < 0 else (self._left[:size], self._left[size:])
        return data

    def __enter__(self) -> Pieces:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def unpack(pieces: Iterator[bytes], into: str, owner: Any, subject: str) -> None:
    """Unpack an archive into a new directory."""
    from oci_tools.layer import apply
    from oci_tools.layer.limits import Limits
    from oci_tools.layer.tree import new_root

    fd = new_root(into)
    limits = Limits()
    limits.skip_roots = True
    try:
        source = apply.Source(lambda: Pieces(plain(pieces, subject)), None, None, None)
        layer = apply.unpack(source, fd, owner, limits)
        with layer.tree:
            layer.tree.settle(owner)
    finally:
        os.close(fd)
