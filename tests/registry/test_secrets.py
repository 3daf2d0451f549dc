"""What lets somebody in stands in no log, message, number or event: passwords, tokens, codes, signed URLs."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oci_tools.fetch import shown as shown_url
from oci_tools.registry.accesslog import shown
from tests.peers import Answer, Fake, digest
from tests.registry.test_operate import Hook, end, hook, start  # noqa: F401
from tests.registry.test_pull import auth_file, demand
from tests.registry.test_push import Sound
from tests.registry.test_server import Client

QUICK = ("--retries", "0", "--debug")


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as made:
        made.image("app", "v1", [b"layer"])
        yield made


@pytest.mark.parametrize(
    "target, said",
    [
        ("/v2/", "/v2/"),
        ("/v2/a/tags/list?n=1&last=x%20y", None),
        ("/v2/a/blobs/uploads/?mount=sha256:x&from=b", None),
        ("/v2/a/manifests/sha256:x?tag=a&tag=b", None),
        ("/login/callback?code=s3cret&state=s3cret", "/login/callback?code=***&state=***"),
        ("/token?service=x&scope=repository:a:pull&account=me&password=s3cret",
         "/token?service=x&scope=repository:a:pull&account=me&password=***"),
        ("/v2/?access_token=s3cret", "/v2/?access_token=***"),
        ("/?s3cret", "/?***"),
        ("/login?password", None),
        ("/?a=s3cret=s3cret&&=s3cret", "/?a=***&&=***"),
        ("http://me:s3cret@host/v2/?n=1", "http://host/v2/?n=1"),
    ],
)  # fmt: skip
def test_targets(target: str, said: str | None) -> None:
    assert shown(target) == (target if said is None else said)


@pytest.mark.parametrize(
    "url, said",
    [
        ("https://host:1/a/b", "https://host:1/a/b"),
        ("https://me:s3@host/a?X-Amz-Signature=s3#s3", "https://host/a?..."),
        ("https://host?s3", "https://host?..."),
        ("/path@x?s3", "/path@x?..."),
        ("ftp://s3:s3@s3@host", "ftp://host"),
    ],
)
def test_urls(url: str, said: str) -> None:
    assert shown_url(url) == said


def test_what_a_server_writes(oci: Any, tmp_path: Path, hook: Any) -> None:  # noqa: F811
    subprocess.run(["htpasswd", "-cbB", tmp_path / "users", "me", "s3cret"], check=True, capture_output=True)
    url = f"http://me:s3cret@127.0.0.1:{hook.server_port}/x?token=s3cret"
    Hook.answers = [500] * 50  # what cannot be told is said
    words = ("--access-log", "--metrics", "--htpasswd", tmp_path / "users", "--auth", "token", "--webhook", url)
    server = start(oci, tmp_path, *words)
    ask, basic = Client(server.host), "Basic " + base64.b64encode(b"me:s3cret").decode()
    token = ask("GET", "/token?scope=repository:a:pull,push&service=" + server.host, Authorization=basic).json["token"]
    form = "grant_type=password&username=me&password=s3cret&service=x&scope=repository:a:pull"
    ask("POST", "/token", form.encode(), Content_Type="application/x-www-form-urlencoded")
    for path in ("/v2/?access_token=s3cret", "/login/callback?code=s3cret&state=s3cret", "/token?password=s3cret"):
        ask("GET", path, Authorization=f"Bearer {token}", Cookie="oci_session=s3cret")
    config = b"{}"
    where = f"/v2/a/blobs/uploads/?digest={digest(config)}&secret=s3cret"
    assert ask("POST", where, config, Authorization=f"Bearer {token}").status == 201
    (tmp_path / "store/a/index.json").write_text("no json")
    assert ask("GET", "/v2/a/tags/list?sig=s3cret", Authorization=f"Bearer {token}").status == 500
    said = ask("GET", "/metrics").body.decode() + end(server)
    assert "cannot answer GET /v2/a/tags/list?sig=***" in said and "/login/callback?code=***&state=***" in said
    for secret in ("s3cret", token, basic.partition(" ")[2]):
        assert secret not in said


@pytest.mark.parametrize(
    "target, words",
    [
        ("{path}?X-Amz-Signature=s3cret", "more than 10 redirects"),
        ("ftp://me:s3cret@127.0.0.1/x?sig=s3cret", "cannot follow redirect to 'ftp://127.0.0.1/x?...'"),
        ("http://me:s3cret@127.0.0.1:1/x?sig=s3cret", "cannot reach '127.0.0.1:1'"),
        ("http://127.0.0.1:1/\x7f?sig=s3cret", "cannot "),
        ("http://127.0.0.1:99999/x?sig=s3cret", "cannot "),
        ("http://[::zz]/x?sig=s3cret", "cannot "),
    ],
)
def test_where_a_blob_is_said_to_be(oci: Any, fake: Fake, target: str, words: str) -> None:
    path = fake.blob("app", b"layer")
    fake.on("GET", path, Answer(307, {"Location": target.format(path=path)}))
    said = oci("pull", *QUICK, f"{fake.host}/app:v1", "./img", code=None).stderr
    assert words in said and "s3cret" not in said


def test_where_an_upload_goes_on(oci: Any, fake: Fake, tmp_path: Path) -> None:
    Sound(tmp_path / "img").image("v1", b"x")
    for place in ("ftp://me:s3cret@x/?sig=s3cret", "http://me:s3cret@127.0.0.1:1/x?sig=s3cret"):
        fake.on("POST", "/v2/app/blobs/uploads/", Answer(202, {"Location": place}))
        said = oci("push", *QUICK, "./img:v1", f"{fake.host}/app:v1", code=None).stderr
        assert "s3cret" not in said and "cannot " in said


def test_what_gets_a_client_in(oci: Any, fake: Fake, tmp_path: Path) -> None:
    auth_file(tmp_path, fake.host, "me:s3cret", identitytoken="s3cret-id")
    secrets = ("s3cret", base64.b64encode(b"me:s3cret").decode(), "t0k3n")
    fake.on("POST", "/token", Answer(200, {}, b'{"token":"t0k3n"}'), Answer(403, {}, b"{}"), Answer(500), Answer(200, {}, b"{"))
    fake.guard = demand("never", f'Bearer realm="{fake.url}/token?k=s3cret",service="s"')
    for at in range(4):
        said = oci("pull", *QUICK, "--authfile", "auth.json", f"{fake.host}/app:v1", "./img", code=None)
        assert "cannot " in said.stderr and not any(one in said.stderr + said.stdout for one in secrets), at
    fake.guard = demand("never", 'Bearer realm="http://me:s3cret@192.0.2.1/token?k=s3cret"')
    said = oci("pull", *QUICK, "--authfile", "auth.json", f"{fake.host}/app:v1", "./img", code=1)
    assert "is not https" in said.stderr and not any(one in said.stderr for one in secrets)


def test_a_proxy_with_a_password(oci: Any) -> None:
    more = {"HTTPS_PROXY": "http://me:s3cret@127.0.0.1:1"}
    said = oci("pull", *QUICK, "registry.example/app", code=75, env={**oci.env, **more}).stderr
    assert "through the proxy" in said and "s3cret" not in said


def test_states_of_a_copy(oci: Any, fake: Fake) -> None:
    path = fake.blob("app", b"layer")
    fake.on("GET", "/moved", Answer(200, {}, b"layer"))
    fake.on("GET", path, Answer(307, {"Location": "/moved?sig=s3cret"}))
    done = oci("pull", "--debug", "--progress", "json", f"{fake.host}/app:v1", "./img")
    assert [json.loads(line) for line in done.stderr.splitlines()] and "s3cret" not in done.stderr + done.stdout
