"""/etc/passwd and /etc/group with more than the image has, in podman's words."""

from __future__ import annotations

import grp
import os
import pwd
from typing import Any

import pytest

from tests.container.conftest import BUSYBOX

SHOW = "cat /etc/passwd; echo --; cat /etc/group"


def lines(run: Any, *words: str) -> tuple[list[str], list[str]]:
    passwd, group = run("--network", "none", *words, BUSYBOX, "sh", "-c", SHOW).stdout.split("--\n")
    return passwd.splitlines(), group.splitlines()


def test_the_images_own_are_left_alone(run: Any) -> None:
    assert "/etc/passwd" not in run("--network", "none", BUSYBOX, "cat", "/proc/self/mounts").stdout


@pytest.mark.root
def test_a_user_of_the_host(run: Any) -> None:
    one = pwd.getpwnam("man")
    passwd, group = lines(run, "--hostuser", "man", "--hostuser", str(os.geteuid()))
    assert passwd[-1] == f"man:x:{one.pw_uid}:{one.pw_gid}:{one.pw_gecos}:{one.pw_dir}:{one.pw_shell}"
    assert sum(line.startswith("root:") for line in passwd) == 1, "the image has one"
    assert f"{grp.getgrgid(one.pw_gid).gr_name}:x:{one.pw_gid}:" in group
    assert run("--network", "none", "--hostuser", "man", "-u", "man", BUSYBOX, "id", "-un").stdout == "man\n"
    assert "no such user of the host 'nosuch'" in run("--hostuser", "nosuch", BUSYBOX, "true", code=125).stderr


@pytest.mark.root
def test_the_containers_user(run: Any) -> None:
    passwd, group = lines(run, "-u", "4711:99", "-w", "/tmp", "--passwd")
    assert passwd[-1] == "4711:*:4711:99:container user:/tmp:/bin/sh" and group[-1] == "99:x:99:4711"
    before = lines(run)
    assert lines(run, "--passwd") == before, "root has a line already"
    entry = "me:x:$UID:$GID:$NAME of $USERNAME:$HOME:/bin/ash"
    passwd, group = lines(run, "-u", "4711:99", "--passwd-entry", entry, "--group-entry", "us-$GROUPNAME:x:$GID:$USERLIST,x")
    assert passwd[-1] == "me:x:4711:99:container user of 4711:/:/bin/ash" and group[-1] == "us-99:x:99:4711,x"
    assert run("--network", "none", "-u", "4711", "--passwd-entry", entry, BUSYBOX, "id", "-un").stdout == "me\n"
    assert "invalid value for --passwd-entry" in run("--passwd-entry", "odd", BUSYBOX, "true", code=2).stderr


@pytest.mark.root
def test_by_name_for_exec_and_with_anothers_network(run: Any, oci: Any) -> None:
    made = run("-d", "--network", "none", "--hostuser", "man", BUSYBOX, "sleep", "1000").stdout.strip()
    assert oci("run", "exec", "-u", "man", made, "id", "-un").stdout == "man\n"
    assert run("--network", f"container:{made}", "--hostuser", "mail", "-u", "mail", BUSYBOX, "id", "-un").stdout == "mail\n"
    oci("run", "rm", "-f", made)
