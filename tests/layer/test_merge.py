"""Layers over each other: whiteouts, replacements, links across layers, and what several processes do."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci_tools.errors import Error
from oci_tools.layer.limits import Limits
from oci_tools.layer import merge
from tests.layer import listing, make

LOWER = ["a/", "a/f", "a/g", "a/d/", "a/d/x", "top"]


def kinds(path: Path) -> list[str]:
    return [f"{line.path} {line.kind}" for line in listing.lines(path)]


@pytest.mark.parametrize(
    ("upper", "expect"),
    [
        ([], ["a d", "a/d d", "a/d/x f", "a/f f", "a/g f", "top f"]),
        ([".wh.a"], ["top f"]),
        (["a/.wh.d", "a/.wh.f"], ["a d", "a/g f", "top f"]),
        (["a/.wh.d", "a/d/y"], ["a d", "a/d d", "a/d/y f", "a/f f", "a/g f", "top f"]),
        (["a/d/y", "a/.wh.d"], ["a d", "a/d d", "a/d/y f", "a/f f", "a/g f", "top f"]),
        (["a/.wh..wh..opq", "a/d/y"], ["a d", "a/d d", "a/d/y f", "top f"]),
        ([".wh..wh..opq"], []),
        (["top/.wh.x", "a/f/.wh.x", "no/.wh.x", "no/.wh..wh..opq"], ["a d", "a/d d", "a/d/x f", "a/f f", "a/g f", "top f"]),
        (["a"], ["a f", "top f"]),
        (["top/"], ["a d", "a/d d", "a/d/x f", "a/f f", "a/g f", "top d"]),
        (["top/x"], ["a d", "a/d d", "a/d/x f", "a/f f", "a/g f", "top d", "top/x f"]),
        (["a/d>f"], ["a d", "a/d l", "a/f f", "a/g f", "top f"]),
        (["h=a/d/x", ".wh.a"], ["h f", "top f"]),
        (["a/d=a/d/x"], ["a d", "a/d f", "a/f f", "a/g f", "top f"]),
        (["h=a/f", "i=h", "a/f"], ["a d", "a/d d", "a/d/x f", "a/f f", "a/g f", "h f", "i f", "top f"]),
        (["h=nowhere"], None),
        (["h=a/d"], None),
        (["h=top/x"], None),
    ],
)
def test_one_layer_over_another(upper: list[Any], expect: list[str] | None, tmp_path: Path) -> None:
    if expect is None:
        with pytest.raises(Error):
            make.unpack(tmp_path / "t", LOWER, upper)
    else:
        make.unpack(tmp_path / "t", LOWER, upper)
        assert kinds(tmp_path / "t") == expect
        assert os.listdir(tmp_path) == ["t"], "nothing is left beside it"


def test_directories_keep_what_no_layer_changes(tmp_path: Path) -> None:
    lower = [{"kind": "d", "name": ".", "mode": 0o711, "mtime": 7}, {"kind": "d", "name": "d", "mode": 0o700, "mtime": 8}, "d/x"]
    make.unpack(tmp_path / "t", lower, ["d/y", ".wh.nothing"], ["d/.wh.x"])
    seen = (tmp_path / "t/d").stat()
    assert (seen.st_mode & 0o7777, seen.st_mtime_ns) == (0o700, 8)
    assert ((tmp_path / "t").stat().st_mode & 0o7777, (tmp_path / "t").stat().st_mtime_ns) == (0o711, 7)


def test_the_uppers_attributes_replace_the_lowers(tmp_path: Path) -> None:
    lower = {"kind": "d", "name": "d", "mode": 0o1700, "mtime": 8, "xattrs": {b"user.a": b"1"}}
    upper = {"kind": "d", "name": "d", "mode": 0o750, "mtime": 9, "xattrs": {b"user.b": b"2"}}
    make.unpack(tmp_path / "t", [lower, "d/x"], [upper])
    [line, _] = listing.lines(tmp_path / "t")
    assert (line.mode, line.mtime, line.xattrs) == ("0750", "0.000000009", "user.b=32")


def test_hard_links_pass_no_change_on(tmp_path: Path) -> None:
    make.unpack(tmp_path / "t", [("a", b"old"), "b=a", "c=a"], [("a", b"new")], ["d=b", {"name": "b", "mode": 0o600, "data": b"b"}])
    text = {name: (tmp_path / "t" / name).read_bytes() for name in "abcd"}
    assert text == {"a": b"new", "b": b"b", "c": b"old", "d": b"old"}
    assert (tmp_path / "t/c").stat().st_ino == (tmp_path / "t/d").stat().st_ino


@pytest.mark.parametrize(
    ("lower", "upper", "expect"),
    [
        (["r/", "l>r"], ["l/x"], ["l l", "r d", "r/x f"]),
        (["r/", "l>/r"], ["l/x", "r/"], ["l l", "r d", "r/x f"]),
        (["l>r/s"], ["l/x"], ["l l", "r d", "r/s d", "r/s/x f"]),
        (["r/", "l>r"], ["l/", "l/x"], ["l d", "l/x f", "r d"]),
        (["r/", "l>r", "r/x"], ["l/.wh.x"], ["l l", "r d"]),
        (["r/", "l>r", "r/x"], ["l/.wh..wh..opq", "l/y"], ["l l", "r d", "r/y f"]),
        (["f", "l>f"], ["l/x"], ["f d", "f/x f", "l l"]),
        (["u/", "u/l>../../r", "r/"], ["u/l/x"], ["r d", "r/x f", "u d", "u/l l"]),
        (["a>b", "b>a"], ["a/x"], None),
        (["r/", "r/d/", "l>r"], ["l/d/x", "r/d/y", "m>l", "m/d/z"], ["l l", "m l", "r d", "r/d d", "r/d/x f", "r/d/y f", "r/d/z f"]),
    ],
)
def test_names_through_links_of_lower_layers(lower: list[str], upper: list[str], expect: list[str] | None, tmp_path: Path) -> None:
    if expect is None:
        with pytest.raises(Error, match="too many levels"):
            make.unpack(tmp_path / "t", lower, upper)
    else:
        make.unpack(tmp_path / "t", lower, upper)
        assert kinds(tmp_path / "t") == expect


def test_no_layer_is_an_empty_tree(tmp_path: Path) -> None:
    make.unpack(tmp_path / "t")
    assert os.listdir(tmp_path / "t") == []


# -- against a model ------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
WHITEOUTS = st.tuples(st.lists(NAMES, max_size=2), st.sampled_from([".wh.a", ".wh.b", ".wh.c", ".wh..wh..opq"]))
ENTRIES = st.one_of(PATHS, PATHS.map(lambda path: path + "/"), WHITEOUTS.map(lambda pair: "/".join([*pair[0], pair[1]])))
LAYERS = st.lists(st.lists(ENTRIES, max_size=8), min_size=1, max_size=4)

Model = dict[str, str]  # path -> "d", or "f" and the number of its layer


def drop(model: Model, path: str) -> None:
    for known in [known for known in model if known == path or known.startswith(f"{path}/") or not path]:
        del model[known]


def put(model: Model, path: str, kind: str) -> None:
    parts = path.split("/")
    for end in range(1, len(parts)):
        above = "/".join(parts[:end])
        if model.get(above) != "d":
            drop(model, above)
            model[above] = "d"
    if kind != "d" or model.get(path) != "d":
        drop(model, path)
        model[path] = kind


def expected(layers: list[list[str]]) -> Model:
    """What image-spec's layer.md makes of it: removals of lower names first, then what the layer has."""
    whole: Model = {}
    for number, entries in enumerate(layers):
        own: Model = {}
        for entry in entries:
            parent, _, name = entry.rpartition("/")
            if name == ".wh..wh..opq":
                for path in [path for path in whole if not parent or path.startswith(f"{parent}/")]:
                    del whole[path]
            elif name.startswith(".wh."):
                drop(whole, f"{parent}/{name[4:]}".lstrip("/"))
            elif entry.endswith("/"):
                put(own, entry.rstrip("/"), "d")
            else:
                put(own, entry, f"f{number}")
        for path in sorted(own):
            put(whole, path, own[path])
    return whole


def seen(root: str) -> Model:
    found = {}
    for line in listing.lines(root):
        found[line.path] = line.kind + (Path(root, line.path).read_text() if line.kind == "f" else "")
    return found


def entries(layers: list[list[str]]) -> list[list[Any]]:
    """Files with the number of their layer as content; marks and directories as they are."""
    plain = lambda word: word.endswith("/") or "/.wh." in f"/{word}" or set(word) & set(">=")  # noqa: E731
    return [[word if plain(word) else (word, b"%d" % at) for word in layer] for at, layer in enumerate(layers)]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LAYERS)
def test_any_layers_against_the_model(tmp_path: Path, layers: list[list[str]]) -> None:
    root = f"{tempfile.mkdtemp(dir=tmp_path)}/t"
    make.unpack(root, *entries(layers))
    assert seen(root) == expected(layers)


# -- several processes ------------------------------------------------------------------------


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes unpack, however small the layers are and few the processors."""
    monkeypatch.setattr(merge, "SMALL", 0)
    monkeypatch.setattr(merge, "DOMINANT", 2.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})


MANY = [
    [{"kind": "d", "name": ".", "mode": 0o750}, *(f"d{at}/" for at in range(30)), *(f"d{at}/f" for at in range(30)), "é"],
    *([f"d{at}/g", f"d{at}/.wh.f", f"h{at}=é"] for at in range(20)),
]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_processes_make_the_same_tree(several: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make.unpack(tmp_path / "many", *MANY)
    monkeypatch.setattr(merge, "SMALL", 1 << 30)
    make.unpack(tmp_path / "one", *MANY)
    assert listing.tree(tmp_path / "many", times=False) == listing.tree(tmp_path / "one", times=False)
    assert sorted(os.listdir(tmp_path)) == ["many", "one"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_processes_error_is_raised_here(at: int, several: None, tmp_path: Path) -> None:
    layers = [*MANY[:at], ["x", "a/.wh.."], *MANY[at:]]
    with pytest.raises(Error, match=r"^cannot unpack 'a/\.wh\.\.': a whiteout of nothing$"):
        make.unpack(tmp_path / "t", *layers)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.root
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_processes_warnings_come_once(several: None, tmp_path: Path) -> None:
    told: list[str] = []
    layers = [[{"name": f"f{at}", "xattrs": {b"user.overlay.x": b""}}] for at in range(6)]
    make.unpack(tmp_path / "t", *layers, warn=told.append)
    assert len(told) == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_process_that_dies_is_an_error(several: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "unpack", lambda *_, **__: os.kill(os.getpid(), 9))
    with pytest.raises(Error, match="the processes that help have ended"):
        make.unpack(tmp_path / "t", *MANY)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    make.unpack(tmp_path / "t", *MANY)
    for layers in ([["a/.wh.."]], [["a"], ["h=b"]], [b"x" * 600]):
        with pytest.raises(Error):
            make.unpack(tmp_path / "u", *layers)
    assert set(os.listdir("/proc/self/fd")) <= set(before)


# -- --keep-dirlinks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "expect"),
    [
        ([["d/", "d/a", "l>d", "m>l"], ["l/", "l/b", "m/", "m/c"]], ["d d", "d/a f", "d/b f", "d/c f", "l l", "m l"]),
        ([["d/", "l>d", "x>y", "y>x"], ["x/", "x/b"]], ["d d", "l l", "x d", "x/b f", "y l"]),
        ([["l>nowhere"], ["l/", "l/b"]], ["l d", "l/b f"]),
        ([["f", "l>f"], ["l/", "l/b"]], ["f f", "l d", "l/b f"]),
        ([["d/", "d/a", "d/b", "l>d"], ["l/", "l/.wh.a"]], ["d d", "d/b f", "l l"]),
        ([["d/", "d/a", "d/b", "l>d"], ["l/", "l/.wh..wh..opq", "l/c"]], ["d d", "d/c f", "l l"]),
        ([["d/", "l>d", "l/", "l/b"]], ["d d", "d/b f", "l l"]),
        ([["d/", "l>/../../d"], ["l/", "l/b"]], ["d d", "d/b f", "l l"]),
    ],
)
def test_links_to_directories_are_kept(layers: list[list[str]], expect: list[str], tmp_path: Path) -> None:
    limits = Limits()
    limits.keep_links = True
    make.unpack(tmp_path / "t", *layers, limits=limits)
    assert [f"{line.path} {line.kind}" for line in listing.lines(tmp_path / "t")] == expect


def test_a_kept_links_directory_has_the_attributes(tmp_path: Path) -> None:
    limits = Limits()
    limits.keep_links = True
    make.unpack(tmp_path / "t", ["d/", "l>d"], [{"kind": "d", "name": "l", "mode": 0o711, "mtime": 5}], limits=limits)
    assert (oct((tmp_path / "t/d").stat().st_mode), (tmp_path / "t/d").stat().st_mtime_ns) == ("0o40711", 5)
