"""An `ocid` for tests that talk to it, in a network namespace of its own.

    engine.docker(WORDS...)   Debian's docker CLI, exit code 0 demanded
    engine.request(...)       one HTTP request over the unix socket
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import images
from tests.conftest import BIN, PATH

IMAGE = "docker.io/library/bb:latest"


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Engine:
    """A daemon that speaks the Engine API on `path`."""

    def __init__(self, path: str, home: Path, process: subprocess.Popen[Any] | None = None) -> None:
        self.path = path
        self.oci_env: dict[str, str] = {}  # of our commands on its store
        self.home = home
        self.process = process
        self.env = {
            "PATH": PATH, "HOME": str(home), "DOCKER_HOST": f"unix://{path}", "DOCKER_CONFIG": f"{home}/.docker",
            "DOCKER_BUILDKIT": "0", "LANG": "C.UTF-8",
        }  # fmt: skip

    def docker(self, *words: Any, code: int | None = 0, env: dict[str, str] | None = None, **more: Any) -> Any:
        """The docker CLI to its end."""
        more = {"text": True, "capture_output": True, "stdin": None if "input" in more else subprocess.DEVNULL, **more}
        if "input" in more:
            del more["stdin"]
        done = subprocess.run(["docker", *map(str, words)], env={**self.env, **(env or {})}, **more)
        if code is not None:
            assert done.returncode == code, f"{words}: {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
        return done

    def out(self, *words: Any, **more: Any) -> str:
        return str(self.docker(*words, **more).stdout).strip()

    def connect(self) -> Connection:
        return Connection(self.path)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, code: int | None = None
    ) -> tuple[int, Any]:
        """One request: the status, and the document (or bytes) that is the answer."""
        connection = self.connect()
        said = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            said.setdefault("Content-Type", "application/json")
        connection.request(method, path, body, said)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        found: Any = data
        if answer.getheader("Content-Type", "").startswith("application/json") and data.strip():
            found = json.loads(data)
        if code is not None:
            assert answer.status == code, f"{method} {path}: {answer.status}, not {code}: {found}"
        return answer.status, found

    def popen(self, *words: Any, **more: Any) -> subprocess.Popen[Any]:
        return subprocess.Popen(["docker", *map(str, words)], env=self.env, **more)

    def clean(self) -> None:
        """No container outlives a test."""
        for container in self.out("ps", "-aq").split():
            self.docker("rm", "-fv", container, code=None)


def started(place: Path, *words: str, image: str | None = "busybox") -> Iterator[Engine]:
    """An `ocid` with the busybox image as `bb`; its network namespace is its own."""
    for name in "root", "run", "home":
        (place / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    store = place / "root/images"
    if image:
        store.mkdir(mode=0o700)
        images.add(store, IMAGE, images.image(image))
    sock = f"{place}/s"
    env = {"PATH": PATH, "HOME": f"{place}/home", "OCI_ROOT": f"{place}/root", "OCI_RUN": f"{place}/run", "LANG": "C.UTF-8"}
    argv = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "-", f"{BIN}/ocid", "--listen", f"unix://{sock}"]
    with open(place / "log", "wb") as log:
        process = subprocess.Popen([*argv, *words], stdout=subprocess.PIPE, stderr=log, env=env)
    assert process.stdout is not None
    assert process.stdout.readline(), (place / "log").read_text()
    engine = Engine(sock, place / "home", process)
    engine.oci_env = env
    try:
        yield engine
        engine.clean()
    finally:
        process.terminate()
        process.wait()
    said = (place / "log").read_text()
    assert "bug of ours" not in said, said
