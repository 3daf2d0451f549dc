"""oci-registry as a service: health, numbers, events, the log, sockets of systemd, and its end."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Registry
from tests.peers import digest
from tests.registry.test_push import Layout
from tests.registry.test_server import Client


def start(oci: Any, directory: Path, *words: Any, **more: Any) -> Any:
    process = oci.start(
        "registry", "serve", *words, directory / "store", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **more,
    )  # fmt: skip
    return Registry(process, directory / "store")


def end(server: Any) -> str:
    server.process.terminate()
    said: str = server.process.communicate()[1]
    assert server.process.returncode == 0
    return said


def test_health(registry: Any) -> None:
    ask = Client(registry.host)
    assert ask("GET", "/health").status == 200 and ask("POST", "/health").status == 405
    registry.dir.rename(registry.dir.with_name("elsewhere"))
    assert ask("GET", "/health").status == 503


def test_metrics(oci: Any, tmp_path: Path) -> None:
    server = start(oci, tmp_path, "--metrics")
    ask = Client(server.host)
    ask.image("a/b", "1")
    ask("BREW", "/v2/made-up/blobs/x")
    ask("POST", "/v2/a/b/blobs/uploads/")
    said = dict(line.rsplit(" ", 1) for line in ask("GET", "/metrics").body.decode().splitlines() if line[0] != "#")
    assert said['oci_registry_requests_total{kind="manifests",method="PUT",status="201"}'] == "1"
    assert said['oci_registry_requests_total{kind="uploads",method="POST",status="201"}'] == "2"
    assert said['oci_registry_request_seconds_count{kind="uploads"}'] == "3"
    assert said['oci_registry_request_seconds_bucket{kind="uploads",le="+Inf"}'] == "3"
    assert said["oci_registry_uploads"] == said["oci_registry_connections"] == "1"
    assert not any("made-up" in key or "BREW" in key for key in said)


def test_metrics_are_not_there_unless_they_are_wanted(registry: Any) -> None:
    assert Client(registry.host)("GET", "/metrics").status == 404


def test_the_log_is_a_line_of_json_for_each_request(oci: Any, tmp_path: Path) -> None:
    server = start(oci, tmp_path, "--access-log")
    ask = Client(server.host)
    ask("GET", "/v2/", User_Agent='x"\x7f')
    ask("GET", "/v2/a/tags/list?n=1")
    first, second = (json.loads(line) for line in end(server).splitlines())
    assert (first["status"], first["user"], first["agent"]) == (200, "", 'x"\x7f')
    assert second["target"] == "/v2/a/tags/list?n=1" and second["status"] == 404 and second["time"].endswith("Z")


class Hook(BaseHTTPRequestHandler):
    taken: queue.SimpleQueue[Any]
    answers: list[int]

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.answers.pop() if self.answers else 200
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        if status == 200:
            for event in json.loads(data)["events"]:
                self.taken.put(event)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Any]:
    Hook.taken, Hook.answers = queue.SimpleQueue(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_webhooks(oci: Any, tmp_path: Path, hook: Any) -> None:
    Hook.answers = [503]  # the first is tried again
    server = start(oci, tmp_path, "--webhook", f"http://127.0.0.1:{hook.server_port}/x")
    ask = Client(server.host)
    image = ask.image("a/b", "1")
    ask("GET", "/v2/a/b/manifests/1")
    ask("HEAD", "/v2/a/b/manifests/1")
    ask("DELETE", f"/v2/a/b/manifests/{image['digest']}")
    end(server)  # what waits is sent before the end
    events = [Hook.taken.get() for _ in range(3)]
    assert [event["action"] for event in events] == ["push", "pull", "delete"] and Hook.taken.empty()
    target = {**image, "repository": "a/b", "url": f"{server.url}/v2/a/b/manifests/{image['digest']}"}
    assert events[0]["target"] == {**target, "tag": "1"} == events[1]["target"] and events[2]["target"] == target
    assert events[0]["request"]["method"] == "PUT" and events[0]["request"]["addr"] == "127.0.0.1"


def test_nobody_at_a_webhook_is_said_and_harms_nothing(oci: Any, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        server = start(oci, tmp_path, "--webhook", f"http://127.0.0.1:{nobody.getsockname()[1]}/")
        Client(server.host).image("a", "1")
        assert "cannot " in server.process.stderr.readline()
        end(server)
    assert "not an http or https URL" in oci("registry", "serve", "--webhook", "ftp://x", tmp_path / "y", code=1).stderr


def test_sockets_that_systemd_passes_on(oci: Any, tmp_path: Path) -> None:
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(tmp_path / "notify"))
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two, notified:
        script = f'exec 3<&{one.fileno()} 4<&{two.fileno()}; LISTEN_PID=$$ LISTEN_FDS=2 exec "$@"'
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", Path(oci.bin) / "oci-registry", "serve", tmp_path / "store"],
            env={**oci.env, "NOTIFY_SOCKET": str(tmp_path / "notify")}, pass_fds=[one.fileno(), two.fileno()],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert notified.recv(100) == b"READY=1"
        for sock in (one, two):
            assert process.stdout and process.stdout.readline() == f"http://127.0.0.1:{sock.getsockname()[1]}\n"
            assert Client(f"127.0.0.1:{sock.getsockname()[1]}")("GET", "/v2/").status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
        process.stdout.close()


def test_a_request_is_finished_before_the_end(oci: Any, tmp_path: Path) -> None:
    server = start(oci, tmp_path)
    data = os.urandom(1000)
    host, _, port = server.host.partition(":")
    with socket.create_connection((host, int(port))) as sock:
        path = f"/v2/a/blobs/uploads/?digest={digest(data)}"
        sock.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n".encode())
        assert b"100 Continue" in sock.recv(1000)  # it reads the body now
        server.process.terminate()
        sock.sendall(data)
        assert b"201 Created" in sock.recv(1000)
    assert server.process.wait() == 0
    assert (tmp_path / "store/a/blobs/sha256" / digest(data)[7:]).read_bytes() == data


def test_a_client_that_asks_too_much(oci: Any, tmp_path: Path) -> None:
    server = start(oci, tmp_path, "--rate", "2", "--metrics")
    client = Client(server.host)
    answers = [client("GET", "/v2/") for _ in range(40)]
    assert [one.status for one in answers[:20]] == [200] * 20
    refused = [one for one in answers if one.status == 429]
    assert len(refused) >= 10 and refused[0].code == "TOOMANYREQUESTS" and refused[0].headers["Retry-After"] == "1"
    assert client("GET", "/health").status == client("GET", "/metrics").status == 200
    oci("pull", f"{server.host}/none:1", "./img", code=1)  # ours waits as it is told


@pytest.mark.root
def test_a_disk_that_is_read_only(oci: Any, tmp_path: Path) -> None:
    """Pulls go on; pushes are refused for good, without our paths, which are said here."""
    (tmp_path / "img").mkdir()
    image = Layout(tmp_path / "img/l").image("v1", b"layer")
    oci("image", "copy", "./img/l:v1", "./store/a:v1")
    line = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$0" serve "$1"'
    server = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", line, str(oci.bin / "oci-registry"), str(tmp_path / "store")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=oci.env,
    )  # fmt: skip
    try:
        assert server.stdout is not None and server.stderr is not None
        host = server.stdout.readline().strip().partition("://")[2]
        assert image["digest"] in oci("pull", f"{host}/a:v1", "./out").stdout
        said = oci("push", "./out:v1", f"{host}/a:v2", code=1).stderr
        assert "answers 405" in said and "read-only file system" in said and str(tmp_path) not in said
        assert str(tmp_path / "store/a") in server.stderr.readline()
        assert Client(host)("GET", "/health").status == 503
    finally:
        server.terminate()
        server.communicate()


def test_no_more_repositories(oci: Any, tmp_path: Path) -> None:
    server = start(oci, tmp_path, "--max-repositories", "2")
    client = Client(server.host)
    for name in ("a", "team/b", "a"):
        client.image(name, "1")
    answer = client("POST", "/v2/c/blobs/uploads/", b"")
    assert answer.status == 403 and answer.code == "DENIED" and sorted(os.listdir(server.dir)) == ["a", "team"]
    assert client("POST", "/v2/C/blobs/uploads/", b"").code == "NAME_INVALID"
    oci("registry", "rm", server.dir, "a")
    client.image("c", "1")
