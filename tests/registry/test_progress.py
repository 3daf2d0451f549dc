"""How far a copy is: rates, times, and a terminal that is too small."""

from __future__ import annotations

import os
import pty
import struct
import termios
import threading
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from oci_tools.registry import progress
from tests.peers import Answer, Fake


@pytest.mark.parametrize(
    "seconds, said", [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (245, "4:05"), (3723, "1:02:03")]
)
def test_times(seconds: float, said: str) -> None:
    assert progress.clock(seconds) == said


def test_a_rate_is_of_what_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    drawn: list[str] = []
    monkeypatch.setattr(progress.sys.stderr, "write", drawn.append)
    made = progress.Progress("pull", "plain")
    made._terminal = True
    made.tell("sha256:aaaaaaaaaaaaaa", "wait", 0, 100_000_000)
    now[0] = 110.0  # waiting is no time in which it moved, nor did what an earlier run left come now
    made.tell("sha256:aaaaaaaaaaaaaa", "get", 50_000_000, 100_000_000)
    now[0] = 112.0
    made.tell("sha256:aaaaaaaaaaaaaa", "get", 70_000_000, 100_000_000)
    assert "  sha256:aaaaaaaaaaaa 70.0 MB of 100.0 MB, 10.0 MB/s, 3 s left" in drawn[-1]
    assert "pull 70.0 MB of 100.0 MB, 10.0 MB/s, 3 s left" in drawn[-1]


def test_a_small_terminal(oci: Any, tmp_path: Path) -> None:
    layers = [os.urandom(1 << 20) for _ in range(6)]
    with Fake() as fake:
        fake.image("app", "v1", layers)
        never = threading.Event()
        paths = [fake.blob("app", layer) for layer in layers]
        for path, layer in zip(paths, layers, strict=True):
            cut = Answer(200, {"Content-Length": str(len(layer))}, layer, cut=1000, wait=never)
            fake.on("GET", path, cut)
        ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 4, 30, 0, 0))
        process = oci.start("pull", f"{fake.host}/app:v1", "./img", stdout=theirs, stderr=theirs)
        os.close(theirs)
        said = b""
        never.set()
        try:
            while data := os.read(ours, 1000):
                said += data
        except OSError:
            pass
        os.close(ours)
        assert process.wait() == 0
    for drawing in said.decode().split("\x1b[J")[1:]:
        lines = drawing.split("\x1b")[0].replace("\r", "").splitlines()
        assert len([line for line in lines if not line.startswith("/")]) <= 3
        assert all(len(line) < 30 for line in lines if not line.startswith("/"))
