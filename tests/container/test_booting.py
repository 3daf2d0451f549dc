"""--systemd: what systemd finds as a container's first process, without one here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.container.conftest import BUSYBOX

SHOW = 'echo "$container $container_uuid"; awk \'{print $2, $3, $4}\' /proc/self/mounts'
PLACES = {"/run", "/run/lock", "/tmp", "/var/log/journal"}


def shown(run: Any, *words: str) -> tuple[str, dict[str, str]]:
    first, *rows = run("--network", "none", *words, BUSYBOX, "sh", "-c", SHOW).stdout.splitlines()
    return first, {row.split()[0]: row.split(" ", 1)[1] for row in rows}


@pytest.mark.root
def test_what_it_expects(run: Any, oci: Any, tmp_path: Path) -> None:
    first, mounts = shown(run, "--systemd", "always", "--shm-size-systemd", "1m")
    assert first.startswith("oci ") and len(first) == 36
    assert all(mounts[place].startswith("tmpfs rw") and "size=1024k" in mounts[place] for place in PLACES)
    groups = [said for place, said in mounts.items() if place.startswith("/sys/fs/cgroup")]
    assert groups and all(" rw," in said for said in groups)
    made = run("new", "--systemd", "always", "--tmpfs", "/run:size=2m", BUSYBOX, "sh").stdout.strip()
    spec = json.loads((tmp_path / f"root/containers/{made}/bundle/config.json").read_text())
    assert spec["annotations"]["org.opencontainers.image.stopSignal"] == "RTMIN+3"
    assert [each["options"] for each in spec["mounts"] if each["destination"] == "/run"][0][-1] == "size=2m"
    oci("run", "rm", made)


def test_when(oci: Any) -> None:
    """Nothing unless it is asked for; "true" is for what is a systemd."""
    def made(*words: str) -> bool:
        spec = json.loads(oci("spec", "new", *words).stdout)
        return "container=oci" in spec["process"]["env"]

    assert not made("--entrypoint", "/sbin/init") and not made("--systemd", "true", "--entrypoint", "/bin/sh")
    for program in "/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd", "systemd":
        assert made("--systemd", "true", "--entrypoint", program)
    assert made("--systemd", "always", "--entrypoint", "/bin/sh")
    said = oci("spec", "new", "--systemd", "always", "--cgroupns", "host", code=2).stderr
    assert "--systemd excludes --cgroupns host" in said
