"""Registries behind an HTTP proxy, as the environment names it: HTTPS_PROXY, HTTP_PROXY, NO_PROXY."""

from __future__ import annotations

import base64
import http.client
import json
import select
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import Fake

NAME = "registry.test"  # which nobody but the proxy knows


class Proxy(socketserver.ThreadingTCPServer):
    """Tunnels by CONNECT, and forwards requests for http: whatever the name, to one place."""

    daemon_threads = True

    def __init__(self, place: str) -> None:
        super().__init__(("127.0.0.1", 0), Tunnel)
        host, _, port = place.partition(":")
        self.place = host, int(port)
        self.refuses = False
        self.heads: list[list[str]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Tunnel(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Proxy)
        head = [line.decode().rstrip("\r\n") for line in iter(self.rfile.readline, b"\r\n") if line]
        self.server.heads.append(head)
        if self.server.refuses:
            self.wfile.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection(self.server.place) as there:
            if not head[0].startswith("CONNECT "):
                return self.forward(head)
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            pair = {self.connection: there, there: self.connection}
            while True:
                for one in select.select(list(pair), [], [])[0]:
                    data = one.recv(1 << 16)
                    if not data:
                        return
                    pair[one].sendall(data)

    def forward(self, head: list[str]) -> None:
        """One request for http, and its answer."""
        assert isinstance(self.server, Proxy)
        method, url, _ = head[0].split(" ")
        kept = [line.partition(": ") for line in head[1:] if not line.lower().startswith(("proxy-", "connection:"))]
        there = http.client.HTTPConnection(*self.server.place)
        there.request(method, f"/{url.split('/', 3)[3]}", headers={name: value for name, _, value in kept})
        answer = there.getresponse()
        lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in answer.getheaders())]
        self.wfile.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + answer.read())
        there.close()


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Path, Path]:
    key, cert = tmp_path / "proxied.key", tmp_path / "ca.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
         "-out", cert, "-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.fixture(params=["https", "http"])
def behind(request: Any, oci: Any, tls: tuple[Path, Path], tmp_path: Path) -> Iterator[tuple[Fake, Proxy]]:
    """A registry with one image that is reached by a proxy."""
    with Fake(tls if request.param == "https" else None) as fake, Proxy(fake.host) as proxy:
        fake.image("app", "v1", [b"layer"])
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01}).start()
        place = tmp_path / f"home/.config/containers/certs.d/{NAME}"
        place.mkdir(parents=True)
        (place / "ca.crt").write_bytes(tls[0].read_bytes())
        conf = tmp_path / "registries.conf"
        conf.write_text(f'[[registry]]\nlocation = "{NAME}"\ninsecure = {str(request.param == "http").lower()}\n')
        oci.env["CONTAINERS_REGISTRIES_CONF"] = str(conf)
        yield fake, proxy
        proxy.shutdown()


@pytest.mark.parametrize("case", ["upper", "lower"])
def test_a_registry_behind_a_proxy(oci: Any, behind: tuple[Fake, Proxy], tmp_path: Path, case: str) -> None:
    fake, proxy = behind
    names = ["HTTPS_PROXY", "HTTP_PROXY"]
    url = proxy.url.replace("http://", "http://who:sec%40ret@")
    oci.env.update({name if case == "upper" else name.lower(): url for name in names})
    auth = {"auths": {NAME: {"auth": base64.b64encode(b"me:mine").decode()}}}
    (tmp_path / "auth.json").write_text(json.dumps(auth))
    oci("pull", "--authfile", tmp_path / "auth.json", f"{NAME}/app:v1", "./img")
    said = [line for head in proxy.heads for line in head]
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'who:sec@ret').decode()}" in said
    if fake.tls:
        assert proxy.heads[0][0].startswith(f"CONNECT {NAME}:443 ")
    assert not any("proxy-authorization" in map(str.lower, asked.headers) for asked in fake.asked)


def test_no_proxy(oci: Any, behind: tuple[Fake, Proxy]) -> None:
    _, proxy = behind
    oci.env.update({"HTTPS_PROXY": proxy.url, "HTTP_PROXY": proxy.url, "NO_PROXY": "other.test,.test"})
    done = oci("pull", f"{NAME}/app:v1", "./img", code=75)  # nobody knows that name
    assert NAME in done.stderr and done.stderr.count("\n") == 1 and not proxy.heads


def test_a_proxy_is_not_asked_for_this_host(oci: Any) -> None:
    with Fake() as fake:
        fake.image("app", "v1", [b"layer"])
        oci.env.update({"HTTPS_PROXY": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"})
        oci("pull", f"{fake.host}/app:v1", "./img")


def test_a_proxy_that_lets_nobody_through(oci: Any, behind: tuple[Fake, Proxy]) -> None:
    fake, proxy = behind
    proxy.refuses = True
    oci.env.update({"HTTPS_PROXY": proxy.url, "HTTP_PROXY": proxy.url})
    done = oci("pull", f"{NAME}/app:v1", "./img", code=None)
    assert done.returncode in (1, 75) and "407" in done.stderr and done.stderr.count("\n") == 1


def test_a_proxy_that_is_not_there(oci: Any) -> None:
    oci.env["HTTPS_PROXY"] = "http://127.0.0.1:1"
    done = oci("pull", f"{NAME}/app:v1", "./img", code=75)
    assert "proxy" in done.stderr.lower() and done.stderr.count("\n") == 1
