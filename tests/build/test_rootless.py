"""Builds by a plain user: with subordinate ids all is as for root; with one id a seccomp filter says that it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from oci_tools.runtime import pretence
from tests.bundle.test_subordinate import UID, mapped
from tests.net.machines import HERE, THERE, Machine, Space, greet
from tests.net.test_rootless import left, machine, outside

pytestmark = [pytest.mark.root]
__all__ = ["machine", "mapped", "outside"]
TEXT = """
FROM ./base
RUN id -u > /id; chown 1:2 /etc/passwd && { mknod /dev-null c 1 3 || test `wc -l < /proc/self/uid_map` -gt 1; } && mkfifo /p && touch /x && chmod 4755 /x
RUN --mount=type=cache,target=/c --mount=type=bind,target=/b cat /b/f > /c/x && cat /c/x > /cached
RUN --mount=type=secret,id=s,mode=0400 cat /run/secrets/s | tr a-z A-Z > /secret
COPY --chown=3:4 f /d
FROM ./base AS other
COPY --from=0 --chown=7 /x /y
FROM ./base
COPY --from=0 / /
COPY --from=other /y /y
WORKDIR /w
USER 5
RUN id -u > /tmp/user
"""


def build(commands: Any, busybox: Path, public: Path) -> Any:
    """Build it twice; the lines of its archive."""
    subprocess.run(["cp", "-r", busybox, public / "base"], check=True)
    (public / "context").mkdir()
    (public / "context/Dockerfile").write_text(TEXT)
    (public / "context/f").write_text("content")
    os.chmod(public / "context/f", 0o644)
    subprocess.run(["chown", "-R", f"{UID}:{UID}", public / "base", public / "context"], check=True)
    words = [commands.bin / "oci-build", "-t", "./img:x", "--secret", "id=s,env=S", "--progress", "plain", "context"]
    first = commands.run(words, env={"S": "hush"})
    again = commands.run(words, env={"S": "hush"})
    assert first.stdout == again.stdout and again.stderr.count(" DONE") == again.stderr.count("FROM ./base")
    tar = commands.run([commands.bin / "oci-unpack", "./img:x", "-"], binary=True).stdout
    listed = subprocess.run(["tar", "-tv", "--numeric-owner"], input=tar, capture_output=True, check=True).stdout
    commands.run([commands.bin / "oci-run", "unshare", "rm", "-rf", public / "root"])
    return {line.split()[5]: line.split()[:2] for line in listed.decode().splitlines()}, tar


def content(tar: bytes, name: str) -> str:
    return subprocess.run(["tar", "-xO", name], input=tar, capture_output=True, check=True).stdout.decode()


@pytest.mark.needs("newuidmap", "newgidmap", "setpriv", "unshare")
def test_subordinate_ids(mapped: Any, busybox: Path, public: Path) -> None:
    found, tar = build(mapped, busybox, public)
    assert found["etc/passwd"] == ["-rw-r--r--", "1/2"]
    assert found["d"][1] == "3/4" and found["y"] == ["-rwsr-xr-x", "7/7"] and found["w/"][1] == "0/0"
    assert [content(tar, name) for name in ("id", "cached", "secret", "tmp/user")] == ["0\n", "content", "HUSH", "5\n"]


def test_one_id(plain: Any, busybox: Path, public: Path) -> None:
    found, tar = build(plain, busybox, public)
    assert found["d"][1] == "3/4" and found["y"] == ["-rwsr-xr-x", "7/7"] and found["p"][0][0] == "p"
    assert "dev-null" not in found
    assert [content(tar, name) for name in ("id", "cached", "secret", "tmp/user")] == ["0\n", "content", "HUSH", "0\n"]


def test_the_pretence_of_a_profile() -> None:
    allowed = {"names": ["chown", "mknod", "read"], "action": "SCMP_ACT_ALLOW"}
    made = pretence.of_root({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [allowed, {"names": ["setuid"], "action": "x"}]})
    first, *rest = made["syscalls"]
    assert first == {"names": ["read"], "action": "SCMP_ACT_ALLOW"}
    assert {"names": ["mknodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0,
            "args": [{"index": 2, "value": 0o170000, "valueTwo": 0o20000, "op": "SCMP_CMP_MASKED_EQ"}]} in rest  # fmt: skip
    assert all(rule.get("args") for rule in rest if "mknod" in rule["names"])


@pytest.mark.needs("pasta", "nsenter", "setpriv")
def test_run_goes_out_by_pasta(machine: Machine, outside: Space) -> None:
    peers, again = greet(outside.listen(80)), greet(outside.listen(81))
    text = f"FROM busybox\nRUN cat /etc/resolv.conf; nc -w 2 {THERE} 80 </dev/null\nRUN nc -w 2 {THERE} 81 </dev/null\n"
    (machine.oci.cwd / "Dockerfile").write_text(text + "RUN --network=none ip -o link; mknod /p p\n")
    said = machine.command("build", "--progress", "plain", "-t", "./img:x", ".").stderr
    assert "nameserver 169.254.1.1" in said and said.count("hello") == 2 and "eth0" not in said
    assert peers == again == [HERE]
    machine.until(lambda: not left(machine))
