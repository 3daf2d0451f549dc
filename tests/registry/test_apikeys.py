"""Keys that stand in for passwords: made by a command, used by clients, taken back while serving."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from oci_tools.errors import Error
from oci_tools.registry import apikeys
from tests.registry.test_access import Start, ask, htpasswd, put, serve  # noqa: F401

RULES = "alice,ci ** *\n@dev dev/** *\n"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    (tmp_path / "rules").write_text(RULES)
    return tmp_path / "rules"


def made(oci: Any, *words: Any) -> str:
    return str(oci("registry", "key", "add", *words).stdout.strip())


def basic(user: str, key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_key_is_made_listed_and_taken_back(oci: Any, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    one = made(oci, "--days", "30", "--scope", "team/**:pull,push", "--label", "of ci", file, "alice")
    two = made(oci, "--days", "0", file, "bob")
    assert one.startswith("ocik_") and one != two and file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    assert one not in text and one.rpartition("_")[2] not in text  # it is nowhere but here
    rows = [line.split("\t") for line in oci("registry", "key", "ls", file).stdout.splitlines()]
    assert [row[1] for row in rows] == ["alice", "bob"] and rows[0][3:] == ["team/**:pull,push", "of ci"]
    days = (time.mktime(time.strptime(rows[0][2], "%Y-%m-%dT%H:%M:%SZ")) - time.mktime(time.gmtime())) / 86400
    assert 29.9 < days < 30.1 and rows[1][2:] == ["-", "-", "-"]
    found = [json.loads(line) for line in oci("registry", "key", "ls", "--json", "--fields", "id,scopes", file).stdout.splitlines()]
    assert found == [{"id": rows[0][0], "scopes": ["team/**:pull,push"]}, {"id": rows[1][0], "scopes": []}]
    assert "no such key" in oci("registry", "key", "rm", file, "000000000000", code=1).stderr
    oci("registry", "key", "rm", file, rows[0][0])
    oci("registry", "key", "rm", "--user", "bob", file)
    assert oci("registry", "key", "ls", file).stdout == ""


@pytest.mark.parametrize(
    "words, code",
    [
        (("--scope", "team"), 1), (("--scope", ":pull"), 1), (("--scope", "a:read"), 1), (("--scope", "a b:pull"), 1),
        (("--days", "-1"), 2), (("--days", "9" * 20), 2), (("--label", "a\nb"), 1), (("--label", "x" * 101), 1),
    ],
)  # fmt: skip
def test_keys_that_cannot_be_made(oci: Any, tmp_path: Path, words: Any, code: int) -> None:
    done = oci("registry", "key", "add", *words, tmp_path / "keys", "alice", code=code)
    assert done.stdout == "" and done.stderr.count("\n") == 1 and not (tmp_path / "keys").exists()


@pytest.mark.parametrize("user", ["", "*", "+", "@dev", "a,b", " a", "a\tb"])
def test_users_whom_no_rule_can_name(oci: Any, tmp_path: Path, user: str) -> None:
    assert oci("registry", "key", "add", tmp_path / "keys", user, code=1).stdout == ""


@pytest.mark.parametrize("line", ["x", "[]", "{}", '{"id":1,"hash":"","user":"a"}', '{"id":"a","hash":"b","user":"*"}',
                                  '{"id":"a","hash":"b","user":"a","expires":"soon"}', '{"id":"a","hash":"b","user":"a","scopes":["x"]}'])  # fmt: skip
def test_files_that_hold_no_keys(line: str) -> None:
    with pytest.raises(Error, match="cannot use keys of 'f': line 2 is no key"):
        apikeys.parse(f"\n{line}\n", "f")


def test_many_at_once_lose_no_key(oci: Any, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made_ = set(pool.map(lambda at: made(oci, tmp_path / "keys", f"user{at}"), range(12)))
    assert len(made_) == 12 and len(oci("registry", "key", "ls", tmp_path / "keys").stdout.splitlines()) == 12


def test_a_key_is_a_password_and_a_bearer_token(oci: Any, serve: Start, htpasswd: Path, rules: Path, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "keys"
    url = serve("--htpasswd", htpasswd, "--rules", rules, "--api-keys", file)  # which begins empty
    key = made(oci, file, "ci")
    narrow = made(oci, "--scope", "team/**:pull", "--scope", "open:*", file, "alice")
    member = made(oci, "--group", "dev", file, "carol")
    assert ask(f"{url}/v2/", user="alice").status == 200
    for said in (basic("ci", key), bearer(key), basic("alice", narrow), bearer(narrow)):
        assert ask(f"{url}/v2/", **said).status == 200
    for said in (basic("alice", key), bearer(key[:-1]), bearer(key + "x"), bearer("ocik_"), bearer("ocik__"), basic("", key)):
        assert ask(f"{url}/v2/", **said).status == 401, said
    assert put(url, "team/app", b"1", **bearer(key)).status == 201
    assert ask(f"{url}/v2/team/app/tags/list", **bearer(narrow)).status == 200
    assert put(url, "team/app", b"1", **bearer(narrow)).status == 403 == put(url, "x", b"1", **bearer(narrow)).status
    assert put(url, "open", b"1", **basic("alice", narrow)).status == 201
    assert put(url, "dev/x", b"1", **bearer(member)).status == 201 and put(url, "x", b"1", **bearer(member)).status == 403
    names = {k: json.loads(ask(f"{url}/v2/_catalog", **bearer(k)).body)["repositories"] for k in (key, narrow, member)}
    assert names == {key: ["dev/x", "open", "team/app"], narrow: ["open", "team/app"], member: ["dev/x"]}
    oci("registry", "key", "rm", file, key.split("_")[1])
    assert ask(f"{url}/v2/", **bearer(key)).status == 401 == ask(f"{url}/v2/", **basic("ci", key)).status
    file.write_text("nonsense\n")
    assert ask(f"{url}/v2/", **bearer(narrow)).status == 200  # the last good content
    assert "cannot use keys of" in serve.process.stderr.readline()  # type: ignore[attr-defined]


def test_a_key_ends(serve: Start, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "keys"
    key = apikeys.add(str(file), "ci", days=1)
    url = serve("--api-keys", file)
    assert ask(f"{url}/v2/", **bearer(key)).status == 200
    found = json.loads(file.read_text())
    file.write_text(json.dumps({**found, "expires": "2020-01-01T00:00:00Z"}) + "\n")
    assert ask(f"{url}/v2/", **bearer(key)).status == 401


def test_a_key_gets_tokens_for_its_scopes_as_long_as_it_is_good(oci: Any, serve: Start, htpasswd: Path, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "keys"
    key = made(oci, "--scope", "team/**:pull,push", file, "ci")
    url = serve("--htpasswd", htpasswd, "--auth", "token", "--api-keys", file)
    asked = f"{url}/token?service=x&scope=repository:team/app:pull,push,delete&scope=repository:other:pull"
    answer = json.loads(ask(asked, **basic("ci", key)).body)
    body = json.loads(base64.urlsafe_b64decode(answer["token"].split(".")[1] + "==="))
    assert [entry["actions"] for entry in body["access"]] == [["pull", "push"], []]
    assert put(url, "team/app", b"1", **bearer(answer["token"])).status == 201
    form = f"grant_type=password&username=ci&password={key}&scope=repository:team/app:pull".encode()
    assert ask(f"{url}/token", "POST", data=form).status == 200
    oci("registry", "key", "rm", "--user", "ci", file)
    assert put(url, "team/app", b"2", **bearer(answer["token"])).status == 401  # its tokens are gone with it
    assert ask(asked, **basic("ci", key)).status == 401


@pytest.mark.parametrize("how", ["basic", "token"])
@pytest.mark.needs("skopeo", "podman", "oras")
def test_clients_log_in_with_a_key(oci: Any, serve: Start, busybox: Path, tmp_path: Path, how: str) -> None:  # noqa: F811
    file = tmp_path / "keys"
    key = made(oci, "--scope", "team/**:pull,push", file, "ci")
    words = ("--api-keys", file, "--auth", how)
    host = serve(*words).partition("//")[2]
    auth = tmp_path / "auth.json"

    def done(*words: Any, **more: Any) -> Any:
        result = subprocess.run(words, cwd=tmp_path, env=oci.env, capture_output=True, text=True, **more)
        assert result.returncode == 0, result.stderr
        return result

    done("podman", "login", "--authfile", auth, "--tls-verify=false", "-u", "ci", "--password-stdin", host, input=key)
    copy = ("skopeo", "--insecure-policy", "copy", "--authfile", auth, "--dest-tls-verify=false")
    done(*copy, f"oci:{busybox}:latest", f"docker://{host}/team/app:1")
    oci("pull", "--authfile", auth, f"{host}/team/app:1", "./img")
    assert subprocess.run([*copy, f"oci:{busybox}:latest", f"docker://{host}/x:1"], env=oci.env, capture_output=True).returncode
    done("oras", "login", "--plain-http", "-u", "ci", "--password-stdin", "--registry-config", "oras.json", host, input=key)
    done("oras", "repo", "tags", "--plain-http", "--registry-config", "oras.json", f"{host}/team/app")
