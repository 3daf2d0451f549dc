"""A layout under many writers, killed writers and hostile content."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oci_tools import document, fs
from oci_tools.errors import Busy, Error
from oci_tools.image import layout as layouts
from oci_tools.image import manifest
from oci_tools.image.layout import REF_NAME, UNTAGGED, Layout

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture
def layout(tmp_path):
    with Layout.create(str(tmp_path / "img")) as made:
        yield made


def image(layout, note="", layers=()):
    config = layout.put(document.dumps({"note": note}), manifest.OCI_CONFIG)
    return layout.put(document.dumps(manifest.new(config, layers)), manifest.OCI_MANIFEST)


def names(layout):
    return [layouts.ref_name(d) for d in layout.index()["manifests"]]


def files(path):
    return sorted(str(p.relative_to(path)) for p in Path(path).rglob("*") if p.is_file())


# -- making and opening -----------------------------------------------------------------


def test_create(tmp_path):
    path = tmp_path / "deep" / "img"
    Layout.create(str(path)).close()
    assert files(path) == ["index.json", "oci-layout"]
    assert json.loads((path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert Layout.open(str(path)).index()["manifests"] == []
    Layout.create(str(path)).close()  # again: the same one


def test_create_finishes_a_half_made_one(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "index.json.1.2.new").write_text("")
    Layout.create(str(tmp_path)).close()
    assert (tmp_path / "oci-layout").exists()


def test_create_refuses_a_project(tmp_path):
    (tmp_path / "Makefile").write_text("")
    with pytest.raises(Error, match="not empty"):
        Layout.create(str(tmp_path))
    assert files(tmp_path) == ["Makefile"]


def test_open_refuses(tmp_path):
    with pytest.raises(Error, match="no such directory"):
        Layout.open(str(tmp_path / "none"))
    with pytest.raises(Error, match="no oci-layout"):
        Layout.open(str(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(Error, match="oci-archive:FILE"):
        Layout.open(str(tmp_path / "file"))
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    with pytest.raises(Error, match="unknown version"):
        Layout.open(str(tmp_path))


@pytest.mark.parametrize(
    "index", ["", "[]", "{", '{"manifests": 5}', '{"manifests": [5]}', '{"manifests": {}}']
)
def test_hostile_index(layout, index):
    Path(layout.path, "index.json").write_text(index)
    with pytest.raises(Error):
        layout.find("app")


def test_null_manifests(layout):
    """Go writes null for an empty list."""
    Path(layout.path, "index.json").write_text('{"schemaVersion": 2, "manifests": null}')
    layout.tag("app", image(layout))
    assert names(layout) == ["app"]


# -- names ------------------------------------------------------------------------------


def test_tag_and_find(layout):
    one, two = image(layout, "1"), image(layout, "2")
    layout.tag("one", one)
    assert layout.find()["digest"] == one["digest"]
    layout.tag("two", two)
    assert layout.find("two")["digest"] == two["digest"]
    assert layout.find(one["digest"])["digest"] == one["digest"]
    with pytest.raises(Error, match=r"there are 2 \(one, two\)"):
        layout.find()
    with pytest.raises(Error, match="no such image '.*:three'"):
        layout.find("three")
    layout.tag("three", two)
    assert names(layout) == ["one", "two", "three"]


def test_retagging_keeps_the_old_without_a_name(layout):
    one, two = image(layout, "1"), image(layout, "2")
    layout.tag("app", one)
    layout.tag("app", two)
    assert names(layout) == ["app", None]
    assert layout.find("app")["digest"] == layout.find()["digest"] == two["digest"]
    left = layout.find(one["digest"])
    assert left["annotations"].keys() == {UNTAGGED}
    layout.tag("app", one)  # and back: the nameless entry becomes the named one
    assert names(layout) == ["app", None]
    assert UNTAGGED not in layout.find("app")["annotations"]
    assert len(layout.index()["manifests"]) == 2


def test_untag(layout):
    one = image(layout)
    layout.tag("a", one)
    layout.tag("b", one)
    layout.untag("a")
    assert names(layout) == ["b"]  # another name keeps it: no nameless entry
    layout.untag("b")
    assert names(layout) == [None]
    assert layout.find()["digest"] == one["digest"]
    with pytest.raises(Error, match="no such image"):
        layout.untag("b")


def test_tagging_without_a_name(layout):
    one = image(layout)
    layout.tag(None, one)
    layout.tag(None, one)
    assert layout.index()["manifests"] == [one]  # no mark: it never had a name, so gc leaves it
    layout.tag("a", one)
    layout.tag(None, one)
    assert names(layout) == ["a"]


def test_names_that_occur_twice(layout):
    """The specification allows it; the first is meant, and a new one replaces them all."""
    entries = [{**image(layout, n), "annotations": {REF_NAME: "x", "n": n}} for n in "12"]
    index = layout.index() | {"manifests": entries}
    Path(layout.path, "index.json").write_bytes(document.dumps(index))
    assert layout.find("x")["annotations"]["n"] == "1"
    layout.tag("x", image(layout, "3"))
    assert names(layout) == ["x", None, None]


def test_unknown_members_and_files_survive(layout):
    foreign = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": "text/x",
                "digest": "md5:zz",
                "size": -5,
                "annotations": {REF_NAME: "odd"},
                "more": [1],
            },
            {"annotations": [], "digest": 7},
        ],
        "annotations": {"a": "b"},
        "org.example": {"x": None},
    }
    Path(layout.path, "index.json").write_bytes(document.dumps(foreign))
    Path(layout.path, "manifest.json").write_text("[]")
    layout.tag("app", image(layout))
    index = layout.index()
    assert index.pop("manifests")[:2] == foreign["manifests"]
    assert index == {k: v for k, v in foreign.items() if k != "manifests"}
    assert Path(layout.path, "manifest.json").read_text() == "[]"


@pytest.mark.parametrize("name", ["", "a b", "a\n", "-x", ":x", "é", "sha256:" + "0" * 64])
def test_bad_names(layout, name):
    with pytest.raises(Error, match="invalid image name"):
        layout.tag(name, image(layout))


def test_an_error_changes_nothing(layout):
    layout.tag("app", image(layout))
    before = Path(layout.path, "index.json").stat()

    def change(index):
        index["manifests"].clear()
        raise Error("no")

    with pytest.raises(Error):
        layout.update(change)
    layout.tag("app", layout.find("app"))  # nothing new: not written at all
    after = Path(layout.path, "index.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_find_within_indexes(layout):
    one = image(layout)
    inner = layout.put(document.dumps(manifest.new_index([one])), manifest.OCI_INDEX)
    outer = layout.put(document.dumps(manifest.new_index([inner])), manifest.OCI_INDEX)
    layout.tag("app", outer)
    assert layout.find(one["digest"]) == one
    with pytest.raises(Error, match="no such image"):
        layout.find("sha256:" + "0" * 64)


# -- blobs -------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_put_and_read(layout, algorithm):
    descriptor = layout.put(b"{}", "text/x", algorithm)
    assert layout.read(descriptor) == b"{}"
    assert layout.has(descriptor)
    assert Path(layout.blob_path(descriptor)).read_bytes() == b"{}"
    assert layout.put(b"{}", "text/x", algorithm) == descriptor
    assert not Path(layout.path, ".ingest").exists()


def test_put_heals(layout):
    descriptor = layout.put(b"abc", "text/x")
    for damage in b"abd", b"ab", b"abcd":
        Path(layout.blob_path(descriptor)).write_bytes(damage)
        with pytest.raises(Error, match="wrong (digest|size)"):
            layout.read(descriptor)
        layout.put(b"abc", "text/x")
        assert layout.read(descriptor) == b"abc"


def test_read_refuses(layout, tmp_path):
    descriptor = layout.put(b"abc", "text/x")
    with pytest.raises(Error, match="more than 2"):
        layout.read(descriptor, limit=2)
    with pytest.raises(Error, match="wrong size"):
        layout.read({**descriptor, "size": 2})
    with pytest.raises(Error, match="not a descriptor"):
        layout.read({**descriptor, "size": -3})
    with pytest.raises(Error, match="missing blob"):
        layout.read({**descriptor, "digest": "sha256:" + "0" * 64})
    path = layout.blob_path(descriptor)
    os.unlink(path)
    os.mkfifo(path)  # must not block
    with pytest.raises(Error, match="wrong size"):
        layout.read({**descriptor, "size": 0})
    assert not layout.has({**descriptor, "size": 0})


def test_embedded_data(layout):
    descriptor = {**layout.put(b"abc", "text/x"), "data": "YWJj"}
    os.unlink(layout.blob_path(descriptor))
    assert layout.read(descriptor) == b"abc"
    for wrong in "YWJk", "!", 5:
        with pytest.raises(Error):
            layout.read({**descriptor, "data": wrong})


def test_ingest(layout):
    with layout.ingest() as ingest:
        ingest.write(b"ab")
        ingest.write(memoryview(b"c"))
        descriptor = ingest.commit("text/x")
    assert layout.read(descriptor) == b"abc"
    assert not Path(layout.path, ".ingest").exists()


@pytest.mark.parametrize("content", [b"ab", b"abd", b"abcd"])
@pytest.mark.parametrize("resume", [False, True])
def test_ingest_of_the_wrong_content(layout, content, resume):
    wanted = {"mediaType": "text/x", "digest": layouts.digests.of(b"abc"), "size": 3}
    with pytest.raises(Error, match="wrong"), layout.ingest(wanted, resume=resume) as ingest:
        ingest.write(content)
        ingest.commit()
    assert not layout.has(wanted)
    left = files(f"{layout.path}/.ingest")
    assert len(left) == (1 if resume and content == b"ab" else 0)  # only a beginning may be resumed


def test_resume(layout):
    wanted = {"mediaType": "text/x", "digest": layouts.digests.of(b"abcdef"), "size": 6}
    with layout.ingest(wanted, resume=True) as ingest:
        ingest.write(b"abc")
    with layout.ingest(wanted, resume=True) as ingest:
        assert ingest.offset == 3
        with layout.ingest(wanted, resume=True) as other:  # somebody else works on it
            assert other.offset == 0
        ingest.write(b"def")
        assert ingest.commit() == wanted
    assert layout.read(wanted) == b"abcdef"
    assert not Path(layout.path, ".ingest").exists()


def test_resume_from_a_beginning_that_is_wrong(layout):
    wanted = {"mediaType": "text/x", "digest": layouts.digests.of(b"abcdef"), "size": 6}
    with layout.ingest(wanted, resume=True) as ingest:
        ingest.write(b"abX")
    with pytest.raises(Error, match="wrong digest"), layout.ingest(wanted, resume=True) as ingest:
        ingest.write(b"def")
        ingest.commit()
    with layout.ingest(wanted, resume=True) as ingest:  # forgotten: the next attempt begins anew
        assert ingest.offset == 0
        ingest.write(b"abXdef"[:3])
        ingest.restart()
        ingest.write(b"abcdef")
        ingest.commit()


@pytest.mark.root
def test_full_disk(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], check=True)
    try:
        with Layout.create(str(tmp_path / "img")) as layout:
            layout.tag("app", image(layout))
            before = files(layout.path)
            with pytest.raises(Error, match="no space left on device"), layout.ingest() as ingest:
                for _ in range(100):
                    ingest.write(b"x" * 4096)
            assert files(layout.path) == before
            assert layout.find("app")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# -- many at once --------------------------------------------------------------------------

TAGGER = """
import sys
sys.path.insert(0, sys.argv[1])
from oci_tools import document
from oci_tools.image import manifest
from oci_tools.image.layout import Layout
path, mark = sys.argv[2:4]
with Layout.create(path) as layout:
    for n in range(10):
        config = layout.put(document.dumps({"by": mark, "n": n}), manifest.OCI_CONFIG)
        made = layout.put(document.dumps(manifest.new(config, [])), manifest.OCI_MANIFEST)
        layout.tag(f"{mark}-{n}", made)
        layout.tag("shared", made)
"""


def python(code, *words, **more):
    return subprocess.Popen([sys.executable, "-IS", "-c", code, TOP, *words], **more)


def test_parallel_writers_lose_no_tag(tmp_path):
    """The layout itself is made by all of them at once, too."""
    path = str(tmp_path / "img")
    running = [python(TAGGER, path, mark) for mark in "abcd"]
    assert [process.wait() for process in running] == [0] * 4
    layout = Layout.open(path)
    found = {name for name in names(layout) if name}
    assert found == {f"{mark}-{n}" for mark in "abcd" for n in range(10)} | {"shared"}
    assert all(manifest.load(layout, d) for d in layout.index()["manifests"])


def test_killed_writers(tmp_path):
    """kill -9 at any moment: what is named is whole, and the next writer goes on."""
    path = str(tmp_path / "img")
    loud = TAGGER.replace("layout.tag(f", "print(flush=True); layout.tag(f")
    for lines in 1, 3, 5, 8:
        process = python(loud, path, f"k{lines}", stdout=subprocess.PIPE)
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        layout = Layout.open(path)
        assert f"k{lines}-{lines - 2}" in [*names(layout), f"k{lines}--1"]
        assert all(manifest.load(layout, d) for d in layout.index()["manifests"])
    assert python(TAGGER, path, "last").wait() == 0
    assert "last-9" in names(Layout.open(path))


def test_a_killed_writer_is_swept_up_after(layout):
    code = """
import os, sys
sys.path.insert(0, sys.argv[1])
from oci_tools.image.layout import Layout
with Layout.create(sys.argv[2]).ingest() as ingest:
    ingest.write(b"x")
    os.kill(os.getpid(), 9)
"""
    assert python(code, layout.path).wait() == -signal.SIGKILL
    assert len(files(f"{layout.path}/.ingest")) == 1
    layout.put(b"abc", "text/x")
    assert not Path(layout.path, ".ingest").exists()


def test_the_lock_is_waited_for(layout, monkeypatch):
    monkeypatch.setattr(fs, "LOCK_TIMEOUT", 0.01)
    one = image(layout)
    with fs.Lock(layout.path), pytest.raises(Busy):
        layout.tag("app", one)
    layout.tag("app", one)
    with pytest.raises(Busy), fs.Lock(f"{layout.path}/blobs"):
        pass  # this writer still holds its blobs
    layout.close()
    with fs.Lock(f"{layout.path}/blobs"):
        pass


# -- the default store ------------------------------------------------------------------------


def test_store(tmp_path, monkeypatch):
    monkeypatch.setenv("OCI_ROOT", str(tmp_path / "root"))
    place = layouts.refs.locate("alpine")
    with pytest.raises(Error, match="no such image 'alpine'"):
        layouts.at(place)
    assert not (tmp_path / "root").exists()  # asking makes nothing
    with layouts.at(place, make=True) as store:
        store.tag(place.name, image(store))
        assert layouts.at(place).find(place.name)
        assert layouts.handle(store, store.find()) == f"{tmp_path}/root/images@{store.find()['digest']}"
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o700


def test_a_layout_that_has_gone(layout):
    """Nothing is made again where it was, and nothing waits for it."""
    one = image(layout)
    shutil.rmtree(layout.path)
    for change in (
        lambda: layout.tag("app", one),
        lambda: layout.put(b"new", "text/x"),
        lambda: layout.ingest(resume=True).__enter__(),
        lambda: layout.untag("app"),
        layout.find,
        lambda: Layout(layout.path).hold(),
    ):
        with pytest.raises(Error):
            change()
    assert not os.path.lexists(layout.path)
