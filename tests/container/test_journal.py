"""The log driver journald with systemd's own journald, in a mount namespace where only we see it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BIN

JOURNALD = "/usr/lib/systemd/systemd-journald"
pytestmark = [pytest.mark.root, pytest.mark.needs("journalctl")]
# Its socket is there once it listens; `journalctl --sync` returns when all is written.
SCRIPT = """
mount --make-rprivate /
mkdir -p /run/systemd /run/log
for each in /run/systemd /run/log; do mount -t tmpfs none $each; done
[ ! -d /var/log/journal ] || mount -t tmpfs none /var/log/journal
mkdir -p /run/systemd/journal /run/log/journal
%s 2>/dev/null &
until [ -S /run/systemd/journal/socket ]; do sleep 0.05; done
{ %s; } >&2
journalctl --sync
journalctl -D /run/log/journal -o json --no-pager CONTAINER_NAME=web
kill $!
"""


def test_entries(run: Any, oci: Any, tmp_path: Path) -> None:
    """As docker's driver writes them: a line is an entry, stderr's are errors; `logs` reads what we keep beside."""
    words = "-d --log-driver journald --log-opt tag=hello --log-opt labels=a --label a=b --name web"
    payload = "echo one; echo two >&2; printf three"
    does = f"{BIN}/oci-run {words} --network none busybox sh -c '{payload}'; {BIN}/oci-run wait web"
    argv = ["unshare", "--mount", "sh", "-ec", SCRIPT % (JOURNALD, does)]
    done = subprocess.run(argv, env={**oci.env, "OCI_NETWORK": "none"}, capture_output=True, text=True, check=True)
    container = json.loads(run("state", "web").stdout)["id"]
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted((each["MESSAGE"], each["PRIORITY"]) for each in entries) == [("one", "6"), ("three", "6"), ("two", "3")]
    for each in entries:
        assert (each["CONTAINER_ID"], each["CONTAINER_ID_FULL"]) == (container[:12], container)
        assert each["CONTAINER_TAG"] == each["SYSLOG_IDENTIFIER"] == "hello"
        assert each["IMAGE_NAME"].endswith("busybox:latest")
    told = run("logs", "web")
    assert (told.stdout, told.stderr) == ("one\nthree", "two\n")
    run("rm", "web")
