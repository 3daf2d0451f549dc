"""ADD and contexts from elsewhere: http, git, redirects and checksums."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


@pytest.fixture
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answers = {  # type: ignore[attr-defined]
            "/dir/file.txt?x=1": (200, {"Last-Modified": CHANGED}, CONTENT),
            "/named": (200, {"Content-Disposition": 'attachment; filename="given"'}, CONTENT),
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
"""
    built(text)
    found = listed(oci)
    assert found["d/file.txt"] == ["-rw-------", "0/0", "13", "2001-09-09", "01:46"]
    assert found["e"][:2] == ["-rw-r--r--", "3/4"]
    assert "n/given" in found and "plain/a.tgz" in found and found["unpacked/f"][1] == "7/0"
    assert "DONE" not in built(text, "--progress", "plain").stderr


@pytest.mark.parametrize(
    "line, place, said",
    [
        ("ADD URL/to-file /x", "2:5", "cannot follow redirect to 'file:///etc/passwd'"),
        ("ADD URL/round /x", "2:5", "more than 10 redirects"),
        ("ADD URL/404 /x", "2:5", "the server answered 404"),
        ("ADD URL/ /x/", "2:5", "the server answered 404"),
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


def test_contexts_from_the_web(oci: Any, cat: Any, web: str) -> None:
    oci("build", "-t", "./img:x", f"{web}/context.tgz")
    assert cat("/copied") == "of the context" and listed(oci)["copied"][1] == "7/0"
    oci("build", "-t", "./img:x", f"{web}/Dockerfile")
    assert cat("/alone") == "x\n"
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
        "https://h/r": None,
        "./r.git": None,
    }.items(),
)
def test_git_urls(text: str, wanted: tuple[str, str, str] | None) -> None:
    found = remote.git(text)
    assert (found and (found.url, found.ref, found.directory)) == wanted


@pytest.mark.parametrize("text", ["https://h/r.git#--upload-pack=x", "https://h/r.git#a:-b", "https://h/r.git?x=y"])
def test_git_urls_that_are_refused(text: str) -> None:
    with pytest.raises(Usage):
        remote.git(text)
