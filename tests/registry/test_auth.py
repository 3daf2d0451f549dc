"""WWW-Authenticate and where credentials are found."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from oci_tools.errors import Error
from oci_tools.registry.auth import parse
from oci_tools.registry.credentials import Credential, Credentials


@pytest.mark.parametrize(
    "value, challenges",
    [
        ("", []),
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"})],
        ),
        (
            'Bearer realm="a\\"b" , error=insufficient_scope, Basic realm="c"',
            [("bearer", {"realm": 'a"b', "error": "insufficient_scope"}), ("basic", {"realm": "c"})],
        ),
        ('Negotiate, Basic realm="c"', [("negotiate", {}), ("basic", {"realm": "c"})]),
        ('Negotiate dG9rZW4=, BASIC Realm = "c"', [("negotiate", {}), ("basic", {"realm": "c"})]),
        ('Bearer realm="never closed', [("bearer", {"realm": "never closed"})]),
        ('Bearer realm="a",realm="b"', [("bearer", {"realm": "a"})]),
        (",,  Basic   realm=tok,,", [("basic", {"realm": "tok"})]),
        ("\x00\x01", []),
    ],
)
def test_challenges(value: str, challenges: object) -> None:
    assert parse(value) == challenges


def auth(user: str, password: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def user(credential: Credential | None) -> str | None:
    return credential.user if credential else None


def test_the_most_specific_path_decides(home: Path) -> None:
    auths = {
        "r.example": auth("host"),
        "r.example/a": auth("a"),
        "r.example/a/b": auth("ab"),
        "r.example:5000": auth("port"),
    }
    write(home / ".docker/config.json", {"auths": auths})
    find = Credentials().find
    assert user(find("r.example", "a/b/c")) == "ab"
    assert user(find("r.example", "a/bc")) == "a"
    assert user(find("r.example", "x")) == "host"
    assert user(find("r.example:5000", "a/b")) == "port"
    assert find("other.example", "a") is None


@pytest.mark.parametrize(
    "key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "https://docker.io"]
)
def test_docker_hub_has_many_names(home: Path, key: str) -> None:
    write(home / ".docker/config.json", {"auths": {key: auth("hub", "p:w")}})
    found = Credentials().find("docker.io", "library/alpine")
    assert found and (found.user, found.password) == ("hub", "p:w")


def test_files_in_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / ".dockercfg", {"r.example": auth("dockercfg")})
    assert user(Credentials().find("r.example")) == "dockercfg"
    write(home / ".docker/config.json", {"auths": {"r.example": auth("docker")}})
    assert user(Credentials().find("r.example")) == "docker"
    write(home / ".config/containers/auth.json", {"auths": {"other": auth("config")}})
    assert user(Credentials().find("r.example")) == "docker"
    write(home / "run/containers/auth.json", {"auths": {"r.example": auth("run")}})
    assert user(Credentials().find("r.example")) == "run"
    write(home / "given", {"auths": {"r.example": auth("given")}})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "given"))
    assert user(Credentials().find("r.example")) == "given"
    assert user(Credentials(authfile=str(home / "run/containers/auth.json")).find("r.example")) == "run"


def test_identity_token(home: Path) -> None:
    write(home / ".docker/config.json", {"auths": {"r.example": {**auth("u", ""), "identitytoken": "tok"}}})
    found = Credentials().find("r.example")
    assert found and found.identity == "tok"


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"auths": [1]},
        {"auths": {"r": 1}},
        {"auths": {"r": {"auth": "!"}}},
        {"auths": {"r": {"auth": "bm9uZQ=="}}},
    ],
)
def test_a_broken_file_is_an_error_and_shows_no_secret(home: Path, content: object) -> None:
    write(home / ".docker/config.json", content)
    with pytest.raises(Error, match="cannot read credentials"):
        Credentials().find("r")


HELPER = """#!/bin/sh
read -r server
case "$1 $server" in
    "get r.example") echo '{"ServerURL":"r.example","Username":"helped","Secret":"s"}' ;;
    "get token.example") echo '{"Username":"<token>","Secret":"identity"}' ;;
    "get broken.example") echo 'the vault is closed'; exit 1 ;;
    "get https://index.docker.io/v1/") echo '{"Username":"hub","Secret":"s"}' ;;
    *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""


@pytest.fixture
def helper(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    program = home / "bin/docker-credential-test"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return "test"


def test_helpers(home: Path, helper: str) -> None:
    write(home / ".docker/config.json", {"credsStore": helper, "auths": {"file.example": auth("file")}})
    find = Credentials().find
    assert user(find("r.example", "a/b")) == "helped"
    assert user(find("docker.io")) == "hub"
    assert user(find("file.example")) == "file"
    assert find("none.example") is None
    token = find("token.example")
    assert token and token.identity == "identity"
    with pytest.raises(Error, match="the vault is closed"):
        find("broken.example")


def test_a_helper_for_one_host(home: Path, helper: str) -> None:
    write(
        home / ".docker/config.json",
        {"credHelpers": {"r.example": helper, "none.example": ""}, "credsStore": "missing"},
    )
    assert user(Credentials().find("r.example")) == "helped"
    assert Credentials().find("none.example") is None
    with pytest.raises(Error, match="cannot run credential helper 'docker-credential-missing'"):
        Credentials().find("other.example")


def test_store_and_drop(home: Path) -> None:
    path = home / "run/containers/auth.json"
    write(path, {"auths": {"kept": auth("kept")}, "foreign": 1})
    assert Credentials().store("r.example", Credential("me", "pw")) == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    found = Credentials().find("r.example")
    assert found and (found.user, found.password) == ("me", "pw")
    Credentials().drop("r.example")
    assert json.loads(path.read_text()) == {"auths": {"kept": auth("kept")}, "foreign": 1}
    with pytest.raises(Error, match="not logged in"):
        Credentials().drop("r.example")
