"""What differs between two images, and nothing else."""

import gzip

import pytest

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import diff as differ
from oci_tools.image import digest as digests
from oci_tools.image import files, manifest
from oci_tools.image.layout import Layout
from tests.layer import make


@pytest.fixture
def layout(tmp_path):
    with Layout.create(str(tmp_path / "img")) as made:
        yield made


def stored(layout, *layers, compress=bytes, annotations=None, **inner):
    config, descriptors = {**configs.new("linux/amd64", "2024-01-01T00:00:00Z"), "config": inner}, []
    for entries in layers:
        data = make.archive(*entries)
        config = configs.with_layer(config, digests.of(data), created_by=f"step {len(descriptors)}")
        kind = "none" if compress is bytes else "gzip"
        descriptors.append(layout.put(compress(data), manifest.layer_type("", kind)))
    return layout, manifest.load(layout, configs.store(layout, config, descriptors, annotations))


def differences(a, b, *ignore):
    return [tuple(row.values()) for row in differ.diff(a, b, frozenset(ignore))]


BASE = ["etc/", ("etc/a", b"1"), "etc/b", "etc/l>a"]


def test_the_same(layout):
    one = stored(layout, BASE, Env=["A=b"])
    assert differences(one, stored(layout, BASE, Env=["A=b"])) == []


def test_config_and_manifest(layout):
    one = stored(layout, BASE, Env=["A=b", "B=c"], Cmd=["sh"], annotations={"x": "1"})
    two = stored(layout, BASE, Env=["B=d", "A=b", "C"], Labels={"l": "v"}, annotations={"x": "2"})
    assert differences(one, two) == [
        ("manifest", "annotations.x", "changed", '"1"', '"2"'),
        ("config", "config.Cmd", "removed", '["sh"]', None),
        ("config", "config.Env.B", "changed", '"c"', '"d"'),
        ("config", "config.Env.C", "added", None, '""'),
        ("config", "config.Labels.l", "added", None, '"v"'),
    ]
    assert differences(one, two, "config", "annotations") == []


def test_time(layout):
    late = [{"kind": "d", "name": "etc", "mtime": make.T + 5_000_000_000}, *BASE[1:]]
    one, two = stored(layout, BASE), stored(layout, late)
    config = {**configs.load(*two), "created": "2025-01-01T00:00:00Z"}
    config["history"] = [{**config["history"][0], "created": "2025-01-01T00:00:00Z"}]
    two = layout, manifest.load(layout, configs.store(layout, config, two[1]["layers"]))
    found = differences(one, two, "layer")
    assert [row[:3] for row in found] == [
        ("config", "created", "changed"), ("config", "history[0].created", "changed"), ("file", "/etc", "time"),
    ]  # fmt: skip
    assert found[2][3:] == ("1600000000.000000000", "1600000005.000000000")
    assert differences(one, two, "layer", "time") == []


def test_files(layout):
    one = stored(layout, BASE, [("d/x", b"x"), "d/y/z"])
    two = stored(layout, BASE, [
        {"name": "etc/a", "data": b"2", "mode": 0o600, "uid": 5}, "etc/.wh.b", "etc/l>b", "etc/new",
        {"name": "d", "data": b""}, {"name": "dev", "kind": "c", "device": (1, 3)},
    ])  # fmt: skip
    found = differences(one, two, "layer", "history")
    sha = digests.of
    assert found == [
        ("file", "/d", "type", "d", "f"),
        ("file", "/dev", "added", None, "c 0644 0:0 1:3 1600000000.000000000"),
        ("file", "/d/x", "removed", f"f 0644 0:0 1 {sha(b'x')} 1600000000.000000000", None),
        ("file", "/d/y", "removed", "d 0755 0:0", None),
        ("file", "/d/y/z", "removed", f"f 0644 0:0 5 {sha(b'd/y/z')} 1600000000.000000000", None),
        ("file", "/etc/a", "mode", "0644", "0600"),
        ("file", "/etc/a", "owner", "0:0", "5:0"),
        ("file", "/etc/a", "content", sha(b"1"), sha(b"2")),
        ("file", "/etc/b", "removed", f"f 0644 0:0 5 {sha(b'etc/b')} 1600000000.000000000", None),
        ("file", "/etc/l", "target", "a", "b"),
        ("file", "/etc/new", "added", None, f"f 0644 0:0 7 {sha(b'etc/new')} 1600000000.000000000"),
    ]
    less = {row[1:3] for row in differences(one, two, "layer", "history", "owner", "mode", "time")}
    assert ("/etc/a", "owner") not in less
    assert ("/etc/a", "content") in less
    assert differences(one, two, "layer", "history", "file") == []


def test_the_same_files_cut_into_layers_differently(layout):
    one = stored(layout, BASE, ["x"])
    two = stored(layout, [*BASE, "x"], compress=gzip.compress)
    kinds = {row[0] for row in differences(one, two, "history")}
    assert kinds == {"layer"}


def test_layers_are_told_by_their_place(layout):
    one, two = stored(layout, ["a"], ["b"], ["c"]), stored(layout, ["a"], ["x"], ["b"], ["c"])
    rows = [row for row in differences(one, two) if row[0] == "layer"]
    assert [row[:4] for row in rows] == [("layer", "1", "added", None)]
    packed = stored(layout, ["a"], ["b"], ["c"], compress=gzip.compress)
    rows = [row for row in differences(one, packed) if row[0] != "layer"]
    assert rows == [], "what is only compressed differently has the same files, which are not read"


def test_layers_are_not_read_for_nothing(layout, monkeypatch):
    monkeypatch.setattr(files, "read_two", None)
    assert differences(stored(layout, ["a"]), stored(layout, ["a"], Cmd=["x"])) != []


def test_artifacts(layout):
    made = []
    for text in (b"1", b"2"):
        empty = layout.put(b"{}", manifest.OCI_EMPTY)
        found = {**manifest.new(empty, [layout.put(text, "text/x")]), "artifactType": "text/y"}
        made.append((layout, found))
    assert [row[:3] for row in differences(*made)] == [("layer", "0", "digest")]
    image = stored(layout, ["a"])
    assert {row[0] for row in differences(made[0], image)} == {"manifest", "config", "layer"}


def test_hostile_documents(layout):
    one = stored(layout, ["a"])
    deep = document.loads(b'{"a":' * 900 + b"1" + b"}" * 900)
    config = {**configs.load(*one), "config": {"Labels": {"x": deep}, "Env": [5, None, "=", "A=\0"]}, "history": [5, None]}
    two = layout, manifest.load(layout, configs.store(layout, config, one[1]["layers"]))
    assert differences(one, two)
    with pytest.raises(Error, match="diff ids"):
        differences(one, (layout, {**one[1], "layers": one[1]["layers"] * 1000}))
