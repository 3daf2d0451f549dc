"""The clock of a whole machine is set, an hour on and a day back: what waits, waits no longer and no shorter for it."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TOP
from tests.daemon import Engine, started
from tests.long import LONG

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(str(TOP) != "/checkout", reason="sets the clock of the machine: only in one of ours"),
    pytest.mark.skipif(not LONG, reason="--long: it waits for what is due"),
]
HOUR = 3600
NONE = {"NetworkMode": "none"}


def create(engine: Engine, name: str, *words: str, **more: Any) -> None:
    wanted = {"Image": "bb", "Cmd": [*words], "HostConfig": {**NONE, **more.pop("host", {})}, **more}
    engine.request("POST", f"/containers/create?name={name}", wanted, code=201)
    engine.request("POST", f"/containers/{name}/start", code=204)


def inspect(engine: Engine, name: str) -> Any:
    return engine.request("GET", f"/containers/{name}/json", code=200)[1]


def until(true: Callable[[], Any]) -> None:
    """What another process is to do: it says so by no descriptor of ours, and a clock that is set stops nobody."""
    while not true():
        time.sleep(0.05)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    for engine in started(tmp_path / "a"):
        yield engine
        for each in engine.request("GET", "/containers/json?all=1", code=200)[1]:
            engine.request("DELETE", f"/containers/{each['Id']}?force=1")
        engine.clean = lambda: None  # type: ignore[method-assign]  # there is no docker CLI here


@pytest.fixture
def set_clock() -> Iterator[Callable[[int], None]]:
    """Set the clock by so many seconds; it is right again at the end."""
    begun, clock = time.monotonic(), time.time()

    def by(seconds: float) -> None:
        subprocess.run(["date", "-s", f"@{time.time() + seconds:.3f}"], check=True, stdout=subprocess.DEVNULL)

    yield by
    by(clock + time.monotonic() - begun - time.time())


class Stream:
    """What a connection that stays open says, line by line, to which a thread listens."""

    def __init__(self, engine: Engine, path: str) -> None:
        self.lines: list[bytes] = []
        connection = engine.connect()
        connection.request("GET", path)
        self._answer = connection.getresponse()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while line := self._answer.readline():
            self.lines.append(line)


def test_a_clock_that_is_set(engine: Engine, set_clock: Callable[[int], None]) -> None:
    second = 1_000_000_000
    check = {"Test": ["CMD", "true"], "Interval": second, "Timeout": 20 * second}
    create(engine, "well", "sleep", "100000", Healthcheck=check)
    create(engine, "slow", "sleep", "100000", Healthcheck={**check, "Test": ["CMD", "sleep", "2"]})
    create(engine, "says", "sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.2; done")
    events = Stream(engine, "/events")
    stats = Stream(engine, "/containers/says/stats")
    logs = Stream(engine, "/containers/says/logs?stdout=1&follow=1&tail=0")
    until(lambda: inspect(engine, "well")["State"]["Health"]["Status"] == "healthy")
    until(lambda: inspect(engine, "slow")["State"]["Health"]["Log"])
    for at, step in enumerate((HOUR, -25 * HOUR, 24 * HOUR)):
        again = f"again{at}"  # whose pauses are short at first
        create(engine, again, "false", host={"RestartPolicy": {"Name": "always"}})
        set_clock(step)
        probes = inspect(engine, "well")["State"]["Health"]["Log"][-1]["End"]
        before = [len(each.lines) for each in (events, stats, logs)]
        restarts = inspect(engine, again)["RestartCount"]
        until(lambda p=probes: inspect(engine, "well")["State"]["Health"]["Log"][-1]["End"] != p)
        until(lambda a=again, r=restarts: inspect(engine, a)["RestartCount"] > r)
        until(lambda b=before: all(len(each.lines) > n for each, n in zip((events, stats, logs), b, strict=True)))
        health = inspect(engine, "slow")["State"]["Health"]
        assert health["Status"] == "healthy" and all(each["ExitCode"] == 0 for each in health["Log"]), health
        up = {each["Names"][0]: each["Status"] for each in engine.request("GET", "/containers/json", code=200)[1]}
        assert "hour" not in up["/says"] and "day" not in up["/says"], up
        engine.request("POST", "/containers/says/exec", {"Cmd": ["true"]}, code=201)
        begun = time.monotonic()
        engine.request("POST", "/containers/slow/stop?t=1", code=204)  # after a second, whatever the clock says
        assert time.monotonic() - begun >= 1
        engine.request("POST", "/containers/slow/start", code=204)
        until(lambda: inspect(engine, "slow")["State"]["Health"]["Status"] == "healthy")
    numbers = [int(line.rpartition(b" ")[2]) for line in logs.lines]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert {json.loads(line)["Action"] for line in events.lines} >= {"die", "start", "stop", "exec_create: true"}
