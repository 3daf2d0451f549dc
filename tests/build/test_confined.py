"""Builds within a container that has no privileges, as CI systems run them: podman's, as a user who is nobody special."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oci_tools.runtime import default_seccomp
from tests.runtime.test_engines import groups

pytestmark = [pytest.mark.root, pytest.mark.needs("podman", "conmon", "runc")]
RUN = """
FROM ./base AS one
RUN id -u > /id && chown 5:6 /etc/passwd && mknod /null c 1 3 && mkfifo /p && ! test -e /null && touch /x && chmod 4755 /x
RUN --mount=type=cache,target=/c --mount=type=bind,target=/b cat /b/f > /c/x && cat /c/x > /cached && test -e /proc/self/exe
RUN --mount=type=secret,id=s tr a-z A-Z < /run/secrets/s > /secret; rm /etc/hostname; mkdir d
FROM ./base
COPY --from=one / /
COPY --chown=3:4 f /d/
WORKDIR /d/w
"""
COPIES = "FROM ./base\nCOPY --chown=3:4 f /d/\nWORKDIR /d/w\nCOPY --from=./base /bin/busybox /b\n"


@pytest.fixture
def confined(plain: Any, busybox: Path, public: Path, tmp_path: Path) -> Iterator[Any]:
    """Build in a container: `more` is said to podman, what it prints is the image's archive."""
    shutil.copytree(busybox, public / "base")
    (public / "context").mkdir()
    (public / "context/f").write_text("content")
    (public / "docker.json").write_text(json.dumps(default_seccomp.profile([])))
    subprocess.run(["chmod", "-R", "a+rX", public], check=True)
    before = groups("libpod_parent")

    def build(text: str, *more: str, code: int = 0) -> tuple[dict[str, list[str]], str]:
        (public / "context/Dockerfile").write_text(text)
        os.chmod(public / "context/Dockerfile", 0o644)
        podman = [
            "podman", "--root", tmp_path / "storage", "--runroot", tmp_path / "state", "--cgroup-manager", "cgroupfs",
            "--runtime", shutil.which("runc"), "--events-backend", "none", "run", "--rm", "--network", "none",
            "--user", "1000:1000", "-e", "HOME=/tmp/h", "-e", "OCI_ROOT=/tmp/h/root", "-e", "OCI_RUN=/tmp/h/run",
            "-e", "S=hush", "-w", public, "-v", f"{public}:{public}", *more, "--rootfs", "/:O",
        ]  # fmt: skip
        words = [plain.bin / "oci-build", "--secret", "id=s,env=S", "-o", "type=tar,dest=-", "context"]
        env = {**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1", "HOME": str(tmp_path)}
        done = subprocess.run([*podman, *words], capture_output=True, env=env)
        assert done.returncode == code, done.stderr.decode()
        listed = subprocess.run(["tar", "-tv", "--numeric-owner"], input=done.stdout, capture_output=True).stdout.decode()
        (public / "x.tar").write_bytes(done.stdout)
        return {line.split()[5]: line.split()[:3] for line in listed.splitlines()}, done.stderr.decode()

    yield build
    for group in groups("libpod_parent") - before:
        for directory, _, _ in os.walk(group, topdown=False):
            os.rmdir(directory)


def content(public: Path, name: str) -> str:
    return subprocess.run(["tar", "-xOf", public / "x.tar", name], capture_output=True, check=True, text=True).stdout


@pytest.mark.parametrize("more", [[], ["--security-opt", "no-new-privileges", "--cap-drop", "ALL"], ["-v", "/tmp/h"]])
def test_all_of_it(confined: Any, public: Path, more: list[str]) -> None:
    found, said = confined(RUN, *more)
    assert found["d/f"][1] == "3/4" and found["x"][0] == "-rwsr-xr-x" and found["p"][0][0] == "p" and "d/w/" in found
    assert not {"null", "b/", "c/", "run/secrets/"} & {*found}
    assert [content(public, name) for name in ("id", "cached", "secret")] == ["0\n", "content", "HUSH"]
    assert "Traceback" not in said


def test_without_namespaces_there_is_no_run(confined: Any, public: Path) -> None:
    """Docker's filter refuses user namespaces: what needs none is built."""
    docker = f"seccomp={public}/docker.json"
    for user in "1000:1000", "0:0":
        found, _ = confined(COPIES, "--security-opt", docker, "--user", user)
        assert found["d/f"][1] == "3/4" and "d/w/" in found and found["b"][0] == "-rwxr-xr-x"
        _, said = confined("FROM ./base\nRUN true\n", "--security-opt", docker, "--user", user, code=1)
        assert "oci-build: Dockerfile:2:1: RUN needs namespaces, which this user cannot have here" in said


@pytest.mark.parametrize("more", [[], ["--cap-drop", "SETGID"]], ids=" ".join)
def test_for_root_there_is_a_user_namespace(confined: Any, public: Path, more: list[str]) -> None:
    """With all of his ids, or where he may not hand these on with one."""
    found, said = confined(RUN if more else RUN.replace("mknod /null c 1 3 && ", ""), "--user", "0:0", *more)
    assert found["d/f"][1] == "3/4" and found["x"][0] == "-rwsr-xr-x" and found["p"][0][0] == "p"
    assert [content(public, name) for name in ("id", "cached", "secret")] == ["0\n", "content", "HUSH"]
    assert "chroot" not in said and ("there is one id" in said) == bool(more)
    assert more or found["etc/passwd"][1] == "5/6"


def test_for_root_without_namespaces_there_is_a_chroot(confined: Any, public: Path) -> None:
    (public / "root.json").write_text(json.dumps(default_seccomp.profile(["CAP_SYS_CHROOT"])))
    text = RUN.replace(" && test -e /proc/self/exe", "").replace("mknod /null c 1 3 && ", "")
    found, said = confined(text, "--security-opt", f"seccomp={public}/root.json", "--user", "0:0")
    assert found["d/f"][1] == "3/4" and found["x"][0] == "-rwsr-xr-x" and found["etc/passwd"][1] == "5/6"
    assert [content(public, name) for name in ("id", "cached", "secret")] == ["0\n", "content", "HUSH"]
    assert "RUN is done in a chroot" in said


def test_a_package_manager(confined: Any, debian: Path, public: Path) -> None:
    """What package managers do: owners, users, links and devices of packages, becoming somebody else."""
    shutil.copytree(debian, public / "debian")
    subprocess.run(["chmod", "-R", "a+rX", public / "debian"], check=True)
    text = "FROM ./debian\nRUN useradd -m joe && chown -R joe:joe /home/joe && install -o joe -g 5 -m 2755 /etc/passwd /srv/p\n"
    text += "RUN mkdir -p /pkg/DEBIAN /pkg/opt && printf 'Package: own\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@y>\\nDescription: x\\n'"
    text += " > /pkg/DEBIAN/control && touch /pkg/opt/owned && chown 7:8 /pkg/opt/owned && dpkg-deb -b /pkg /own.deb && dpkg -i /own.deb && dpkg -s own\n"
    text += "RUN setpriv --reuid 5 --regid 5 --clear-groups id -u && su joe -c true\n"
    found, _ = confined(text)
    assert found["srv/p"][0] == "-rwxr-sr-x" and "opt/owned" in found and "home/joe/" in found
