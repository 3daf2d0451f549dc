"""An index in memory does to index.json what the layout's own changes do; and it does so for many at once."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import pytest

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import manifest as manifests
from oci_tools.image import names
from oci_tools.image.layout import Layout
from oci_tools.registry.index import Index, Inner

DIGESTS = [f"sha256:{n:064x}" for n in range(5)]


def one(digest: str, **more: str) -> dict[str, object]:
    return {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 2, **more}


def index(path: Path) -> Index:
    with Layout.create(str(path)) as layout:
        return Index(layout)


def stored(path: Path) -> list[dict[str, object]]:
    found = json.loads((path / "index.json").read_bytes())["manifests"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_changes_are_those_of_names(tmp_path: Path, seed: int) -> None:
    pick = random.Random(seed)
    mine, model = index(tmp_path), []
    for _ in range(40):
        name, digest = pick.choice(["a", "b", "c", None]), pick.choice(DIGESTS)
        if name is not None and pick.random() < 0.2:
            mine.change(lambda name=name: mine.untag(name))  # type: ignore[misc]
            model = names.untagged(model, name)
        else:
            mine.change(lambda name=name, digest=digest: mine.tag(name, one(digest)))  # type: ignore[misc]
            model = names.tagged(model, name, names.entry(name, one(digest), None))
        model = [names.entry(names.ref_name(d), d, None) for d in model]  # nothing is marked here
        assert stored(tmp_path) == model
        again = Index(Layout.open(str(tmp_path)))
        again.refresh()
        assert list(again.entries.values()) == list(mine.entries.values())
        assert {k: len(v) for k, v in again.names.items()} == {k: len(v) for k, v in mine.names.items()}
        assert set(again.digests) == set(mine.digests)


def test_what_others_wrote_stays(tmp_path: Path) -> None:
    mine = index(tmp_path)
    strange = {"digest": 7, "annotations": "x"}
    other = {"schemaVersion": 2, "x": {"y": "ü"}, "manifests": [strange, one(DIGESTS[0], extra="1")], "z": None}
    (tmp_path / "index.json").write_text(json.dumps(other))
    mine.change(lambda: mine.tag("t", one(DIGESTS[1])))
    found = json.loads((tmp_path / "index.json").read_bytes())
    assert list(found) == list(other) and found["x"] == other["x"]
    assert found["manifests"][:2] == other["manifests"]


def test_changes_at_once_are_all_written_in_few_writes(tmp_path: Path) -> None:
    mine, count = index(tmp_path), 0
    dumps = mine._dumps

    def counted() -> bytes:
        nonlocal count
        count += 1
        return dumps()

    mine._dumps = counted  # type: ignore[method-assign]
    start = threading.Barrier(16)

    def work(at: int) -> None:
        start.wait()
        for n in range(10):
            mine.change(lambda n=n: mine.tag(f"t{at}-{n}", one(DIGESTS[at % 5])))  # type: ignore[misc]
            assert mine.named(f"t{at}-{n}")

    threads = [threading.Thread(target=work, args=(at,)) for at in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored(tmp_path)) == 160 and count < 160


def test_a_change_that_fails_is_told_and_leaves_the_others(tmp_path: Path) -> None:
    mine = index(tmp_path)

    def refuse() -> None:
        raise Error("no")

    with pytest.raises(Error, match="no"):
        mine.change(refuse)
    mine.change(lambda: mine.tag("t", one(DIGESTS[1])))
    (tmp_path / "index.json").unlink()
    with pytest.raises(Error, match="cannot read"):
        mine.change(lambda: mine.tag("u", one(DIGESTS[1])))
    (tmp_path / "index.json").write_text('{"schemaVersion":2}')
    mine.refresh()
    assert not mine.entries


def test_what_is_only_within_indexes_is_read_once_for_each_version(tmp_path: Path) -> None:
    read: list[str] = []

    class Counting(Layout):
        def read(self, descriptor: dict[str, object], limit: int = 1 << 23) -> bytes:
            read.append(str(descriptor["digest"]))
            return super().read(descriptor, limit)

    with Layout.create(str(tmp_path)) as layout:
        leaves = [one(f"sha256:{n:064x}") for n in range(300)]
        inner = layout.put(document.dumps(manifests.new_index(leaves)), manifests.OCI_INDEX)
        lost = {**inner, "digest": DIGESTS[4]}
        top = layout.put(document.dumps(manifests.new_index([inner, lost])), manifests.OCI_INDEX)
        layout.tag("v1", top)
    index = Index(Counting(str(tmp_path)))
    index.refresh()
    within = Inner(index)
    for leaf in leaves:
        assert within.of_digest(str(leaf["digest"])) == leaf
    assert within.of_digest(inner["digest"]) == {key: inner[key] for key in ("mediaType", "digest", "size")}
    assert within.of_digest(f"sha256:{999:064x}") is None
    assert sorted(read) == sorted([top["digest"], inner["digest"], DIGESTS[4]])
    index.change(lambda: index.tag("v2", one(DIGESTS[0])))
    assert within.of_digest(DIGESTS[1]) == leaves[1] and len(read) == 6
