"""--userns nomap: a plain user's container in which he has no id, with real subordinate ids.

The files that say who has which ids are replaced in a mount namespace of the test's own.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bundle.test_subordinate import FIRST, UID, Mapped
from tests.bundle.test_subordinate import mapped as mapped
from tests.container.conftest import running

pytestmark = [pytest.mark.root, pytest.mark.needs("newuidmap", "newgidmap", "setpriv", "unshare")]
NOMAP = ("--network", "none", "--userns", "nomap")


@pytest.fixture
def user(mapped: Mapped, busybox: Path) -> Iterator[Any]:
    """`oci-run` of a user with subordinate ids; what holds his shared namespaces is ended."""
    mapped.user = {"user": UID}  # for preload
    yield from running(mapped, busybox)
    for name in ("run/shared.pid", "run/oci/shared.pid"):
        if (mapped.cwd / name).exists():
            os.kill(int((mapped.cwd / name).read_text().split()[0]), signal.SIGKILL)


def test_who_is_there(user: Any) -> None:
    """Root and all others are subordinate ids, and the user is none of them."""
    script = "id -u; cat /proc/self/uid_map; touch /new /etc/new; chown 5:6 /new; stat -c %u:%g / /bin /etc/hosts /etc/new /new"
    said = user(*NOMAP, "busybox", "sh", "-c", script).stdout.split()
    assert said == ["0", "0", "1", "1000", "1000", "1001", "500", "0:0", "0:0", "0:0", "0:0", "5:6"]


def test_from_outside(user: Any, mapped: Mapped) -> None:
    made = user("-d", *NOMAP, "-v", f"{mapped.cwd}:/host", "-v", "data:/data", "busybox", "sleep", "1000").stdout.strip()
    pid = json.loads(mapped("run", "state", made).stdout)["pid"]
    assert Path(f"/proc/{pid}").stat().st_uid == FIRST
    said = mapped("run", "exec", made, "sh", "-c", "touch /data/x; stat -c %u /data /data/x /host; touch /host/x || echo no").stdout
    assert said.split() == ["0", "0", "65534", "no"]
    mapped("run", "cp", "/etc/hostname", f"{made}:/in")
    assert mapped("run", "exec", made, "stat", "-c", "%u:%g", "/in").stdout == "0:0\n"
    assert mapped("run", "diff", made).stdout == "A /in\n"
    mapped("run", "stop", "-t", "0", made)
    said = mapped("run", "cp", f"{made}:/in", "-", code=1).stderr
    assert "its files are of the users of --userns nomap (oci-run cp and export take them while it runs)" in said
    mapped("run", "rm", made)
    mapped("vol", "rm", "data")


def test_what_is_made_of_it_has_the_images_owners(user: Any, mapped: Mapped) -> None:
    made = user("new", *NOMAP, "busybox", "sh", "-c", "echo x > /new; chown 5:6 /new; echo > /etc/passwd").stdout.strip()
    mapped("run", "start", "-a", made)
    mapped("pack", made, "img:1")
    mapped("run", "rm", made)
    for words in NOMAP, NOMAP[:2]:
        assert user(*words, "img:1", "stat", "-c", "%u:%g", "/new", "/etc/passwd").stdout.split() == ["5:6", "0:0"]


def test_files_of_its_own(user: Any, mapped: Mapped) -> None:
    (mapped.cwd / "word").write_text("secret")
    (mapped.cwd / "word").chmod(0o644)
    words = ("--secret", "id=word,src=./word,uid=7,mode=0400", "-u", "7")
    assert user(*NOMAP, *words, "busybox", "cat", "/run/secrets/word").stdout == "secret"
    said = user(*NOMAP, "--mount", "type=image,src=busybox,dst=/m", "busybox", "true", code=125).stderr
    assert said == "oci-run: cannot mount image 'busybox': not with --userns nomap\n"


def test_who_has_no_ids(plain_run: Any, run: Any) -> None:
    said = plain_run(*NOMAP, "busybox", "true", code=125).stderr
    assert said.startswith("oci-run: cannot use --userns 'nomap': this user has no subordinate ids")
    assert "only for a plain user" in run(*NOMAP, "busybox", "true", code=2).stderr
