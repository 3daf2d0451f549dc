"""RUN in a chroot: chosen with --isolation chroot, and by itself within a container of docker's that has its usual filter
and capabilities, where nothing can be unshared or mounted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench import peers
from tests.conftest import BIN, Commands

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]
TOP = BIN.parent
WARNING = "oci-build: warning: RUN is done in a chroot, which keeps nothing apart: namespaces cannot be had here\n"
RUN = """
FROM ./base AS one
RUN id -u > /id && chown 5:6 /etc/passwd && mkfifo /p && echo x > /dev/null && test ! -s /dev/null && touch /x && chmod 4755 /x
RUN --mount=type=cache,target=/c --mount=type=bind,target=/b cat /b/f > /c/x && cat /c/x > /cached && ls /b > /listed
RUN --mount=type=cache,target=/c --mount=type=cache,id=/c,target=/c2,sharing=locked cat /c2/x >> /cached; rm -rf /c /b || true
RUN --mount=type=secret,id=s --mount=type=tmpfs,target=/t tr a-z A-Z < /run/secrets/s > /secret && touch /t/y
RUN head -c 4 /dev/urandom | wc -c > /random; grep localhost /etc/hosts && rm -f /etc/hosts; mkdir d
USER 7:8
RUN --mount=type=bind,from=./base,source=/etc,target=/tmp/e cp /tmp/e/os-release /tmp/release; id -u > /tmp/user
USER 0
RUN <<A
#!/bin/sh
echo script > /script
A
FROM ./base
COPY --from=one / /
COPY --chown=3:4 f /d/
WORKDIR /d/w
RUN pwd > where
"""
SAID = {
    "id": "0\n", "cached": "contentcontent", "listed": "Dockerfile\nf\n", "secret": "HUSH", "random": "4\n", "tmp/user": "7\n",
    "script": "script\n", "d/w/where": "/d/w\n",
}  # fmt: skip


def check(archive: bytes) -> dict[str, list[str]]:
    """What `RUN` makes; the names of the archive with mode, owner and size."""
    words = ["tar", "-tv", "--numeric-owner"]
    listed = subprocess.run(words, input=archive, capture_output=True, check=True).stdout.decode()
    found = {line.split()[5]: line.split()[:3] for line in listed.splitlines()}
    for name, text in SAID.items():
        got = subprocess.run(["tar", "-xO", name], input=archive, capture_output=True, check=True).stdout.decode()
        assert got == text, name
    assert found["d/f"][1] == "3/4" and found["x"][0] == "-rwsr-xr-x" and found["p"][0][0] == "p"
    assert found["etc/passwd"][1] == "5/6" and found["tmp/release"][1] == "7/8"
    assert not {"t/", "t/y", "c/", "c2", "b/", "run/secrets/", "run/", "etc/resolv.conf", "etc/hosts", "dev/null", "tmp/e/"} & {*found}
    assert {"proc/", "sys/", "dev/"} <= {*found}
    return found


@pytest.fixture
def context(tmp_path: Path, busybox: Path) -> Path:
    shutil.copytree(busybox, tmp_path / "base")
    (tmp_path / "context").mkdir()
    (tmp_path / "context/f").write_text("content")
    (tmp_path / "context/Dockerfile").write_text(RUN)
    return tmp_path / "context"


@pytest.fixture(scope="module")
def docker() -> Iterator[Any]:
    """Docker's `run` with the host's programs in an otherwise empty container that has nothing special."""
    for name in "docker", "dockerd", "runc":
        if not shutil.which(name):
            pytest.skip(f"needs {name}; tests/run --setup installs it on Debian as root")
    with tempfile.TemporaryDirectory(prefix="oci-docker-") as name, peers.dockerd(Path(name)) as address:
        tree = Path(name) / "tree"
        for directory in "etc", "proc", "sys", "dev", "tmp", "var/tmp", "root", "usr":
            (tree / directory).mkdir(parents=True)
        os.chmod(tree / "tmp", 0o1777)
        for link in "bin", "sbin", "lib", "lib64":
            (tree / link).symlink_to(f"usr/{link}")
        (tree / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        env = {**os.environ, "DOCKER_HOST": address, "DOCKER_CONFIG": name}
        tar = subprocess.run(["tar", "-C", tree, "-c", "."], capture_output=True, check=True).stdout
        subprocess.run(["docker", "import", "-", "host"], input=tar, env=env, capture_output=True, check=True)

        def run(*words: Any, more: tuple[Any, ...] = (), code: int = 0) -> Any:
            """`more` is for docker."""
            mounts = [word for path in ("/usr", TOP) for word in ("-v", f"{path}:{path}:ro")]
            full = ["docker", "run", "--rm", "--network", "none", "-e", "S=hush", *mounts, *more, "host", BIN / "oci-build"]
            done = subprocess.run([*full, "--secret", "id=s,env=S", *words], capture_output=True, env=env)
            assert done.returncode == code, done.stderr.decode()
            return done

        yield run


def place(context: Path) -> tuple[str, ...]:
    return ("-v", f"{context.parent}:{context.parent}", "-w", str(context.parent))


def test_it_is_chosen_in_a_container_of_docker(docker: Any, context: Path) -> None:
    done = docker("-o", "type=tar,dest=-", "context", more=place(context))
    check(done.stdout)
    assert done.stderr.decode() == WARNING


@pytest.mark.parametrize("more", [["--cap-drop", "MKNOD"], ["--cap-drop", "SETPCAP"], ["-v", "/var/lib/oci"]], ids=" ".join)
def test_it_needs_little(docker: Any, context: Path, more: list[str]) -> None:
    text = RUN
    if "MKNOD" in more:  # then a file stands for /dev/null, and there is no other device
        text = text.replace("RUN head -c 4 /dev/urandom | wc -c", "RUN echo 4").replace("! -s /dev/null", "-f /dev/null")
    (context / "Dockerfile").write_text(text)
    check(docker("-o", "type=tar,dest=-", "context", more=(*place(context), *more)).stdout)


@pytest.mark.parametrize("more", [["--cap-drop", "SYS_CHROOT"], ["--cap-drop", "ALL"], ["--user", "1000"]], ids=" ".join)
def test_who_may_nothing_hears_why(docker: Any, context: Path, more: list[str]) -> None:
    (context / "Dockerfile").write_text("FROM ./base\nRUN true\n")
    where = ("-e", "OCI_ROOT=/tmp/r", "-e", "OCI_RUN=/tmp/s", "-e", "HOME=/tmp")
    subprocess.run(["chmod", "-R", "a+rX", context.parent], check=True)
    os.chmod(context.parent.parent, 0o755)
    done = docker("-o", "type=tar,dest=-", "context", more=(*place(context), *where, *more), code=1)
    assert "oci-build: Dockerfile:2:1: RUN needs namespaces, which this user cannot have here" in done.stderr.decode()


def test_a_package_manager_in_a_container_of_docker(docker: Any, context: Path, debian: Path) -> None:
    """What package managers do: owners, users, set-id files, becoming somebody else, their own chroot."""
    shutil.copytree(debian, context.parent / "debian")
    text = "FROM ./debian\nRUN useradd -m joe && chown -R joe:joe /home/joe && install -o joe -g 5 -m 2755 /etc/passwd /srv/p\n"
    text += "RUN mkdir -p /pkg/DEBIAN /pkg/opt && printf 'Package: own\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@y>\\nDescription: x\\n'"
    text += " > /pkg/DEBIAN/control && touch /pkg/opt/owned && chown 7:8 /pkg/opt/owned && dpkg-deb -b /pkg /own.deb && dpkg -i /own.deb && dpkg -s own\n"
    text += "RUN test \"$(setpriv --reuid 5 --regid 5 --clear-groups id -u)\" = 5 && test \"$(su joe -c 'id -un')\" = joe && apt-get --version\n"
    text += "USER joe\nRUN touch /home/joe/own && ! touch /root/own\n"
    (context / "Dockerfile").write_text(text)
    archive = docker("-o", "type=tar,dest=-", "context", more=place(context)).stdout
    listed = subprocess.run(["tar", "-tv", "--numeric-owner"], input=archive, capture_output=True).stdout.decode()
    found = {line.split()[5]: line.split()[:3] for line in listed.splitlines()}
    assert found["srv/p"][:2] == ["-rwxr-sr-x", "1000/5"] and found["home/joe/own"][1] == "1000/1000"
    assert found["opt/owned"][1] == "7/8" or found["opt/owned"][1] == "0/0"


def test_it_can_be_asked_for(oci: Commands, context: Path) -> None:
    oci.env["S"] = "hush"
    words = ["--isolation", "chroot", "--secret", "id=s,env=S", "-o", "type=tar,dest=x.tar", "context"]
    done = oci("build", *words, cwd=context.parent)
    assert done.stderr == ""
    chrooted = check((context.parent / "x.tar").read_bytes())
    again = oci("build", "--why", "--progress", "plain", *words, cwd=context.parent)
    assert "miss" not in again.stderr  # what it makes depends on it no more than its key
    plain = ["--network", "none", "--no-cache", "--secret", "id=s,env=S", "-o", "type=tar,dest=y.tar", "context"]
    oci("build", *plain, cwd=context.parent)
    assert check((context.parent / "y.tar").read_bytes()).keys() == chrooted.keys()


@pytest.mark.parametrize(
    "line, said",
    [
        ("RUN --network=none true", "RUN in a chroot has the network that there is, and not 'none'"),
        ("RUN exit 7", 'process "/bin/sh -c exit 7" did not complete successfully: exit code: 7'),
        ('RUN ["nope"]', "exit code: 127"),
        ('RUN ["/etc/passwd"]', "exit code: 126"),
        ("RUN kill -9 $$", "exit code: 137"),
    ],
)
def test_what_fails(oci: Commands, context: Path, line: str, said: str) -> None:
    (context / "Dockerfile").write_text(f"FROM ./base\n{line}\n")
    done = oci("build", "--isolation", "chroot", "-o", "type=cacheonly", "context", cwd=context.parent, code=1)
    assert said in done.stderr and "Traceback" not in done.stderr


def of_sleepers(seconds: int) -> list[int]:
    """The pids of `sleep SECONDS`."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and Path(f"/proc/{name}/cmdline").read_bytes() == b"sleep\0%d\0" % seconds:
                found.append(int(name))
        except OSError:
            continue
    return found


def test_nothing_of_a_step_goes_on(oci: Commands, context: Path) -> None:
    """Daemons end with their step, and the build waits for none of them."""
    seconds = 10_000_000 + os.getpid()
    (context / "Dockerfile").write_text(f"FROM ./base\nRUN (setsid sh -c 'sleep {seconds} & sleep {seconds}' &); sleep {seconds} & echo a > /a\n")
    oci("build", "--isolation", "chroot", "-o", "type=cacheonly", "context", cwd=context.parent)
    assert not of_sleepers(seconds)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_build_that_is_ended_leaves_nothing(oci: Commands, context: Path, number: signal.Signals) -> None:
    seconds = 20_000_000 + 10 * os.getpid() + number
    text = f"FROM ./base\nRUN --mount=type=cache,target=/c echo kept > /c/x\nRUN --mount=type=cache,target=/c echo more >> /c/x; (setsid sleep {seconds} &); sleep {seconds}\n"
    (context / "Dockerfile").write_text(text)
    words = ["--isolation", "chroot", "-o", "type=cacheonly", "context"]
    process = oci.start("build", *words, cwd=context.parent)
    try:
        while len(of_sleepers(seconds)) < 2:
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.send_signal(number)
        process.communicate()
    while number == signal.SIGKILL and of_sleepers(seconds):
        time.sleep(0.01)  # who is told by the end of a pipe needs a moment
    assert not of_sleepers(seconds)
    (context / "Dockerfile").write_text("FROM ./base\nRUN --mount=type=cache,target=/c cp /c/x /x\n")
    oci("build", *words[:2], "-o", "out", "context", cwd=context.parent)
    assert (context.parent / "out/x").read_text() == "kept\nmore\n"
    assert [*(Path(oci.env["OCI_ROOT"]) / "cache/build/work").iterdir()] == []


def test_a_cache_that_becomes_a_link_leads_nowhere(oci: Commands, context: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    text = f"FROM ./base\nRUN --mount=type=cache,target=/c rm -rf /c && ln -s {tmp_path}/victim /c\nRUN --mount=type=cache,target=/c touch /c/y && test -d /c\n"
    (context / "Dockerfile").write_text(text)
    oci("build", "--isolation", "chroot", "-o", "out", "context", cwd=context.parent)
    assert not [*(tmp_path / "victim").iterdir()] and not (context.parent / "out/c").exists()


@pytest.mark.parametrize("isolation", [[], ["--isolation", "chroot"]])
def test_what_is_made_for_mounts_is_made_and_removed_behind_no_link(isolation: list[str], oci: Commands, context: Path, tmp_path: Path) -> None:
    """A place that an image has made a link of the host's, and one that RUN makes such a link of (CVE-2024-23652)."""
    victim = tmp_path / "victim"
    (victim / "new").mkdir(parents=True)
    (victim / "file").touch()
    up = "../" * 20
    mounts = "--mount=type=cache,target=/abs/new --mount=type=tmpfs,target=/up/new --mount=type=bind,source=f,target=/abs/file"
    begin = f"FROM ./base\nRUN mkdir -p {victim}/new && ln -s {victim} /abs && ln -s {up}{victim} /up\n"
    for run in (f"RUN {mounts} touch /abs/new/x /up/new/y", f"RUN --mount=type=cache,target=/m/new rm -rf /m; mv /m /n; ln -s {victim} /m; true"):
        (context / "Dockerfile").write_text(begin + run)
        oci("build", *isolation, "-o", "out", "context", cwd=context.parent)
        assert sorted(path.name for path in victim.iterdir()) == ["file", "new"]
        assert not [*(victim / "new").iterdir()] and not (victim / "file").read_text()
