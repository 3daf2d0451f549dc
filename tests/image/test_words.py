"""What people say to change an image: every member is set, and taken away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oci_tools.errors import Usage
from oci_tools.image import health

SECOND = 1_000_000_000


def config(oci: Any, word: str) -> Any:
    return json.loads(oci("image", "config", word).stdout)


@pytest.fixture
def img(oci: Any, tmp_path: Path) -> str:
    (tmp_path / "tree").mkdir()
    oci(
        "pack", "tree", "./img:x", "-e", "A=b", "--entrypoint", '["e", "f"]', "--cmd", "c", "-l", "l=m", "-a", "n=o", "--expose", "80",
        "--volume", "/v", "-u", "u", "-w", "/w", "--stop-signal", "SIGINT", "--author", "me", "--onbuild", "RUN a", "--onbuild", "RUN b",
        "--healthcheck", "--interval=30s --retries=2 CMD curl -f localhost", "--shell", '["sh", "-ec"]',
        "--created", "2020-01-02T03:04:05+01:00", "--created-by", "hand", "--comment", "why",
    )  # fmt: skip
    return "./img:x"


def test_all_members(oci: Any, img: str) -> None:
    found = config(oci, img)
    assert found["config"]["OnBuild"] == ["RUN a", "RUN b"]
    assert found["config"]["Healthcheck"] == {"Test": ["CMD-SHELL", "curl -f localhost"], "Interval": 30 * SECOND, "Retries": 2}
    assert found["config"]["Shell"] == ["sh", "-ec"]
    assert found["created"] == "2020-01-02T02:04:05Z"
    assert found["history"] == [{"created": found["created"], "created_by": "hand", "author": "me", "comment": "why"}]


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("env", "Env"), ("labels", "Labels"), ("entrypoint", "Entrypoint"), ("cmd", "Cmd"), ("ports", "ExposedPorts"),
        ("volumes", "Volumes"), ("onbuild", "OnBuild"), ("healthcheck", "Healthcheck"), ("user", "User"),
        ("workdir", "WorkingDir"), ("stop-signal", "StopSignal"), ("shell", "Shell"),
    ],
)  # fmt: skip
def test_clear(name: str, member: str, oci: Any, img: str) -> None:
    before = config(oci, img)
    assert member in before["config"]
    oci("image", "config", "--clear", name, "--no-history", img)
    after = config(oci, img)
    del before["config"][member]
    assert after == before


def test_clear_what_is_no_member_of_config(oci: Any, img: str) -> None:
    oci("image", "config", "--clear", "author", "--clear", "history", "--clear", "annotations", "-a", "p=q", "--no-history", img)
    found = config(oci, img)
    assert "author" not in found and "history" not in found
    assert json.loads(oci("image", "inspect", img).stdout)["manifest"]["annotations"] == {"p": "q"}
    oci("image", "fsck", "./img")
    assert oci("image", "config", "--clear", "all", img, code=2).stderr.startswith("oci-image: not a member to clear 'all' (one of env,")


def test_cleared_and_set_it_has_only_the_new(oci: Any, img: str) -> None:
    oci("image", "config", "--clear", "env", "-e", "N=1", "--clear", "onbuild", "--onbuild", "RUN c", "--set-platform", "linux/arm/v7",
        "--created-by", "me", "--comment", "more", img)  # fmt: skip
    found = config(oci, img)
    assert (found["config"]["Env"], found["config"]["OnBuild"]) == (["N=1"], ["RUN c"])
    assert (found["os"], found["architecture"], found["variant"]) == ("linux", "arm", "v7")
    last = found["history"][-1]
    assert (last["created_by"], last["comment"], last["empty_layer"]) == ("me", "more", True)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("NONE", {"Test": ["NONE"]}),
        ("none", {"Test": ["NONE"]}),
        ("true", {"Test": ["CMD-SHELL", "true"]}),
        ("CMD true && true", {"Test": ["CMD-SHELL", "true && true"]}),
        ('CMD ["a", "b"]', {"Test": ["CMD", "a", "b"]}),
        ("--timeout=1m30s --start-period=500ms --start-interval=1.5s x", {
            "Test": ["CMD-SHELL", "x"], "Timeout": 90 * SECOND, "StartPeriod": SECOND // 2, "StartInterval": 3 * SECOND // 2,
        }),
    ],
)  # fmt: skip
def test_health(text: str, made: Any) -> None:
    assert health.parse(text) == made


@pytest.mark.parametrize("text", ["", "CMD", "--interval=5 x", "--interval=s x", "--retries=x y", "--retries=1 NONE", "--what=1s x", "CMD []", "--interval= x"])
def test_checks_that_are_none(text: str) -> None:
    with pytest.raises(Usage):
        health.parse(text)


@pytest.mark.parametrize("time", ["yesterday", "2020-01-01", "2020-01-01T00:00:00"])
def test_times_that_are_none(time: str, oci: Any, img: str) -> None:
    assert "not a time" in oci("image", "config", "--created", time, img, code=2).stderr
