"""The HTTP server: HTTP/1.1 (RFC 9112) by h11 over our own sockets.

It serves `oci-registry` and the Engine API of `ocid`; it knows neither.  A handler is a
function from a `Request` to a `Response`:

    server = Server(handler)
    url = server.listen("127.0.0.1:0")
    server.serve()                        # until stop(), which a signal handler may call

One thread runs a selector loop: it accepts, does TLS handshakes and collects request
heads, so that an idle or slow connection costs a descriptor and no thread.  A complete
head goes to a worker, one of a bounded number of threads; it reads the body and writes
the answer with plain blocking code and gives the connection back.  Bodies are streams
both ways; files go out by sendfile(2).  `Response(upgrade=...)` hands the bare socket
to the handler ("hijack", 101), which keeps its thread until it is done.

Limits are the constructor's arguments.  Not here: routes, authentication, HTTP/2.
"""

from __future__ import annotations

import os
import select
import selectors
import socket
import threading
import time
from collections import deque
from queue import SimpleQueue
from urllib.parse import parse_qsl, unquote

import h11

from oci_tools.errors import Error, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    Handler = Callable[["Request"], "Response"]

READ = 1 << 18  # bytes taken from a socket at once
HEAD_READ = 1 << 14  # the same of a head: h11 looks at its limit between two reads
DRAIN = 1 << 20  # bytes of an unread body that are skipped to keep a connection
TICK = 1.0  # seconds between looks at the deadlines
TLS_HELLO = 0x16  # the first byte of a client that speaks TLS to a plain port


class Gone(Error):
    """The client went away, or stopped talking, in the middle of a message."""


class File:
    """A body that is a range of an open file; the server closes it."""

    def __init__(self, fd: int, size: int, offset: int = 0) -> None:
        self.fd = fd
        self.size = size
        self.offset = offset

    def __len__(self) -> int:
        return self.size

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Response:
    """An answer.

    body     bytes; a File; an iterator of bytes, sent in chunks as they come
    upgrade  a function that takes a Hijacked connection once the head is written
    close    end the connection after this answer
    """

    def __init__(
        self,
        status: int = 200,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | File | Iterator[bytes] = b"",
        upgrade: Callable[[Hijacked], None] | None = None,
        close: bool = False,
    ) -> None:
        self.status = status
        self.headers = list(headers)
        self.body = body
        self.upgrade = upgrade
        self.close = close


class Hijacked:
    """A connection that is no longer HTTP: the socket, and what was read from it too early."""

    def __init__(self, sock: socket.socket, early: bytes) -> None:
        self.sock = sock
        self.early = early

    def read(self, size: int = READ) -> bytes:
        """Up to `size` bytes as soon as there are some; empty when the client has half-closed."""
        if self.early:
            data, self.early = self.early[:size], self.early[size:]
            return data
        return self.sock.recv(size)

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def half_close(self) -> None:
        """Say that nothing more will be written; reading goes on."""
        self.sock.shutdown(socket.SHUT_WR)


class Request:
    """What a client asks: its head, and its body as a stream read once."""

    def __init__(self, connection: _Connection, head: h11.Request) -> None:
        self._connection = connection
        self._head = head
        self._ended = False
        self.method = head.method.decode("ascii")
        self.target = head.target.decode("latin-1")
        path, _, query = self.target.partition("?")
        self.path = unquote(path)
        self.query_string = query
        self.version = head.http_version.decode("ascii")
        self.peer = connection.peer
        self.sock = connection.sock
        self.server = connection.server

    def header(self, name: str, default: str = "") -> str:
        """The value of a header, several joined with commas (RFC 9110, 5.3)."""
        wanted = name.lower().encode("ascii")
        found = [value for key, value in self._head.headers if key == wanted]
        return b", ".join(found).decode("latin-1") if found else default

    def query(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return next((value for key, value in self.queries() if key == name), default)

    def queries(self) -> list[tuple[str, str]]:
        return parse_qsl(self.query_string, keep_blank_values=True)

    @property
    def length(self) -> int | None:
        """The bytes of the body, where the client says so beforehand."""
        value = self.header("content-length")
        return int(value) if value else None  # h11 has checked that it is a number

    @property
    def has_body(self) -> bool:
        return bool(self.length) or bool(self.header("transfer-encoding"))

    def read(self) -> bytes:
        """The next piece of the body, as it comes; empty at its end."""
        data = b"" if self._ended else self._connection.body()
        self._ended = not data
        return data

    def read_all(self, limit: int) -> bytes | None:
        """The whole body; None if it has more than `limit` bytes."""
        if (self.length or 0) > limit:
            return None
        parts, size = [], 0
        while data := self.read():
            size += len(data)
            if size > limit:
                return None
            parts.append(data)
        return b"".join(parts)


class Server:
    """Listening sockets, their connections, and the threads that answer (see the module)."""

    def __init__(
        self,
        handler: Handler,
        *,
        threads: int = 64,
        connections: int = 1024,
        head_limit: int = 1 << 16,
        head_timeout: float = 30.0,
        idle_timeout: float = 120.0,
        body_timeout: float = 60.0,
        tls: ssl.SSLContext | None = None,
        log: Callable[[Request, int, int, float], None] | None = None,
        broken: Callable[[Request], None] | None = None,
    ) -> None:
        """threads: answers at the same time; connections: open at the same time, more wait
        in the kernel; timeouts in seconds; log: told request, status, bytes, seconds of
        every answer; broken: told, inside the except block, of an exception in the handler."""
        self.handler = handler
        self.threads = threads
        self.connections = connections
        self.head_limit = head_limit
        self.head_timeout = head_timeout
        self.idle_timeout = idle_timeout
        self.body_timeout = body_timeout
        self.tls = tls  # may be replaced while serving: new connections use the new one
        self.log = log
        self.broken = broken
        self.stopping = False
        self._grace = 0.0
        self._listeners: list[socket.socket] = []
        self._accepting = False
        self._selector = selectors.DefaultSelector()
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake_r, selectors.EVENT_READ)
        self._returned: deque[_Connection] = deque()  # from workers to the loop
        self._jobs: SimpleQueue[tuple[_Connection, h11.Request]] = SimpleQueue()
        self._lock = threading.Lock()
        self._workers = 0
        self._free = 0  # workers that wait for a job, less the jobs that wait
        self._open: set[_Connection] = set()

    # -- listening ---------------------------------------------------------------------

    def listen(self, address: str) -> str:
        """Listen on "HOST:PORT", "[::1]:PORT", "unix:PATH" or "fd:N"; the URL it has then."""
        try:
            sock = _listener(address)
        except (OSError, ValueError, OverflowError) as error:
            raise Error("cannot listen on", address, error) from None
        sock.setblocking(False)
        self._listeners.append(sock)
        if sock.family == socket.AF_UNIX:
            return f"unix://{sock.getsockname()}"
        host, port = sock.getsockname()[:2]
        return f"{'https' if self.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    def stop(self, grace: float = 10.0) -> None:
        """Finish what is being answered, at most `grace` seconds, and return from `serve`.

        Safe in a signal handler and from any thread.
        """
        if not self.stopping:
            self._grace = time.monotonic() + grace
            self.stopping = True
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_w, b"\0")
        except BlockingIOError:
            pass  # full: it will wake anyway

    # -- the loop ------------------------------------------------------------------------

    def serve(self) -> None:
        """Answer until stop() has been called and its grace is over or nothing is left to do."""
        look = time.monotonic() + TICK
        try:
            while not (self.stopping and self._stopped()):
                self._accept_or_not()
                for key, _ in self._selector.select(TICK):
                    if key.fd == self._wake_r:
                        self._take_back()
                    elif key.data is None:
                        self._accept(key.fileobj)
                    else:
                        self._advance(key.data)
                if time.monotonic() >= look:
                    look = time.monotonic() + TICK
                    self._expire()
        finally:
            self._close_all()

    def _stopped(self) -> bool:
        for sock in self._listeners:
            if self._accepting:
                self._selector.unregister(sock)
            sock.close()
        self._listeners, self._accepting = [], False
        for connection in [c for c in self._open if c.deadline]:
            connection.close()
        return not self._open or time.monotonic() > self._grace

    def _close_all(self) -> None:
        for connection in list(self._open):
            connection.abort()
        self._selector.close()

    def _accept_or_not(self) -> None:
        """Stop taking connections while there are too many: the kernel's queue holds them."""
        wanted = len(self._open) < self.connections
        if wanted != self._accepting:
            for sock in self._listeners:
                if wanted:
                    self._selector.register(sock, selectors.EVENT_READ)
                else:
                    self._selector.unregister(sock)
            self._accepting = wanted

    def _accept(self, listener: Any) -> None:
        try:
            sock, peer = listener.accept()
        except OSError:
            return  # it went away between, or descriptors ran out: the next one, later
        connection = _Connection(self, sock, peer)
        self._open.add(connection)
        self._watch(connection, self.head_timeout)

    def _watch(self, connection: _Connection, seconds: float) -> None:
        connection.deadline = time.monotonic() + seconds
        self._selector.register(connection.sock, selectors.EVENT_READ, connection)

    def _unwatch(self, connection: _Connection) -> None:
        if connection.deadline:
            connection.deadline = 0.0
            self._selector.unregister(connection.sock)

    def _advance(self, connection: _Connection) -> None:
        """Take what has come of a request's head; hand it to a worker when it is whole."""
        try:
            event = connection.head()
        except (OSError, ValueError):
            return connection.close()
        if event is h11.NEED_DATA:
            return
        self._unwatch(connection)
        if isinstance(event, h11.Request):
            self._submit(connection, event)
        else:
            connection.close()

    def _take_back(self) -> None:
        try:
            os.read(self._wake_r, 4096)
        except BlockingIOError:
            pass
        while self._returned:
            connection = self._returned.popleft()
            if connection.closed or self.stopping:
                connection.close()
            else:
                connection.sock.setblocking(False)
                self._watch(connection, self.idle_timeout)

    def _expire(self) -> None:
        now = time.monotonic()
        for connection in [c for c in self._open if c.deadline and c.deadline < now]:
            connection.close()

    # -- the workers ----------------------------------------------------------------------

    def _submit(self, connection: _Connection, head: h11.Request) -> None:
        with self._lock:
            self._free -= 1
            start = self._free < 0 and self._workers < self.threads
            self._workers += start
        self._jobs.put((connection, head))
        if start:
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._free += 1
            connection, head = self._jobs.get()
            connection.answer(head)
            self._returned.append(connection)
            self._wake()


class _Connection:
    """One client's socket with its h11 state; owned by the loop or by one worker at a time."""

    def __init__(self, server: Server, sock: socket.socket, peer: Any) -> None:
        self.server = server
        self.peer = peer[0] if isinstance(peer, tuple) else "unix"
        self.closed = False
        self.deadline = 0.0  # when the loop gives up; 0 while a worker has it
        self.began = False  # something of the next head has come
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.tls = server.tls is not None
        self.shaken = not self.tls
        if server.tls is not None:
            sock = server.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.sock = sock
        self.h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=server.head_limit)

    # -- in the loop ---------------------------------------------------------------------

    def head(self) -> Any:
        """What has come so far: NEED_DATA, an h11.Request, or anything else for "close"."""
        try:
            if not self.shaken:
                self.sock.do_handshake()  # type: ignore[attr-defined]
                self.shaken = True
            data = self.sock.recv(HEAD_READ)
            while self.tls and (more := self.sock.pending()):  # type: ignore[attr-defined]
                data += self.sock.recv(more)
        except OSError as error:
            if _would_block(error):
                return h11.NEED_DATA
            raise
        if not self.tls and not self.began and data[:1] and data[0] == TLS_HELLO:
            self._refuse(400, "this is a plain http port, and the client spoke tls")
            return None
        if data and not self.began:
            self.began = True
            self.deadline = time.monotonic() + self.server.head_timeout
        self.h11.receive_data(data)
        return self._next()

    def _next(self) -> Any:
        try:
            return self.h11.next_event()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, printable(str(error)))
            return None

    # -- in a worker -----------------------------------------------------------------------

    def answer(self, head: h11.Request) -> None:
        """Answer this request, and those that the client has sent behind it already."""
        self.sock.settimeout(self.server.body_timeout)
        request = Request(self, head)
        try:
            while self._answer(request):
                event = self._next()
                while event is h11.NEED_DATA and self.tls and self.sock.pending():  # type: ignore[attr-defined]
                    self.h11.receive_data(self.sock.recv(READ))  # decrypted already: no selector tells of it
                    event = self._next()
                if event is h11.NEED_DATA:
                    self.began = False
                    return
                if not isinstance(event, h11.Request):
                    break
                request = Request(self, event)
        except (OSError, Gone, h11.RemoteProtocolError):
            pass  # nobody is there to be told
        except Exception:  # a fault of the handler's that showed while its answer was sent
            if self.server.broken:
                self.server.broken(request)
        self.finish()

    def _answer(self, request: Request) -> bool:
        """Handle one request; whether the connection can be used for another."""
        start = time.monotonic()
        try:
            response = self.server.handler(request)
        except (Gone, ConnectionError, TimeoutError):
            return False
        except Exception:
            if self.server.broken:
                self.server.broken(request)
            response = Response(500, [("Content-Type", "text/plain")], b"internal error\n", close=True)
        sent = 0
        try:
            if response.upgrade:
                self._hijack(response)
                return False
            sent = self._send(request, response)
            return not self.server.stopping and not response.close and self._drain(request)
        finally:
            close = getattr(response.body, "close", None)
            if close:
                close()
            if self.server.log:
                self.server.log(request, response.status, sent, time.monotonic() - start)

    def body(self) -> bytes:
        """The next piece of the body that a worker asks for; empty at its end."""
        while True:
            try:
                if self.h11.they_are_waiting_for_100_continue:
                    go = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                    self.sock.sendall(self.h11.send(go) or b"")
                event = self.h11.next_event()
                if event is h11.NEED_DATA:
                    self.h11.receive_data(self.sock.recv(READ))
                elif isinstance(event, h11.Data):
                    if event.data:
                        return event.data
                else:
                    return b""
            except (OSError, h11.RemoteProtocolError) as error:
                raise Gone("cannot read request from", self.peer, error) from None

    def _send(self, request: Request, response: Response) -> int:
        """Write the answer; the bytes of its body."""
        body = response.body
        headers = [("Date", _date()), *response.headers]
        whole = isinstance(body, (bytes, File))
        bodiless = request.method == "HEAD" or response.status in (204, 304)
        given = any(name.lower() == "content-length" for name, _ in response.headers)
        if whole and response.status not in (204, 304) and not given:
            headers.append(("Content-Length", str(len(body))))  # type: ignore[arg-type]
        if response.close or self.server.stopping:
            headers.append(("Connection", "close"))
        event = h11.Response(status_code=response.status, headers=headers, reason=_reason(response.status))
        head = self.h11.send(event) or b""
        if bodiless:
            self.sock.sendall(head + (self.h11.send(h11.EndOfMessage()) or b""))
            return 0
        if isinstance(body, bytes):
            data = self.h11.send(h11.Data(data=body)) or b""
            self.sock.sendall(head + data + (self.h11.send(h11.EndOfMessage()) or b""))
            return len(body)
        if isinstance(body, File):
            return self._send_file(head, body)
        return self._send_pieces(head, body)

    def _send_pieces(self, head: bytes, pieces: Iterator[bytes]) -> int:
        self.sock.sendall(head)
        sent = 0
        for piece in pieces:
            if piece:
                self.sock.sendall(self.h11.send(h11.Data(data=piece)) or b"")
                sent += len(piece)
        self.sock.sendall(self.h11.send(h11.EndOfMessage()) or b"")
        return sent

    def _send_file(self, head: bytes, body: File) -> int:
        """The head and a file's range; h11 counts the range without seeing it."""
        self.h11.send_with_data_passthrough(h11.Data(data=body))  # type: ignore[arg-type]
        at, end = body.offset, body.offset + body.size
        if self.tls:
            self.sock.sendall(head)
            while at < end and (data := os.pread(body.fd, min(READ, end - at), at)):
                self.sock.sendall(data)
                at += len(data)
        else:
            # MSG_MORE: the head waits for the body's first bytes and shares their packet
            _send_all(self.sock, head, socket.MSG_MORE if body.size else 0)
            at = self._sendfile(body.fd, at, end)
        if at < end:
            raise Gone("cannot send file to", self.peer, "the file is shorter than it was")
        self.h11.send(h11.EndOfMessage())
        return body.size

    def _sendfile(self, fd: int, at: int, end: int) -> int:
        out = self.sock.fileno()
        ready = select.poll()
        ready.register(out, select.POLLOUT)
        while at < end:
            try:
                count = os.sendfile(out, fd, at, end - at)
            except BlockingIOError:  # a socket with a timeout does not block by itself
                if not ready.poll(self.server.body_timeout * 1000):
                    raise Gone("cannot send file to", self.peer, "it takes nothing") from None
                continue
            if not count:
                break
            at += count
        return at

    def _hijack(self, response: Response) -> None:
        lines = [f"HTTP/1.1 {response.status} {_reason(response.status).decode()}"]
        lines += [f"{name}: {value}" for name, value in response.headers]
        if any("\r" in line or "\n" in line for line in lines):
            raise h11.LocalProtocolError("newline in a header")
        early = self.h11.trailing_data[0]
        self.sock.settimeout(None)
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        assert response.upgrade is not None
        response.upgrade(Hijacked(self.sock, early))

    def _drain(self, request: Request) -> bool:
        """Skip what is left of the body and begin anew; False if that is not worth it."""
        if self.h11.they_are_waiting_for_100_continue:
            return False
        left = DRAIN
        while self.h11.their_state is h11.SEND_BODY:
            left -= len(self.body())
            if left < 0:
                return False
        if self.h11.our_state is not h11.DONE or self.h11.their_state is not h11.DONE:
            return False
        self.h11.start_next_cycle()
        return True

    # -- the end -------------------------------------------------------------------------

    def _refuse(self, status: int, text: str) -> None:
        """Answer something that is not HTTP, or too large, as well as one can."""
        body = text.encode() + b"\n"
        head = (
            f"HTTP/1.1 {status} {_reason(status).decode()}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        try:
            self.sock.send(head.encode("latin-1") + body)
        except OSError:
            pass
        self.finish()

    def finish(self) -> None:
        """Say that nothing follows and take what is still coming, for a moment.

        close(2) with unread bytes makes the kernel send a reset, which can overtake the
        answer: the client would see no 413, only a broken connection (RFC 9112, 9.6).
        """
        try:
            self.sock.shutdown(socket.SHUT_WR)
            self.sock.settimeout(0.2 if self.deadline == 0.0 else 0.0)
            for _ in range(64):
                if not self.sock.recv(READ):
                    break
        except (OSError, ValueError):
            pass
        self.closed = True

    def close(self) -> None:
        """Let go of the socket; called by the loop only."""
        self.server._unwatch(self)
        self.server._open.discard(self)
        self.closed = True
        self.sock.close()

    def abort(self) -> None:
        """Wake a worker that still blocks on this socket: the server ends."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _listener(address: str) -> socket.socket:
    kind, _, rest = address.partition(":")
    if kind == "fd":
        return socket.socket(fileno=int(rest))
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(rest)
    else:
        host, _, port = address.rpartition(":")
        if not port.isdecimal():
            raise ValueError("not HOST:PORT")
        host = host.strip("[]")
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
    sock.listen(256)
    return sock


def _would_block(error: OSError) -> bool:
    """Whether a non-blocking socket, TLS or not, just has nothing yet."""
    return isinstance(error, BlockingIOError) or type(error).__name__ in (
        "SSLWantReadError",
        "SSLWantWriteError",
    )


def _send_all(sock: socket.socket, data: bytes, flags: int) -> None:
    view = memoryview(data)
    while view:
        view = view[sock.send(view, flags) :]


def _reason(status: int) -> bytes:
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _date() -> str:
    """Now, as RFC 9110 5.6.7 writes it, whatever the locale."""
    t = time.gmtime()
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
        f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT"
    )
