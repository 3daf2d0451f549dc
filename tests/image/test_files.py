"""The list of an image's files is what unpacking makes of it, in every case and for any layers."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import digest as digests
from oci_tools.image import entries, files, manifest, tree
from oci_tools.image.layout import Layout
from oci_tools.image.tree import Dir
from tests.layer import listing, make
from tests.layer.test_tricky import LAYERS


@pytest.fixture
def layout(tmp_path):
    with Layout.create(str(tmp_path / "img")) as made:
        yield made


def stored(layout, *layers):
    """An image of layers, each the entries of one or an archive; its manifest."""
    config, descriptors = configs.new("linux/amd64"), []
    for layer in layers:
        data = layer if isinstance(layer, bytes) else make.archive(*layer)
        config = configs.with_layer(config, digests.of(data))
        descriptors.append(layout.put(gzip.compress(data, 1), manifest.OCI_LAYER_GZIP))
    return manifest.load(layout, configs.store(layout, config, descriptors))


def lines(root: Dir) -> list[str]:
    """The tree in the form of tests/layer/listing.py, without times and without what shares a file."""
    found: list[tuple[bytes, str]] = []
    waiting: list[tuple[bytes, Any]] = [(b"", root)]
    while waiting:
        path, node = waiting.pop()
        for name, kid in node.items():
            where = path + name
            if isinstance(kid, Dir):
                mode, uid, gid, _, xattrs = kid.meta or (0o755, 0, 0, 0, ())
                kind, size, what = "d", 0, ""
                waiting.append((where + b"/", kid))
            else:
                kind, mode, uid, gid, size, _, data, _, xattrs = kid
                escaped = listing.escaped(data)
                what = {"f": f"sha={data.hex()[:12]}", "l": f"->{escaped}", "p": ""}.get(kind, f"dev={escaped}")
            text = " ".join(f"{n.decode()}={v.hex()}" for n, v in xattrs)
            found.append((where, f"{listing.escaped(where)} {kind} {mode:04o} {uid}:{gid} {size} {what} {text}"))
    return sorted(line for _, line in found)


def unpacked(root: Path) -> list[str]:
    return sorted(
        f"{line.path} {line.kind} {line.mode} {line.owner} {line.size} {line.what} {line.xattrs}"
        for line in listing.lines(root)
    )


@pytest.mark.root
@pytest.mark.skipif(not LAYERS.is_dir(), reason=f"needs {LAYERS}")
@pytest.mark.parametrize("case", sorted(p.name for p in (LAYERS / "img").glob("*")) if LAYERS.is_dir() else [])
def test_a_tricky_layer(case: str, oci: Any, tmp_path: Path) -> None:
    done = oci("unpack", f"{LAYERS}/img/{case}:latest", "b", code=None)
    source = Layout.open(f"{LAYERS}/img/{case}")
    if done.returncode:
        with pytest.raises(Error):
            files.read(source, manifest.choose(source, source.find("latest"))[1])
    else:
        found = files.read(source, manifest.choose(source, source.find("latest"))[1])
        assert lines(found) == unpacked(tmp_path / "b" / "rootfs")


NAMES = st.sampled_from(["a", "b", "a/b", "a/c", "b/a", "a/b/c", "b/a/d", "a/b/c/d", "l", "l/a", "l/b/c"])
ENTRIES = st.one_of(
    NAMES,
    NAMES.map(lambda name: f"{name}/"),
    st.tuples(NAMES, NAMES).map("=".join),
    st.tuples(NAMES, st.sampled_from(["a", "../b", "/a/b", "..", "l", "/"])).map(">".join),
    NAMES.map(lambda name: f"{os.path.dirname(name)}/.wh.{os.path.basename(name)}".lstrip("/")),
    NAMES.map(lambda name: f"{name}/.wh..wh..opq"),
)


@pytest.mark.root
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(ENTRIES, max_size=6), min_size=1, max_size=4))
def test_any_layers(tmp_path: Path, layers: list[list[str]]) -> None:
    place = tempfile.mkdtemp(dir=tmp_path)
    with Layout.create(f"{place}/img") as layout:
        image = stored(layout, *layers)
        try:
            make.unpack(f"{place}/t", *layers)
        except Error:
            with pytest.raises(Error):
                files.read(layout, image)
        else:
            assert lines(files.read(layout, image)) == unpacked(Path(place, "t"))


def test_hard_links_share_a_file(layout):
    root = files.read(layout, stored(layout, ["d/a"], ["b=d/a", "c=b", {"name": "d/a", "data": b"new"}]))
    assert root.get(b"b") == root.get(b"c") and root.get(b"b")[7]
    assert root.get(b"d").get(b"a")[7] == 0


def test_two_images_share_what_they_begin_with(layout):
    base = ["d/a", "d/b", "e/f"]
    one, two = stored(layout, base, ["d/.wh.a"]), stored(layout, base, ["d/c", "e"])
    a, b = files.read_two((layout, one), (layout, two))
    assert lines(a) == lines(files.read(layout, one))
    assert lines(b) == lines(files.read(layout, two))
    assert a.get(b"d").get(b"b") is b.get(b"d").get(b"b")
    assert isinstance(a.get(b"e"), Dir)


@pytest.mark.parametrize("tar", ["1.0", "0.1"])
def test_holes_are_zeros(layout, tmp_path, tar):
    import subprocess

    with open(tmp_path / "f", "wb") as file:
        file.seek(3 << 20)
        file.write(b"data")
        file.truncate(9 << 20)
    words = ["tar", "-cS", "--format=posix", f"--sparse-version={tar}", "-C", tmp_path, "f"]
    sparse = subprocess.run(words, check=True, capture_output=True).stdout
    whole = make.archive(("f", (tmp_path / "f").read_bytes()))
    assert len(sparse) < 1 << 20
    one, two = (files.read(layout, stored(layout, data)).get(b"f") for data in (sparse, whole))
    assert one[6] == two[6]
    assert one[4] == 9 << 20


def test_what_costs_too_much(layout, monkeypatch):
    monkeypatch.setattr(entries.Limits, "names", 1000)
    with pytest.raises(Error, match="too many files"):
        files.read(layout, stored(layout, ["/".join("a" * 600)], ["/".join("b" * 600)]))
    monkeypatch.setattr(entries.Limits, "entries", 10)
    with pytest.raises(Error, match="more than 10 entries"):
        files.read(layout, stored(layout, [f"f{n}" for n in range(20)]))
    monkeypatch.setattr(tree, "STEPS_MAX", 1)
    monkeypatch.setattr(entries.Limits, "entries", 1000)
    with pytest.raises(Error, match="walked for too long"):
        files.read(layout, stored(layout, ["d/x", "l>" + "/./" + "d/../" * 200 + "d", "l/a", "d/b", "l/c", "d/d", "l/e"]))


def test_a_layer_that_lies(layout):
    image = stored(layout, ["a"])
    config = json.loads(layout.read(image["config"]))
    config["rootfs"]["diff_ids"] = [f"sha256:{'0' * 64}"]
    image["config"] = layout.put(json.dumps(config).encode(), manifest.OCI_CONFIG)
    with pytest.raises(Error, match="not diff id"):
        files.read(layout, image)
