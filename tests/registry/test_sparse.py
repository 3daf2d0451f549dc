"""An index as it is with some of its images only: the same digest, the rest is missing (image-spec, image-layout.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import Fake


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as made:
        yield made


def images(fake: Fake) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An index of two images, what speaks of them, and an index with a third; and all in it."""
    found = [fake.image("app", "", [name.encode()], os="linux", architecture=name) for name in ("amd64", "arm64", "s390x")]
    notes = []
    for one in found[:2]:
        note = fake.image("app", "", [one["digest"].encode()], os="unknown", architecture="unknown")
        notes.append({**note, "annotations": {"vnd.docker.reference.digest": one["digest"]}})
    inner = fake.index("app", "", found[2:])
    return fake.index("app", "v1", [*found[:2], *notes, inner]), [*found, *notes, inner]


def there(path: Path) -> set[str]:
    return {f"sha256:{blob.name}" for blob in (path / "blobs/sha256").iterdir()}


def test_pulled(oci: Any, fake: Fake, tmp_path: Path) -> None:
    top, (amd, arm, s390, amd_note, arm_note, inner) = images(fake)
    done = oci("pull", "--sparse", "--platform", "arm64", f"{fake.host}/app:v1", "./img").stdout
    assert done.strip().endswith(top["digest"]) and oci("image", "fsck", "./img").stdout == ""
    assert {top["digest"], arm["digest"], arm_note["digest"], inner["digest"]} <= there(tmp_path / "img")
    assert not {amd["digest"], s390["digest"], amd_note["digest"]} & there(tmp_path / "img")
    assert oci("image", "cat", "--platform", "arm64", "./img:v1").stdout
    oci("pull", "--sparse", "--platform", "amd64", "--platform", "s390x", f"{fake.host}/app:v1", "./img")
    assert {one["digest"] for one in (amd, arm, s390)} <= there(tmp_path / "img")
    oci("pull", "--sparse", "--platform", "none", f"{fake.host}/app:v1", "./none")
    assert there(tmp_path / "none") == {top["digest"], inner["digest"]}
    fake.asked.clear()
    oci("pull", "--sparse", "--platform", "s390x", f"{fake.host}/app:v1", "oci-archive:x.tar")
    assert not [one for one in fake.seen("GET") if amd["digest"] in one.path or arm["digest"] in one.path]
    oci("image", "load", "x.tar", "./loaded")
    assert s390["digest"] in there(tmp_path / "loaded") and amd["digest"] not in there(tmp_path / "loaded")
    assert "no image for 'linux/riscv64'" in oci("pull", "--sparse", "--platform", "riscv64", f"{fake.host}/app:v1", "./x", code=1).stderr


def test_from_a_layout(oci: Any, fake: Fake, tmp_path: Path) -> None:
    top, (amd, arm, *_) = images(fake)
    oci("pull", "--all-platforms", f"{fake.host}/app:v1", "./whole")
    for at, words in enumerate((("pull",), ("image", "copy"), ("push",))):
        oci(*words, "--sparse", "--platform", "arm64", "./whole:v1", f"./out{at}:v1")
        assert json.loads(oci("image", "ls", "--json", f"./out{at}").stdout)["digest"] == top["digest"]
        assert arm["digest"] in there(tmp_path / f"out{at}") and amd["digest"] not in there(tmp_path / f"out{at}")


def test_pushed(oci: Any, fake: Fake, registry: Any, tmp_path: Path) -> None:
    """Only where the registry allows it: most do not."""
    top, (amd, arm, *_) = images(fake)
    process = oci.start("registry", "serve", "--sparse-index", "store", stdout=-1, text=True)
    host = process.stdout.readline().strip().partition("://")[2]
    oci("pull", "--sparse", "--platform", "arm64", f"{fake.host}/app:v1", "./img")
    assert "missing blob" in oci("push", "./img:v1", f"{host}/app:1", code=1).stderr
    assert top["digest"] in oci("push", "--sparse", "./img:v1", f"{host}/app:1").stdout
    assert top["digest"] in oci("push", "--sparse", "--platform", "arm64", f"docker://{fake.host}/app:v1", f"{host}/between:1").stdout
    for name in ("app", "between"):
        assert arm["digest"] in oci("pull", "--platform", "arm64", f"{host}/{name}:1", f"./{name}").stdout
        oci("pull", "--platform", "amd64", f"{host}/{name}:1", "./no", code=1)
    assert "refers to what is not here" in oci("push", "--sparse", "./img:v1", f"{registry.host}/app:1", code=1).stderr


def test_words_that_make_no_sense(oci: Any, fake: Fake) -> None:
    for words in (("--all-platforms",), ("--unpack", "b"), ("--only", "config"), ("--format", "docker"), ("--compress", "gzip")):
        assert "--sparse" in oci("pull", "--sparse", *words, f"{fake.host}/app:v1", code=2).stderr
