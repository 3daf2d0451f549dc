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
import selectors
import socket
import threading
import time
from collections import deque
from queue import SimpleQueue

from oci_tools.errors import Error, Usage
from oci_tools.http.connection import Connection
from oci_tools.http.messages import File, Gone, Hijacked, Request, Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Any

    Handler = Callable[[Request], Response]

__all__ = ["File", "Gone", "Handler", "Hijacked", "Request", "Response", "Server"]

TICK = 1.0  # seconds between looks at the deadlines
SPARE = 8  # workers that stay when there is nothing to do


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
        tick: Callable[[], None] | None = None,
    ) -> None:
        """threads: answers at the same time; connections: open at the same time, more wait
        in the kernel; timeouts in seconds; log: told request, status, bytes, seconds of
        every answer; broken: told, inside the except block, of an exception in the handler;
        tick: called about once a second, between requests; it must be quick."""
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
        self.tick = tick
        self.stopping = False
        self._grace = 0.0
        self._listeners: list[socket.socket] = []
        self._accepting = False
        self._selector = selectors.DefaultSelector()
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake_r, selectors.EVENT_READ)
        self._returned: deque[Connection] = deque()  # from workers to the loop
        self._jobs: SimpleQueue[Connection] = SimpleQueue()
        self._lock = threading.Lock()
        self._workers = 0
        self._free = 0  # workers that wait for a job, less the jobs that wait
        self._open: set[Connection] = set()

    # -- listening ---------------------------------------------------------------------

    def listen(self, address: str) -> str:
        """Listen on "HOST:PORT", "[::1]:PORT", "unix:PATH" or "fd:N"; the URL it has then."""
        try:
            sock = _listener(address)
        except (ValueError, OverflowError) as error:
            raise Usage("cannot listen on", address, error) from None
        except OSError as error:
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

    def open_connections(self) -> int:
        return len(self._open)

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
                    if self.tick:
                        self.tick()
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
        connection = Connection(self, sock, peer)
        self._open.add(connection)
        self._watch(connection, self.head_timeout)

    def _watch(self, connection: Connection, seconds: float) -> None:
        connection.deadline = time.monotonic() + seconds
        self._selector.register(connection.sock, selectors.EVENT_READ, connection)

    def forget(self, connection: Connection) -> None:
        """A connection is being closed."""
        self._unwatch(connection)
        self._open.discard(connection)

    def _unwatch(self, connection: Connection) -> None:
        if connection.deadline:
            connection.deadline = 0.0
            self._selector.unregister(connection.sock)

    def _advance(self, connection: Connection) -> None:
        """Take what has come of a request's head; hand it to a worker when it is whole."""
        try:
            whole = connection.receive_head()
        except (OSError, ValueError):
            return connection.close()
        if whole is None:
            return
        self._unwatch(connection)
        if whole:
            self._submit(connection)
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

    def _submit(self, connection: Connection) -> None:
        with self._lock:
            self._free -= 1
            start = self._free < 0 and self._workers < self.threads
            self._workers += start
        self._jobs.put(connection)
        if start:
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while self._stays():
            connection = self._jobs.get()
            connection.answer()
            self._returned.append(connection)
            del connection  # the next may be long in coming
            self._wake()

    def _stays(self) -> bool:
        """Whether a worker that has nothing to do waits for more: a rush leaves no more of them than before."""
        with self._lock:
            if self._free >= SPARE:
                self._workers -= 1
                return False
            self._free += 1
            return True


def _listener(address: str) -> socket.socket:
    kind, _, rest = address.partition(":")
    if kind == "fd":
        if not rest.isdecimal():
            raise ValueError("not fd:N")
        return socket.socket(fileno=int(rest))
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(rest)
    else:
        host, _, port = address.rpartition(":")
        if not port.isdecimal() or int(port) > 0xFFFF:
            raise ValueError("not HOST:PORT")
        host = host.strip("[]")
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
    sock.listen(256)
    return sock
