"""What gc takes, what it leaves, and that it never takes what somebody needs."""

import os
import threading
import time
from pathlib import Path

import pytest

from oci_tools import document, fs
from oci_tools.errors import Busy
from oci_tools.image import fsck, gc, manifest
from oci_tools.image import layout as layouts
from oci_tools.image.layout import UNTAGGED, Layout
from tests.image.make import image, index

HOUR = 3600


@pytest.fixture
def layout(tmp_path):
    with Layout.create(str(tmp_path / "img")) as made:
        yield made


def age(layout, seconds=2 * HOUR):
    """Make everything this much older: blobs, and when names were lost."""
    then = time.time() - seconds
    for path in Path(layout.path).rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))

    def change(index):
        for entry in index["manifests"]:
            if UNTAGGED in entry.get("annotations", {}):
                stamp = gc.seconds(entry["annotations"][UNTAGGED]) - seconds
                entry["annotations"][UNTAGGED] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stamp))

    layout.update(change)


def digests(layout):
    return {digest for digest, _ in gc.stored(layout)}


def named(layout):
    return {layouts.ref_name(d): d["digest"] for d in layout.index()["manifests"]}


def parts(layout, descriptor):
    return {d["digest"] for d in manifest.parts(layout, descriptor)}


def test_nothing_to_do(layout):
    layout.tag("app", image(layout))
    age(layout)
    result = gc.collect(layout, 0)
    assert (result.images, result.blobs, result.kept) == ([], {}, 0)
    assert list(fsck.check(layout)) == []


def test_a_lost_name_has_grace(layout):
    one, two = image(layout, "1"), image(layout, "2")
    layout.tag("app", one)
    age(layout)
    layout.tag("app", two)
    result = gc.collect(layout, HOUR)
    assert (result.images, result.blobs, result.kept) == ([], {}, 1)
    assert layout.read(layout.find(one["digest"]))
    age(layout)
    gone = parts(layout, one) - parts(layout, two)
    result = gc.collect(layout, HOUR)
    assert [d["digest"] for d in result.images] == [one["digest"]]
    assert set(result.blobs) == gone
    assert digests(layout) == parts(layout, two)
    assert list(fsck.check(layout)) == []


def test_dry_run_changes_nothing(layout):
    layout.tag("app", image(layout))
    layout.untag("app")
    before = digests(layout), layout.index()
    result = gc.collect(layout, 0, dry_run=True)
    assert len(result.images) == 1
    assert set(result.blobs) == before[0]
    assert (digests(layout), layout.index()) == before


def test_what_never_had_a_name_stays(layout):
    """As skopeo leaves it, and as somebody who keeps it by digest wants it."""
    one = image(layout)
    layout.tag(None, one)
    age(layout)
    gc.collect(layout, 0)
    assert digests(layout) == parts(layout, one)


def test_shared_parts_stay(layout):
    one = image(layout, "1")
    layers = manifest.load(layout, one)["layers"]
    config = layout.put(b"{}", manifest.OCI_CONFIG)
    two = layout.put(document.dumps(manifest.new(config, layers)), manifest.OCI_MANIFEST)
    layout.tag("one", one)
    layout.tag("two", two)
    layout.untag("one")
    gc.collect(layout, 0)
    assert digests(layout) == parts(layout, two)


def test_nested_indexes_and_what_they_lack(layout):
    one = image(layout)
    gone = {"mediaType": manifest.OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 5}
    outer = index(layout, index(layout, one, gone), gone)
    layout.tag("app", outer)
    layout.tag("app2", one)
    layout.untag("app2")
    age(layout)
    gc.collect(layout, 0)
    assert digests(layout) == parts(layout, outer) >= parts(layout, one)


def test_referrers_live_as_long_as_what_they_refer_to(layout):
    one = image(layout)
    empty = layout.put(b"{}", manifest.OCI_EMPTY)
    chain = [one]
    for n in range(3):
        made = {**manifest.new(empty, [], {"n": str(n)}), "subject": chain[-1]}
        chain.append(layout.put(document.dumps(made), manifest.OCI_MANIFEST))
        layout.tag(None, chain[-1], {UNTAGGED: layouts.stamp()})
    layout.tag("app", one)
    age(layout)
    gc.collect(layout, HOUR)
    assert set().union(*(parts(layout, d) for d in chain)) == digests(layout)
    layout.untag("app")
    gc.collect(layout, 0)
    assert digests(layout) == set()
    assert layout.index()["manifests"] == []


@pytest.mark.parametrize("prefix", ["", "registry.example/team/app:"])
def test_what_cosign_says_of_an_image_goes_with_it(layout, prefix):
    one, alone = image(layout), "sha256-" + "0" * 64 + ".sig"
    empty = layout.put(b"{}", manifest.OCI_EMPTY)
    said = [layout.put(document.dumps(manifest.new(empty, [], {"n": str(n)})), manifest.OCI_MANIFEST) for n in range(3)]
    names = [f"{prefix}{one['digest'].replace(':', '-')}.{kind}" for kind in ("sig", "att")] + [prefix + alone]
    layout.tag(f"{prefix}app", one)
    for name, descriptor in zip(names, said, strict=True):
        layout.tag(name, descriptor)
    age(layout)
    gc.collect(layout, HOUR)
    assert set(named(layout)) == {f"{prefix}app", *names}
    layout.untag(f"{prefix}app")
    gc.collect(layout, HOUR)
    assert set(named(layout)) == {None, *names}  # it has grace, and so have they
    age(layout)
    gc.collect(layout, HOUR)
    assert set(named(layout)) == {prefix + alone}  # what it speaks of was never here
    assert digests(layout) == parts(layout, said[2])


@pytest.mark.parametrize(
    "kind", [manifest.DOCKER_SCHEMA1, "application/vnd.oci.artifact.manifest.v1+json", "text/x"]
)
def test_what_is_not_understood_keeps_all_its_digests(layout, kind):
    blob = layout.put(b"blob", "text/x")
    inner = layout.put(document.dumps({"deep": [{"digest": blob["digest"]}]}), "application/json")
    odd = layout.put(document.dumps({"x": {"y": inner["digest"]}, "schemaVersion": 1}), kind)
    layout.tag("odd", odd)
    age(layout)
    gc.collect(layout, 0)
    assert digests(layout) == {blob["digest"], inner["digest"], odd["digest"]}


@pytest.mark.parametrize("kind", [manifest.OCI_MANIFEST, "x/document+json"])
@pytest.mark.parametrize("size", [5 << 20, 17 << 20])
def test_what_a_large_document_names_stays(layout, kind, size):
    """Larger than many read, and than we do: what it says at its end counts."""
    config, *layers = [layout.put(data, kind) for data, kind in ((b"{}", manifest.OCI_CONFIG), (b"1", "x"), (b"2", "x"))]
    notes = {"config": config, "layers": layers[:1], "annotations": {"x": "y" * size}}
    large = layout.put(document.dumps({"schemaVersion": 2, **notes, "layers": layers}), kind)
    layout.update(lambda index: index["manifests"].append(large))
    age(layout)
    gc.collect(layout, 0)
    assert digests(layout) == {one["digest"] for one in (config, *layers, large)}


def test_a_damaged_manifest_costs_no_more(layout):
    one = image(layout)
    layout.tag("app", one)
    path = Path(layout.blob_path(one))
    path.write_bytes(path.read_bytes().replace(b'"schemaVersion":2', b'"schemaVersion":3'))
    before = digests(layout)
    age(layout)
    gc.collect(layout, 0)
    assert digests(layout) == before


def test_foreign_files_and_entries_stay(layout):
    (Path(layout.path) / "blobs" / "sha256" / "README").write_text("x")
    (Path(layout.path) / "blobs" / "blake3").mkdir()
    (Path(layout.path) / "blobs" / "blake3" / "zz").write_text("x")
    (Path(layout.path) / "manifest.json").write_text("x")
    strange = [{"digest": 5}, {"digest": "md5:x", "annotations": {UNTAGGED: "never"}}, {}]
    layout.update(lambda index: index["manifests"].extend(strange))
    age_files = [p for p in Path(layout.path).rglob("*") if p.is_file()]
    for path in age_files:
        os.utime(path, (0, 0))
    gc.collect(layout, 0)
    assert all(path.exists() for path in age_files)
    assert layout.index()["manifests"] == strange


def test_young_blobs_of_others_have_grace(layout):
    """A tool that knows no lock has written a blob and not yet its manifest."""
    blob = layout.put(b"blob", "text/x")
    gc.collect(layout, HOUR)
    assert layout.has(blob)
    age(layout)
    gc.collect(layout, HOUR)
    assert not layout.has(blob)


def test_leftovers_of_killed_writers(layout):
    Path(layout.path, "index.json.1.2.new").write_text("")
    Path(layout.path, "oci-layout.1.2.new").write_text("")
    wanted = {"mediaType": "text/x", "digest": layouts.digests.of(b"abc"), "size": 3}
    with layout.ingest(wanted, resume=True) as ingest:
        ingest.write(b"a")
    gc.collect(layout, HOUR)
    assert Path(layout.path, ".ingest").exists()  # it may still go on
    gc.collect(layout, 0)
    assert sorted(os.listdir(layout.path)) == ["blobs", "index.json", "oci-layout"]


# -- together with others --------------------------------------------------------------------


def test_a_writer_keeps_gc_out(layout, monkeypatch):
    monkeypatch.setattr(fs, "LOCK_TIMEOUT", 0.01)
    with Layout.create(layout.path) as writer:
        blob = writer.put(b"waiting for its manifest", "text/x")
        with pytest.raises(Busy):
            gc.collect(Layout.open(layout.path), 0)
        assert writer.has(blob)
    gc.collect(layout, 0)
    assert not layout.has(blob)


def test_writers_and_collectors_at_once(tmp_path):
    """Names come, move and go while two collectors take all they can get: what has a name is whole."""
    path = str(tmp_path / "img")
    Layout.create(path).close()
    failed = []

    def write(mark):
        try:
            for n in range(12):
                with Layout.create(path) as layout:
                    layout.tag(f"{mark}-{n % 3}", image(layout, f"{mark}{n}"))
                    if n % 4 == 3:
                        layout.untag(f"{mark}-{n % 3}")
        except Exception as error:
            failed.append(error)

    def sweep():
        try:
            while any(writer.is_alive() for writer in writers):
                gc.collect(Layout.open(path), 0)
        except Exception as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(mark,)) for mark in "ab"]
    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    for thread in writers + sweepers:
        thread.start()
    for thread in writers + sweepers:
        thread.join()
    assert failed == []
    layout = Layout.open(path)
    assert list(fsck.check(layout)) == []
    gc.collect(layout, 0)
    assert {name for name in named(layout) if name} == {"a-0", "a-1", "b-0", "b-1"}
    assert list(fsck.check(layout)) == []


def test_tagging_what_gc_has_taken(layout):
    one = image(layout)
    layout.tag("app", one)
    found = layout.find("app")
    layout.untag("app")
    gc.collect(layout, 0)
    with pytest.raises(layouts.Error, match="missing blob"):
        layout.tag("again", found)
    assert layout.index()["manifests"] == []
