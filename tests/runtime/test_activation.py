"""What a service manager gives to `oci-run`: sockets to listen on, and a socket to say "ready" on."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root
SHOW = 'echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES; cd /proc/self/fd; for fd in 3 4 5; do [ -e $fd ] && readlink $fd; done; true'
# A shell that becomes oci-run keeps its pid.
GIVEN = "export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES=one:two; exec {}3</etc/passwd 4</etc/group; exec oci-run"


def started(box: Any, count: int, verb: str, *words: str, more: str = "", **options: Any) -> Any:
    box.process["args"] = ["sh", "-c", SHOW]
    box.save()
    line = f"{GIVEN.format(count, more)} {verb} {' '.join(words)} -b {box.bundle} {box.id}"
    return box.oci.shell(line, **options)


def test_sockets_are_handed_on(box: Any) -> None:
    said = started(box, 2, "run").stdout.split()
    assert said == ["2", "1", "one:two", "/etc/passwd", "/etc/group"]


def test_others_come_after_them(box: Any) -> None:
    said = started(box, 2, "run", "--preserve-fds 1", more="5</etc/hosts ").stdout.split()
    assert said == ["2", "1", "one:two", "/etc/passwd", "/etc/group", "/etc/hosts"]
    assert started(box, 1, "run").stdout.split() == ["1", "1", "one:two", "/etc/passwd"]


def test_what_was_given_to_another_process_is_not_ours(box: Any) -> None:
    box.process["args"] = ["sh", "-c", SHOW]
    box.save()
    line = f"unset LISTEN_PID; export LISTEN_FDS=1; exec 3</etc/passwd; oci-run run -b {box.bundle} {box.id}"
    assert box.oci.shell(line).stdout.splitlines() == ["1 1", "/etc/passwd"]  # nobody is named
    line = f"export LISTEN_PID=1 LISTEN_FDS=2; exec 3</etc/passwd; exec oci-run run -b {box.bundle} {box.id}"
    assert box.oci.shell(line).stdout.split() == []


def test_created_and_started(box: Any) -> None:
    with open(box.output, "wb") as out:
        started(box, 2, "create", stdout=out, stderr=out)
    box("start")
    while box.state["status"] != "stopped":
        pass
    assert box.output.read_text().split() == ["2", "1", "one:two", "/etc/passwd", "/etc/group"]
    box("delete")


class Manager:
    """The service manager's side of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.env = {"NOTIFY_SOCKET": str(path)}

    def hear(self) -> str:
        text, fds, _, _ = socket.recv_fds(self.sock, 4096, 4)
        for fd in fds:
            os.close(fd)
        return text.decode()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "manager")
    yield made
    made.sock.close()




def telling(box: Any, text: str) -> None:
    """Have the payload wait for a line in /go, say `text`, and stay; by the host's python bound into it."""
    code = (
        "import os,socket,sys;open('/go').readline();s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM);"
        f"s.connect(os.environ['NOTIFY_SOCKET']);[s.send(t) for t in {text!r}.encode().split(b'|')];open('/stay').readline()"
    )
    for place in "/usr", "/lib", "/lib64":
        if os.path.isdir(place):
            box.mount(place, place, "rbind", "ro")
    for name in "go", "stay":
        os.mkfifo(box.rootfs / name)
    box.process["args"] = ["/usr/bin/python3", "-ISc", code]


def test_ready_in_the_foreground(box: Any, manager: Manager) -> None:
    telling(box, "STATUS=x|MAINPID=1\nREADY=1|STOPPING=1")
    process = box.start(env=manager.env, stdout=subprocess.PIPE)
    (box.rootfs / "go").write_text("\n")
    assert manager.hear() == "READY=1\n"
    (box.rootfs / "stay").write_text("\n")
    assert process.wait() == 0
    manager.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.hear()


def test_start_waits_until_it_is_ready(box: Any, manager: Manager) -> None:
    telling(box, "READY=1")
    box("create", env=manager.env)
    starting = box.oci.start("run", "start", box.id, env=manager.env)
    (box.rootfs / "go").write_text("\n")
    assert [manager.hear() for _ in range(3)] == ["READY=1\n", f"MAINPID={box.state['pid']}\n", "BARRIER=1"]
    assert starting.wait() == 0
    box("delete", "--force")


def test_detached_it_waits_as_well(box: Any, manager: Manager) -> None:
    telling(box, "READY=1")
    process = box.start("-d", env=manager.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (box.rootfs / "go").write_text("\n")
    assert manager.hear() == "READY=1\n"
    assert (manager.hear(), manager.hear()) == (f"MAINPID={box.state['pid']}\n", "BARRIER=1")
    assert process.wait() == 0
    box("delete", "--force")


def test_one_that_ends_first_is_not_waited_for(box: Any, manager: Manager) -> None:
    box.process["args"] = ["true"]
    box("run", "-d", env=manager.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    box("delete", "--force")
