"""A plain user's ocid: whoever is killed, his containers live on and are looked after again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engine.test_watching import BUSYBOX, detach, gone, looked_after, monitor, until

pytestmark = [pytest.mark.root, pytest.mark.needs("newuidmap")]


def begun(plain: Any) -> Any:
    daemon = plain.start("ocid", stdout=subprocess.PIPE, text=True)
    assert daemon.stdout.readline().startswith("unix://")
    return daemon


def test_whoever_is_killed(plain: Any, busybox: Path) -> None:
    plain.preload(BUSYBOX, busybox)
    daemon = begun(plain)
    script = "n=0; until [ -e /end ]; do n=$((n+1)); echo line $n; sleep 0.05; done; exit 6"
    container = detach(plain, "--network", "none", "busybox", "sh", "-c", script)
    first = json.loads(plain("run", "state", container).stdout)["pid"]
    for what in ("monitor", "ocid", "both"):
        before = monitor(plain, container)
        if what != "monitor":
            daemon.kill()
            daemon.communicate()
        if what != "ocid":
            os.kill(before, signal.SIGKILL)
            gone(before)
        if what != "monitor":
            daemon = begun(plain)
        if what != "ocid":
            until(lambda b=before: looked_after(plain, container, b))
    assert json.loads(plain("run", "state", container).stdout)["pid"] == first
    plain("run", "exec", container, "touch", "/end", code=None)  # it may be ended with it
    assert plain("run", "wait", container).stdout == "6\n"
    lines = plain("run", "logs", container).stdout.splitlines()
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]
    plain("run", "rm", container)
