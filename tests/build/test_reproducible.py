"""The same input makes the same bytes wherever and whenever it is built, whatever is made of it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Commands, world

pytestmark = [pytest.mark.root, pytest.mark.needs("unshare", "hostname")]

EPOCH = 1_500_000_000
TEXT = """
FROM BASE AS native
ARG SOURCE_DATE_EPOCH
ENV A=b
WORKDIR /w
RUN --mount=target=/m cat /m/d/f > /ran; mkdir /made; ln /ran /made/again; echo $SOURCE_DATE_EPOCH > /epoch
FROM scratch AS plain
COPY d /d
COPY --link --parents d/./e /linked/
ADD a.tar <<E /added/
text
E
LABEL l=m
FROM plain AS both
COPY --from=native / /
VOLUME /v
"""
# Of each machine its name, what is in the environment, the umask, and when its files were written.
PLACES = {
    "one": ("alpha", {"LANG": "C", "TZ": "UTC"}, 0o022, 1_600_000_000),
    "other": ("beta.example", {"LANG": "de_DE", "LC_ALL": "C.UTF-8", "TZ": "Pacific/Auckland", "USER": "x"}, 0o077, 1_700_000_000),
}
PLATFORMS = ["--target", "plain", "--platform", "linux/amd64,linux/arm64"]
KINDS: dict[str, list[str]] = {
    "layout": ["-t", "./result:x"],
    "zstd": ["-t", "./result:x", "--compression", "zstd"],
    "squash": ["-t", "./result:x", "--squash"],
    "attested": ["-t", "./result:x", "--attest", "type=sbom", "--attest", "type=provenance,mode=max"],
    "platforms": ["-t", "./result:x", *PLATFORMS],
    "platforms attested": ["-t", "./result:x", *PLATFORMS, "--sbom=true", "--provenance=true"],
    "oci": ["-o", "type=oci,dest=result"],
    "docker": ["-o", "type=docker,dest=result,name=a:b"],
    "tar": ["-o", "type=tar,dest=result"],
    "platforms in a tar": ["-o", "type=tar,dest=result", *PLATFORMS],
    "cache": ["-o", "type=cacheonly", "--cache-to", "type=local,dest=result"],
    "inline": ["-t", "./result:x", "--cache-to", "type=inline"],
}  # fmt: skip


def build(place: str, work: Path, base: Path, words: list[str], shift: int = 0, env: dict[str, str] | None = None) -> dict[str, str]:
    """The digest of each file that a build at a place makes."""
    name, variables, umask, time = PLACES[place]
    work = work / place
    context = work / f"context-{name}"
    context.mkdir(parents=True)
    (context / "Dockerfile").write_text(TEXT.replace("BASE", str(base)))
    files = ("d/f", "d/e/g", "d/e/h", "d/z")
    for path in files if place == "one" else reversed(files):
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        (context / path).write_text(path)
    line = "chmod -R u=rwX,go=rX .; tar -c --sort=name --mtime=@1234567890 --owner=5 --group=6 -f a.tar d; "
    subprocess.run(["sh", "-ec", f"{line} find . -exec touch -hd @{time + shift} {{}} +"], cwd=context, check=True)
    with Commands({**world(work), **variables, **(env or {})}, work) as commands:
        line = f'umask {umask:o}; hostname {name}; exec "$@"'
        commands.run(["unshare", "-u", "sh", "-ec", line, "sh", commands.bin / "oci-build", *words, context])
    made = work / "result"
    found = [made] if made.is_file() else sorted(path for path in made.rglob("*") if path.is_file())
    return {os.path.relpath(path, work): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.parametrize("kind", KINDS)
def test_two_machines(kind: str, busybox: Path, tmp_path: Path) -> None:
    """With another name, time zone, language, user, umask and store; and files of another order and time."""
    env = {"SOURCE_DATE_EPOCH": str(EPOCH)}
    one = build("one", tmp_path, busybox, KINDS[kind], env=env)
    assert one and one == build("other", tmp_path, busybox, KINDS[kind], env=env)


@pytest.mark.parametrize("kind", ["layout", "squash", "attested", "oci", "docker", "tar"])
def test_files_of_any_time(kind: str, busybox: Path, tmp_path: Path) -> None:
    """Of a file that is older at one of them SOURCE_DATE_EPOCH, which is the latest time, says nothing."""
    words = [*KINDS[kind], "--timestamp", str(EPOCH)]
    one = build("one", tmp_path, busybox, words, -200_000_000)
    assert one and one == build("other", tmp_path, busybox, words, env={"SOURCE_DATE_EPOCH": "5"})


def test_what_differs_without_a_time(busybox: Path, tmp_path: Path) -> None:
    """Nothing but when the image was made, and the times of files."""
    configs, listed = {}, {}
    for place in PLACES:
        build(place, tmp_path, busybox, KINDS["layout"])
        with Commands(world(tmp_path / place), tmp_path / place) as commands:
            config = json.loads(commands("image", "inspect", "./result:x").stdout)["config"]
            tar = commands("unpack", "./result:x", "-", binary=True).stdout
        lines = subprocess.run(["tar", "-tv", "--numeric-owner"], input=tar, capture_output=True, check=True).stdout.decode()
        listed[place] = [[*line.split()[:3], *line.split()[5:]] for line in lines.splitlines()]
        config["rootfs"]["diff_ids"] = len(config["rootfs"]["diff_ids"])
        for each in (config, *config["history"]):
            del each["created"]
        configs[place] = config
    assert configs["one"] == configs["other"]
    wanted = [line for line in listed["one"] if line[3] != "epoch"]  # whose content is empty in both
    assert wanted == [line for line in listed["other"] if line[3] != "epoch"] and len(wanted) > 10


def test_a_time_for_all(oci: Any, built: Any, tmp_path: Path) -> None:
    """What is new has it, the base has its own; to the cache it is another image than one of SOURCE_DATE_EPOCH."""
    text = "FROM BASE\nARG SOURCE_DATE_EPOCH\nCOPY f /f\nRUN touch -d @5 /old; echo $SOURCE_DATE_EPOCH > /e\n"
    when = str(1_000_000_000)
    built(text, files={"f": "1"}, env={"SOURCE_DATE_EPOCH": when})
    os.utime(tmp_path / "context/f", (7, 7))
    for words in (["--timestamp", when], ["--timestamp", when, "--squash", "--no-cache"]):
        built(text, *words, env={"SOURCE_DATE_EPOCH": "77"})
        tar = oci("unpack", "./img:x", "-", binary=True).stdout
        lines = subprocess.run(["tar", "-tv", "--full-time", "--utc"], input=tar, capture_output=True, check=True).stdout.decode()
        times = {line.split()[5]: line.split()[3] for line in lines.splitlines()}
        assert times["f"] == times["old"] == times["e"] == "2001-09-09" and times["bin/busybox"] == "2025-06-15"
        assert oci("unpack", "--path", "/e", "./img:x", "-").stdout == f"{when}\n"
        assert json.loads(oci("image", "inspect", "./img:x").stdout)["config"]["created"] == "2001-09-09T01:46:40Z"
    said = built(text, "--timestamp=-1", code=2).stderr
    assert said == "oci-build: invalid value for --timestamp '-1' (it is seconds since 1970)\n"
