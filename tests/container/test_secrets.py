"""--secret: read by the container alone, gone with it, in no image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from oci_tools.container import secrets
from oci_tools.errors import Usage
from tests.container.conftest import BUSYBOX


def test_where_secrets_come_from_and_where_they_are_seen(run: Any, oci: Any, tmp_path: Path) -> None:
    (tmp_path / "root/secrets").mkdir(mode=0o700, parents=True)
    (tmp_path / "root/secrets/db").write_text("hush\n")
    (tmp_path / "file").write_bytes(b"\0\xff")
    (tmp_path / "other").write_text("of a descriptor")
    with open(tmp_path / "other") as other:
        fd = str(other.fileno())
        shown = run(
            "--secret", "db", "--secret", "raw,src=file,target=/etc/app/raw,uid=33,gid=44,mode=0440",
            "--secret", "env=TOKEN,target=t", "--secret", f"d,fd={fd},type=env,target=D", "--secret", "source=file",
            BUSYBOX, "sh", "-c", "cd /run/secrets; cat db t; echo; ls; od -An -tx1 file; stat -c '%u:%g %a' db /etc/app/raw;"
            "echo $D; touch x db /etc/app/raw 2>/dev/null || echo no; env | grep -c hush",
            env={**oci.env, "TOKEN": "of a variable"}, pass_fds=[int(fd)], code=1,
        ).stdout.split("\n")  # fmt: skip
    assert shown == [
        "hush", "of a variable", "db", "file", "t", " 00 ff", "0:0 444", "33:44 440", "of a descriptor", "no", "0", "",
    ]  # fmt: skip


def test_it_is_copied_once_and_goes_with_its_container(run: Any, oci: Any, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("one")
    made = run("new", "--name", "web", "--secret", "s,src=s", BUSYBOX, "cat", "/run/secrets/s").stdout.strip()
    (tmp_path / "s").write_text("two")
    assert run("start", "-a", "web").stdout == run("start", "-a", "web").stdout == "one"
    kept = tmp_path / "root/containers" / made
    assert (kept / "secrets/run/s").read_text() == "one" and kept.stat().st_mode & 0o077 == 0
    assert "secret" not in "".join(path for path in run("diff", "web").stdout.split() if path != "/run/secrets")
    run("rm", "web")
    assert not kept.exists()


def test_its_owner_in_a_user_namespace(run: Any, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("hush")
    words = ("--userns", "auto", "--secret", "s,src=s,uid=5", "--secret", "r,src=s,target=/r")
    assert run(*words, BUSYBOX, "stat", "-c", "%u:%g", "/run/secrets/s", "/r").stdout == "5:0\n0:0\n"


def test_a_plain_users(plain_run: Any, plain: Any) -> None:
    path = Path(plain.cwd, "s")
    path.write_text("hush")
    path.chmod(0o644)
    assert plain_run("--secret", "s,src=s", BUSYBOX, "cat", "/run/secrets/s").stdout == "hush"


def test_what_is_not_there(run: Any, tmp_path: Path) -> None:
    said = run("--secret", "nosuch", BUSYBOX, "true", code=125).stderr
    assert said == f"oci-run: no such secret 'nosuch' (put it in {tmp_path}/root/secrets/nosuch, or say src=FILE)\n"
    assert "cannot read secret 'x' '/nosuch': no such file" in run("--secret", "x,src=/nosuch", BUSYBOX, "true", code=125).stderr
    assert "variable NOSUCH is not set" in run("--secret", "x,env=NOSUCH", BUSYBOX, "true", code=125).stderr
    (tmp_path / "big").write_bytes(bytes(512_001))
    assert "larger than 512000 bytes" in run("--secret", "x,src=big", BUSYBOX, "true", code=125).stderr
    assert "larger than 512000 bytes" in run("--secret", "x,fd=0", BUSYBOX, "true", code=125, input="x" * 512_001).stderr
    os.mkfifo(tmp_path / "fifo")
    assert "fifo': nobody writes to this pipe" in run("--secret", "x,src=fifo", BUSYBOX, "true", code=125).stderr
    (tmp_path / "s").write_bytes(b"a\0b")
    assert "is none of a variable" in run("--secret", "x,src=s,type=env", BUSYBOX, "true", code=125).stderr
    assert "duplicate secret 'x'" in run("--secret", "x,src=s", "--secret", "x,src=s", BUSYBOX, "true", code=2).stderr


@pytest.mark.parametrize("word", [
    "", ",", "src=/", "a/b", "..", "x,target=", "x,target=../y", "x,target=/a/../b", "x,target=/", "x,uid=-1", "x,uid=1a", "x,mode=9",
    "x,src=a,env=b", "x,fd=3,env=b", "x,type=file", "x,type=env,mode=444", "x,nosuch=1", "x,id=y", "x,src=a,src=b", "x,y",
])  # fmt: skip
def test_words_that_are_none(word: str) -> None:
    with pytest.raises(Usage):
        secrets.parse(word)


def test_names() -> None:
    assert secrets.parse("x") == {"id": "x", "type": "mount"}
    assert secrets.parse("id=x,source=/a/b,dst=/c") == {"id": "x", "src": "/a/b", "target": "/c", "type": "mount"}
    assert secrets.parse("src=/a/b")["id"] == "b" and secrets.parse("env=B,type=env")["id"] == "B"
