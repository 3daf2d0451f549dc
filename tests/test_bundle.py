"""Bundles: made whole or not at all, known by their record, over a shared store."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oci_tools import bundle, compress, fs
from oci_tools.bundle import pack
from oci_tools.errors import Busy, Error
from oci_tools.image import layout as layouts
from oci_tools.layer import lookup, owner, store
from oci_tools.layer.limits import Limits
from tests.layer import listing, make


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OCI_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture
def layout(tmp_path: Path) -> layouts.Layout:
    return layouts.Layout.create(f"{tmp_path}/img")


def image(layout: layouts.Layout, *layers: Any, **config: Any) -> bundle.Image:
    """An image of layers, in the layout under the name `x`."""
    import io

    base = pack.Base(None)
    for layer in layers:
        options = pack.Options()
        options.compression = "gzip"
        made = pack.archive(io.BytesIO(make.archive(*layer)), layout, base, options, Limits())
        base = pack.Base(bundle.Image(layout, made))
    options = pack.Options()
    options.edit = lambda old: {**old, "config": {"Cmd": ["/bin/true"], **config}}
    made = pack._image(layout, base, options, lambda packing: False)
    layout.tag("x", made)
    return bundle.Image(layout, made, name="x")


def unpack(image: bundle.Image, path: Path) -> str:
    return bundle.unpack(image, str(path), owner.for_process(), Limits())


def test_a_bundle_is_whole(layout: layouts.Layout, tmp_path: Path) -> None:
    one = image(layout, ["a/", "a/x"], ["a/y"], Env=["A=b"])
    path = unpack(one, tmp_path / "b")
    assert path == str(tmp_path / "b")
    assert sorted(os.listdir(path)) == [".oci-unpack.json", ".oci-unpack.snapshot", "config.json", "rootfs"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert [line.path for line in listing.lines(tmp_path / "b/rootfs")] == ["a", "a/x", "a/y"]
    spec = json.loads((tmp_path / "b/config.json").read_text())
    assert spec["process"]["args"] == ["/bin/true"] and "A=b" in spec["process"]["env"]
    known = bundle.record(path)
    assert known["image"] == layouts.handle(layout, one.descriptor)
    assert (known["name"], known["config"], known["diffIds"]) == ("x", one.id, one.diff_ids)
    assert known["layers"] == [layer["digest"] for layer in one.layers]


@pytest.mark.parametrize("there", ["missing", "empty", "deep"])
def test_where_a_bundle_may_be_made(there: str, layout: layouts.Layout, tmp_path: Path) -> None:
    path = tmp_path / {"missing": "b", "empty": "b", "deep": "x/y/b"}[there]
    if there == "empty":
        path.mkdir()
    assert bundle.is_bundle(unpack(image(layout, ["a"]), path))


@pytest.mark.parametrize("there", ["file", "full", "bundle", "stranger"])
def test_where_it_may_not(there: str, layout: layouts.Layout, tmp_path: Path) -> None:
    path = tmp_path / "b"
    one = image(layout, ["a"])
    if there == "file":
        path.write_text("file")
    elif there == "bundle":
        unpack(one, path)
    else:
        (path / (bundle.WORK if there == "stranger" else "x")).mkdir(parents=True)
        (path / "precious").write_text("precious")
    before = listing.tree(tmp_path)
    with pytest.raises(Error):
        unpack(one, path)
    assert listing.tree(tmp_path) == before


def test_what_fails_leaves_nothing(layout: layouts.Layout, tmp_path: Path) -> None:
    one = image(layout, ["a"], ["h=nowhere"])
    (tmp_path / "empty").mkdir()
    for name in ("b", "empty"):
        with pytest.raises(Error, match="no such file to link to"):
            unpack(one, tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["empty", "img"]
    assert os.listdir(tmp_path / "empty") == []


def test_two_at_once(layout: layouts.Layout, tmp_path: Path) -> None:
    one = image(layout, ["a"])

    def meanwhile(image: bundle.Image, rootfs: Any) -> dict[str, Any]:
        with pytest.raises(Busy, match="another process is unpacking into it"):
            unpack(one, tmp_path / "b")
        return bundle.specification(image, rootfs)

    bundle.unpack(one, f"{tmp_path}/b", owner.for_process(), Limits(), meanwhile)
    assert bundle.is_bundle(f"{tmp_path}/b")


KILLED = """if True:
    import os, sys
    sys.path[:0] = sys.argv[3:]
    from oci_tools import bundle
    from oci_tools.image import layout
    from oci_tools.layer import owner, snapshot
    from oci_tools.layer.limits import Limits
    from oci_tools.bundle import overlay, unpack

    def wait(*_):
        print(flush=True)
        sys.stdin.read()

    place = layout.Layout.open(sys.argv[1])
    image = bundle.Image(place, place.find("x"))
    unpack(image, sys.argv[2], owner.for_process(), Limits(), wait)
"""


def test_a_killed_one_is_no_bundle_and_is_replaced(layout: layouts.Layout, tmp_path: Path) -> None:
    one = image(layout, ["a", "b"])
    words = [sys.executable, "-c", KILLED, layout.path, f"{tmp_path}/b", *sys.path]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"\n"
        with pytest.raises(Busy):
            unpack(one, tmp_path / "b")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert os.listdir(tmp_path / "b") == [bundle.WORK]
    assert not bundle.is_bundle(f"{tmp_path}/b")
    unpack(one, tmp_path / "b")
    assert sorted(os.listdir(tmp_path / "b/rootfs")) == ["a", "b"]
    assert bundle.WORK not in os.listdir(tmp_path / "b")


def test_layers_of_unknown_type(layout: layouts.Layout, tmp_path: Path) -> None:
    one = image(layout, ["a"])
    one.layers[0]["mediaType"] = "application/vnd.wasm.content.layer.v1+wasm"
    with pytest.raises(Error, match="unknown type of layer"):
        unpack(one, tmp_path / "b")


@pytest.mark.parametrize("kind", ["+zstd", "", ".gzip"])
def test_a_media_type_that_lies_is_a_warning(kind: str, layout: layouts.Layout, tmp_path: Path) -> None:
    one = image(layout, ["a"])
    one.layers[0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar" + kind
    told: list[str] = []
    bundle.unpack(one, f"{tmp_path}/b", owner.for_process(told.append), Limits())
    assert len(told) == (kind != ".gzip") and all("is gzip, whatever its type says" in text for text in told)


# -- overlays ------------------------------------------------------------------------------


def test_an_overlay_bundle(layout: layouts.Layout, tmp_path: Path, root: Path) -> None:
    one = image(layout, ["etc/", ("etc/passwd", b"me:x:12:34::/:\n")], ["y"], User="me")
    path = bundle.overlay(one, f"{tmp_path}/b")
    assert sorted(os.listdir(path)) == [".oci-unpack.json", "config.json", "rootfs", "upper", "work"]
    stacked = bundle.overlay_of(path)
    assert stacked and stacked["lower"] == one.diff_ids[::-1]
    trees = [f"{stacked['store']}/{digest.replace(':', '/')}" for digest in stacked["lower"]]
    assert [os.listdir(tree) for tree in trees] == [["y"], ["etc"]]
    assert (stacked["upper"], stacked["work"]) == ("upper", "work")
    spec = json.loads((tmp_path / "b/config.json").read_text())
    assert spec["process"]["user"]["uid"] == 12
    assert [os.readlink(f"{root}/layers/.roots/{name}") for name in os.listdir(f"{root}/layers/.roots")] == [path]


def test_a_second_one_unpacks_nothing(layout: layouts.Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = image(layout, ["a"], ["b"])
    bundle.overlay(one, f"{tmp_path}/b1")
    for layer in one.layers:
        os.unlink(layout.blob_path(layer))
    monkeypatch.setattr(store.Store, "ensure", None)
    bundle.overlay(one, f"{tmp_path}/b2")
    assert bundle.overlay_of(f"{tmp_path}/b2") == bundle.overlay_of(f"{tmp_path}/b1")


def test_a_second_one_loads_little(layout: layouts.Layout, tmp_path: Path, root: Path) -> None:
    """One-shot containers are made of a known image; what that loads is the price of every start."""
    bundle.overlay(image(layout, ["a"]), f"{tmp_path}/b1")
    code = """if True:
        import sys
        sys.path[:0] = sys.argv[3:]
        before = set(sys.modules)
        from oci_tools import bundle
        from oci_tools.image import layout
        place = layout.Layout.open(sys.argv[1])
        bundle.overlay(bundle.Image(place, place.find("x")), sys.argv[2])
        print(*sorted(set(sys.modules) - before))
    """
    words = [sys.executable, "-ISc", code, layout.path, f"{tmp_path}/b2", str(Path(bundle.__file__).parents[2])]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={"OCI_ROOT": str(root)})
    found = {name for name in done.stdout.split() if name.startswith("oci_tools.layer.")}
    assert found == {f"oci_tools.layer.{name}" for name in ("lookup", "store", "tree")}
    assert not {"json", "re", "threading", "hashlib", "typing", "isal", "zlib"} & set(done.stdout.split())


def test_an_overlay_bundle_that_fails_leaves_no_bundle(layout: layouts.Layout, tmp_path: Path) -> None:
    for one, why in ((image(layout, ["h=nowhere"]), "no such file"), (image(layout), "no layers")):
        with pytest.raises(Error, match=why):
            bundle.overlay(one, f"{tmp_path}/b")
        assert not os.path.exists(f"{tmp_path}/b")


def test_removing(layout: layouts.Layout, tmp_path: Path, root: Path) -> None:
    one = image(layout, [{"kind": "d", "name": "ro", "mode": 0o500}, "ro/x"])
    for path in (unpack(one, tmp_path / "b1"), bundle.overlay(one, f"{tmp_path}/b2")):
        bundle.remove(path)
        assert not os.path.exists(path)
    assert os.listdir(f"{root}/layers/.roots") == []
    (tmp_path / "tree").mkdir()
    with pytest.raises(Error, match="no bundle of ours"):
        bundle.remove(f"{tmp_path}/tree")


# -- packing -------------------------------------------------------------------------------------


def change(path: str, layout: layouts.Layout, **options: Any) -> bundle.Image:
    chosen = pack.Options()
    for name, value in options.items():
        setattr(chosen, name, value)
    return bundle.Image(layout, pack.changes(path, layout, chosen))


@pytest.mark.parametrize("shape", ["plain", "overlay"])
def test_no_change_is_the_same_image(shape: str, layout: layouts.Layout, tmp_path: Path) -> None:
    one = image(layout, ["a/", "a/x"], ["tmp/z"])
    path = unpack(one, tmp_path / "b") if shape == "plain" else bundle.overlay(one, f"{tmp_path}/b")
    assert change(path, layout).id == one.id


@pytest.mark.parametrize("shape", ["plain", "overlay"])
def test_a_change_is_a_layer_on_the_same_ones(shape: str, layout: layouts.Layout, tmp_path: Path) -> None:
    one = image(layout, ["a/", "a/x"])
    if shape == "plain":
        path = unpack(one, tmp_path / "b")
        new = tmp_path / "b/rootfs/new"
    else:
        path = bundle.overlay(one, f"{tmp_path}/b")
        new = tmp_path / "b/upper/new"
    new.write_text("new")
    os.utime(new, (1_700_000_000, 1_700_000_000))
    two = change(path, layout, told=("oci-pack", "why", ""))
    assert two.layers[:-1] == one.layers and two.diff_ids[:-1] == one.diff_ids
    assert two.config["created"] == "2023-11-14T22:13:20Z"
    assert two.config["history"][-1] == {"created": two.config["created"], "created_by": "oci-pack", "comment": "why"}
    assert two.config["config"] == one.config["config"]
    assert change(path, layout, told=("oci-pack", "why", "")).descriptor == two.descriptor, "the same bytes every time"
    again = unpack(two, tmp_path / "again")
    assert (Path(again) / "rootfs/new").read_text() == "new"


def test_volumes_are_left_out(layout: layouts.Layout, tmp_path: Path) -> None:
    one = image(layout, ["data/", "a"], Volumes={"/data": {}})
    path = unpack(one, tmp_path / "b")
    (tmp_path / "b/rootfs/data/x").write_text("x")
    assert change(path, layout).id == one.id
    assert len(change(path, layout, volumes=True).layers) == len(one.layers) + 1


def test_compression_is_the_last_layers(layout: layouts.Layout, tmp_path: Path) -> None:
    one = image(layout, ["a"])
    path = unpack(one, tmp_path / "b")
    (tmp_path / "b/rootfs/new").write_text("new")
    two = change(path, layout, compression="zstd")
    assert two.layers[-1]["mediaType"].endswith("+zstd")
    (Path(unpack(two, tmp_path / "c")) / "rootfs/newer").write_text("newer")
    assert change(f"{tmp_path}/c", layout).layers[-1]["mediaType"].endswith("+zstd")


def test_other_bytes_than_the_compatibility_level_says(
    layout: layouts.Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = unpack(image(layout, ["a"]), tmp_path / "b")
    (tmp_path / "b/rootfs/new").write_text("new")
    monkeypatch.setattr(compress, "SUMS", {"gzip": (0,) * 9})
    told: list[str] = []
    change(path, layout, warn=told.append)
    assert told == ["the gzip library here makes other bytes than compatibility level 2"]
    before = sorted(os.listdir(f"{layout.path}/blobs/sha256"))
    with pytest.raises(Error, match="cannot pack: the gzip library here makes other bytes"):
        change(path, layout, compatible=2)
    assert sorted(os.listdir(f"{layout.path}/blobs/sha256")) == before
    change(path, layout, strict=True, compression="none")


def test_the_parent_is_copied_into_another_layout(layout: layouts.Layout, tmp_path: Path) -> None:
    path = unpack(image(layout, ["a"]), tmp_path / "b")
    (tmp_path / "b/rootfs/new").write_text("new")
    other = layouts.Layout.create(f"{tmp_path}/other")
    two = change(path, other)
    assert all(other.has(layer) for layer in two.layers)
    layout.close()
    fs.remove_tree(layout.path)
    assert change(path, other).descriptor == two.descriptor, "it is in the target by now"


def test_a_parent_that_is_gone(layout: layouts.Layout, tmp_path: Path) -> None:
    path = unpack(image(layout, ["a"]), tmp_path / "b")
    layout.close()
    fs.remove_tree(layout.path)
    with pytest.raises(Error, match="cannot find the bundle's image"):
        change(path, layouts.Layout.create(f"{tmp_path}/other"))


def test_epoch(layout: layouts.Layout, tmp_path: Path) -> None:
    path = unpack(image(layout, ["a"]), tmp_path / "b")
    (tmp_path / "b/rootfs/new").write_text("new")
    one = change(path, layout, epoch=1_600_000_001)
    os.utime(tmp_path / "b/rootfs/new")
    assert change(path, layout, epoch=1_600_000_001).descriptor == one.descriptor
    assert one.config["created"] == "2020-09-13T12:26:41Z"


def test_history_may_be_silent_but_counts(layout: layouts.Layout, tmp_path: Path) -> None:
    path = unpack(image(layout, ["a"]), tmp_path / "b")
    (tmp_path / "b/rootfs/new").write_text("new")
    one = change(path, layout, history=False)
    layers = [entry for entry in one.config["history"] if not entry.get("empty_layer")]
    assert len(layers) == len(one.layers) and "created_by" not in layers[-1]


def test_files_of_a_bundle_are_found_without_mounting(layout: layouts.Layout, tmp_path: Path) -> None:
    stacked = bundle.overlay_of(bundle.overlay(image(layout, ["a/", ("a/x", b"1")], ["l>a"]), f"{tmp_path}/b"))
    assert stacked
    kept = store.Store()
    read = lookup.reader([kept.tree(digest) for digest in stacked["lower"]], 10)
    assert read("l/x") == b"1" and read("l/y") is None
