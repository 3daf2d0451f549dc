"""The pipelines that must work as typed, on real images, as root and as a plain user.

`localhost:5000` is replaced by the registry's real address; nothing else is changed.
README shows the same lines, and a test compares the two.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PIPELINES = r"""
oci-run -i alpine sh -c 'wc -c' < file
oci-pull localhost:5000/debian:trixie | oci-unpack - ./web && oci-run ./web cat /etc/os-release
oci-pull localhost:5000/debian:trixie - | oci-unpack - ./web2
tar -c tree | oci-pack - img:app && oci-push img:app localhost:5000/app
oci-run run -b "$(oci-unpack "$(oci-pull localhost:5000/app)" ./b)" c1
oci-spec new img:app | oci-spec set process.args='["id"]' | oci-spec check > b/config.json && oci-run ./b
""".strip().splitlines()


class Stage:
    """A directory with a registry, in which a user types."""

    def __init__(self, oci: Any) -> None:
        self.oci = oci
        (self.dir / "registry").mkdir()
        if oci.user:
            subprocess.run(["chown", str(oci.user["user"]), self.dir / "registry"], check=True)
        process = oci.start(
            "registry", "serve", "--listen", "127.0.0.1:0", "registry", stdout=subprocess.PIPE, text=True
        )
        self.host = process.stdout.readline().strip().split("//", 1)[1].replace("127.0.0.1", "localhost")

    @property
    def dir(self) -> Path:
        return Path(self.oci.cwd)

    def type(self, start: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Type the pipeline that starts so."""
        (line,) = (one for one in PIPELINES if one.startswith(start))
        done: subprocess.CompletedProcess[str] = self.oci.shell(line.replace("localhost:5000", self.host), **more)
        return done

    def serve(self, name: str, layout: Path) -> None:
        """Make an image pullable from the registry; root's cache is closed to plain users."""
        self.oci("push", f"{layout}:latest", f"{self.host}/{name}", user=None, group=None, extra_groups=None)

    def leftovers(self) -> list[str]:
        """State of containers that have ended."""
        run = Path(self.oci.env["OCI_RUN"], "runtime")
        return [path.name for path in run.iterdir()] if run.exists() else []


@pytest.fixture(params=["oci", "plain"])
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(request.getfixturevalue(request.param))


def test_a_command_in_any_image_of_the_store(stage: Stage, busybox: Path) -> None:
    stage.oci.preload("docker.io/library/alpine:latest", busybox)
    (stage.dir / "file").write_bytes(b"x" * 123_456)
    assert stage.type("oci-run -i alpine").stdout.strip() == "123456"
    assert not stage.leftovers()


def test_an_image_by_its_handle_through_a_pipe(stage: Stage, debian: Path) -> None:
    stage.serve("debian:trixie", debian)
    done = stage.type("oci-pull localhost:5000/debian:trixie |")
    assert f"{stage.dir}/web\n" in done.stdout and "VERSION_CODENAME=trixie" in done.stdout
    assert (stage.dir / "web/config.json").exists()
    assert not stage.leftovers()


def test_an_image_as_an_archive_through_a_pipe(stage: Stage, debian: Path) -> None:
    stage.serve("debian:trixie", debian)
    assert stage.type("oci-pull localhost:5000/debian:trixie - |").stdout == f"{stage.dir}/web2\n"
    assert "trixie" in (stage.dir / "web2/rootfs/usr/lib/os-release").read_text()
    assert not Path(stage.oci.env["OCI_ROOT"], "images/index.json").exists()  # nothing was stored


def test_a_tar_becomes_an_image_in_a_registry(stage: Stage) -> None:
    (stage.dir / "tree/etc").mkdir(parents=True)
    (stage.dir / "tree/etc/motd").write_text("hello\n")
    packed, pushed = stage.type("tar -c tree").stdout.split()
    assert packed.startswith(f"{stage.oci.env['OCI_ROOT']}/images@sha256:")
    assert pushed.startswith(f"{stage.host}/app") and pushed.endswith(packed.rpartition("@")[2])
    stage.oci("pull", f"{stage.host}/app", "./copy")
    stage.oci("unpack", "./copy", "./out")
    assert (stage.dir / "out/rootfs/tree/etc/motd").read_text() == "hello\n"


def test_commands_inside_commands(stage: Stage, busybox: Path) -> None:
    stage.serve("app", busybox)
    done = stage.type("oci-run run -b", input='echo "I am $$ on $(hostname)"; cat /proc/1/comm; exit 7', code=7)
    assert done.stdout.splitlines()[0].startswith("I am 1 on ")
    assert done.stdout.splitlines()[1] == "sh"
    assert not stage.leftovers()


def test_a_filter_of_specifications(stage: Stage, busybox: Path) -> None:
    stage.oci.preload("docker.io/library/img:app", busybox)
    stage.oci("unpack", "img:app", "./b")
    assert stage.type("oci-spec new img:app").stdout.startswith("uid=0(root) gid=0(root)")
    assert json.loads((stage.dir / "b/config.json").read_text())["process"]["args"] == ["id"]
    assert not stage.leftovers()


def test_readme_shows_these_pipelines() -> None:
    readme = (Path(__file__).resolve().parent.parent.parent / "README.md").read_text()
    shown = [line.split("   #")[0].strip() for line in readme.splitlines()]
    assert [line for line in PIPELINES if line not in shown] == []


# -- both of the commands that do all the set-up ----------------------------------------------


@pytest.fixture(params=["oci", "plain"])
def demo(request: pytest.FixtureRequest) -> Callable[..., list[str]]:
    commands = request.getfixturevalue(request.param)

    def run(*words: str) -> list[str]:
        lines: list[str] = commands("demo", *words, env={"TMPDIR": str(commands.cwd)}).stdout.splitlines()
        assert not list(Path(commands.cwd).glob("oci-demo-*"))
        return lines

    return run


def test_the_demo_shows_a_place_of_its_own(demo: Callable[..., list[str]]) -> None:
    said = demo()
    typed = [line.split()[1] for line in said if line.startswith("$ ")]
    assert typed[:2] == ["cd", "export"]
    assert typed[2:] == ["oci-pack", "oci-registry", "oci-push", "oci-pull", "oci-unpack", "oci-spec"] + 3 * ["oci-run"]
    assert "hello" in said
    assert any(line.startswith("I am process 1 of /proc/1 and") for line in said)
    assert any(line.split()[1:3] == ["/proc", "proc"] for line in said)


def test_the_demo_takes_a_real_image(demo: Callable[..., list[str]], registry: Any, oci: Any, busybox: Path) -> None:
    oci("push", f"{busybox}:latest", f"{registry.host}/busybox:1")
    said = demo(f"{registry.host}/busybox:1")
    assert not any("oci-pack" in line for line in said)
    assert any(line.startswith("I am process 1 of /proc/1 and") for line in said)
