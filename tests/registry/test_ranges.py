"""One large blob over several connections, from registries that send parts and those that do not."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import Answer, Asked, Docker, Fake, digest
from tests.registry.test_pull import complete, layout_of
from tests.registry.test_push import Layout

PART = 2 << 20
LAYER = random.Random(3).randbytes(30_000_001)
QUICK = ("--retries", "2", "--retry-delay", "1")


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        one.image("app", "v1", [LAYER, b"small"])
        yield one


def spans(fake: Fake) -> list[str | None]:
    return [one.headers.get("Range") for one in fake.seen("GET", digest(LAYER))]


def span(number: int) -> str:
    return f"bytes={number * PART}-{min((number + 1) * PART, len(LAYER)) - 1}"


def test_every_part_once(oci: Any, fake: Fake, tmp_path: Path) -> None:
    oci("pull", f"{fake.host}/app:v1", "./img")
    complete(tmp_path / "img")
    count = -(-len(LAYER) // PART)
    assert set(spans(fake)) == {*(span(number) for number in range(count - 1)), f"bytes={(count - 1) * PART}-{len(LAYER) - 1}"}
    assert len(spans(fake)) == count


def test_parts_come_side_by_side(oci: Any, fake: Fake, tmp_path: Path) -> None:
    """The first part is answered only when three more have been asked for."""
    others = threading.Semaphore(0)

    def guard(asked: Asked) -> Answer | None:
        if digest(LAYER) in asked.path and asked.method == "GET":
            if asked.headers.get("Range") == span(1):
                for _ in range(2):
                    assert others.acquire(timeout=60)
            elif asked.headers.get("Range") in (span(2), span(3)):
                others.release()
        return None

    fake.guard = guard
    oci("pull", f"{fake.host}/app:v1", "./img")
    complete(tmp_path / "img")


def test_one_connection_where_there_are_no_jobs_to_spare(oci: Any, fake: Fake, tmp_path: Path) -> None:
    oci("pull", "--jobs", "1", f"{fake.host}/app:v1", "./img")
    assert spans(fake) == [None]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, {}, LAYER, ranges=False),
        Answer(206, {"Content-Range": f"bytes 0-{len(LAYER) - 1}/{len(LAYER)}"}, LAYER, ranges=False),
        Answer(416),
        Answer(400),
    ],
)
def test_a_registry_that_sends_no_parts(oci: Any, fake: Fake, tmp_path: Path, answer: Answer) -> None:
    whole = Answer(200, {}, LAYER)
    fake.on("GET", f"/v2/app/blobs/{digest(LAYER)}", answer, whole)
    oci("pull", *QUICK, f"{fake.host}/app:v1", "./img")
    complete(tmp_path / "img")
    assert spans(fake) == ([span(0)] if answer.status == 200 else [span(0), None])


@pytest.mark.parametrize("number", [1, 2, 7])
def test_a_part_that_is_cut(oci: Any, fake: Fake, tmp_path: Path, number: int) -> None:
    last = len(LAYER) - 1
    wanted = span(number)
    body = LAYER[number * PART : (number + 1) * PART]
    said = {"Content-Range": f"bytes {number * PART}-{min((number + 1) * PART - 1, last)}/{len(LAYER)}", "Content-Length": str(len(body))}
    bad = [Answer(206, said, body, cut=1000, ranges=False)]
    fake.guard = lambda asked: bad.pop() if asked.headers.get("Range") == wanted and bad else None
    oci("pull", *QUICK, f"{fake.host}/app:v1", "./img")
    complete(tmp_path / "img")
    assert spans(fake)[-1] == f"bytes={number * PART}-", "all before it was kept"


def test_parts_that_are_wrong(oci: Any, fake: Fake, tmp_path: Path) -> None:
    body = LAYER[PART : 2 * PART]
    where = f"bytes {PART}-{2 * PART - 1}/{len(LAYER)}"
    for answer, words in (
        (Answer(206, {"Content-Range": where}, b"x" + body[1:], ranges=False), "wrong digest of blob"),
        (Answer(206, {"Content-Range": where}, body + b"x", ranges=False), "more than was asked for"),
        (Answer(206, {"Content-Range": f"bytes 0-{PART - 1}/{len(LAYER)}"}, LAYER[:PART], ranges=False), "asked from"),
        (Answer(404), "not found"),
    ):
        fake.guard = lambda asked, answer=answer: answer if asked.headers.get("Range") == span(1) else None  # type: ignore[misc]
        said = oci("pull", *QUICK, f"{fake.host}/app:v1", "./img", code=1).stderr
        assert words in said and said.count("\n") == 1
        assert not (tmp_path / "img").exists()
    fake.guard = lambda asked: Answer(200, {}, LAYER, ranges=False) if asked.headers.get("Range") == span(2) else None
    oci("pull", *QUICK, f"{fake.host}/app:v1", "./img")
    complete(tmp_path / "img")


def test_kill_9_keeps_a_beginning_without_gaps(oci: Any, fake: Fake, tmp_path: Path) -> None:
    never = threading.Event()
    fake.guard = lambda asked: None if asked.headers.get("Range") != span(2) or never.wait(60) else None
    read, write = os.pipe()
    process = oci.start("pull", "--status-fd", str(write), f"{fake.host}/app:v1", "./img", pass_fds=(write,))
    os.close(write)
    with open(read) as told:
        for line in told:
            said = json.loads(line)
            if said["id"] == digest(LAYER) and said["current"] >= PART:
                break
    process.send_signal(signal.SIGKILL)
    process.wait()
    never.set()
    assert layout_of(tmp_path / "img")["manifests"] == []
    (partial,) = (path for path in (tmp_path / "img/.ingest").iterdir() if digest(LAYER)[7:] in path.name)
    size = partial.stat().st_size
    assert size in (PART, 2 * PART) and partial.read_bytes() == LAYER[:size]
    fake.asked.clear()
    oci("pull", f"{fake.host}/app:v1", "./img")
    complete(tmp_path / "img")
    assert spans(fake)[0] == f"bytes={size}-{size + PART - 1}"


@pytest.mark.needs("docker-registry")
def test_a_real_registry_and_memory(oci: Any, tmp_path: Path) -> None:
    layer = random.Random(4).randbytes(100_000_000)
    made = Layout(tmp_path / "img").image("v1", layer)
    with Docker(tmp_path / "peer") as peer:
        oci("push", "./img:v1", f"{peer.host}/a:v1")
        # By way of a small process: what ours is, and so its child's at first, is large.
        code = "import os, sys; print(os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)[2].ru_maxrss)"
        said = oci.run([sys.executable, "-ISc", code, oci.bin / "oci-pull", f"{peer.host}/a:v1", "./out"]).stdout
    assert complete(tmp_path / "out")["manifests"][0]["digest"] == made["digest"]
    assert int(said.split()[-1]) < 60_000, "kilobytes: memory does not grow with the blob"
    print(said)
