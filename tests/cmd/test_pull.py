"""oci-pull's words; what it does with registries is in tests/registry/test_pull.py."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.peers import Fake
from tests.registry.test_push import Layout

@pytest.mark.parametrize(
    "words, said",
    [
        ((), "missing argument 'REF'"),
        (("a", "b", "c"), "unexpected extra argument"),
        (("--nonsense", "a"), "no such option '--nonsense'"),
        (("--jobs", "x", "a"), "invalid value for"),
        (("--progress", "loud", "a"), "invalid value for"),
        (("--platform", "amd64", "--all-platforms", "a"), "exclude each other"),
        (("--unpack", "b", "--all-platforms", "a"), "--unpack takes one image"),
        (("--unpack", "b", "a", "-"), "--unpack takes one image"),
        (("--login", "a", "--logout", "b"), "stand alone"),
        (("--all-tags", "a", "./img:tag"), "several images go into a layout"),
        (("--all-tags", "a", "-"), "several images go into a layout"),
        (("--all-tags", "--match", "(", "a"), "not a regular expression '('"),
        (("--login", "h", "ref"), "stand alone"),
        (("--all-tags", "./layout"), "has no repository"),
        (("a", "docker://b/c/d"), "not a layout 'docker://b/c/d'"),
        (("--unpack", "b", "a", "oci-archive:x.tar"), "--unpack takes one image"),
        (("--all-tags", "a", "docker-archive:x.tar"), "several images go into a layout"),
    ],
)
def test_words_that_make_no_sense(oci: Any, words: tuple[str, ...], said: str) -> None:
    done = oci("pull", *words, code=2)
    assert said in done.stderr and done.stderr.startswith("oci-pull: ") and done.stderr.count("\n") == 1
    assert not done.stdout


@pytest.mark.parametrize("word", ["Upper", "a:", "a@sha256:12", "a b", "http://x/y", "x" * 300])
def test_references_that_are_none(oci: Any, word: str) -> None:
    done = oci("pull", "--", word, code=None)
    assert done.returncode in (1, 2) and done.stderr.count("\n") == 1


def test_a_platform_that_is_none(oci: Any, registry: Any) -> None:
    assert "invalid platform" in oci("pull", "--platform", "a/b/c/d", f"{registry.host}/x", code=None).stderr


def test_one_line_and_nothing_else(oci: Any, registry: Any, busybox: Path, tmp_path: Path) -> None:
    pushed = oci("push", f"{busybox}:latest", f"{registry.host}/bb")
    assert pushed.stderr == ""
    done = oci("pull", pushed.stdout.strip(), "img:mine", cwd=tmp_path)
    digest = pushed.stdout.strip().rpartition("@")[2]
    assert (done.stdout, done.stderr) == (f"{tmp_path}/root/images@{digest}\n", "")
    (entry,) = json.loads((tmp_path / "root/images/index.json").read_text())["manifests"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "docker.io/library/img:mine"


def test_described_and_not_taken(oci: Any, registry: Any, busybox: Path, tmp_path: Path) -> None:
    pushed = oci("push", f"{busybox}:latest", f"{registry.host}/bb").stdout.strip()
    found = json.loads(oci("pull", "--describe", f"{registry.host}/bb").stdout)
    assert found["digest"] == pushed.rpartition("@")[2] and found["size"] > 100
    assert found["mediaType"].startswith("application/vnd.") and found["platforms"] == [{"os": "linux", "architecture": "amd64"}]
    assert not (tmp_path / "root/images").exists()
    assert "cannot fetch" in oci("pull", "--describe", f"{registry.host}/none", code=1).stderr


def test_unpacked(oci: Any, registry: Any, busybox: Path, tmp_path: Path) -> None:
    oci("push", f"{busybox}:latest", f"{registry.host}/bb")
    assert oci("pull", "--unpack", "b", f"{registry.host}/bb").stdout == f"{tmp_path}/b\n"
    assert (tmp_path / "b/rootfs/bin/busybox").exists() and (tmp_path / "b/config.json").exists()


def test_a_full_disk_on_standard_output(oci: Any, registry: Any, busybox: Path) -> None:
    oci("push", f"{busybox}:latest", f"{registry.host}/bb")
    with open("/dev/full", "w") as full:
        said = oci("pull", f"{registry.host}/bb", stdout=full, code=1).stderr
    assert said == "oci-pull: cannot write standard output: no space left on device\n"


def test_progress_on_a_terminal(oci: Any, registry: Any, busybox: Path) -> None:
    oci("push", f"{busybox}:latest", f"{registry.host}/bb")
    ours, theirs = pty.openpty()
    process = oci.start("pull", f"{registry.host}/bb", stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    said = b""
    try:
        while data := os.read(ours, 1000):
            said += data
    except OSError:
        pass  # the terminal has gone with its last user
    assert process.wait() == 0
    assert b"pull 1.1 MB of 1.1 MB" in said
    os.close(ours)


def test_a_password_on_a_terminal_is_not_shown(oci: Any, tmp_path: Path) -> None:
    from tests.peers import Answer, Fake

    with Fake() as fake:
        fake.guard = lambda asked: (
            None if asked.headers.get("Authorization") == "Basic bWU6c2VjcmV0" else Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
        )  # fmt: skip
        fd, theirs = pty.openpty()
        argv = ["setsid", "--ctty", "--wait", oci.bin / "oci-pull", "--login", fake.host]
        process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=oci.environment())
        os.close(theirs)
        said = b""
        for prompt, answer in ((b"user: ", b"me\n"), (b"password: ", b"secret\n")):
            while not said.endswith(prompt):
                said += os.read(fd, 1000)
            os.write(fd, answer)
        try:
            while data := os.read(fd, 1000):
                said += data
        except OSError:
            pass
        assert process.wait() == 0
        os.close(fd)
        assert b"secret" not in said and b"auth.json" in said


def test_nothing_is_said_of_who_asks_for_help(oci: Any) -> None:
    assert "--all-platforms" in oci("pull", "--help").stdout


def test_a_short_name_is_pulled_from_the_first_registry_that_has_it(oci: Any, tmp_path: Path) -> None:
    conf = tmp_path / "registries.conf"
    oci.env["CONTAINERS_REGISTRIES_CONF"] = str(conf)
    with Fake() as one, Fake() as two:
        two.image("team/short-app", "v1", [b"layer"])
        search = f'unqualified-search-registries = ["{one.host}", "{two.host}"]\n'
        conf.write_text(search)
        done = oci("pull", "team/short-app:v1", "./img")
        assert done.stdout.startswith(f"{tmp_path}/img@sha256:") and one.host in done.stderr and done.stderr.count("\n") == 1
        oci("pull", "team/short-app:v1")
        assert oci("image", "ls").stdout.startswith(f"{two.host}/team/short-app:v1\t")
        done = oci("pull", "team/short-none:v1", "./img", code=1)
        assert "cannot pull 'team/short-none:v1': none of 2 registries" in done.stderr.splitlines()[-1]
        conf.write_text('short-name-mode = "enforcing"\n' + search)
        assert "which registry has 'team/short-app'" in oci("pull", "team/short-app:v1", "./x", code=1).stderr
        assert not (tmp_path / "x").exists()


def test_what_is_pushed_goes_where_it_says(oci: Any, tmp_path: Path, registry: Any) -> None:
    """registries.conf rewrites what is read, as containers/image has it."""
    conf = tmp_path / "registries.conf"
    conf.write_text(f'[[registry]]\nprefix = "{registry.host}/here"\nlocation = "{registry.host}/there"\n')
    oci.env["CONTAINERS_REGISTRIES_CONF"] = str(conf)
    Layout(tmp_path / "img").image("v1", b"layer")
    oci("push", "./img:v1", f"{registry.host}/here/app:v1")
    assert oci("registry", "ls", "--fields", "repository", registry.dir).stdout == "here/app\n"
    assert f"{registry.host}" in oci("pull", f"{registry.host}/here/app:v1", "./out", code=1).stderr


@pytest.mark.parametrize(
    "words, code",
    [
        (("--jobs", "0"), 2), (("--timeout", "0"), 2), (("--retries", "-1"), 2), (("--retry-delay", "-1"), 2),
        (("--lock-timeout", "-1"), 2), (("--auth-fd", "-1"), 1), (("--auth-fd", "9" * 20), 1), (("--auth-fd", "77"), 1),
        (("--tls-verify=false", "--cert-dir", "/nope"), 1),
    ],
)  # fmt: skip
def test_values_that_make_no_sense(oci: Any, words: tuple[str, ...], code: int) -> None:
    done = oci("pull", *words, "registry.test/a", "./img", code=code if "cert-dir" not in str(words) else None)
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("oci-pull: ")


def test_only_some_blobs(oci: Any, busybox: Path, registry: Any, tmp_path: Path) -> None:
    oci("push", busybox, f"{registry.host}/b:1")
    oci("pull", "--only", "config", f"{registry.host}/b:1", "./part:x")
    manifest = json.loads(oci("image", "cat", "./part:x").stdout)
    there = {path.name for path in (tmp_path / "part/blobs/sha256").iterdir()}
    layer = manifest["layers"][0]["digest"]
    assert manifest["config"]["digest"][7:] in there and layer[7:] not in there and len(there) == 2
    oci("pull", "--only", layer, f"{registry.host}/b:1", "./part:x")
    assert oci("image", "fsck", "./part").returncode == 0
    assert "no such blob in the image" in oci("pull", "--only", "sha256:" + "0" * 64, f"{registry.host}/b:1", "./part:x", code=1).stderr
    oci("pull", "--only", "config", "--unpack", "b", f"{registry.host}/b:1", code=2)
    oci("pull", "--only", "config", str(busybox), "./other", code=2)


def test_streams_that_the_caller_has_closed(oci: Any) -> None:
    done = oci.shell("oci-pull - <&-; echo $?; echo x >f; oci-image load ./f 2>&-; echo $?")
    assert done.stderr == "oci-pull: nothing on standard input (a handle or an image archive is expected)\n"
    assert done.stdout.split() == ["1", "1"]
