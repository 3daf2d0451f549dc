"""Pulls and pushes through a proxy that cuts, dribbles, corrupts and lies, at any byte; the registries are real.

However it ends: the documented code, at most one line, a layout that `oci-image fsck` finds clean, and in the
registry nothing that is not what its name says.
"""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.long import rounds
from tests.peers import Docker, Fake
from tests.proxy import Proxy
from tests.registry.test_pull import complete, layout_of
from tests.registry.test_push import Sound

TIMES = rounds(8, 200)
LAYERS = [random.Random(at).randbytes(size) for at, size in enumerate((300_000, 70_000, 5, 0))]
QUICK = ("--retries", "4", "--retry-delay", "1", "--timeout", "1")
LINKS = "HTTP/1.1 307 Temporary Redirect\r\nLocation: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture(params=["ours", "docker-registry"])
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a registry."""
    if request.param == "ours":
        yield request.getfixturevalue("registry").host
        return
    if not shutil.which("docker-registry"):
        pytest.skip("needs docker-registry; tests/run --setup installs it on Debian as root")
    with Docker(tmp_path / "peer") as docker:
        yield docker.host


@pytest.fixture
def made(oci: Any, tmp_path: Path) -> dict[str, Any]:
    return Sound(tmp_path / "img").image("v1", *LAYERS)


@pytest.fixture
def proxy(oci: Any, peer: str, made: dict[str, Any]) -> Iterator[Proxy]:
    """Before a registry with the image `app:v1`."""
    oci("push", "./img:v1", f"{peer}/app:v1")
    with Proxy(peer) as one:
        yield one


class Pull:
    """Pulls through a proxy in trouble, and judges what comes of it."""

    def __init__(self, oci: Any, proxy: Proxy, made: dict[str, Any], tmp_path: Path) -> None:
        self._oci, self._proxy, self._made, self._target = oci, proxy, made, tmp_path / "out"

    def __call__(self, *codes: int, jobs: int = 1) -> str:
        words = ("pull", *QUICK, "-j", str(jobs), f"{self._proxy.host}/app:v1", self._target)
        done = self._oci(*words, code=None)
        assert done.returncode in codes, done.stderr
        assert done.stderr.count("\n") == (1 if done.returncode else 0), done.stderr
        if done.returncode == 0:
            assert done.stdout == f"{self._target}@{self._made['digest']}\n"
            complete(self._target)
        if self._target.exists():
            layout_of(self._target)
            self._oci("image", "fsck", self._target)
            shutil.rmtree(self._target)
        return str(done.stderr)


@pytest.fixture
def pull(oci: Any, proxy: Proxy, made: dict[str, Any], tmp_path: Path) -> Pull:
    return Pull(oci, proxy, made, tmp_path)


def places(proxy: Proxy, pull: Pull, way: str = "down") -> list[int]:
    """Some bytes of all that a whole pull moves, heads and manifests among them."""
    proxy.reset()
    pull(0)
    total, chance = getattr(proxy, way), random.Random(7)
    few = [0, 1, 20, total - 1]
    return few + [chance.randrange(min(4000, total)) if at % 2 else chance.randrange(total) for at in range(TIMES)]


def test_answers_that_are_cut(proxy: Proxy, pull: Pull) -> None:
    for at in places(proxy, pull):
        proxy.reset()
        proxy.cut_down = at
        pull(0, *([75] if at < 200 else []), jobs=1 + at % 3)  # before it ever answered, nobody asks again


def test_requests_that_are_cut(proxy: Proxy, pull: Pull) -> None:
    for at in places(proxy, pull, "up")[: TIMES // 2]:
        proxy.reset()
        proxy.cut_up = at
        pull(0, *([75] if at < 200 else []))


def test_every_answer_is_cut_after_a_while(proxy: Proxy, pull: Pull) -> None:
    """Each connection ends after some bytes: a pull that gets on gets there."""

    class Short(Proxy):
        def _pass(self, data: bytes, to: Any, way: str) -> bool:
            return super()._pass(data, to, way) and (way == "up" or self.down % 5 != 4)

    proxy.__class__ = Short
    proxy.slow = 20_000
    pull(0, 75)


def test_answers_that_are_corrupted(proxy: Proxy, pull: Pull) -> None:
    """A bit of a head may not matter, or be a failure; one of a body is always found."""
    for at in places(proxy, pull):
        proxy.reset()
        proxy.flip_down = at
        pull(0, 1, 75)


def test_answers_that_dribble(proxy: Proxy, pull: Pull) -> None:
    proxy.reset()
    proxy.slow = 97
    pull(0, jobs=3)


class Once:
    """Answers the first request that has this in its head with something else, `times` over."""

    def __init__(self, part: bytes, raw: bytes, times: int = 1) -> None:
        self.part, self.raw, self.left, self._lock = part, raw, times, threading.Lock()

    def __call__(self, head: bytes) -> bytes:
        with self._lock:
            if self.part in head and self.left:
                self.left -= 1
                return self.raw
            return b""


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("where", [b"/manifests/v1", b"/blobs/"])
@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Oh", "502 Oh", "503 Oh", "504 Oh", "408 Oh"])
def test_busy(proxy: Proxy, pull: Pull, where: bytes, status: str) -> None:
    proxy.instead = Once(where, answer(status, "Retry-After: 0"), 2)
    pull(0)
    proxy.instead = Once(where, answer(status), 100)
    said = pull(75)
    assert status[:3] in said


@pytest.mark.parametrize(
    "raw",
    [
        answer("200 OK", "Content-Type: application/octet-stream", body=b"x" * 100),  # a shorter body than its blob
        answer("200 OK", body=b"x" * 400_000),
        b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000,  # the right length, another content
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 7, 8\r\n\r\n1234567",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\nx",
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/300000\r\nContent-Length: 5\r\n\r\nxxxxx",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\nxxxxx",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 999 What\r\n\r\n",
        b"\x16\x03\x01nonsense\r\n\r\n",
        LINKS.format("/again").encode(),
        LINKS.format("http://127.0.0.1:1/elsewhere").encode(),
        LINKS.format("http://a b/").encode(),
    ],
)
def test_lies_about_a_blob(proxy: Proxy, pull: Pull, raw: bytes) -> None:
    blob = pull._made["digest"]
    proxy.instead = lambda head: raw if b"GET" in head[:4] and b"/blobs/" in head else b""
    said = pull(1, 75)
    assert blob not in said or "cannot" in said
    proxy.reset()
    pull(0)


def test_a_redirect_to_another_host(oci: Any, proxy: Proxy, pull: Pull, tmp_path: Path) -> None:
    """Who stores blobs elsewhere is followed there, and the other host is not told who we are."""
    with Fake() as store:
        for layer in LAYERS:
            store.blob("app", layer)

        def away(head: bytes) -> bytes:
            path = head.split(b" ")[1].decode()
            known = any(f"{path}" == key[1] for key in store._answers)
            return LINKS.format(store.url + path).encode() if "/blobs/" in path and known else b""

        proxy.instead = away
        pull(0)
        assert len(store.seen("GET", "/blobs/")) == len(set(LAYERS) - {b""})
        assert not any("Authorization" in asked.headers for asked in store.asked)


# -- pushes ------------------------------------------------------------------------------


def pushed(oci: Any, proxy: Proxy, made: dict[str, Any], name: str, *codes: int, jobs: int = 1) -> int:
    done = oci("push", *QUICK, "-j", str(jobs), "./img:v1", f"{proxy.host}/{name}:v1", code=None)
    assert done.returncode in codes, done.stderr
    assert done.stderr.count("\n") == (1 if done.returncode else 0), done.stderr
    if done.returncode == 0:
        assert done.stdout == f"{proxy.host}/{name}@{made['digest']}\n"
    return int(done.returncode)


def whole(oci: Any, peer: str, name: str, made: dict[str, Any], tmp_path: Path) -> None:
    """What the registry has under a name, asked without a proxy, is the image."""
    oci("pull", f"{peer}/{name}:v1", "./back")
    assert complete(tmp_path / "back")["manifests"][0]["digest"] == made["digest"]
    shutil.rmtree(tmp_path / "back")


@pytest.mark.parametrize("trouble", ["cut_up", "cut_down", "flip_up", "flip_down"])
def test_pushes(oci: Any, proxy: Proxy, peer: str, made: dict[str, Any], tmp_path: Path, trouble: str) -> None:
    proxy.reset()
    pushed(oci, proxy, made, "whole", 0)
    total, chance = getattr(proxy, trouble.partition("_")[2]), random.Random(9)
    codes = (0, 75) if trouble.startswith("cut") else (0, 1, 75)
    for number in range(TIMES // 2):
        at = chance.randrange(min(3000, total)) if number % 2 else chance.randrange(total)
        name = f"n{number}"
        proxy.reset()
        setattr(proxy, trouble, at)
        if pushed(oci, proxy, made, name, *codes, jobs=1 + number % 2) == 0 and trouble != "flip_up":
            whole(oci, peer, name, made, tmp_path)  # a flipped request may have gone to another name
        proxy.reset()
        pushed(oci, proxy, made, name, 0)  # whatever was left there
        whole(oci, peer, name, made, tmp_path)


@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Oh", "503 Oh"])
@pytest.mark.parametrize("method", [b"HEAD /v2", b"POST /v2", b"PUT /v2"])
def test_busy_for_pushes(oci: Any, proxy: Proxy, made: dict[str, Any], status: str, method: bytes) -> None:
    proxy.instead = Once(method, answer(status, "Retry-After: 0"), 2)
    pushed(oci, proxy, made, "busy", 0)
    proxy.instead = Once(method, answer(status), 100)
    pushed(oci, proxy, made, "busier", 75)


