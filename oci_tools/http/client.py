"""An HTTP/1.1 client over a socket that somebody else has connected: a unix socket, TLS, the pipe of an ssh.

For engines: bodies are streams both ways, and a connection can become the client's own ("hijack", 101).  What comes
from registries is fetched by `fetch/`.  RFC 9112 by h11;
one request at a time on a connection, which stays open between.
"""

from __future__ import annotations

from oci_tools.errors import Error
from oci_tools.http.connection import h11

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator

READ = 1 << 16


class Client:
    """One connection, which `close` ends."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        """name: of whom we talk to, for messages."""
        self.sock = sock
        self.name = name
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)

    def close(self) -> None:
        self.sock.close()

    def request(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | Iterable[bytes] = b"",
    ) -> Answer:
        """Send a request; the head of its answer, whose body is read by the caller.

        A body of pieces goes out in chunks, as they come.
        """
        said = [("Host", "api.oci"), *headers]
        if isinstance(body, bytes):
            if body or method in ("POST", "PUT"):
                said.append(("Content-Length", str(len(body))))
            pieces: Iterable[bytes] = [body] if body else []
        else:
            said.append(("Transfer-Encoding", "chunked"))
            pieces = body
        try:
            self._send(h11.Request(method=method, target=target, headers=said))
            try:
                for piece in pieces:
                    self._send(h11.Data(data=piece))
                self._send(h11.EndOfMessage())
            except OSError:
                pass  # it may have answered before it had all
            return self._answer()
        except h11.RemoteProtocolError as error:
            raise Error("cannot understand", self.name, str(error)) from None
        except OSError as error:
            raise Error("cannot talk to", self.name, error, code=75) from None

    def _send(self, event: h11.Event) -> None:
        self.sock.sendall(self._h11.send(event) or b"")

    def _answer(self) -> Answer:
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                data = self.sock.recv(READ)
                if not data:
                    raise Error("cannot talk to", self.name, "it hung up", code=75)
                self._h11.receive_data(data)
            elif isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    return Answer(self, event)
            elif isinstance(event, h11.Response):
                return Answer(self, event)
            else:
                raise Error("cannot talk to", self.name, "it hung up", code=75)

    def _pieces(self) -> Iterator[bytes]:
        while True:
            try:
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    self._h11.receive_data(self.sock.recv(READ))
                elif isinstance(event, h11.Data):
                    yield bytes(event.data)
                else:
                    break
            except (OSError, h11.RemoteProtocolError) as error:
                raise Error("cannot read from", self.name, str(error), code=75) from None
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()

    def _early(self) -> bytes:
        return bytes(self._h11.trailing_data[0])


class Answer:
    """A status, headers, and a body that is read once."""

    def __init__(self, client: Client, head: h11.Response | h11.InformationalResponse) -> None:
        self._client = client
        self.status = head.status_code
        self._headers = head.headers

    def header(self, name: str) -> str:
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self._headers if key == wanted), "")

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes."""
        return self._client._pieces()

    def read(self) -> bytes:
        return b"".join(self.pieces())

    def hijack(self) -> tuple[socket.socket, bytes]:
        """After a 101: the socket, and what was read from it too early."""
        return self._client.sock, self._client._early()
