"""Images under digests of another algorithm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.peers import INDEX, digest
from tests.registry.test_pull import complete
from tests.registry.test_push import Sound

ATTESTED = "vnd.docker.reference.digest"


def test_there_and_back(oci: Any, registry: Any, tmp_path: Path) -> None:
    layout = Sound(tmp_path / "img")
    image = layout.image("one", b"layer", b"other")
    attestation = layout.image("", b"said", annotations={"k": "v"})
    entries = [image, {**attestation, "annotations": {ATTESTED: image["digest"]}}]
    layout.tag("all", layout.put({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, INDEX))
    words = ("image", "copy", "--digest-algorithm")
    said = oci(*words, "sha512", "./img:all", "./long:all").stdout
    assert "@sha512:" in said and not list((tmp_path / "long/blobs/sha256").iterdir())
    complete(tmp_path / "long")
    assert oci("image", "fsck", "./long").stdout == ""
    top = json.loads((tmp_path / "long/blobs/sha512" / said.strip().rpartition(":")[2]).read_text())
    assert top["manifests"][1]["annotations"][ATTESTED] == top["manifests"][0]["digest"]
    inner = json.loads((tmp_path / "long/blobs" / top["manifests"][0]["digest"].replace(":", "/")).read_text())
    assert [d["digest"] for d in inner["layers"]] == [digest(data, "sha512") for data in (b"layer", b"other")]
    oci("push", "./long:all", f"{registry.host}/a:1")
    oci("pull", "--all-platforms", f"{registry.host}/a:1", "./pulled")
    back = oci(*words, "sha256", "./pulled:1", "./back:all").stdout
    again = oci(*words, "sha256", "./img:all", "./same:all").stdout
    assert back.rpartition("@")[2] == again.rpartition("@")[2]
    assert oci("image", "diff", "./back:all", "./img:all", "--platform", "amd64", "--ignore", "manifest").stdout == ""


def test_what_cannot_be(oci: Any, tmp_path: Path) -> None:
    layout = Sound(tmp_path / "img")
    layout.image("one", b"layer")
    copy = ("image", "copy", "--digest-algorithm", "sha512")
    assert "for an image in a layout" in oci(*copy, "./img:one", "oci-archive:x.tar", code=2).stderr
    assert oci("image", "copy", "--digest-algorithm", "md5", "./img:one", "./x", code=2).stderr
    (layout.path / "blobs/sha256" / digest(b"layer")[7:]).write_bytes(b"wrong")
    assert "wrong" in oci(*copy, "./img:one", "./x", code=1).stderr and not (tmp_path / "x").exists()
