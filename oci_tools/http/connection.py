"""One client's connection: HTTP/1.1's rules by h11, the bytes by our own socket.

It belongs to the server's loop while a request's head comes in, and to one worker while
that is answered; never to both.
"""

from __future__ import annotations

import os
import select
import socket
import time

import h11 as h11  # client.py speaks by it too

from oci_tools.errors import printable
from oci_tools.http.messages import READ, File, Gone, Hijacked, Request, Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.http import Server

HEAD_READ = 1 << 14  # bytes of a head taken at once: h11 looks at its limit between two reads
DRAIN = 1 << 20  # bytes of an unread body that are skipped to keep a connection
LINGER = 2.0  # seconds for which a body that nobody wants is taken at the end
TLS_HELLO = 0x16  # the first byte of a client that speaks TLS to a plain port


class Connection:
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
        self._head: h11.Request  # of what is to be answered; a Request knows us, and would be kept by us
        self.h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=server.head_limit)

    # -- in the loop ---------------------------------------------------------------------

    def receive_head(self) -> bool | None:
        """Take what has come: None until a request's head is whole, True then, False to close."""
        try:
            if not self.shaken:
                self.sock.do_handshake()  # type: ignore[attr-defined]
                self.shaken = True
            data = self.sock.recv(HEAD_READ)
            while self.tls and (more := self.sock.pending()):  # type: ignore[attr-defined]
                data += self.sock.recv(more)
        except OSError as error:
            if _would_block(error):
                return None
            raise
        if not self.tls and not self.began and data[:1] and data[0] == TLS_HELLO:
            self._refuse(400, "this is a plain http port, and the client spoke tls")
            return False
        if data and not self.began:
            self.began = True
            self.deadline = time.monotonic() + self.server.head_timeout
        self.h11.receive_data(data)
        return self._next()

    def _next(self) -> bool | None:
        """Whether what has come makes the head of the next request; None: not yet."""
        try:
            event = self.h11.next_event()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, printable(str(error)))
            return False
        if isinstance(event, h11.Request):
            self._head = event
            return True
        return None if event is h11.NEED_DATA else False

    # -- in a worker -----------------------------------------------------------------------

    def answer(self) -> None:
        """Answer the request whose head is whole, and those that the client has sent behind it already."""
        self.sock.settimeout(self.server.body_timeout)
        try:
            while self._answer(Request(self, self._head)):
                more = self._next()
                while more is None and self.tls and self.sock.pending():  # type: ignore[attr-defined]
                    self.h11.receive_data(self.sock.recv(READ))  # decrypted already: no selector tells of it
                    more = self._next()
                if more is None:
                    self.began = False
                    return
                if not more:
                    break
        except (OSError, Gone, h11.RemoteProtocolError):
            pass  # nobody is there to be told
        except Exception:  # a fault of the handler's that showed while its answer was sent
            if self.server.broken:
                self.server.broken(Request(self, self._head))
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
            end = time.monotonic() + LINGER
            while self.sock.recv(READ) and time.monotonic() < end:
                pass
        except (OSError, ValueError):
            pass
        self.closed = True

    def close(self) -> None:
        """Let go of the socket; called by the loop only."""
        self.server.forget(self)
        self.closed = True
        self.sock.close()

    def abort(self) -> None:
        """Wake a worker that still blocks on this socket: the server ends."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


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
