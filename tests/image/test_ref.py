"""References and image names, held to the published grammar of distribution/reference."""

import os
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oci_tools.errors import Error
from oci_tools.image import ref
from oci_tools.image.ref import Ref, locate

D256 = "sha256:" + "ab" * 32
D512 = "sha512:" + "ab" * 64

GOOD = {
    "alpine": "docker.io/library/alpine:latest",
    "alpine:3": "docker.io/library/alpine:3",
    "a/b": "docker.io/a/b:latest",
    "docker.io/alpine": "docker.io/library/alpine:latest",
    "index.docker.io/alpine": "docker.io/library/alpine:latest",
    "index.docker.io/library/alpine": "docker.io/library/alpine:latest",
    "docker.io/a/b/c:1": "docker.io/a/b/c:1",
    "localhost/x": "localhost/x:latest",
    "localhost:5000": "docker.io/library/localhost:5000",
    "localhost:5000/x": "localhost:5000/x:latest",
    "localhost:5000/x:y": "localhost:5000/x:y",
    "LOCALHOST/x": "LOCALHOST/x:latest",
    "Foo/bar": "Foo/bar:latest",
    "quay.io/a__b/c--d.e": "quay.io/a__b/c--d.e:latest",
    "[::1]/x": "[::1]/x:latest",
    "[2001:db8::1]:5000/x:y": "[2001:db8::1]:5000/x:y",
    "127.0.0.1:5000/x": "127.0.0.1:5000/x:latest",
    "x-y.z/w": "x-y.z/w:latest",
    "alpine:_x": "docker.io/library/alpine:_x",
    "alpine:" + "x" * 128: "docker.io/library/alpine:" + "x" * 128,
    f"alpine@{D256}": f"docker.io/library/alpine@{D256}",
    f"alpine:3@{D256}": f"docker.io/library/alpine:3@{D256}",
    f"host:1/x@{D512}": f"host:1/x@{D512}",
    "a" * 247: "docker.io/library/" + "a" * 247 + ":latest",
    "ab" * 31 + "a" * 3: "docker.io/library/" + "ab" * 31 + "a" * 3 + ":latest",
}
BAD = [
    "", ":", "@", "/", "a/", "/a", "a//b", "A", "library/A", "a:", "a:b:c", "a@", f"a@{D256[:-1]}", f"a@{D256}@{D256}",
    "a@sha256:" + "AB" * 32, "a@md5:" + "0" * 32, "a b", "a\n", "a:b\n", "-a", "a-", "a..b", "a___b", "a._b", "_a",
    "my_host:5000/x", "a..b/c/d", "host:/x", "host:x/y", "[::1/x", "[]/x", "[::g]/x", "[::1]5/x", "-host.x/y",
    "host-.x/y", "a:" + "x" * 129, "a:-x", "a:.x", "ab" * 32, "http://x/y", "a" * 248, "x/" + "b" * 256, "é", "a:é",
    "．com/x", "localhost:5000/", "docker.io/", "a:b/c", "host.io/a:b/c",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_parse(text):
    parsed = Ref.parse(text)
    assert str(parsed) == GOOD[text]
    assert Ref.parse(str(parsed)) == parsed
    assert parsed.name + "/" not in ("", "/")


@pytest.mark.parametrize("text", BAD)
def test_parse_refuses(text):
    with pytest.raises(Error, match="invalid reference"):
        Ref.parse(text)


# The grammar as distribution/reference publishes it, and its rule for what is a host.
ALNUM, SEPARATOR = "[a-z0-9]+", "(?:[._]|__|-+)"
PATH = f"{ALNUM}(?:{SEPARATOR}{ALNUM})*"
LABEL = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
DOMAIN = rf"(?:{LABEL}(?:\.{LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
DIGEST = "(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})"
GRAMMAR = re.compile(
    rf"({DOMAIN})/({PATH}(?:/{PATH})*)(?::([a-zA-Z0-9_][a-zA-Z0-9_.-]{{0,127}}))?(?:@({DIGEST}))?"
)


def oracle(text):
    if re.fullmatch("[a-f0-9]{64}", text):
        return None
    first, slash, rest = text.partition("/")
    if not slash:
        full = f"docker.io/library/{text}"
    elif first == "localhost" or any(c in first for c in ".:") or first != first.lower():
        hub = first in ("docker.io", "index.docker.io")
        full = f"docker.io/{'' if '/' in rest else 'library/'}{rest}" if hub else text
    else:
        full = f"docker.io/{text}"
    match = GRAMMAR.fullmatch(full)
    if not match or len(match[2]) > 255:
        return None
    host, path, tag, digest = match.groups()
    tag = tag or ("" if digest else "latest")
    return f"{host}/{path}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


PIECES = st.sampled_from(
    ["a", "b1", "A", "localhost", "docker.io", "index.docker.io", "library", "x.y", "[::1]", "5000", D256, D512,
     "/", ":", "@", ".", "_", "__", "-", "--", " ", "é", "latest", "v1.0"]
)  # fmt: skip


@settings(max_examples=400)
@given(st.one_of(st.lists(PIECES, max_size=9).map("".join), st.text(alphabet="aA1/:@._-[]", max_size=14)))
@example("a@" + D256.upper())
def test_parse_as_the_grammar_says(text):
    try:
        got = str(Ref.parse(text))
    except Error:
        got = None
    assert got == oracle(text)


# -- IMAGE ----------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OCI_ROOT", str(tmp_path / "root"))
    (tmp_path / "img").mkdir()
    (tmp_path / "a:b" / "img").mkdir(parents=True)
    (tmp_path / "x@y").mkdir()
    (tmp_path / "root" / "images").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("word", "kind", "path", "name"),
    [
        ("./img", "layout", "./img", None),
        ("./img/", "layout", "./img/", None),
        ("./img:app", "layout", "./img", "app"),
        ("./img:app/x:y", "layout", "./img", "app/x:y"),
        (f"./img@{D256}", "layout", "./img", D256),
        (f"./img:app@{D256}", "layout", "./img", D256),
        ("./img:a@b", "layout", "./img", "a@b"),
        ("./new:app", "layout", "./new", "app"),
        ("./new/deep:app", "layout", "./new/deep", "app"),
        ("../x", "layout", "../x", None),
        (".", "layout", ".", None),
        ("./a:b/img:app", "layout", "./a:b/img", "app"),
        ("./a:b/new:app", "layout", "./a:b/new", "app"),
        ("./a:b", "layout", "./a:b", None),
        ("./a:c", "layout", "./a", "c"),
        ("./x@y:t", "layout", "./x@y", "t"),
        ("oci:img:app", "layout", "img", "app"),
        ("oci:img", "layout", "img", None),
        ("oci:./img:app", "layout", "./img", "app"),
        ("oci-archive:f.tar", "oci-archive", "f.tar", None),
        ("oci-archive:/d/f.tar:app", "oci-archive", "/d/f.tar", "app"),
        ("docker-archive:f.tar:app:1", "docker-archive", "f.tar", "app:1"),
        ("docker://alpine", "registry", "", "latest"),
        (f"docker://alpine@{D256}", "registry", "", D256),
        ("/nowhere/x:app", "layout", "/nowhere/x", "app"),
    ],
)
def test_locate(here, word, kind, path, name):
    place = locate(word)
    assert (place.kind, place.path, place.name, place.text) == (kind, path, name, word)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("img:app", "docker.io/library/img:app"),
        ("img", "docker.io/library/img:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        (f"alpine@{D256}", D256),
        (D256, D256),
    ],
)
def test_locate_in_the_store(here, word, name):
    """Never a directory that happens to be there."""
    place = locate(word)
    assert (place.kind, place.path, place.name) == ("store", f"{here}/root/images", name)


def test_the_store_by_its_path(here):
    """However the store is reached, its names are full references."""
    place = locate(f"{here}/root/images:alpine")
    assert (place.kind, place.name) == ("store", "docker.io/library/alpine:latest")
    assert locate(f"{here}/root/images").kind == "store"
    assert locate(f"./root/images@{D256}").name == D256


@pytest.mark.parametrize(
    "word", ["", "oci:", "oci::app", "./img:", "./img@x", "./img@", "UPPER", "docker://"]
)
def test_locate_refuses(here, word):
    with pytest.raises(Error):
        locate(word)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("./img", "3"),
        ("./img:app", "app"),
        ("other", "docker.io/library/other:latest"),
        ("/nowhere", "3"),
    ],
)
def test_name_for(here, word, name):
    assert locate(word).name_for(Ref.parse("alpine:3")) == name


def test_name_for_a_digest(here):
    assert locate("./img").name_for(Ref.parse(f"alpine@{D256}")) is None
    assert locate("./img").name_for(Ref.parse(f"alpine:3@{D256}")) == "3"


@given(st.lists(st.sampled_from(["img", "a:b", "x@y", ":", "@", "/", "t"]), max_size=6).map("".join))
def test_a_handle_is_read_back(text):
    """What `handle` prints names that very layout, whatever characters its path has, once it exists."""
    path = os.path.abspath("/" + text)
    exists = os.path.exists
    try:
        os.path.exists = lambda p: path == p or path.startswith(p.rstrip("/") + "/")
        place = locate(f"{path}@{D256}")
    finally:
        os.path.exists = exists
    assert (place.path, place.name) == (path, D256) or path == "/"
    assert ref.is_tag("x")
