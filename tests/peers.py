"""Registries for the tests: Debian's docker-registry, and one that misbehaves on command.

    with Docker(tmp_path) as peer:      peer.host is "127.0.0.1:PORT"
    with Fake() as fake:                answers what it is told to, remembers what it was asked
        fake.image("repo", "tag", [b"layer"])
        fake.on("GET", "/v2/repo/manifests/tag", Answer(429, {"Retry-After": "0"}), ...)

A peer is waited for by its listening socket or its log, never by the clock.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

OCI = "application/vnd.oci.image"
MANIFEST, INDEX = f"{OCI}.manifest.v1+json", f"{OCI}.index.v1+json"
CONFIG, LAYER = f"{OCI}.config.v1+json", f"{OCI}.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def descriptor(media_type: str, data: bytes, algorithm: str = "sha256", **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data, algorithm), "size": len(data), **more}


class Docker:
    """Debian's docker-registry (distribution 2.8) on a free loopback port."""

    def __init__(self, directory: Path, **sections: Any) -> None:
        self.directory = directory
        self.sections = sections

    def __enter__(self) -> Docker:
        self.directory.mkdir(parents=True, exist_ok=True)
        config = {
            "version": 0.1,
            "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.directory / "store")},
                "delete": {"enabled": True},
            },
            **self.sections,
            "http": {"addr": "127.0.0.1:0", **self.sections.get("http", {})},
        }
        path = self.directory / "config.yml"
        path.write_text(json.dumps(config))  # JSON is YAML
        self.process = subprocess.Popen(
            ["docker-registry", "serve", path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        self.host = ""
        for line in self.process.stderr:
            said = json.loads(line).get("msg", "") if line.startswith("{") else ""
            if said.startswith("listening on "):
                self.host = said.removeprefix("listening on ").partition(",")[0]
                break
        assert self.host, "docker-registry did not come up"
        self._drain = threading.Thread(target=self.process.stderr.read, daemon=True)
        self._drain.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


class Answer:
    """What to say to a request.

    cut    close the connection after this many bytes of the body
    wait   an event that the body's rest waits for, after `cut` bytes
    raw    bytes to send in place of an HTTP answer
    """

    def __init__(
        self,
        status: int = 200,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        *,
        cut: int | None = None,
        wait: threading.Event | None = None,
        ranges: bool = True,
        raw: bytes | None = None,
    ) -> None:
        self.status = status
        self.headers = headers or {}
        self.body = body
        self.cut = cut
        self.wait = wait
        self.ranges = ranges
        self.raw = raw


class Asked:
    """A request as it came."""

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


class Fake:
    """A registry that serves what it is given, and misbehaves as it is told."""

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.asked: list[Asked] = []
        self.guard: Callable[[Asked], Answer | None] = lambda asked: None  # looks at every request first
        self._answers: dict[tuple[str, str], list[Answer]] = {}
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

            def answer(self) -> None:
                fake._serve(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = answer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.tls = certificate is not None
        if certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http{'s' if certificate else ''}://{self.host}"
        self.on("GET", "/v2/", Answer())

    def __enter__(self) -> Fake:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def on(self, method: str, path: str, *answers: Answer) -> None:
        """Answer these, one after the other; the last one stays."""
        self._answers[method, path] = list(answers)

    def before(self, method: str, path: str, *answers: Answer) -> None:
        """Answer these first, then what was said before."""
        self._answers[method, path] = [*answers, *self._answers[method, path]]

    def seen(self, method: str, part: str = "") -> list[Asked]:
        return [one for one in self.asked if one.method == method and part in one.path]

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        asked = Asked(handler.command, handler.path, dict(handler.headers), handler.rfile.read(length))
        self.asked.append(asked)
        answer = self.guard(asked) or self._find(asked)
        if answer.raw is not None:
            handler.wfile.write(answer.raw)
            handler.close_connection = True
            return
        body, status, headers = answer.body, answer.status, dict(answer.headers)
        span = asked.headers.get("Range", "")
        if span and answer.ranges and status == 200:
            start, _, last = span.removeprefix("bytes=").partition("-")
            end = min(int(last) + 1, len(body)) if last else len(body)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
            body, status = body[int(start) : end], 206
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if asked.method == "HEAD":
            return
        if answer.cut is None:
            handler.wfile.write(body)
            handler.close_connection = "Content-Length" in headers or "Transfer-Encoding" in headers
            return
        handler.wfile.write(body[: answer.cut])
        if answer.wait:
            answer.wait.wait(60)
            handler.wfile.write(body[answer.cut :])
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    def _find(self, asked: Asked) -> Answer:
        path = asked.path.partition("?")[0]
        for key in ((asked.method, asked.path), (asked.method, path)):
            if key in self._answers:
                queue = self._answers[key]
                return queue.pop(0) if len(queue) > 1 else queue[0]
        error = {"errors": [{"code": "UNKNOWN", "message": "there is no such thing"}]}
        return Answer(404, {"Content-Type": "application/json"}, json.dumps(error).encode())

    # -- content ------------------------------------------------------------------------

    def blob(self, repository: str, data: bytes, algorithm: str = "sha256") -> str:
        path = f"/v2/{repository}/blobs/{digest(data, algorithm)}"
        self.on("GET", path, Answer(200, {}, data))
        self.on("HEAD", path, Answer(200, {}, data))
        return path

    def manifest(
        self,
        repository: str,
        reference: str,
        found: Any,
        media_type: str = MANIFEST,
        algorithm: str = "sha256",
    ) -> dict[str, Any]:
        """Serve a manifest by its digest, and by a tag; its descriptor."""
        data = found if isinstance(found, bytes) else json.dumps(found).encode()
        said = {"Content-Type": media_type, "Docker-Content-Digest": digest(data, algorithm)}
        for name in (reference, digest(data, algorithm)):
            if name:
                self.on("GET", f"/v2/{repository}/manifests/{name}", Answer(200, said, data))
                self.on("HEAD", f"/v2/{repository}/manifests/{name}", Answer(200, said, data))
        return descriptor(media_type, data, algorithm)

    def image(
        self, repository: str, tag: str, layers: list[bytes], media_type: str = MANIFEST, subject: Any = None,
        **platform: str,
    ) -> dict[str, Any]:  # fmt: skip
        """Serve an image; its descriptor."""
        diff_ids = [digest(layer) for layer in layers]
        config = {
            "os": "linux",
            "architecture": "amd64",
            **platform,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        data = json.dumps(config).encode()
        for blob in (data, *layers):
            self.blob(repository, blob)
        found = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": descriptor(CONFIG, data),
            "layers": [descriptor(LAYER, layer) for layer in layers],
            **({"subject": subject} if subject else {}),
        }
        made = self.manifest(repository, tag, found, media_type)
        return {**made, "platform": platform} if platform else made

    def index(
        self, repository: str, tag: str, manifests: list[dict[str, Any]], **more: Any
    ) -> dict[str, Any]:
        found = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, **more}
        return self.manifest(repository, tag, found, INDEX)


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and localhost, and its key."""
    key, cert = directory / "test.key", directory / "test.cert"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key
