"""Archives: what others write we read, what we write others read, and nothing hostile gets far."""

import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import archive, manifest
from oci_tools.image import config as configs
from oci_tools.image import digest as digests
from oci_tools.image import layout as layouts
from oci_tools.image.layout import Layout
from oci_tools.image.source import Scratch
from tests.image.make import Pipe, image, tar


def written(layout, *images):
    stream = io.BytesIO()
    archive.write(layout, images, stream)
    return stream.getvalue()


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as made:
        return {m.name: made.extractfile(m).read() for m in made if m.isfile()}


@pytest.fixture
def layout(tmp_path):
    with Layout.create(str(tmp_path / "img")) as made:
        yield made


@pytest.fixture
def other(tmp_path):
    with Layout.create(str(tmp_path / "other")) as made:
        yield made


# -- there and back ---------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
@pytest.mark.parametrize("compress", [None, gzip.compress])
def test_round_trip(layout, other, wrap, compress):
    one = image(layout, "one", compress)
    data = written(layout, ("app", one))
    found = archive.read(Pipe(wrap(data)), other)
    assert [(name, d["digest"]) for name, d in found] == [("app", one["digest"])]
    for descriptor, _ in manifest.walk(layout, one):
        assert other.blob(descriptor).readall() == layout.blob(descriptor).readall()
    assert written(layout, ("app", one)) == data
    assert other.index()["manifests"] == []  # naming is the caller's


def test_contents(layout):
    one = image(layout, "one")
    two = image(layout, "two")
    data = written(layout, ("app", one), ("docker.io/library/b:1", one), ("two", two), (None, two))
    found = members(data)
    assert list(found)[:3] == ["oci-layout", "index.json", "manifest.json"]
    rows = json.loads(found["manifest.json"])
    assert [row["RepoTags"] for row in rows] == [
        ["docker.io/library/app:latest", "docker.io/library/b:1"],
        ["docker.io/library/two:latest"],
    ]
    assert all(row["Config"] in found and set(row["Layers"]) <= set(found) for row in rows)
    index = json.loads(found["index.json"])
    assert [layouts.ref_name(d) for d in index["manifests"]] == ["app", "docker.io/library/b:1", "two", None]
    blobs = [name for name in found if name.startswith("blobs/")]
    assert len(blobs) == len(set(blobs)) == 6
    assert data.endswith(bytes(1024))


def test_an_index_and_what_it_lacks(layout, other):
    host = image(layout)
    gone = {"mediaType": manifest.OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 5}
    both = layout.put(document.dumps(manifest.new_index([gone, host])), manifest.OCI_INDEX)
    data = written(layout, ("app", both))
    assert len(json.loads(members(data)["manifest.json"])) == 1
    [(name, descriptor)] = archive.read(Pipe(data), other)
    assert (name, descriptor["digest"]) == ("app", both["digest"])
    assert manifest.choose(other, descriptor)[0]["digest"] == host["digest"]


def test_long_names_and_large_files_have_a_pax_header(layout, other):
    one = image(layout, algorithm="sha512")
    assert any(len(name) > 100 for name in members(written(layout, ("app", one))))
    assert archive.read(Pipe(written(layout, ("app", one))), other)
    with tarfile.open(fileobj=io.BytesIO(archive._header("x", 1 << 40))) as made:
        assert made.next().size == 1 << 40


@given(st.integers(1, 10**7))
def test_pax_records_count_themselves(n):
    value = b"x" * (n % 1200)
    record = archive._record(b"path", value)
    assert record == b"%d path=%s\n" % (len(record), value)


def test_a_damaged_blob_is_not_written(layout):
    one = image(layout)
    layer = manifest.load(layout, one)["layers"][0]
    path = Path(layout.blob_path(layer))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Error, match="wrong digest"):
        written(layout, ("app", one))
    path.unlink()
    with pytest.raises(Error, match="missing blob"):
        written(layout, ("app", one))


# -- docker-archive -----------------------------------------------------------------------------


def docker_parts(compress=bytes):
    layers = [tar(("one", b"1")), tar(("two", b"2"))]
    made = configs.new("linux/amd64")
    for layer in layers:
        made = configs.with_layer(made, digests.of(layer))
    return [compress(layer) for layer in layers], document.dumps(made)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("first", [True, False])
def test_docker_archive(other, compress, first):
    """As docker save wrote it: a directory for a layer, a link for one that occurs twice; any order."""
    (one, two), config = docker_parts(compress)
    table = [
        {"Config": "c.json", "RepoTags": ["a:1", "b:2"], "Layers": ["x/layer.tar", "./y/../z/layer.tar"]}
    ]
    contents = ("manifest.json", document.dumps(table))
    files = [("x/VERSION", b"1.0"), ("x/json", b"{}"), ("x/layer.tar", one), ("w.tar", two),
             ("z/layer.tar", "-> ../w.tar"), ("c.json", config), ("repositories", b"{}")]  # fmt: skip
    data = tar(contents, *files) if first else tar(*files, contents)
    found = archive.read(Pipe(data), other)
    assert [name for name, _ in found] == ["a:1", "b:2"]
    made = manifest.load(other, found[0][1])
    assert made["config"]["digest"] == digests.of(config)  # the image's id stays
    assert [d["digest"] for d in made["layers"]] == [digests.of(one), digests.of(two)]
    assert configs.load(other, made)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"Layers": ["1.tar"]}, "2 diff ids for 1 layers"),
        ({"Layers": ["2.tar", "1.tar"]}, "not diff id"),
        ({"Layers": ["1.tar", "3.tar"]}, "'3.tar' is missing"),
        ({"Layers": "1.tar"}, "not well formed"),
        ({"Layers": [1, None]}, "'1' is missing"),
        ({"Config": None}, "not well formed"),
        ({"Config": "1.tar"}, "cannot read"),
        ({"Config": "/etc/passwd"}, "'etc/passwd' is missing"),
        ({"RepoTags": "a"}, "not well formed"),
        ({"RepoTags": [5]}, "not well formed"),
        ({"Layers": ["loop", "1.tar"]}, "is missing"),
    ],
)
def test_docker_archives_that_lie(other, change, why):
    (one, two), config = docker_parts()
    table = [{"Config": "c.json", "RepoTags": None, "Layers": ["1.tar", "2.tar"], **change}]
    data = tar(("1.tar", one), ("2.tar", two), ("c.json", config), ("loop", "-> loop"),
               ("manifest.json", document.dumps(table)))  # fmt: skip
    with pytest.raises(Error, match=why):
        archive.read(Pipe(data), other)


# -- hostile ------------------------------------------------------------------------------------


def contents(layout, tmp_path):
    return sorted(str(p) for p in tmp_path.rglob("*") if "blobs" not in p.parts)


def test_names_mean_nothing(layout, tmp_path):
    """No member is ever written under its own name."""
    before = contents(layout, tmp_path)
    config = docker_parts()[1]
    hostile = [("../../x.json", b"1"), ("/abs.tar", b"2"), ("blobs/sha256/../../../y", b"3"), ("index.json.new", b""),
               ("blobs/sha256/" + "0" * 63 + "/", b""), ("img", "-> /etc"), ("img/z.tar", b"4"), ("d.json", config),
               ("manifest.json", b"[]")]  # fmt: skip
    assert archive.read(Pipe(tar(*hostile)), layout) == []
    assert contents(layout, tmp_path) == before


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"x" * 600, "cannot read tar"),
        (tar(("x", b"y")), "neither index.json nor manifest.json"),
        (tar(("index.json", b"{")), "json"),
        (tar(("index.json", b'{"schemaVersion": 2, "manifests": [{"digest": "x"}]}')), "not a digest"),
        (tar(("manifest.json", b"{}")), "not a list"),
        (tar(("manifest.json", b"[5]")), "not well formed"),
        (tar(("blobs/sha256/" + "0" * 64, b"lie"), ("index.json", b"{}")), "wrong digest"),
        (tar(("a.json", b"x" * 5000))[:3000], "ends in the middle"),
        (gzip.compress(tar(("a.json", b"x" * 5000)))[:60], "ends early"),
    ],
)
def test_broken(layout, tmp_path, data, why):
    before = contents(layout, tmp_path)
    with pytest.raises(Error, match=why):
        archive.read(Pipe(data), layout)
    assert contents(layout, tmp_path) == before


def test_what_is_missing_is_missed(layout, other):
    one = image(layout)
    found = members(written(layout, ("app", one)))
    for name in [n for n in found if n.startswith("blobs/")]:
        data = tar(*[(n, d) for n, d in found.items() if n != name])
        with Scratch() as scratch, pytest.raises(Error, match="missing blob"):
            archive.read(Pipe(data), scratch)


def test_documents_are_limited(layout, monkeypatch):
    monkeypatch.setattr(archive.Limits, "documents", 1000)
    data = tar(*[(f"{n}.json", b"x" * 100) for n in range(20)])
    with pytest.raises(Error, match="larger than 1000 bytes"):
        archive.read(Pipe(data), layout)


@given(st.integers(0, 6000), st.binary(min_size=1, max_size=8))
def test_noise(tmp_path_factory, at, noise):
    """Any damage anywhere: an Error or the very image, never a bug."""
    base = tmp_path_factory.getbasetemp() / "noise"
    with Layout.create(str(base / "a")) as one, Layout.create(str(base / "b")) as two:
        descriptor = image(one)
        data = bytearray(written(one, ("app", descriptor)))
        data[at : at + len(noise)] = noise
        try:
            found = archive.read(Pipe(bytes(data)), two)
        except Error:
            return
        for _, d in found:
            assert not manifest.is_manifest(d.get("mediaType")) or d["digest"] == descriptor["digest"]


# -- peers ----------------------------------------------------------------------------------------


def run(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_skopeo_reads_ours(layout, tmp_path, kind):
    one = image(layout, compress=gzip.compress)
    (tmp_path / "a.tar").write_bytes(written(layout, ("docker.io/library/app:1", one)))
    run(
        "skopeo",
        "copy",
        "-q",
        f"{kind}:{tmp_path}/a.tar:docker.io/library/app:1",
        f"oci:{tmp_path}/theirs:app",
    )
    theirs = Layout.open(str(tmp_path / "theirs"))
    ours, found = (
        configs.load(at, manifest.load(at, d)) for at, d in ((layout, one), (theirs, theirs.find()))
    )
    assert configs.diff_ids(ours) == configs.diff_ids(found)  # skopeo writes a docker-archive's config anew
    if kind == "oci-archive":
        assert theirs.find("app")["digest"] == one["digest"]


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_we_read_skopeos(layout, other, tmp_path, kind):
    one = image(layout, compress=gzip.compress)
    layout.tag("app", one)
    run("skopeo", "copy", "-q", f"oci:{layout.path}:app", f"{kind}:{tmp_path}/a.tar:example.com/app:1")
    [(name, descriptor)] = archive.read(Pipe((tmp_path / "a.tar").read_bytes(), 1 << 16), other)
    assert name == "example.com/app:1"
    found = manifest.load(other, descriptor)
    assert configs.diff_ids(configs.load(other, found)) == [digests.of(tar(("hello", b"hello")))]


@pytest.mark.needs("umoci", "skopeo")
def test_umoci_reads_ours(layout, tmp_path):
    (tmp_path / "a.tar").write_bytes(written(layout, ("app", image(layout))))
    (tmp_path / "dir").mkdir()
    run("tar", "-xf", tmp_path / "a.tar", "-C", tmp_path / "dir")
    run("umoci", "unpack", "--rootless", "--image", f"{tmp_path}/dir:app", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/hello").read_text() == "hello"
    run("umoci", "stat", "--json", "--image", f"{tmp_path}/dir:app")


@pytest.mark.needs("umoci")
def test_we_read_umocis(other, tmp_path):
    run("umoci", "init", "--layout", tmp_path / "u")
    run("umoci", "new", "--image", f"{tmp_path}/u:app")
    run("tar", "-cf", tmp_path / "a.tar", "-C", tmp_path / "u", ".")
    [(name, descriptor)] = archive.read(Pipe((tmp_path / "a.tar").read_bytes()), other)
    assert name == "app"
    assert manifest.load(other, descriptor)["layers"] == []
