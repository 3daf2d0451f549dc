"""README's Makefile and its job of a CI system, run as they stand."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TOP

DOCKERFILE = """
FROM alpine
WORKDIR /app
COPY test.sh .
RUN chmod +x test.sh
"""


def block(heading: str, language: str) -> str:
    """The text of the code below a heading."""
    _, _, rest = (TOP / "README.md").read_text().partition(f"## {heading}\n")
    found = re.search(rf"```{language}\n(.*?)```", rest, re.S)
    assert found
    return found[1]


class Project:
    """A directory with a program and its Dockerfile, and a registry that asks for a password."""

    def __init__(self, oci: Any, busybox: Path, place: Path) -> None:
        self.oci, self.dir = oci, place / "project"
        users = place / "users"
        subprocess.run(["htpasswd", "-cbB", users, "ci", "secret"], check=True, capture_output=True)
        users.chmod(0o644)
        oci.preload("docker.io/library/alpine:latest", busybox)
        self.dir.mkdir()
        (self.dir / "Dockerfile").write_text(DOCKERFILE)
        self.test_is("echo fine")
        (place / "registry").mkdir()
        for path in (self.dir, *self.dir.iterdir(), place / "registry") if oci.user else ():
            subprocess.run(["chown", str(oci.user["user"]), path], check=True)
        words = ("--listen", "127.0.0.1:0", "--htpasswd", users, place / "registry")
        process = oci.start("registry", "serve", *words, stdout=subprocess.PIPE, text=True)
        self.host = process.stdout.readline().strip().split("//", 1)[1].replace("127.0.0.1", "localhost")

    def test_is(self, line: str) -> None:
        (self.dir / "test.sh").write_text(f"#!/bin/sh\n{line}\n")

    def run(self, line: str, code: int = 0, **env: str) -> str:
        done = self.oci.shell(f"cd {self.dir}; {line}", code=code, env=env)
        return str(done.stdout + done.stderr)


@pytest.fixture(params=["oci", "plain"])
def project(request: pytest.FixtureRequest, busybox: Path, public: Path) -> Project:
    return Project(request.getfixturevalue(request.param), busybox, public)


@pytest.mark.needs("make", "htpasswd")
def test_the_makefile(project: Project) -> None:
    (project.dir / "Makefile").write_text(block("In a Makefile", "make"))
    login = f"printf 'ci\\nsecret\\n' | oci-pull --login {project.host}"
    assert "oci-build" in project.run("make")
    assert "up to date" in project.run("make")
    assert "\nfine\n" in project.run(f"{login}; make push REGISTRY={project.host}")
    project.test_is("echo other")
    assert "\nother\n" in project.run("make test")
    project.test_is("echo bad; exit 3")
    assert "Error 3" in project.run("make push", code=2)


@pytest.mark.needs("htpasswd")
def test_the_job(project: Project) -> None:
    job = block("In CI", "sh")
    said = {"REGISTRY": project.host, "PASSWORD": "secret"}
    project.run(job, COMMIT="one", **said)
    project.test_is("echo other")
    project.run("rm -rf image")
    project.run(job, COMMIT="two", **said)
    for tag in ("one", "two"):
        project.run(f"oci-pull {project.host}/app:{tag} ./{tag}")
    assert project.run("oci-unpack ./two --path app/test.sh -").endswith("echo other\n")
    project.test_is("exit 3")
    project.run(job, code=3, COMMIT="three", **said)
    project.run(f"oci-pull {project.host}/app:three", code=1)


@pytest.mark.needs("docker")
def test_every_command_of_docker_has_its_row(tmp_path: Path) -> None:
    """With all of its plugins; `docker init` and the like are Docker Desktop's."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    helped = subprocess.run(["docker", "--help"], capture_output=True, text=True, check=True, env=env).stdout
    commands = set(re.findall(r"^  (\w+)\*? +[A-Z]", helped, re.M)) - {"docker"}
    assert len(commands) > 50
    rows = (TOP / "README.md").read_text().partition("## Coming from Docker\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"\w+", " ".join(row.split("|")[1] for row in rows.splitlines() if row.startswith("|"))))
    assert commands - told == set()
