"""The store: each layer once, and stacked as plain unpacking would have it.  overlayfs itself is the judge."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci_tools import compress, fs, shelf
from oci_tools.errors import Busy, Error
from oci_tools.layer import lookup, owner, stack, store
from oci_tools.layer.limits import Limits
from oci_tools.linux import mount
from tests.layer import invented, listing, make
from tests.layer.test_merge import ENTRIES, LAYERS, LOWER, PATHS, entries, expected, seen
from tests.layer.test_tricky import LAYERS as SHARED
from tests.layer.test_tricky import cases, refused


@pytest.fixture
def kept(tmp_path: Path) -> store.Store:
    return store.Store(path=f"{tmp_path}/layers")


def ensure(
    kept: store.Store, *layers: Any, name: str = "sha256:image", whose: owner.Owner | None = None
) -> store.Chain:
    sources = [make.source(layer if isinstance(layer, bytes) else make.archive(*layer)) for layer in layers]
    return kept.ensure(name, sources, whose or owner.for_process(), Limits())


class Stacked:
    """A chain mounted as a container's root would be, where nobody else sees it: a path that leads there."""

    def __init__(self, kept: store.Store, chain: store.Chain, place: str) -> None:
        self._kept, self._chain, self._place = kept, chain, place

    def __enter__(self) -> str:
        store.make_upper(f"{self._place}.upper", self._chain)
        os.mkdir(f"{self._place}.work")
        context = mount.fsopen("overlay")
        try:
            for digest in self._chain.lower:
                mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "lowerdir+", self._kept.tree(digest))
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "upperdir", f"{self._place}.upper")
            mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "workdir", f"{self._place}.work")
            mount.fsconfig(context, mount.FSCONFIG_CMD_CREATE, None, None)
            self.fd = mount.fsmount(context)
        finally:
            os.close(context)
        return f"/proc/self/fd/{self.fd}"

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        for part in ("upper", "work"):
            fs.remove_tree(f"{self._place}.{part}")


@pytest.fixture(scope="session")
def overlayfs() -> None:
    """Skips what needs overlayfs with `lowerdir+`: Linux 6.7 and root."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    context = mount.fsopen("overlay")
    try:
        mount.fsconfig(context, mount.FSCONFIG_SET_STRING, "lowerdir+", "/")
    except OSError as error:
        pytest.skip(f"needs overlayfs that takes layers one by one: {error}")
    finally:
        os.close(context)


def compared(kept: store.Store, tmp_path: Path, layers: list[Any], name: str = "sha256:image") -> None:
    """What overlayfs shows is what plain unpacking makes; only link counts and the times of what nobody describes differ."""
    make.unpack(tmp_path / "plain", *layers)
    chain = ensure(kept, *layers, name=name)
    with Stacked(kept, chain, f"{tmp_path}/o") as root:
        found = [listing.Line(os.fsencode(root + "/."), os.stat(root), b".", {}), *listing.lines(root)]
        plain = tmp_path / "plain"
        wanted = [listing.Line(os.fsencode(plain), plain.stat(), b".", {}), *listing.lines(plain)]
        assert [shown(line) for line in found] == [shown(line) for line in wanted]
    fs.remove_tree(f"{tmp_path}/plain")


def shown(line: listing.Line) -> str:
    recent = float(line.mtime) > make.T / 1e9 + 1e8
    line.leader = ""
    return line.text("now" if recent else None)


OTHERWISE = ("bad-size-small", "many-diffids")  # what is wrong with them is not in their layers

STACKS: list[list[list[Any]]] = [
    [LOWER],
    [LOWER, ["a/.wh.d", "a/d/y"]],
    [LOWER, [".wh.a", "a/new"]],
    [LOWER, ["a/.wh..wh..opq", "a/d/y"]],
    [LOWER, [".wh..wh..opq", "n"], ["m"]],
    [LOWER, ["a>top"], ["a/"], ["a/x"]],
    # what a layer only implies shows the attributes that a lower one says
    [[{"kind": "d", "name": "tmp", "mode": 0o1777, "mtime": 5, "uid": 3}, "tmp/x/"], ["tmp/x/y"], ["tmp/z"]],
    [[{"kind": "d", "name": "a", "mode": 0o700}], ["a/.wh..wh..opq", "a/b/c"], ["a/b/d/"], ["a/b/d/e"]],
    [[{"kind": "d", "name": "a", "mode": 0o700}], [".wh.a", "a/b"]],
    [[{"kind": "d", "name": ".", "mode": 0o711, "uid": 7, "mtime": 9}, "a"], ["b"]],
    [["a"], [{"kind": "d", "name": ".", "mode": 0o711, "uid": 7, "mtime": 9}]],
    [[{"kind": "d", "name": "a", "mode": 0o750, "xattrs": {b"user.x": b"1"}}, "a/b"], ["a/c"]],
    # whiteouts of nothing are not seen
    [["a/", "a/.wh.x", "a/y"]],
    [[".wh.x", "y"], ["a/b/.wh.x"], ["a/b/c"]],
    [["a/"], ["a/b/.wh.x"]],
    # what cannot be stacked
    [["r/", "l>r"], ["l/x"]],
    [["f", "g"], ["h=f", ".wh.f"]],
    [["r/", "r/x", "l>r"], ["l/.wh.x"], ["y"]],
    [["a/f"], ["a", "b"], ["a/", "a/x"]],
    [LOWER, LOWER, ["top"], LOWER],
    [["a"], [{"kind": "c", "name": "zero", "device": (0, 0)}, "b"]],
]


@pytest.mark.root
@pytest.mark.parametrize("case", [*invented.AGREED, *invented.OURS])
def test_invented_layers_stacked(case: str, kept: store.Store, tmp_path: Path, overlayfs: None) -> None:
    layers = invented.archives({**invented.AGREED, **invented.OURS}[case])
    try:
        make.unpack(tmp_path / "t", *layers)
    except Error:
        with pytest.raises(Error):
            ensure(kept, *layers)
    else:
        compared(kept, tmp_path, layers)


@pytest.mark.root
@pytest.mark.parametrize("layers", STACKS, ids=range(len(STACKS)))
def test_stacks(layers: list[list[Any]], kept: store.Store, tmp_path: Path, overlayfs: None) -> None:
    if layers[-1][0] == STACKS[-1][-1][0]:
        layers = [layers[0], layers[1][1:]]  # such a device would be a whiteout: it is left out
    compared(kept, tmp_path, layers)


@pytest.mark.root
@pytest.mark.parametrize("layers", STACKS[:-1], ids=range(len(STACKS) - 1))
@pytest.mark.parametrize(("where", "room"), [(store, "ROOM"), (stack, "MADE_MAX")])
def test_more_than_can_be_stacked_is_one_tree(
    layers: list[list[Any]], where: Any, room: str, kept: store.Store, tmp_path: Path, overlayfs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, room, 0)
    compared(kept, tmp_path, layers)
    chain = kept.chain("sha256:image")
    assert chain and (len(chain.made), chain.hidden) == (1, [])


@pytest.mark.root
@pytest.mark.parametrize(("below", "count"), [(True, 2), (False, 1)])
def test_whiteouts_take_room_only_where_they_would_be_seen(
    below: bool, count: int, kept: store.Store, tmp_path: Path, overlayfs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "ROOM", 4000)
    lower = ["x", "d/", *(f"d/{at}" for at in range(100))] if below else ["x"]
    compared(kept, tmp_path, [lower, ["d/", *(f"d/.wh.{at}" for at in range(100)), "d/new"]])
    chain = kept.chain("sha256:image")
    assert chain and (len(chain.lower), chain.hidden) == (count, [])


@pytest.mark.root
def test_a_store_that_says_every_whiteout(kept: store.Store, tmp_path: Path, overlayfs: None) -> None:
    layers = [["x"], ["d/", "d/.wh.a", "d/e/", "d/e/.wh.b", ".wh.y"]]
    compared(kept, tmp_path, layers)
    first = kept.chain("sha256:image")
    assert first is not None
    path = Path(f"{kept.tree(first.lower[0])}.json")
    said = json.loads(path.read_text())
    assert sorted(said.pop("hiding")) == ["", "d", "d/e"]
    path.write_text(json.dumps({**said, "whiteouts": ["d/a", "d/e/b", "y"]}))
    again = ensure(kept, *layers, name="sha256:again")
    assert (again.lower, again.made, again.hidden) == (first.lower, first.made, first.hidden) and again.hidden == ["d/a", "d/e/b"]


@pytest.mark.root
@pytest.mark.parametrize("layers", STACKS[:-1], ids=range(len(STACKS) - 1))
def test_marks_that_have_no_room_in_memory(
    layers: list[list[Any]], kept: store.Store, tmp_path: Path, overlayfs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "ROOM", 0)
    compared(kept, tmp_path, layers)


@pytest.mark.root
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs {SHARED}")
@pytest.mark.parametrize("case", [case for case, known in cases().items() if case not in OTHERWISE and not refused(case)])
def test_tricky_layers_stacked(case: str, kept: store.Store, tmp_path: Path, overlayfs: None) -> None:
    layout = SHARED / "img" / case
    read = lambda one: (layout / "blobs" / one["digest"].replace(":", "/")).read_bytes()  # noqa: E731
    [top] = json.loads((layout / "index.json").read_text())["manifests"]
    blobs = [read(layer) for layer in json.loads(read(top))["layers"]]
    compared(kept, tmp_path, [b"".join(compress.expand([blob])) for blob in blobs])


@pytest.mark.root
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LAYERS)
def test_any_stack_against_the_model(tmp_path: Path, overlayfs: None, layers: list[list[str]]) -> None:
    place = tempfile.mkdtemp(dir=tmp_path)
    kept = store.Store(path=f"{place}/layers")
    chain = ensure(kept, *entries(layers))
    with Stacked(kept, chain, f"{place}/o") as root:
        assert seen(root) == expected(layers)
        trees = [f"{place}/o.upper", *(kept.tree(digest) for digest in chain.lower)]
        with lookup.Stack(trees) as found:
            for path, kind in expected(layers).items():
                there = found.look(path.encode())
                assert there is not None and stat.S_ISDIR(there.st_mode) == (kind == "d")
                if kind == "d":
                    assert sorted(found.names(path.encode())) == sorted(
                        map(os.fsencode, os.listdir(f"{root}/{path}"))
                    )


LINKS = st.tuples(PATHS, st.sampled_from(">="), PATHS | st.just("..") | st.just("../b") | st.just("/a")).map(
    "".join
)
MIXED = st.lists(st.lists(ENTRIES | LINKS | st.just("./"), max_size=7), min_size=1, max_size=4)


def moded(layers: list[list[str]]) -> list[list[Any]]:
    """As `entries`, and each directory has the mode of its layer."""
    return [
        [
            {"kind": "d", "name": word, "mode": 0o700 + at, "uid": at}
            if isinstance(word, str) and word.endswith("/")
            else word
            for word in layer
        ]
        for at, layer in enumerate(entries(layers))
    ]


def attempt(function: Callable[[], None]) -> bool:
    """Whether it can be done."""
    try:
        function()
        return True
    except Error:
        return False


@pytest.mark.root
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MIXED)
def test_any_stack_with_links_is_as_plain(tmp_path: Path, overlayfs: None, layers: list[list[str]]) -> None:
    place = Path(tempfile.mkdtemp(dir=tmp_path))
    kept = store.Store(path=f"{place}/layers")
    chains: list[store.Chain] = []
    made = attempt(lambda: make.unpack(place / "plain", *moded(layers)))
    assert attempt(lambda: chains.append(ensure(kept, *moded(layers)))) == made
    if made:
        with Stacked(kept, chains[0], f"{place}/o") as root:
            same = [
                (line.path, line.kind, line.mode, line.owner, line.what)
                for line in listing.lines(place / "plain")
            ]
            assert [
                (line.path, line.kind, line.mode, line.owner, line.what) for line in listing.lines(root)
            ] == same
            assert os.stat(root).st_mode == (place / "plain").stat().st_mode


def test_a_layer_is_unpacked_once(kept: store.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one = ensure(kept, LOWER, ["x"])
    before = {digest: os.stat(kept.tree(digest)).st_ino for digest in one.lower}
    two = ensure(kept, LOWER, ["y"], name="sha256:other")
    assert two.lower[-1] == one.lower[-1] and two.lower[0] != one.lower[0]
    assert os.stat(kept.tree(one.lower[-1])).st_ino == before[one.lower[-1]]
    monkeypatch.setattr(stack, "build", None)
    known = ensure(kept, LOWER, ["x"])
    assert (known.lower, known.made, known.hidden) == (one.lower, one.made, one.hidden)


def test_a_known_image_whose_layer_is_gone_is_unpacked_again(kept: store.Store) -> None:
    chain = ensure(kept, LOWER)
    fs.remove_tree(kept.tree(chain.lower[0]))
    assert kept.chain("sha256:image") is None
    assert os.path.isdir(kept.tree(ensure(kept, LOWER).lower[0]))


def test_what_fails_is_not_kept(kept: store.Store) -> None:
    good, bad = make.archive("a"), make.source(make.archive("b"))
    bad.diff_id = f"sha256:{'0' * 64}"
    with pytest.raises(Error, match="wrong diff id"):
        kept.ensure("sha256:image", [make.source(good), bad], owner.for_process(), Limits())
    assert os.listdir(f"{kept.path}/.new") == []
    assert kept.chain("sha256:image") is None
    assert not kept.has(bad.diff_id)


def test_others_cannot_reach_the_layers(kept: store.Store) -> None:
    ensure(kept, [{"name": "setuid", "mode": 0o4755, "data": b"x"}])
    assert stat.S_IMODE(os.stat(kept.path).st_mode) == 0o700


def test_what_killed_processes_left_is_swept(kept: store.Store) -> None:
    ensure(kept, ["a"])
    os.makedirs(f"{kept.path}/.new/-sha256-dead/tree")
    os.mkdir(f"{kept.path}/.new/-sha256-alive")
    with fs.Lock(f"{kept.path}/.new/-sha256-alive.lock"):
        ensure(kept, ["b"], name="sha256:other")
        assert sorted(os.listdir(f"{kept.path}/.new")) == ["-sha256-alive", "-sha256-alive.lock"]


def test_two_processes_unpack_a_layer_once(kept: store.Store, tmp_path: Path) -> None:
    """The second waits for the first, and then finds it there."""
    big = make.archive(*(f"f{at}" for at in range(2000)))
    (tmp_path / "big.tar").write_bytes(big)
    code = """if True:
        import sys
        sys.path[:0] = sys.argv[3:]
        from oci_tools.layer import owner, store
        from oci_tools.layer.limits import Limits
        from tests.layer import make
        data = open(sys.argv[2], 'rb').read()
        chain = store.Store(path=sys.argv[1]).ensure('sha256:image', [make.source(data)], owner.for_process(), Limits())
        print(chain.lower[0])
    """
    words = [sys.executable, "-c", code, kept.path, f"{tmp_path}/big.tar", *sys.path]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(4)]
    said = {process.communicate()[0].strip() for process in running}
    assert [process.returncode for process in running] == [0] * 4 and len(said) == 1
    assert len(os.listdir(kept.tree(said.pop().decode()))) == 2000
    assert os.listdir(f"{kept.path}/.new") == []


def test_roots_and_the_lock(kept: store.Store, tmp_path: Path) -> None:
    with kept.lock(), kept.lock():
        kept.use(f"{tmp_path}/bundle", "name")
        kept.use(f"{tmp_path}/bundle", "name")
        held = os.open(f"{kept.path}/.lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(held)
    assert os.readlink(f"{kept.path}/.roots/name") == f"{tmp_path}/bundle"
    assert os.listdir(f"{kept.path}/.roots") == ["name"]


def test_busy_is_said(kept: store.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "NEW_TIMEOUT", 0.0)
    source = make.source(make.archive("a"))
    with kept.new(source.diff_id or ""), pytest.raises(Busy):
        kept.ensure("sha256:image", [source], owner.for_process(), Limits())


@pytest.fixture
def plain_user(public: Path) -> Iterator[Path]:
    os.chown(public, 12345, 12345)
    yield public


@pytest.mark.root
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_plain_users_layers_have_marks_that_a_user_may_set(plain_user: Path) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setresgid(12345, 12345, 12345)
            os.setresuid(12345, 12345, 12345)
            whose = owner.for_process()
            kept = store.Store(whose.key, f"{plain_user}/layers")
            chain = ensure(kept, LOWER, ["a/.wh.f", "a/.wh.d", "a/d/y"], whose=whose)
            top = kept.tree(chain.lower[0])
            gone = os.lstat(f"{top}/a/f")
            assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
            assert os.getxattr(f"{top}/a/d", "user.overlay.opaque") == b"y"
            assert kept.trees == f"{plain_user}/layers/single-12345-12345"
            store.make_upper(f"{plain_user}/upper", chain)
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
