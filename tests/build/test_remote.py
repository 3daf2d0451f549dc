"""ADD and contexts from elsewhere: http, git, redirects and checksums."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from oci_tools.build import remote
from oci_tools.errors import Usage

pytestmark = [pytest.mark.root, pytest.mark.needs("git")]
CHANGED = "Sun, 09 Sep 2001 01:46:40 GMT"
CONTENT = b"from the web\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def archive(**files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uid = len(text), 1_000_000_000, 7
            tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, headers, body = self.server.answers.get(self.path, (404, {}, b""))  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answers = {  # type: ignore[attr-defined]
            "/dir/file.txt?x=1": (200, {"Last-Modified": CHANGED}, CONTENT),
            "/named": (200, {"Content-Disposition": 'attachment; filename="given"'}, CONTENT),
            "/": (200, {}, CONTENT),
            "/to-file": (302, {"Location": "file:///etc/passwd"}, b""),
            "/round": (302, {"Location": "/round"}, b""),
            "/a.tgz": (200, {"Last-Modified": CHANGED}, archive(f="packed", g="more")),
            "/context.tgz": (200, {}, archive(Dockerfile="FROM scratch\nCOPY f /copied\n", f="of the context")),
            "/Dockerfile": (200, {}, b"FROM scratch\nCOPY <<E /alone\nx\nE\n"),
        }
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def listed(oci: Any) -> dict[str, list[str]]:
    """What tar says of each name: mode, owner, size, time."""
    lines = oci.shell("oci-unpack ./img:x - | TZ=UTC tar -tv --numeric-owner").stdout.splitlines()
    return {line.split()[5].rstrip("/"): line.split()[:5] for line in lines}


def test_add_of_a_url(oci: Any, built: Any, web: str) -> None:
    text = f"""FROM scratch
ADD {web}/dir/file.txt?x=1 /d/
ADD --chmod=644 --chown=3:4 {web}/dir/file.txt?x=1 /e
ADD --checksum=sha256:{DIGEST} {web}/named /n/
ADD {web}/a.tgz /plain/
ADD --unpack=true {web}/a.tgz /unpacked/
ADD --unpack=true --chown=3:4 {web}/a.tgz /owned/
ADD {web}/ /o/
"""
    built(text)
    found = listed(oci)
    assert found["d/file.txt"] == ["-rw-------", "0/0", "13", "2001-09-09", "01:46"]
    assert found["e"][:2] == ["-rw-r--r--", "3/4"]
    assert "n/given" in found and "plain/a.tgz" in found and found["unpacked/f"][1] == "7/0"
    assert found["owned"][1] == found["owned/f"][1] == "3/4" and "o/__unnamed__" in found
    assert "DONE" not in built(text, "--progress", "plain").stderr


@pytest.mark.parametrize(
    "line, place, said",
    [
        ("ADD URL/to-file /x", "2:5", "cannot follow redirect to 'file:///etc/passwd'"),
        ("ADD URL/round /x", "2:5", "more than 10 redirects"),
        ("ADD URL/404 /x", "2:5", "the server answered 404"),
        ("ADD --checksum=foobar GIT /x", "2:16", "invalid checksum foobar, expected hex commit hash"),
        ("ADD --checksum=sha256:" + "0" * 64 + " URL/named /x", "2:88", f"digest mismatch sha256:{DIGEST}"),
        ("ADD --checksum=md5:0 URL/named /x", "2:22", "not a digest 'md5:0'"),
        ("ADD --checksum=sha256:" + "0" * 64 + " Dockerfile /x", "2:88", "checksum can't be specified for non-HTTP(S) & non-Git"),
        ("ADD --checksum=0000000 GIT /x", "2:16", "expected checksum to match 0000000, got "),
        ("ADD GIT#nothing /x", "2:5", "repository does not contain ref nothing"),
        ("ADD GIT#:nothing /x", "2:1", "no such directory in the repository 'nothing'"),
    ],
)
def test_what_cannot_be_added(built: Any, web: str, repository: str, line: str, place: str, said: str) -> None:
    done = built(f"FROM scratch\n{line}\n".replace("URL", web).replace("GIT", repository), code=1)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"oci-build: Dockerfile:{place}: ") and said in last


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[str]:
    """A git repository served by git's own daemon, with a tag, a branch and a directory."""
    place = tmp_path / "served/repo.git"
    place.mkdir(parents=True)
    script = """
git init -q -b main . && mkdir sub && echo one > sub/f && echo '#!/bin/sh' > run && chmod 775 run && ln -s run link
printf 'FROM scratch\\nCOPY . /\\n' > sub/Dockerfile && git add -A && git commit -qm 1 && git tag -a v1 -m v1
echo two > sub/f && git commit -qam 2 && git checkout -q -b other && echo other > sub/f && git commit -qam 3 && git checkout -q main
"""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "GIT_CONFIG_GLOBAL": "/dev/null"}
    names = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["sh", "-ec", script], cwd=place, env={**env, **names}, check=True)
    words = ["git", "daemon", "--export-all", f"--base-path={tmp_path}/served", "--listen=127.0.0.1", "--reuseaddr", "--verbose"]
    import socket

    with socket.socket() as free:  # the daemon cannot say which port it took
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([*words, f"--port={port}"], env=env, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "Ready to rumble" in line:
            break
    yield f"git://127.0.0.1:{port}/repo.git"
    process.terminate()
    process.communicate()


def test_git(oci: Any, built: Any, cat: Any, repository: str) -> None:
    built(f"FROM scratch\nADD {repository} /all\nADD {repository}#v1:sub /tag\nADD --keep-git-dir=true {repository}#other /kept\n")
    found = listed(oci)
    assert found["all/run"][:2] == ["-rwxr-xr-x", "0/0"] and found["all/sub/f"][0] == "-rw-r--r--"
    assert "all/.git" not in found and "kept/.git" in found and found["all/link"][0][0] == "l"
    assert [cat(f"/{path}/f") for path in ("all/sub", "tag", "kept/sub")] == ["two\n", "one\n", "other\n"]
    oci("build", "-t", "./img:x", f"{repository}#v1:sub")
    assert cat("/f") == "one\n"
    built("FROM scratch\nCOPY --from=r sub/f /named\n", "--build-context", f"r={repository}#other")
    assert cat("/named") == "other\n"


def test_a_repository_whose_url_does_not_say_so(built: Any, cat: Any, repository: str, tmp_path: Path) -> None:
    """Over HTTP it is one where something is said of .git."""
    served = tmp_path / "served/repo.git"
    subprocess.run(["git", "update-server-info"], cwd=served, check=True)
    (tmp_path / "served/plain").symlink_to("repo.git/.git")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=tmp_path / "served")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/plain"
        built(f"FROM scratch\nADD --keep-git-dir {url}#v1 /kept\nADD --keep-git-dir=false {url} /left\n")
        assert [cat(f"/{name}/sub/f") for name in ("kept", "left")] == ["one\n", "two\n"]
        assert cat("/kept/.git/HEAD") and "404" in built(f"FROM scratch\nADD {url}/x /\n", code=1).stderr
        server.shutdown()


def test_git_queries(built: Any, cat: Any, repository: str) -> None:
    """A tag and the commit that it must be; a branch is none, short commits, .git."""
    words = ["git", "ls-remote", repository]
    said = subprocess.run(words, capture_output=True, check=True, text=True).stdout.split("\n")
    commits = {name: commit for commit, _, name in (line.partition("\t") for line in said)}
    v1, main = commits["refs/tags/v1^{}"], commits["refs/heads/main"]
    for query in f"tag=v1&commit={v1}", f"tag=v1&checksum={v1[:8]}", f"commit={v1}", f"tag=v1&commit={commits['refs/tags/v1'][:9]}":
        built(f"FROM scratch\nADD {repository}?{query} /a\n".replace("?", ".git?").replace(".git.git", ".git"))
        assert cat("/a/sub/f") == "one\n"
    built(f"FROM scratch\nADD {repository}?keep-git-dir=1&branch=other&subdir=sub /a\nADD {repository}?keep-git-dir=true /b\nADD --keep-git-dir=false {repository}?keep-git-dir /c\n")
    assert cat("/a/f") == "other\n" and cat("/b/.git/HEAD") == f"{main}\n"
    for query, wrong in ((f"tag=v1&commit={main}", f"expected checksum to match {main}, got {v1}"), ("branch=v1", "does not contain ref refs/heads/v1")):
        assert wrong in built(f"FROM scratch\nADD {repository}?{query} /a\n", code=1).stderr


def test_a_directory_of_a_repository_is_in_it(oci: Any, built: Any, cat: Any, repository: str, tmp_path: Path) -> None:
    """Not behind its links or .., as a context and of ADD (CVE-2026-33748)."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "Dockerfile").write_text("FROM scratch\nCOPY secret /\n")
    (victim / "secret").write_text("s")
    up = "../" * 20
    script = f"ln -s {victim} abs && ln -s / top && ln -s {up}{victim} up && ln -s .. dots && git add -A && git -c user.name=x -c user.email=x@y commit -qm 4"
    subprocess.run(["sh", "-ec", script], cwd=tmp_path / "served/repo.git", check=True)
    away = "abs", f"top{victim}", "up", f"dots/{up}{victim}", f"{up}{victim}", str(victim), f"sub/../{up}{victim}"
    for subdir in away:
        oci("build", "-t", "./img:x", f"{repository}#main:{subdir}", code=1)
        said = built(f"FROM scratch\nADD {repository}#main:{subdir} /\n", code=1).stderr
        assert "no such directory in the repository" in said
    built(f"FROM scratch\nADD {repository}#main:.. /\n")  # its own root, as in a chroot
    assert cat("/sub/f") == "two\n"


def test_a_repository_with_sha256(built: Any, cat: Any, repository: str, tmp_path: Path) -> None:
    place = tmp_path / "served/new.git"
    place.mkdir()
    script = "git init -q --object-format=sha256 -b main . && echo new > f && git add -A && git commit -qm 1 && git rev-parse HEAD"
    names = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "GIT_CONFIG_GLOBAL": "/dev/null", **names}
    commit = subprocess.run(["sh", "-ec", script], cwd=place, env=env, check=True, capture_output=True, text=True).stdout.strip()
    new = repository.replace("repo.git", "new.git")
    built(f"FROM scratch\nADD {new} /a\nADD {new}#{commit} /b\nADD --checksum={commit} {new}#main /c\n")
    assert [cat(f"/{name}/f") for name in "abc"] == ["new\n"] * 3


def created(oci: Any, image: str = "./img:x") -> str:
    found: str = json.loads(oci("image", "inspect", image).stdout)["config"]["created"]
    return found[:19]


def test_where_a_time_comes_from(oci: Any, built: Any, cat: Any, web: str, repository: str) -> None:
    """SOURCE_DATE_EPOCH of the Dockerfile, the context, a named context, a stage that is one ADD."""
    numbered = "ARG SOURCE_DATE_EPOCH=1600000000\nFROM BASE\nARG SOURCE_DATE_EPOCH\nRUN echo $SOURCE_DATE_EPOCH > /e\n"
    built(numbered)
    assert created(oci) == "2020-09-13T12:26:40" and cat("/e") == "1600000000\n"
    built(numbered, "--build-arg", "SOURCE_DATE_EPOCH=1600000001")
    assert created(oci) == "2020-09-13T12:26:41" and cat("/e") == "1600000001\n"
    named = numbered.replace("1600000000", "mine")
    built(named, "--build-context", f"mine={web}/a.tgz")
    assert created(oci) == "2001-09-09T01:46:40" and cat("/e") == "1000000000\n"
    stage = numbered.replace("1600000000", "mine").replace("FROM", f"FROM scratch AS mine\nADD {web}/context.tgz /\nFROM")
    built(stage)
    assert created(oci) == "2001-09-09T01:46:40"
    argument = ["--build-arg", "SOURCE_DATE_EPOCH=context"]
    oci("build", *argument, "-t", "./img:x", f"{web}/context.tgz")
    assert created(oci) == "2001-09-09T01:46:40"
    oci("build", *argument, "-t", "./img:x", f"{repository}#v1:sub")
    assert created(oci)[:2] == "20"
    built(numbered, *argument)  # a directory has none
    assert cat("/e") == "\n"
    assert "invalid SOURCE_DATE_EPOCH: never" in built(numbered.replace("1600000000", "never"), code=2).stderr
    wrong = stage.replace("FROM BASE", "COPY f /\nFROM BASE")
    assert "SOURCE_DATE_EPOCH stage does not meet source-only requirements" in built(wrong, code=1).stderr


def test_contexts_from_the_web(oci: Any, cat: Any, web: str) -> None:
    oci("build", "-t", "./img:x", f"{web}/context.tgz")
    assert cat("/copied") == "of the context" and listed(oci)["copied"][1] == "7/0"
    oci("build", "-t", "./img:x", f"{web}/Dockerfile")
    assert cat("/alone") == "x\n"
    oci("build", "-f", f"{web}/nothing", "-t", "./img:x", f"{web}/Dockerfile")
    oci("build", "-f", "nothing", "-t", "./img:x", "-", input="FROM scratch\nCOPY <<E /piped\nx\nE\n")
    assert cat("/piped") == "x\n"
    assert "the server answered 404" in oci("build", f"{web}/nothing", code=1).stderr


@pytest.mark.parametrize(
    "text, wanted",
    {
        "https://h/r.git": ("https://h/r.git", "", ""),
        "https://h/r.git#main:d/e": ("https://h/r.git", "main", "d/e"),
        "git@h:r": ("git@h:r", "", ""),
        "github.com/o/r#v1": ("https://github.com/o/r", "v1", ""),
        "ssh://u@h/r": ("ssh://u@h/r", "", ""),
        "https://h/r.git?ref=x&subdir=y": ("https://h/r.git", "x", "y"),
        "https://h/r.git?tag=x&commit=abc": ("https://h/r.git", "refs/tags/x", ""),
        "https://h/r.git?tag=refs/tags/x#refs/tags/x": ("https://h/r.git", "refs/tags/x", ""),
        "https://h/r.git?branch=a%2Fb": ("https://h/r.git", "refs/heads/a/b", ""),
        "https://h/r.git?commit=abc": ("https://h/r.git", "abc", ""),
        "me@h.example:r.git#x": ("me@h.example:r.git", "x", ""),
        "https://h/r": None,
        "./r.git": None,
    }.items(),
)
def test_git_urls(text: str, wanted: tuple[str, str, str] | None) -> None:
    found = remote.git(text)
    assert (found and (found.url, found.ref, found.directory)) == wanted


@pytest.mark.parametrize("text", ["https://h/r.git#--upload-pack=x", "https://h/r.git#a:-b", "https://h/r.git?x=y",
                                  "https://h/r.git?tag=a&branch=b", "https://h/r.git?tag=a#b", "https://h/r.git?ref=a&ref=a",
                                  "https://h/r.git?ref", "https://h/r.git?subdir=a#:b", "https://h/r.git?submodules=x"])  # fmt: skip
def test_git_urls_that_are_refused(text: str) -> None:
    with pytest.raises(Usage):
        remote.git(text)
