"""What clients of others do with registries that differ, and their files with credentials, mirrors and policies."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oci_tools.errors import Error
from oci_tools.image import shortnames
from oci_tools.image.ref import Ref
from oci_tools.registry import hosts
from oci_tools.registry.policy import Policy
from tests.peers import Answer, Fake, digest
from tests.registry.test_pull import auth_file, tokens
from tests.registry.test_push import Layout, Receiver

HEX = "sha256:" + "0" * 64


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as made:
        yield made


# -- registries ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "text/plain"])
def test_a_page_for_people_is_no_list_of_referrers(oci: Any, fake: Fake, kind: str) -> None:
    """Then there is no such API, and the list is where old registries keep it."""
    image = fake.image("app", "v1", [b"layer"])
    note = fake.image("app", "", [b"note"])
    fake.index("app", image["digest"].replace(":", "-"), [note])
    fake.on("GET", f"/v2/app/referrers/{image['digest']}", Answer(200, {"Content-Type": kind}, b"<html>"))
    for name in (image["digest"], note["digest"]):
        for end in ("sig", "att", "sbom"):
            fake.on("HEAD", f"/v2/app/manifests/{name.replace(':', '-')}.{end}", Answer(404))
    oci("pull", "--referrers", f"{fake.host}/app:v1", "./img")
    assert note["digest"] in oci("image", "ls", "./img").stdout


def test_a_registry_that_says_no_digest(oci: Any, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "img")
    made = layout.image("v1", b"layer")
    with Receiver() as peer:
        oci("push", "./img:v1", f"{peer.host}/app:v1")
        data = peer.manifests[next(iter(peer.manifests))].body
        for method in ("GET", "HEAD"):
            peer.on(method, "/v2/app/manifests/v1", Answer(200, {"Content-Type": made["mediaType"]}, data))
        oci("push", "--no-clobber", "./img:v1", f"{peer.host}/app:v1")
        layout.image("v2", b"other")
        assert "there is another image" in oci("push", "--no-clobber", "./img:v2", f"{peer.host}/app:v1", code=1).stderr


def test_a_blob_that_the_registry_calls_otherwise(oci: Any, fake: Fake, tmp_path: Path) -> None:
    layer = b"layer"
    Layout(tmp_path / "img").image("v1", layer)
    fake.on("POST", f"/v2/app/blobs/uploads/?mount={digest(layer)}", Answer(202, {"Location": "/up"}))
    config = digest(b'{"os":"linux","architecture":"amd64"}')
    fake.on("POST", f"/v2/app/blobs/uploads/?mount={config}", Answer(202, {"Location": "/up"}))
    for name in (digest(layer), config):
        fake.on("HEAD", f"/v2/app/blobs/{name}", Answer(404))
        fake.on("PUT", f"/up?digest={name}", Answer(201, {"Docker-Content-Digest": HEX}))
    fake.on("DELETE", "/up", Answer(204))
    assert f"the registry calls it {HEX}" in oci("push", "./img:v1", f"{fake.host}/app:v1", code=1).stderr
    assert not fake.seen("PUT", "/manifests/")


def test_a_blob_that_is_one_chunk_is_one_request(oci: Any, tmp_path: Path) -> None:
    Layout(tmp_path / "img").image("v1", b"x" * 250)
    with Receiver() as peer:
        oci("push", "--chunk-size", "100", "./img:v1", f"{peer.host}/app:v1")
        assert len(peer.seen("PATCH")) == 3  # those of the layer; the configuration is smaller


def test_a_token_service_without_identity_tokens(oci: Any, fake: Fake, tmp_path: Path) -> None:
    tokens(fake)
    fake.image("app", "v1", [b"layer"])
    fake.on("POST", "/token", Answer(404))
    auth_file(tmp_path, fake.host, "me:secret", identitytoken="id3nt")
    oci("pull", "--authfile", "auth.json", f"{fake.host}/app:v1", "./img")
    assert fake.seen("GET", "/token")[0].headers["Authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()


# -- credentials -------------------------------------------------------------------------------


def test_logged_in_to_a_path(oci: Any, fake: Fake, tmp_path: Path) -> None:
    wanted = "Basic " + base64.b64encode(b"me:secret").decode()
    fake.guard = lambda asked: None if asked.headers.get("Authorization") == wanted else Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
    oci("pull", "--authfile", "a.json", "--login", f"{fake.host}/team/app", input="me\nsecret\n")
    assert list(json.loads((tmp_path / "a.json").read_text())["auths"]) == [f"{fake.host}/team/app"]
    fake.image("team/app", "v1", [b"layer"])
    fake.image("other", "v1", [b"layer"])
    oci("pull", "--authfile", "a.json", f"{fake.host}/team/app:v1", "./img")
    oci("pull", "--authfile", "a.json", f"{fake.host}/other:v1", "./other", code=1)
    oci("pull", "--authfile", "a.json", "--logout", fake.host, code=1)
    oci("pull", "--authfile", "a.json", "--logout", f"{fake.host}/team/app")
    (tmp_path / "a.json").write_text('{"credsStore": "test"}')
    said = oci("pull", "--authfile", "a.json", "--login", f"{fake.host}/team", input="me\nsecret\n", code=1).stderr
    assert "docker-credential-test has one entry for all of" in said
    assert "not a registry" in oci("pull", "--login", f"http://{fake.host}", code=2).stderr


def test_helpers_of_registries_conf(oci: Any, fake: Fake, tmp_path: Path) -> None:
    """credential-helpers: who is asked, in order; files are among them only if they are said to be."""
    program = tmp_path / "bin/docker-credential-ours"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nread -r host\necho \'{"Username":"me","Secret":"secret"}\'\n')
    program.chmod(0o755)
    wanted = "Basic " + base64.b64encode(b"me:secret").decode()
    fake.guard = lambda asked: None if asked.headers.get("Authorization") == wanted else Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
    fake.image("app", "v1", [b"layer"])
    auth_file(tmp_path, fake.host, "someone:else")
    oci.env |= {"CONTAINERS_REGISTRIES_CONF": str(tmp_path / "conf"), "PATH": f"{program.parent}:{oci.env['PATH']}",
                "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}  # fmt: skip
    for helpers, code in ((["ours"], 0), (["ours", "containers-auth.json"], 0), (["containers-auth.json", "ours"], 1), ([], 1), ("x", 1)):
        (tmp_path / "conf").write_text(f"credential-helpers = {json.dumps(helpers)}\n")
        oci("pull", f"{fake.host}/app:v1", "./img", code=code)


# -- registries.conf -----------------------------------------------------------------------------


def test_a_prefix_that_is_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text('[[registry]]\nprefix = "r.example/a:1"\nlocation = "one.example/b"\n'
                    f'[[registry]]\nprefix = "r.example/a@{HEX}"\nblocked = true\n')  # fmt: skip
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    monkeypatch.setattr(shortnames, "SYSTEM", str(tmp_path / "none"))
    for ref, place in (("r.example/a:1", "one.example/b"), ("r.example/a:12", "r.example/a"), ("r.example/a", "r.example/a"),
                       (f"r.example/a:1@{HEX}", "one.example/b")):  # fmt: skip
        (found,) = hosts.sources(Ref.parse(ref))
        assert f"{found.host}/{found.repository}" == place
    with pytest.raises(Error, match="blocked"):
        hosts.sources(Ref.parse(f"r.example/a@{HEX}"))


# -- policy.json ---------------------------------------------------------------------------------


def test_a_policy_for_paths(oci: Any, busybox: Path, tmp_path: Path) -> None:
    ok, no = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]
    for name in ("in/good", "in/bad"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        oci("pull", f"{busybox}:latest", f"./{name}:b")
    oci("push", "./in/good:b", "oci-archive:in/x.tar")
    oci("push", "./in/good:b", "dir:in/d")

    def judged(word: str, rejected: bool, transports: Any, default: Any = ok) -> None:
        (tmp_path / "p.json").write_text(json.dumps({"default": default, "transports": transports}))
        done = oci("pull", "--policy", "p.json", word, "./out:b", code=1 if rejected else 0)
        assert not rejected or "image is rejected" in done.stderr

    judged("./in/bad:b", True, {"oci": {str(tmp_path / "in"): no}})
    judged("./in/good:b", False, {"oci": {str(tmp_path / "in"): no, str(tmp_path / "in/good"): ok}})
    judged("./in/good:b", True, {"oci": {str(tmp_path / "in/good"): ok, f"{tmp_path}/in/good:b": no}})
    judged("./in/good:b", False, {"oci": {str(tmp_path / "i"): no, "": ok}}, no)
    judged("oci-archive:in/x.tar", True, {"oci": {"": ok}, "oci-archive": {str(tmp_path / "in"): no}})
    judged("dir:in/d", False, {"dir": {str(tmp_path / "in/d"): ok}}, no)
    judged("dir:in/d", True, {"oci": {"": ok}}, no)


@pytest.mark.parametrize(
    "text",
    ["{}", '{"default": []}', '{"default": [{"type": "reject"}], "unexpected": 1}', '{"default": {}}', "[]",
     '{"default": [{"type": "insecureAcceptAnything"}], "default": [{"type": "reject"}]}'],
)  # fmt: skip
def test_a_policy_that_could_mean_more_than_one_thing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(Error, match=r"p\.json"):
        Policy(str(path)).requirements("docker", [""])


@pytest.mark.parametrize(
    "image, signed, good",
    [
        ("busybox:latest", "busybox:latest", True), ("busybox:latest", "docker.io/library/busybox:latest", True),
        ("busybox:latest", "busybox:other", False), ("busybox:latest", "busybox", False), ("busybox:latest", f"busybox@{HEX}", False),
        (f"busybox@{HEX}", "busybox:latest", True), (f"busybox@{HEX}", "busybox", True), (f"busybox@{HEX}", "other", False),
        (f"busybox:latest@{HEX}", f"busybox:latest@{HEX}", True), (f"busybox:latest@{HEX}", "busybox:latest", False),
        (f"busybox:latest@{HEX}", f"busybox:other@{HEX}", False), ("busybox:latest", "UPPER", False), ("busybox:latest", "", False),
    ],
)  # fmt: skip
def test_the_name_that_was_signed(image: str, signed: str, good: bool) -> None:
    """matchRepoDigestOrExact, what is meant if nothing is said: a tag, or a tag with a digest, must be the same."""
    match = Policy()._identity({"type": "sigstoreSigned"}, Ref.parse(image))
    assert match(signed) == good


def test_keys_that_are_said_twice(tmp_path: Path) -> None:
    with pytest.raises(Error, match="more than one way"):
        Policy(str(tmp_path / "p.json"))._keys({"type": "sigstoreSigned", "keyPath": "a", "keyData": "b"})
