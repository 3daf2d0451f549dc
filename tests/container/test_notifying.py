"""--sdnotify: who tells a service manager that a container is ready."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.container.conftest import BUSYBOX

pytestmark = pytest.mark.root
NONE = ("--network", "none")


class Manager:
    """The side of systemd."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.env = {"NOTIFY_SOCKET": str(path)}

    def hears(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().split())

    def heard_nothing(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(1)
        except BlockingIOError:
            return True
        return False


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "manager")
    yield made
    made.socket.close()


def command(pid: str) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def test_we_say_it(run: Any, oci: Any, manager: Manager) -> None:
    """The process to watch is the one that stays with it, and ends with it; the container has no such socket."""
    script = "echo ${NOTIFY_SOCKET-none}; exec sleep 1000"
    made = run("-d", *NONE, "--sdnotify", "conmon", BUSYBOX, "sh", "-c", script, env=manager.env).stdout.strip()
    said = manager.hears()
    assert said["READY"] == "1" and any("oci-run" in word for word in command(said["MAINPID"]))
    pidfd = os.pidfd_open(int(said["MAINPID"]))
    while not (shown := oci("run", "logs", made).stdout):
        pass
    assert shown == "none\n"
    oci("run", "rm", "-f", made)
    os.close(pidfd)
    assert run(*NONE, "--sdnotify", "conmon", BUSYBOX, "echo", "x", env=manager.env).stdout == "x\n"
    assert manager.hears()["READY"] == "1"


def test_when_it_is_healthy(run: Any, oci: Any, manager: Manager) -> None:
    check = ("--health-cmd", "test -e /tmp/well", "--health-interval", "100ms")
    made = run("-d", *NONE, "--sdnotify", "healthy", *check, BUSYBOX, "sleep", "1000", env=manager.env).stdout.strip()
    assert manager.heard_nothing()
    manager.socket.setblocking(True)
    oci("run", "exec", made, "touch", "/tmp/well")
    assert manager.hears()["READY"] == "1"
    oci("run", "rm", "-f", made)
    said = run("-d", *NONE, "--sdnotify", "healthy", BUSYBOX, "true", env=manager.env, code=2).stderr
    assert "is for detached containers with a health check" in said


def test_nobody_does(run: Any, manager: Manager) -> None:
    assert run(*NONE, "--sdnotify", "ignore", BUSYBOX, "sh", "-c", "echo ${NOTIFY_SOCKET-none}", env=manager.env).stdout == "none\n"
    assert manager.heard_nothing()


def test_it_does_itself(run: Any, manager: Manager) -> None:
    assert run(*NONE, BUSYBOX, "sh", "-c", "echo ${NOTIFY_SOCKET-none}", env=manager.env).stdout == "/run/notify/notify.sock\n"
