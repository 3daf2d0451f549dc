"""oci-registry as a pull-through cache of several registries, beside what is pushed to it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Registry
from tests.peers import Answer, Docker, Fake, digest
from tests.registry.test_operate import start
from tests.registry.test_server import Client


@pytest.fixture
def cache(oci: Any, registry: Any, tmp_path: Path) -> Registry:
    return start(oci, tmp_path, "--upstream", f"hub={registry.host}", "--upstream-ttl", "0")


def test_what_is_missing_comes_from_there_once(registry: Any, cache: Any) -> None:
    there, here = Client(registry.host), Client(cache.host)
    layer = os.urandom(3_000_000)
    image = there.image("team/app", "1", layer)
    for _ in range(2):
        assert here("HEAD", "/v2/hub/team/app/manifests/1").headers["Docker-Content-Digest"] == image["digest"]
        blob = here("GET", f"/v2/hub/team/app/blobs/{digest(layer)}")
        assert blob.status == 200 and blob.body == layer
    assert here("GET", f"/v2/hub/team/app/manifests/{image['digest']}").status == 200
    assert here("GET", "/v2/hub/team/app/tags/list").json["tags"] == ["1"]
    registry.process.terminate()
    registry.process.wait()
    assert here("GET", "/v2/hub/team/app/manifests/1").status == 200  # old is better than nothing
    assert here("GET", f"/v2/hub/team/app/blobs/{digest(layer)}").body == layer
    assert here("GET", "/v2/hub/team/app/manifests/2").status == 503
    assert here("GET", "/v2/other/app/manifests/1").status == 404


def test_a_manifest_that_was_lost_here_comes_again(registry: Any, cache: Any) -> None:
    there, here = Client(registry.host), Client(cache.host)
    name = there.image("app", "1")["digest"]
    data = here("GET", "/v2/hub/app/manifests/1").body
    path = cache.dir / "hub/app/blobs" / name.replace(":", "/")
    for reference in ("1", name):
        path.unlink()
        assert here("GET", f"/v2/hub/app/manifests/{reference}").body == data == path.read_bytes()


def test_a_tag_is_followed_and_a_pushed_one_is_ours(registry: Any, cache: Any) -> None:
    there, here = Client(registry.host), Client(cache.host)
    there.image("app", "latest", b"1")
    assert here("GET", "/v2/hub/app/manifests/latest").status == 200
    newer = there.image("app", "latest", b"2")["digest"]
    assert here("GET", "/v2/hub/app/manifests/latest").headers["Docker-Content-Digest"] == newer
    ours = here.image("hub/app", "latest", b"3")["digest"]
    there.image("app", "latest", b"4")
    assert here("GET", "/v2/hub/app/manifests/latest").headers["Docker-Content-Digest"] == ours
    assert here.image("local/app", "latest", b"5") and here("GET", "/v2/hub/none/manifests/1").status == 404
    assert here("GET", "/v2/hub/app/blobs/" + digest(b"none")).status == 404


def test_many_who_ask_at_once_cost_one_fetch(cache: Any, registry: Any) -> None:
    layer = os.urandom(5_000_000)
    Client(registry.host).image("app", "1", layer)
    Client(cache.host)("GET", "/v2/hub/app/manifests/1")
    got: list[bytes] = []

    def pull() -> None:
        got.append(Client(cache.host)("GET", f"/v2/hub/app/blobs/{digest(layer)}").body)

    threads = [threading.Thread(target=pull) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [layer] * 6 and not (cache.dir / "hub/app/.ingest").exists()


def test_bad_bytes_from_there_are_not_kept_and_not_completed(oci: Any, tmp_path: Path) -> None:
    with Fake() as fake:
        layer = b"x" * 100_000
        fake.image("app", "1", [layer])
        fake.on("GET", f"/v2/app/blobs/{digest(layer)}", Answer(200, {}, b"y" * 100_000))
        server = start(oci, tmp_path, "--upstream", f"={fake.host}")
        here = Client(server.host)
        assert here("GET", "/v2/app/manifests/1").status == 200
        with pytest.raises(Exception, match="IncompleteRead|Remote|closed|reset"):
            here("GET", f"/v2/app/blobs/{digest(layer)}")
        assert not (server.dir / "app/blobs/sha256" / digest(layer)[7:]).exists()


@pytest.mark.needs("docker-registry", "skopeo")
def test_several_upstreams_and_real_clients(oci: Any, registry: Any, busybox: Path, tmp_path: Path) -> None:
    with Docker(tmp_path / "peer") as peer:
        oci("push", f"{busybox}:latest", f"{peer.host}/library/box:1")
        oci("push", f"{busybox}:latest", f"{registry.host}/team/box:2")
        words = ("--upstream", f"hub={peer.host}/library", "--upstream", f"ours={registry.host}", "--upstream", f"={peer.host}")
        server = start(oci, tmp_path, *words)
        for name in ("hub/box:1", "ours/team/box:2", "library/box:1"):
            subprocess.run(
                ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", f"docker://{server.host}/{name}",
                 f"oci:{tmp_path}/out:{name.replace('/', '-').replace(':', '-')}"],
                check=True, env=oci.env, capture_output=True,
            )  # fmt: skip
        oci("pull", f"{server.host}/hub/box:1", "./img")
        oci("push", "./img:1", f"{server.host}/mine:1")
        repositories = Client(server.host)("GET", "/v2/_catalog").json["repositories"]
        assert repositories == ["hub/box", "library/box", "mine", "ours/team/box"]
        assert json.loads((server.dir / "hub/box/index.json").read_text())["manifests"][0]["annotations"]


def test_lists_and_sizes_of_what_is_not_here_yet(oci: Any, registry: Any, cache: Any) -> None:
    there, here = Client(registry.host), Client(cache.host)
    image = there.image("app", "1.0", b"layer")
    there.image("app", "A", b"layer")
    signature = there.image("app", "", b"sig", subject=image, artifactType="x/sig")["digest"]
    answer = here("HEAD", f"/v2/hub/app/blobs/{digest(b'layer')}")
    assert answer.status == 404  # a repository that nobody asked for is not made by this
    assert here("GET", "/v2/hub/app/tags/list?n=1").json == {"name": "hub/app", "tags": ["1.0"]}
    assert [d["digest"] for d in here("GET", f"/v2/hub/app/referrers/{image['digest']}").json["manifests"]] == [signature]
    assert not (cache.dir / "hub").exists()
    here("GET", "/v2/hub/app/manifests/1.0")
    answer = here("HEAD", f"/v2/hub/app/blobs/{digest(b'layer')}")
    assert answer.status == 200 and answer.headers["Content-Length"] == "5"
    assert not (cache.dir / "hub/app/blobs/sha256" / digest(b"layer")[7:]).exists()
    assert here("HEAD", f"/v2/hub/app/blobs/{digest(b'none')}").status == 404
    ours = here.image("hub/app", "b", b"ours", subject=image)["digest"]
    assert here("GET", "/v2/hub/app/tags/list").json["tags"] == ["1.0", "A", "b"]
    found = here("GET", f"/v2/hub/app/referrers/{image['digest']}?artifactType=x/sig").json["manifests"]
    assert [d["digest"] for d in found] == [signature]
    oci("pull", "--referrers", f"{cache.host}/hub/app:1.0", "./img")
    registry.process.terminate()
    registry.process.wait()
    assert here("GET", "/v2/hub/app/tags/list").json["tags"] == ["1.0", "A", "b"]
    listed = here("GET", f"/v2/hub/app/referrers/{image['digest']}").json["manifests"]
    assert {d["digest"] for d in listed} == {signature, ours}
    assert here("GET", "/v2/hub/other/tags/list").status == 503
    assert here("GET", "/v2/local/tags/list").status == 404


def test_a_mirror_of_all_registries(oci: Any, registry: Any, tmp_path: Path) -> None:
    """A client that says which registry it means leaves the prefix away."""
    (tmp_path / "second").mkdir()
    second = start(oci, tmp_path / "second")
    Client(registry.host).image("app", "1", b"one")
    theirs = Client(second.host).image("app", "1", b"two")
    server = start(oci, tmp_path, "--upstream", f"a={registry.host}", "--upstream", f"b/c={second.host}")
    here = Client(server.host)
    answer = here("GET", f"/v2/app/manifests/1?ns={second.host}")
    assert answer.headers["Docker-Content-Digest"] == theirs["digest"]
    assert answer.headers["OCI-Namespace"] == second.host
    assert here("GET", f"/v2/app/blobs/{digest(b'two')}?ns={second.host}").body == b"two"
    assert here("GET", f"/v2/app/tags/list?ns={registry.host}").json == {"name": "a/app", "tags": ["1"]}
    assert here("GET", "/v2/app/manifests/1?ns=other.invalid").status == 404
    assert os.listdir(server.dir) == ["b"]


@pytest.mark.root
@pytest.mark.needs("containerd", "ctr")
def test_containerd_pulls_through_it_and_pushes(oci: Any, registry: Any, cache: Any, busybox: Path, tmp_path: Path) -> None:
    oci("push", f"{busybox}:latest", f"{registry.host}/team/box:1")
    hosts = tmp_path / "hosts" / registry.host
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(f'[host."http://{cache.host}"]\n  capabilities = ["pull", "resolve"]\n')
    config = tmp_path / "containerd.toml"
    config.write_text(
        f'version = 2\nroot = "{tmp_path}/root"\nstate = "{tmp_path}/state"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{tmp_path}/c.sock"\n'
    )
    daemon = subprocess.Popen(["containerd", "-c", config], stderr=subprocess.PIPE, text=True)
    try:
        assert daemon.stderr is not None
        assert any("successfully booted" in line for line in daemon.stderr)
        threading.Thread(target=daemon.stderr.read, daemon=True).start()

        def ctr(*words: Any) -> None:
            subprocess.run(["ctr", "-a", f"{tmp_path}/c.sock", "images", *words], check=True, stdout=subprocess.DEVNULL)

        name = f"{registry.host}/team/box:1"
        ctr("pull", "--hosts-dir", tmp_path / "hosts", "--snapshotter", "native", name)
        assert Client(cache.host)("GET", "/v2/_catalog").json["repositories"] == ["hub/team/box"]
        ctr("tag", name, f"{cache.host}/mine:1")
        ctr("push", "--plain-http", f"{cache.host}/mine:1")
        mine = oci("pull", f"{cache.host}/mine:1", "./img").stdout
        assert mine == oci("pull", name, "./img").stdout
    finally:
        daemon.terminate()
        daemon.wait()


@pytest.mark.parametrize("word", ["x", "=", "a=", "A B=host", "a=ho st"])
def test_words_that_make_no_sense(oci: Any, tmp_path: Path, word: str) -> None:
    assert "invalid upstream" in oci("registry", "serve", "--upstream", word, tmp_path / "store", code=2).stderr
