"""attach/ws: with PyPI's websocket-client, and with frames that nobody should send (RFC 6455)."""

from __future__ import annotations

import base64
import select
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.daemon import Engine

websocket = pytest.importorskip("websocket")
pytestmark = [pytest.mark.root, pytest.mark.needs("docker")]
FIN = 0x80
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
ALL = "stream=1&stdin=1&stdout=1&stderr=1"


@pytest.fixture
def cat(engine: Engine) -> str:
    """A container that says what it hears."""
    return engine.out("run", "-d", "-i", "--network", "none", "bb", "cat")


def client(engine: Engine, container: str, query: str = ALL, version: str = "") -> Any:
    made = websocket.WebSocket()
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(engine.path)
    made.connect(f"ws://localhost{version}/containers/{container}/attach/ws?{query}", socket=sock)
    return made


def told(ws: Any, size: int) -> bytes:
    found = b""
    while len(found) < size:
        opcode, data = ws.recv_data()
        assert opcode == BINARY
        found += data
    return found


def test_output_and_input(engine: Engine, cat: str) -> None:
    ws = client(engine, cat)
    ws.send("hello\n")
    assert told(ws, 6) == b"hello\n"
    ws.send_binary(bytes(range(256)) * 1000 + b"\n")  # a frame with 64 bits of length
    assert told(ws, 256001) == bytes(range(256)) * 1000 + b"\n"
    ws.close()
    assert engine.out("inspect", "-f", "{{.State.Running}}", cat) == "true"


def test_both_streams_as_they_are_and_the_end(engine: Engine) -> None:
    container = engine.out("create", "--network", "none", "bb", "sh", "-c", "echo out; sleep 0.1; echo err >&2")
    ws = client(engine, container)
    engine.docker("start", container)
    assert told(ws, 8) == b"out\nerr\n"
    opcode, data = ws.recv_data()
    assert (opcode, data) == (CLOSE, struct.pack(">H", 1000))
    ws = client(engine, container, "logs=1&stdout=1")
    assert told(ws, 4) == b"out\n"
    assert ws.recv_data()[0] == CLOSE


def test_a_terminal_and_the_keys_that_detach(engine: Engine) -> None:
    container = engine.out("run", "-d", "-i", "-t", "--network", "none", "bb", "cat")
    ws = client(engine, container, f"{ALL}&detachKeys=ctrl-a,d")
    ws.send("x\n")
    assert told(ws, 6) == b"x\r\nx\r\n"
    ws.send(b"\x01d")
    assert ws.recv_data()[0] == CLOSE
    assert engine.out("inspect", "-f", "{{.State.Running}}", container) == "true"


def test_text_for_who_is_old(engine: Engine, cat: str) -> None:
    ws = client(engine, cat, version="/v1.27")
    ws.send("old\n")
    assert ws.recv_data()[0] == TEXT


def test_dockers_python_client(engine: Engine, cat: str) -> None:
    """`attach_socket(ws=True)` wants TCP."""
    docker = pytest.importorskip("docker")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    # A port in this network namespace for the socket in the other.
    relaying = threading.Thread(target=relay, args=(listener, engine.path))
    relaying.start()
    api = docker.APIClient(base_url=f"tcp://127.0.0.1:{port}", version="1.45")
    ws = api.attach_socket(cat, {"stdin": 1, "stdout": 1, "stream": 1}, ws=True)
    ws.send("from python\n")
    assert told(ws, 12) == b"from python\n"
    ws.close()
    api.close()
    relaying.join()


def relay(listener: socket.socket, path: str) -> None:
    near, _ = listener.accept()
    far = socket.socket(socket.AF_UNIX)
    far.connect(path)
    other = {near: far, far: near}
    while True:
        for ready in select.select([near, far], [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            other[ready].sendall(data)


# -- what is refused -----------------------------------------------------------------------------------


class Raw:
    """A client that sends what it likes."""

    def __init__(self, engine: Engine, container: str, **headers: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(engine.path)
        said = {
            "Host": "h", "Connection": "keep-alive, Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }  # fmt: skip
        lines = [f"GET /containers/{container}/attach/ws?{ALL} HTTP/1.1", *(f"{n}: {v}" for n, v in said.items() if v)]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())
        self.file = self.sock.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(": ")
            self.headers[name.lower()] = value

    def frame(self, first: int, payload: bytes = b"", mask: bytes = b"\1\2\3\4", length: bytes = b"") -> None:
        size = len(payload)
        said = length or (bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size))
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if mask else payload
        self.sock.sendall(bytes([first, said[0] | (0x80 if mask else 0)]) + said[1:] + mask + masked)

    def received(self) -> tuple[int, bytes]:
        first, size = self.file.read(2)
        return first & 15, self.file.read(size)

    def told(self, size: int) -> bytes:
        """What the container says, in however many frames."""
        found = b""
        while len(found) < size:
            opcode, data = self.received()
            assert opcode == BINARY
            found += data
        return found

    def closed(self) -> int:
        """The code with which the server ends, after which there is nothing."""
        opcode, data = self.received()
        assert opcode == CLOSE and self.file.read() == b""
        return int(struct.unpack(">H", data)[0])


@pytest.fixture
def raw(engine: Engine, cat: str) -> Iterator[Raw]:
    made = Raw(engine, cat)
    assert made.status == 101
    yield made
    made.sock.close()
    assert engine.out("inspect", "-f", "{{.State.Running}}", cat) == "true"


def test_the_answer_to_the_key_of_the_specification(engine: Engine, cat: str) -> None:
    made = Raw(engine, cat, Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==")
    assert (made.status, made.headers["sec-websocket-accept"]) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    assert (made.headers["upgrade"], made.headers["connection"]) == ("websocket", "Upgrade")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upgrade": "tcp"}, 400),
        ({"Upgrade": ""}, 400),
        ({"Connection": "close"}, 400),
        ({"Sec_WebSocket_Version": "8"}, 400),
        ({"Sec_WebSocket_Version": ""}, 400),
        ({"Sec_WebSocket_Key": ""}, 400),
        ({"Sec_WebSocket_Key": "c2hvcnQ="}, 400),
        ({"Sec_WebSocket_Key": "no base 64 at all!!"}, 400),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "http://h"}, 101),
    ],
)
def test_handshakes(engine: Engine, cat: str, headers: dict[str, str], status: int) -> None:
    assert Raw(engine, cat, **headers).status == status


def test_what_cannot_be_attached_to(engine: Engine, cat: str) -> None:
    assert Raw(engine, "missing").status == 404
    engine.docker("pause", cat)
    assert Raw(engine, cat).status == 409


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([(FIN | BINARY, b"x", b"")], 1002),  # not masked
        ([(FIN | 0x40 | BINARY, b"x")], 1002),  # a bit of an extension
        ([(FIN | 3, b"x")], 1002),
        ([(FIN | 11, b"x")], 1002),
        ([(PING, b"x")], 1002),  # control frames are not cut
        ([(FIN | PING, b"x" * 126)], 1002),
        ([(FIN | CONTINUATION, b"x")], 1002),  # of nothing
        ([(BINARY, b""), (FIN | BINARY, b"")], 1002),  # a message in another
        ([(FIN | BINARY, b"", b"\0\0\0\0", b"\x7f" + b"\xff" * 8)], 1002),
        ([(FIN | CLOSE, b"\3")], 1002),
        ([(FIN | CLOSE, struct.pack(">H", 1005))], 1002),  # a code that is never sent
        ([(FIN | CLOSE, struct.pack(">H", 1000) + b"\xff")], 1007),
        ([(FIN | TEXT, b"\xff")], 1007),
        ([(FIN | TEXT, "ä".encode()[:1])], 1007),  # half a letter
        ([(FIN | CLOSE, b"")], 1000),
        ([(FIN | CLOSE, struct.pack(">H", 3999) + b"why")], 3999),
    ],
)
def test_frames_that_end_it(raw: Raw, frames: list[tuple[Any, ...]], code: int) -> None:
    for each in frames:
        raw.frame(*each)
    assert raw.closed() == code


def test_messages_in_pieces_with_others_between(raw: Raw) -> None:
    half, rest = "ä\n".encode()[:1], "ä\n".encode()[1:]
    raw.frame(TEXT, half)
    raw.frame(FIN | PING, b"there?")
    heard = raw.received()
    early = b"" if heard[0] == PONG else heard[1]  # the container may be faster
    assert (raw.received() if early else heard) == (PONG, b"there?")
    raw.frame(FIN | PONG, b"unasked")
    raw.frame(CONTINUATION)
    raw.frame(FIN | CONTINUATION, rest)
    assert early + raw.told(3 - len(early)) == "ä\n".encode()


def test_byte_after_byte(raw: Raw) -> None:
    for byte in bytes([FIN | BINARY, 0x80 | 2, 1, 2, 3, 4, ord("a") ^ 1, ord("\n") ^ 2]):
        raw.sock.sendall(bytes([byte]))
    assert raw.told(2) == b"a\n"


def test_a_frame_may_be_longer_than_anything(engine: Engine, raw: Raw) -> None:
    """Its payload goes on as it comes: nobody waits for the rest."""
    raw.frame(FIN | BINARY, b"begin\n", b"\0\0\0\0", b"\x7f" + struct.pack(">Q", (1 << 63) - 1))
    assert raw.told(6) == b"begin\n"
