"""What a registry keeps: what two who change it at once leave."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from oci_tools import fs
from oci_tools.registry.storage import Repository, Storage
from oci_tools.registry.uploads import IDLE, Uploads
from tests.peers import digest

TYPE = "application/x+json"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    found = Storage(str(tmp_path / "store")).repository("a", make=True)
    assert found
    return found


def test_a_manifest_that_comes_back_while_it_is_deleted(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b'{"x":1}'
    name = digest(data)
    repository.put(data, TYPE, name, ["v1"])
    change = repository.index.change

    def and_back(*args: Any) -> None:
        change(*args)
        monkeypatch.setattr(repository.index, "change", change)
        repository.put(data, TYPE, name, ["v2"])

    monkeypatch.setattr(repository.index, "change", and_back)
    repository.remove(name)
    found = repository.manifest("v2")
    assert found and found[0] == data and repository.tags() == ["v2"]


def test_a_manifest_that_is_deleted_while_others_write(repository: Repository) -> None:
    """It is gone for everybody at once; its file is left to gc."""
    data = b'{"x":2}'
    name = digest(data)
    repository.put(data, TYPE, name, ["v1"])
    with fs.Lock(f"{repository.layout.path}/blobs/", shared=True):
        repository.remove(name)
        assert repository.manifest(name) is None and repository.manifest("v1") is None
    assert os.path.exists(repository.layout.blob_path(name))
    repository.put(data, TYPE, name, [])
    repository.remove(name)
    assert not os.path.exists(repository.layout.blob_path(name))


def test_an_upload_that_nobody_continues_is_dropped(repository: Repository) -> None:
    uploads = Uploads()
    idle, busy = (uploads.begin(repository, "sha256") for _ in range(2))
    assert idle and busy
    for upload in (idle, busy):
        upload.write([b"x"])
    idle.used -= IDLE + 1
    uploads.expire()
    assert uploads.find(idle.id, repository) is None and uploads.find(busy.id, repository) is busy
    assert len(os.listdir(f"{repository.layout.path}/.ingest")) == 1
    uploads.close()
    assert not os.path.exists(f"{repository.layout.path}/.ingest")
