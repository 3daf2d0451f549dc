"""How far long work is, in terminals of several widths and without one: every command that shows it."""

from __future__ import annotations

import json
import os
import pty
import re
import struct
import subprocess
import termios
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Registry

WORK = {
    "pull": "oci-pull {host}/app:1 ./got",
    "push": "oci-push ./img:app {host}/other:1",
    "copy": "oci-push docker://{host}/app:1 {host}/copied:1",
    "build": "oci-build -t ./built:x context",
    "pull --unpack": "oci-pull --unpack ./b {host}/app:1",
    "pack": "oci-pack t ./img:again",
    "pack in parts": "oci-pack --layers 3 t ./img:parts",
    "unpack": "oci-unpack ./img:app ./b2",
    "unpack of one directory": "oci-unpack ./img:app --path / ./one",
    "layers of the store": "oci-unpack --overlay ./img:app ./b3",
}
DRAWN = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@pytest.fixture
def place(oci: Any, registry: Registry, tmp_path: Path) -> tuple[Any, str]:
    for name in "t", "context":
        (tmp_path / name).mkdir()
        for at in range(3):
            (tmp_path / name / f"file{at}").write_bytes(os.urandom(3 << 20))
    (tmp_path / "context/Dockerfile").write_text("FROM scratch AS a-stage-of-a-name-that-is-rather-long\nCOPY file0 /a/path/that/is/long/as/well/\nCOPY . /\n")
    oci("pack", "t", "./img:app")
    oci("push", "./img:app", f"{registry.host}/app:1")
    return oci, registry.host


def run(oci: Any, line: str, columns: int) -> str:
    """What a command writes on a terminal that is its standard error."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    name, *words = line.split()
    process = subprocess.Popen([oci.bin / name, *words], env=oci.env, cwd=oci.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    said = b""
    try:
        while data := os.read(ours, 65536):
            said += data
    except OSError:
        pass  # the other side is closed
    os.close(ours)
    assert process.wait() == 0, said
    return said.decode()


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(place: tuple[Any, str], columns: int) -> None:
    oci, host = place
    for name, line in WORK.items():
        said = run(oci, line.format(host=host), columns)
        wide = [text for text in re.split(r"[\r\n]", DRAWN.sub("", said)) if len(text) > columns]
        assert said, name
        assert not wide, (name, wide)


def test_without_a_terminal_nothing_is_drawn(place: tuple[Any, str]) -> None:
    oci, host = place
    for name, line in WORK.items():
        command, *words = line.format(host=host).split()
        said = oci(command.removeprefix("oci-"), *words).stderr
        assert "\x1b" not in said and "\r" not in said, name
        assert name == "build" or not said, (name, said)


@pytest.mark.parametrize("line", ["oci-unpack ./img:app ./b", "oci-unpack ./img:app -", "oci-unpack --overlay ./img:app ./o", "oci-pack t ./img:again"])
def test_lines_for_machines_tell_of_each_layer_to_its_end(place: tuple[Any, str], line: str) -> None:
    oci, _ = place
    name, *words = line.split()
    ours, theirs = os.pipe()
    process = subprocess.Popen([oci.bin / name, *words, "--status-fd", str(theirs)], env=oci.env, cwd=oci.cwd, stdout=subprocess.DEVNULL, pass_fds=[theirs])
    os.close(theirs)
    with open(ours, "rb") as file:
        rows = [json.loads(line) for line in file]
    assert process.wait() == 0
    assert {row["op"] for row in rows} == {name.removeprefix("oci-")} and len({row["id"] for row in rows}) == 1
    states = [row["state"] for row in rows]
    assert states[-1] == "done" and states.count("done") == 1
    for state in {*states} - {"wait", "done"}:
        counts = [row["current"] for row in rows if row["state"] == state]
        assert counts == sorted(counts)
    assert rows[-1]["current"] == rows[-1]["total"] > 9 << 20


def test_plain_lines_say_what_is_done(place: tuple[Any, str]) -> None:
    oci, _ = place
    said = oci("unpack", "--progress", "plain", "./img:app", "./b").stderr
    assert re.fullmatch(r"sha256:[0-9a-f]{12} 9\.4 MB done\n", said), said
    said = oci("pack", "--progress", "plain", "t", "./img:again").stderr
    assert re.fullmatch(r"layer 1 9\.4 MB done\n", said), said
    known = oci("unpack", "--progress", "plain", "--overlay", "./img:app", "./o").stderr + oci("unpack", "--progress", "plain", "--overlay", "./img:app", "./o2").stderr
    assert [line.split()[-1] for line in known.splitlines()] == ["done", "exists"]
