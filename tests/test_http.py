"""The HTTP server: RFC 9112 by h11 over our own sockets."""

from __future__ import annotations

import gc
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oci_tools import http
from oci_tools.errors import Error


class Running:
    """A server on a loopback port, in threads of the test's process."""

    def __init__(self, handler: http.Handler, **options: object) -> None:
        self.broken: list[str] = []
        self.log: list[tuple[str, int, int]] = []
        self.server = http.Server(
            handler,
            broken=lambda request: self.broken.append(str(request)),
            log=lambda request, status, size, seconds: self.log.append((request.target, status, size)),
            **options,  # type: ignore[arg-type]
        )
        self.url = self.server.listen("127.0.0.1:0")
        self.port = int(self.url.rsplit(":", 1)[1])
        self.thread = threading.Thread(target=self.server.serve)
        self.thread.start()

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.settimeout(20)
        return sock

    def talk(self, *said: bytes, half_close: bool = True) -> bytes:
        """Everything that is answered to these bytes until the server closes."""
        with self.connect() as sock:
            for data in said:
                sock.sendall(data)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            return rest(sock)


def rest(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def start(handler: http.Handler, **options: object) -> Running:
        running.append(Running(handler, **options))
        return running[-1]

    yield start
    for one in running:
        one.server.stop(grace=0.0)
        one.thread.join()


def echo(request: http.Request) -> http.Response:
    body = request.read_all(1 << 20)
    if body is None:
        return http.Response(413, body=b"too large\n")
    return http.Response(200, [("X-Path", request.path), ("X-Query", request.query("q", "none"))], body)


GET = b"GET /a%20b?q=1%2F2 HTTP/1.1\r\nHost: x\r\n\r\n"


def test_answers_with_the_decoded_path_and_query(serve: Callable[..., Running]) -> None:
    said = serve(echo).talk(GET)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"x-path: a b" in head.lower().replace(b"x-path: /a b", b"x-path: a b")
    assert b"1/2" in head
    assert body == b""


def test_keeps_the_connection_and_takes_pipelined_requests(serve: Callable[..., Running]) -> None:
    one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    said = serve(echo).talk(one + one, one)
    assert said.count(b"HTTP/1.1 200") == 3
    assert said.count(b"\r\n\r\nabc") == 3


def test_reads_a_chunked_body(serve: Callable[..., Running]) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    said = serve(echo).talk(head, b"3\r\nabc\r\n", b"4\r\ndefg\r\n0\r\n\r\n")
    assert said.endswith(b"\r\n\r\nabcdefg")


def test_invites_a_client_that_waits_for_100(serve: Callable[..., Running]) -> None:
    running = serve(echo)
    with running.connect() as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 100")
        sock.sendall(b"ok")
        sock.shutdown(socket.SHUT_WR)
        assert rest(sock).endswith(b"ok")


def test_streams_pieces_in_chunks_as_they_come(serve: Callable[..., Running]) -> None:
    go = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"first"
        assert go.wait(20)
        yield b"second"

    running = serve(lambda request: http.Response(200, body=pieces()))
    with running.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        seen = b""
        while b"first" not in seen:
            seen += sock.recv(1000)
        assert b"second" not in seen
        go.set()
        sock.shutdown(socket.SHUT_WR)
        assert rest(sock).endswith(b"6\r\nsecond\r\n0\r\n\r\n")


def file_handler(path: Path, offset: int = 0, short: int = 0) -> http.Handler:
    def handle(request: http.Request) -> http.Response:
        fd = os.open(path, os.O_RDONLY)
        return http.Response(200, body=http.File(fd, path.stat().st_size - offset + short, offset))

    return handle


def test_sends_a_file(serve: Callable[..., Running], tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(os.urandom(3_000_000))
    said = serve(file_handler(path)).talk(GET)
    assert said.partition(b"\r\n\r\n")[2] == path.read_bytes()
    assert b"3000000" in said[:300]


def test_sends_a_range_of_a_file_and_nothing_for_head(serve: Callable[..., Running], tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"0123456789")
    running = serve(file_handler(path, offset=4))
    assert running.talk(GET).endswith(b"\r\n\r\n456789")
    head = running.talk(GET.replace(b"GET", b"HEAD"))
    assert head.endswith(b"\r\n\r\n") and b"content-length: 6" in head.lower()


def test_a_file_that_shrank_ends_the_connection(serve: Callable[..., Running], tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"0123456789")
    said = serve(file_handler(path, short=5)).talk(GET + GET)
    assert said.count(b"HTTP/1.1") == 1


def test_hijack_hands_over_the_socket_with_half_close(serve: Callable[..., Running]) -> None:
    def run(stream: http.Hijacked) -> None:
        seen = b""
        while data := stream.read():
            seen += data
        stream.write(seen[::-1])

    def handle(request: http.Request) -> http.Response:
        return http.Response(101, [("Upgrade", "tcp"), ("Connection", "Upgrade")], upgrade=run)

    said = serve(handle).talk(
        b"POST /attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly", b" late"
    )
    assert (
        said == b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\netal ylrae"
    )


def test_half_closed_clients_still_get_their_answer(serve: Callable[..., Running]) -> None:
    assert b"200 OK" in serve(echo).talk(b"GET / HTTP/1.0\r\n\r\n")


def test_an_unread_body_is_skipped(serve: Callable[..., Running]) -> None:
    one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300000
    said = serve(lambda request: http.Response(404, body=b"no")).talk(one + GET)
    assert said.count(b"HTTP/1.1 404") == 2


def test_a_large_unread_body_ends_the_connection_but_the_answer_arrives(
    serve: Callable[..., Running],
) -> None:
    size = 5 << 20
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    said = serve(lambda request: http.Response(413, body=b"no")).talk(head + b"x" * size + GET)
    assert said.count(b"HTTP/1.1 413") == 1 and said.endswith(b"no")


@pytest.mark.parametrize(
    "said, status",
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 400),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 30_000 + b"\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # tls
    ],
)
def test_what_is_not_http_is_refused(serve: Callable[..., Running], said: bytes, status: int) -> None:
    assert serve(echo).talk(said).startswith(b"HTTP/1.1 %d " % status)


def test_a_fault_in_the_handler_is_a_500_and_is_told(serve: Callable[..., Running]) -> None:
    def handle(request: http.Request) -> http.Response:
        raise ZeroDivisionError

    running = serve(handle)
    assert b"500 Internal Server Error" in running.talk(GET)
    assert len(running.broken) == 1 and running.log == [("/a%20b?q=1%2F2", 500, 15)]


def test_a_header_with_a_newline_never_leaves(serve: Callable[..., Running]) -> None:
    running = serve(lambda request: http.Response(200, [("X", "a\r\nSet-Cookie: b")]))
    assert b"Set-Cookie" not in running.talk(GET)
    assert running.broken


def test_more_connections_than_threads_and_slots(serve: Callable[..., Running]) -> None:
    running = serve(echo, threads=2, connections=3)
    socks = [running.connect() for _ in range(12)]
    for sock in socks:
        sock.sendall(GET.replace(b"Host: x", b"Host: x\r\nConnection: close"))
    for sock in socks:
        assert b"200 OK" in rest(sock)
        sock.close()


def test_a_rush_leaves_no_threads_and_no_circle_behind(serve: Callable[..., Running]) -> None:
    """Neither workers for whom there is nothing to do, nor what only the collector would find."""
    running = serve(echo, threads=100)
    gc.collect()
    gc.disable()
    try:
        before = threading.active_count()
        socks = [running.connect() for _ in range(50)]
        for sock in socks:
            sock.sendall(GET)
        for sock in socks:
            assert b"200 OK" in sock.recv(1 << 16)
            sock.close()
        deadline = time.monotonic() + 20
        while (threading.active_count() > before + http.SPARE or running.server.open_connections()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() <= before + http.SPARE
        assert not running.server.open_connections()
        with_circles = [each for each in gc.get_objects() if type(each).__name__ in ("Connection", "Request") and type(each).__module__.startswith("oci_")]
        assert len(with_circles) < 20, with_circles  # those that each worker and the loop have looked at last, of 50
        assert b"200 OK" in running.talk(GET)
    finally:
        gc.enable()


def test_a_slow_head_costs_no_thread(serve: Callable[..., Running]) -> None:
    running = serve(echo, threads=1)
    slow = [running.connect() for _ in range(5)]
    for sock in slow:
        sock.sendall(b"GET / HTTP/1.1\r\nHo")
    assert b"200 OK" in running.talk(GET)
    for sock in slow:
        sock.sendall(b"st: x\r\nConnection: close\r\n\r\n")
        assert b"200 OK" in rest(sock)
        sock.close()


def test_a_head_that_never_ends_is_given_up(serve: Callable[..., Running]) -> None:
    running = serve(echo, head_timeout=0.0)
    with running.connect() as sock:
        sock.sendall(b"GET / HT")
        assert rest(sock) == b""


def test_stop_finishes_what_is_being_answered(serve: Callable[..., Running]) -> None:
    arrived, go = threading.Event(), threading.Event()

    def handle(request: http.Request) -> http.Response:
        arrived.set()
        assert go.wait(20)
        return http.Response(200, body=b"done")

    running = serve(handle)
    with running.connect() as idle, running.connect() as sock:
        sock.sendall(GET)
        assert arrived.wait(20)
        running.server.stop(grace=20.0)
        assert rest(idle) == b""
        go.set()
        said = rest(sock)
        assert said.endswith(b"done") and b"connection: close" in said.lower()
    running.thread.join()


def test_stop_ends_what_does_not_finish(serve: Callable[..., Running]) -> None:
    arrived = threading.Event()

    def run(stream: http.Hijacked) -> None:
        arrived.set()
        stream.read()

    running = serve(lambda request: http.Response(101, upgrade=run))
    with running.connect() as sock:
        sock.sendall(GET)
        assert arrived.wait(20)
        running.server.stop(grace=0.0)
        assert b"101" in rest(sock)
    running.thread.join()


def test_listens_on_a_unix_socket(tmp_path: Path) -> None:
    server = http.Server(echo)
    assert server.listen(f"unix:{tmp_path}/s") == f"unix://{tmp_path}/s"
    thread = threading.Thread(target=server.serve)
    thread.start()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{tmp_path}/s")
        sock.sendall(GET)
        sock.shutdown(socket.SHUT_WR)
        assert b"200 OK" in rest(sock)
    server.stop()
    thread.join()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", "192.0.2.1:80", ""])
def test_an_address_that_cannot_be_had_is_an_error(address: str) -> None:
    with pytest.raises(Error, match="cannot listen on"):
        http.Server(echo).listen(address)


@pytest.mark.needs("openssl")
def test_tls(serve: Callable[..., Running], tmp_path: Path) -> None:
    key, cert = tmp_path / "key", tmp_path / "cert"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    path = tmp_path / "big"
    path.write_bytes(os.urandom(1_000_000))
    running = serve(file_handler(path), tls=context)
    assert running.url.startswith("https://")
    trusting = ssl.create_default_context(cafile=str(cert))
    with running.connect() as raw, trusting.wrap_socket(raw, server_hostname="127.0.0.1") as sock:
        sock.sendall(GET + GET.replace(b"Host", b"Connection: close\r\nHost"))
        said = rest(sock)
    assert said.count(path.read_bytes()) == 2
