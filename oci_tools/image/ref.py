"""Names of images: a registry's references and the words that people type for an image.

    reference   [HOST[:PORT]/]PATH[:TAG][@DIGEST], as distribution/reference and with it Docker,
                containerd and containers/image read it, so `alpine` is
                docker.io/library/alpine:latest; where both are given the digest decides
    IMAGE       contracts.md, "Names":
                ./dir:tag  ../dir  /dir@sha256:...  oci:dir:tag    a layout
                oci-archive:FILE[:tag]  docker-archive:FILE[:ref]  a file
                dir:DIRECTORY                                      skopeo's (directory.py)
                docker://REF                                       in its registry
                anything else                                      in the default store, where
                                                                   aliases count (shortnames.py)

Written without `re`, which costs 5 ms to import; `tests/image/test_ref.py` holds the
reading equal to the published grammar as a regular expression.
"""

from __future__ import annotations

import os

from oci_tools import fs
from oci_tools.errors import Error
from oci_tools.image import digest as digests

HOST = "docker.io"  # what a reference without a host means
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD = _ALNUM | {"_"}
_TAG = _WORD | {".", "-"}
_DIGITS = frozenset("0123456789")
_IPV6 = frozenset("0123456789abcdefABCDEF:")


class Ref:
    """A reference in full: host, repository, and a tag or a digest or both (either may be "")."""

    __slots__ = ("digest", "host", "repository", "tag")

    def __init__(self, host: str, repository: str, tag: str = "", digest: str = "") -> None:
        self.host = host
        self.repository = repository
        self.tag = tag
        self.digest = digest

    @classmethod
    def parse(cls, text: str) -> Ref:
        """A reference as people write it; `latest` where neither tag nor digest is said."""
        if len(text) == 64 and digests.HEX.issuperset(text):
            raise _bad(text, "64 hex digits are an image's id")
        host, rest = _split_host(text)
        rest, at, digest = rest.partition("@")
        path, colon, tag = rest.partition(":")
        _check_host(text, host)
        _check_path(text, path)
        if colon and not is_tag(tag):
            raise _bad(text, "a tag is up to 128 letters, digits, '_', '.' and '-'")
        if at:
            try:
                digests.check(digest)
            except Error as error:
                raise _bad(text, str(error)) from None
        return cls(host, path, tag if colon or at else "latest", digest)

    @property
    def name(self) -> str:
        """Without tag and digest: docker.io/library/alpine."""
        return f"{self.host}/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}@{self.digest}" if self.digest else self.name + tag

    def __repr__(self) -> str:
        return f"<Ref {self}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def is_repository(name: str) -> bool:
    """Whether this is a repository's name (distribution-spec, "Pulling manifests")."""
    if not name or ":" in name or "@" in name or len(name) > 255:
        return False
    try:
        return Ref.parse(f"registry.invalid/{name}").repository == name
    except Error:
        return False


def is_tag(text: str) -> bool:
    """Whether a registry takes this as a tag."""
    return 0 < len(text) <= 128 and text[0] in _WORD and _TAG.issuperset(text)


def _split_host(text: str) -> tuple[str, str]:
    """The host and what follows.  A first part is a host if it could not be anything else:

    it is `localhost`, has a dot, a colon or a capital letter.
    """
    first, slash, rest = text.partition("/")
    if not slash:
        return HOST, f"library/{text}"
    if _is_host(first):
        if first in (HOST, "index.docker.io"):
            return HOST, rest if "/" in rest else f"library/{rest}"
        return first, rest
    return HOST, text


def _is_host(first: str) -> bool:
    return first == "localhost" or "." in first or ":" in first or first != first.lower()


def _check_host(text: str, host: str) -> None:
    if host.startswith("["):
        address, bracket, port = host[1:].partition("]")
        good = bool(bracket and address) and _IPV6.issuperset(address) and port[:1] in ("", ":")
        port = port[1:] if port else "0"
    else:
        name, colon, port = host.partition(":")
        good, port = all(_is_label(label) for label in name.split(".")), port if colon else "0"
    if not good or not port or not _DIGITS.issuperset(port):
        raise _bad(text, f"'{host}' is no host")


def _is_label(label: str) -> bool:
    return bool(label) and label[0] != "-" != label[-1] and (_ALNUM | {"-"}).issuperset(label)


def _check_path(text: str, path: str) -> None:
    if path != path.lower():
        raise _bad(text, "the repository's name must be lower case")
    if not all(_is_component(part) for part in path.split("/")):
        raise _bad(text, "the repository's name is not well formed")
    if len(path) > 255:
        raise _bad(text, "the repository's name is longer than 255 characters")


def _is_component(part: str) -> bool:
    """Letters and digits, joined by one dot, one or two underscores, or any number of dashes."""
    if not part or part[0] not in _LOWER or part[-1] not in _LOWER:
        return False
    joint = ""
    for c in part:
        if c not in _LOWER:
            joint += c
        elif joint:
            if joint not in (".", "_", "__") and joint.strip("-"):
                return False
            joint = ""
    return True


def _bad(text: str, why: str) -> Error:
    return Error("invalid reference", text, why)


# -- what people type for an image ---------------------------------------------------


class Place:
    """Where an IMAGE is: what `locate` understood.

    kind   "layout", "store", "oci-archive", "docker-archive", "dir", "registry"
    path   the layout's directory or the archive's file, as given; "" for a registry
    name   the name in there, or a digest ("sha256:..."), or None: the only image
    ref    the reference, for a registry and for a name in the default store, else None
    text   the word itself
    blobs  a directory that has its blobs, for who was told so (shared.py)
    """

    __slots__ = ("blobs", "kind", "name", "path", "ref", "text")

    def __init__(self, kind: str, path: str, name: str | None, ref: Ref | None, text: str) -> None:
        self.kind = kind
        self.path = path
        self.name = name
        self.ref = ref
        self.text = text
        self.blobs = ""

    def name_for(self, ref: Ref) -> str | None:
        """Under which name an image that comes from `ref` is kept here (contracts.md, "Names").

        None: the reference is a digest and no tag was given, so it is kept without one.
        """
        if self.kind == "store":
            return str(self.ref or ref)
        if self.name and not digests.valid(self.name):
            return self.name
        return ref.tag or None

    def __repr__(self) -> str:
        return f"<Place {self.kind} {self.path!r} {self.name!r}>"


def store_path() -> str:
    """The default store: one layout."""
    return f"{fs.root()}/images"


def locate(word: str) -> Place:
    """Which image a word means; only paths are looked at, and only whether they exist."""
    if word.startswith(("/", "./", "../")) or word in (".", ".."):
        return _in_layout(word, word)
    prefix, colon, rest = word.partition(":")
    if prefix == "dir" and rest:
        return Place("dir", rest, None, None, word)
    if colon and prefix in ("oci", "oci-archive", "docker-archive"):
        if prefix == "oci":
            return _in_layout(rest, word)
        path, name = _split_path(rest, word)
        return Place(prefix, path, name, None, word)
    if word.startswith("docker://"):
        ref = Ref.parse(word[9:])
        return Place("registry", "", ref.digest or ref.tag, ref, word)
    if digests.valid(word):
        return Place("store", store_path(), word, None, word)
    ref = Ref.parse(_full(word))
    return Place("store", store_path(), ref.digest or str(ref), ref, word)


def candidates(word: str) -> list[Ref]:
    """The references that a word for an image in a registry may mean, in the order in which they are tried."""
    path = "" if word.startswith("docker://") else _short(word)
    if not path:
        place = locate(word)
        return [place.ref] if place.ref and place.kind in ("store", "registry") else []
    from oci_tools.image import shortnames

    return [Ref.parse(name + word[len(path) :]) for name in shortnames.candidates(path)]


def _full(word: str) -> str:
    """What a person's word for an image stands for, where it names no registry."""
    path = _short(word)
    if not path:
        return word

    from oci_tools.image import shortnames

    return shortnames.expand(path) + word[len(path) :]


def _short(word: str) -> str:
    """The path in a word that names no registry; "" of one that does, and of what is none: its reader says why."""
    first, slash, _ = word.partition("/")
    if slash and _is_host(first):
        return ""
    path = word.partition("@")[0].partition(":")[0]
    return path if all(_is_component(part) for part in path.split("/")) else ""


def is_local(word: str) -> bool:
    """Whether a word means a layout or an archive, where it could be a reference of a registry as well."""
    paths = ("/", "./", "../", "oci:", "oci-archive:", "docker-archive:", "dir:")
    return word.startswith(paths) or word in (".", "..")


def _in_layout(text: str, word: str) -> Place:
    path, name = _split_path(text, word)
    if os.path.abspath(path) != store_path():
        return Place("layout", path, name, None, word)
    if name is None or digests.valid(name):
        return Place("store", path, name, None, word)
    ref = Ref.parse(_full(name))  # in the store every name is a full reference, however it is reached
    return Place("store", path, str(ref), ref, word)


def _split_path(text: str, word: str) -> tuple[str, str | None]:
    """PATH[:NAME|@DIGEST]: the path ends at the first : or @ after its last existing component.

    So a directory's name may hold both (`/srv/a:b/img:app`), and a handle that a command
    printed is always read as it was meant, since its layout exists.
    """
    end = next((i for i in range(len(text), 0, -1) if _may_end(text, i) and os.path.exists(text[:i])), 0)
    marks = [at for at in (text.find(":", end), text.find("@", end)) if at >= 0]
    if not marks:
        path, mark, name = text, "", ""
    else:
        path, mark, name = text[: min(marks)], text[min(marks)], text[min(marks) + 1 :]
    if not path:
        raise Error("invalid image name", word, "no path")
    if not mark:
        return path, None
    if mark == "@":
        digests.check(name)
        return path, name
    if not name:
        raise Error("invalid image name", word, "empty tag")
    _, at, digest = name.rpartition("@")
    return path, digest if at and digests.valid(digest) else name


def _may_end(text: str, i: int) -> bool:
    return i == len(text) or text[i] in ":@/"
