"""What oci-registry keeps, by its rules, while it serves and while others push."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from oci_tools.errors import Error
from oci_tools.registry import retention
from tests.peers import INDEX, MANIFEST, descriptor, digest
from tests.registry.test_operate import start
from tests.registry.test_server import Client

DAY = 86400.0


@pytest.mark.parametrize(
    "text, gone",
    [
        ("", ""),
        ("** ** all", ""),
        ("** v* all\n** * last=1", "b1 b3"),
        ("** b* days=2.5", "b3"),
        ("** b* days=1.5 last=2", "b3"),
        ("** * last=0", "b1 b2 b3 v1"),
        ("x/* * last=0\n** - days=3", ""),
        ("** - days=2", "sha256:4"),
        ("app - last=1", "sha256:4"),
    ],
)
def test_rules(text: str, gone: str) -> None:
    ages = {"v1": 9, "b1": 1, "b2": 0.5, "b3": 3, "sha256:2": 1, "sha256:4": 2.5}
    used = {key: 100 * DAY - age * DAY for key, age in ages.items()}
    assert retention.expired(retention.rules(text, "f"), "app", used, 100 * DAY) == set(gone.split())


@pytest.mark.parametrize("text", ["**", "** *", "** * last", "** * last=x", "** * weeks=1", "** * days="])
def test_rules_that_cannot_be_used(text: str) -> None:
    with pytest.raises(Error, match="cannot use rules of 'f': line 1 cannot be read"):
        retention.rules(text, "f")


@pytest.fixture
def ask(registry: Any) -> Any:
    client = Client(registry.host)
    yield client
    client.connection.close()


def age(directory: Path, days: float) -> None:
    for blob in directory.glob("blobs/sha256/*"):
        then = time.time() - days * DAY
        os.utime(blob, (then, then))


def status(ask: Client, path: str) -> int:
    return ask("GET", path).status


def test_overwriting_a_tag_breaks_no_pull_by_digest(oci: Any, registry: Any, ask: Client) -> None:
    old = ask.image("app", "latest", b"old")["digest"]
    ask.image("app", "latest", b"new")
    age(registry.dir / "app", 1000)
    oci("registry", "gc", "--grace", "0", registry.dir)
    assert status(ask, f"/v2/app/manifests/{old}") == 200 and status(ask, f"/v2/app/blobs/{digest(b'old')}") == 200


def test_what_no_rule_keeps_goes_with_its_blobs(oci: Any, registry: Any, ask: Client, tmp_path: Path) -> None:
    old = ask.image("app", "latest", b"old")["digest"]
    signature = ask.image("app", "", b"signature", subject=descriptor(MANIFEST, b""), annotations={"x": "y"})
    new = ask.image("app", "latest", b"new")
    about_new = ask.image("app", "", b"sbom", subject=new)["digest"]
    part = ask.image("app", "", b"part")
    whole = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [part]}
    assert ask("PUT", "/v2/app/manifests/multi", whole, Content_Type=INDEX).status == 201
    ask.image("app", "pr-1", b"pull request")
    age(registry.dir / "app", 10)
    (tmp_path / "rules").write_text("app pr-* days=9\n** - days=7\n")
    words = ("registry", "gc", "--retention", tmp_path / "rules")
    tried = oci(*words, "-n", registry.dir).stdout
    assert status(ask, f"/v2/app/manifests/{old}") == 200  # was asked for: stays now
    assert "\tpr-1\t" in tried and signature["digest"] in tried and digest(b"old") in tried
    age(registry.dir / "app", 10)
    assert oci(*words, registry.dir).stdout == tried
    for gone in (old, "pr-1", signature["digest"]):
        assert status(ask, f"/v2/app/manifests/{gone}") == 404
    for data, there in ((b"old", 404), (b"pull request", 404), (b"new", 200), (b"sbom", 200), (b"part", 200)):
        assert status(ask, f"/v2/app/blobs/{digest(data)}") == there
    for stays in ("latest", new["digest"], about_new, "multi", part["digest"]):
        assert status(ask, f"/v2/app/manifests/{stays}") == 200
    assert oci(*words, registry.dir).stdout == ""


def test_what_cosign_says_of_an_image_stays_and_goes_with_it(oci: Any, registry: Any, ask: Client, tmp_path: Path) -> None:
    images = {tag: ask.image("app", tag, tag.encode())["digest"] for tag in ("1", "2", "3")}
    about = {tag: f"{name.replace(':', '-')}{end}" for tag, name in images.items() for end in (".sig",)}
    for tag, name in about.items():
        ask.image("app", name, f"signature of {tag}".encode())
        ask.image("app", name.replace(".sig", ".att"), f"said of {tag}".encode())
    ask.image("app", about["1"], b"signed again")
    stamps = {"1": 30, "2": 20, "3": 10}
    age(registry.dir / "app", 40)
    for tag, days in stamps.items():
        path = registry.dir / "app/blobs" / images[tag].replace(":", "/")
        os.utime(path, (time.time() - days * 86400,) * 2)
    (tmp_path / "rules").write_text("** * last=2\n** - days=1\n")
    oci("registry", "gc", "--retention", tmp_path / "rules", registry.dir)
    left = [*about.values()][1:]
    assert ask("GET", "/v2/app/tags/list").json["tags"] == sorted(["2", "3", *left, *(n.replace(".sig", ".att") for n in left)])
    assert status(ask, f"/v2/app/blobs/{digest(b'signed again')}") == status(ask, f"/v2/app/blobs/{digest(b'1')}") == 404


def test_a_pull_keeps_what_it_pulls(oci: Any, registry: Any, ask: Client, tmp_path: Path) -> None:
    for tag in ("pulled", "forgotten"):
        ask.image("app", tag, tag.encode())
    age(registry.dir / "app", 10)
    assert status(ask, "/v2/app/manifests/pulled") == 200
    (tmp_path / "rules").write_text("** * days=9\n")
    oci("registry", "gc", "--retention", tmp_path / "rules", registry.dir)
    assert ask("GET", "/v2/app/tags/list").json["tags"] == ["pulled"]


def test_an_upload_does_not_hold_gc_up_and_survives_it(oci: Any, registry: Any, ask: Client) -> None:
    ask.image("app", "1")
    where = ask("POST", "/v2/app/blobs/uploads/").headers["Location"]
    assert ask("PATCH", where, b"half").status == 202
    oci("registry", "gc", "--grace", "0", registry.dir)
    assert ask("PUT", f"{where}?digest={digest(b'half and half')}", b" and half").status == 201


def test_pushes_survive_gc_that_runs_all_the_time(oci: Any, registry: Any) -> None:
    """Blobs that are found and not sent again are there when the manifest comes, whatever gc does."""
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            oci("registry", "gc", "--grace", "1", registry.dir)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        client = Client(registry.host)
        for at in range(40):
            client.image("app", "latest", b"%d" % (at % 4))
            age_all = registry.dir / "app"
            age(age_all, 1) if at % 3 == 0 else None
            digest_now = client("HEAD", "/v2/app/manifests/latest").headers["Docker-Content-Digest"]
            client("DELETE", f"/v2/app/manifests/{digest_now}")
            for data in (b"%d" % ((at + 1) % 4), b'{"os":"linux"}'):
                if client("HEAD", f"/v2/app/blobs/{digest(data)}").status != 200:
                    client.blob("app", data)
    finally:
        stop.set()
        thread.join()


def test_a_server_collects_by_itself(oci: Any, tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("** pr-* days=1\n")
    server = start(oci, tmp_path, "--retention", tmp_path / "rules", "--grace", "5", "--metrics")
    ask = Client(server.host)
    ask.image("app", "1", b"one")
    ask.image("app", "pr-1", b"two")
    age(server.dir / "app", 2)
    server.process.send_signal(signal.SIGUSR1)
    while b"oci_registry_collected_bytes_total" not in ask("GET", "/metrics").body:
        pass
    assert ask("GET", "/v2/app/tags/list").json["tags"] == ["1"]
    (tmp_path / "rules").write_text("nonsense\n")
    server.process.send_signal(signal.SIGUSR1)
    assert "cannot use rules of" in server.process.stderr.readline()
    done = oci("registry", "serve", "--retention", tmp_path / "rules", tmp_path / "other", code=1)
    assert "cannot use rules of" in done.stderr
