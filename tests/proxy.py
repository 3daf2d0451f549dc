"""A TCP proxy between our commands and a real registry, which makes things go wrong at any byte.

    with Proxy(peer.host) as proxy:         proxy.host is "127.0.0.1:PORT"
        proxy.cut_down = 12345              ends the connection after so many bytes of answers, once
        proxy.cut_up = 12345                the same of requests
        proxy.flip_down = 12345             turns over a bit of that byte of the answers
        proxy.flip_up = 12345
        proxy.slow = 100                    passes answers on in pieces of so many bytes
        proxy.instead = lambda head: raw    bytes to answer with, in place of the registry; b"" asks it

Bytes are counted over all connections since `reset`, so one number means one place in a whole command.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

PIECE = 1 << 16


class Proxy:
    """Listens on a free loopback port until the block ends."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self.reset()

    def reset(self) -> None:
        """Count from here on, and do nothing wrong."""
        self.down = self.up = 0
        self.cut_down = self.cut_up = self.flip_down = self.flip_up = -1
        self.slow = 0
        self.instead: Callable[[bytes], bytes] = lambda head: b""

    def __enter__(self) -> Proxy:
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            left = list(self._open)
        for one in left:
            _end(one)
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        try:
            with client, socket.create_connection(self._target) as server:
                threading.Thread(target=self._answers, args=(server, client), daemon=True).start()
                self._requests(client, server)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(client)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        first = True
        while data := client.recv(PIECE):
            if first or data.split(b" ", 1)[0] in (b"GET", b"HEAD", b"PUT", b"POST", b"PATCH", b"DELETE"):
                said = self.instead(data.partition(b"\r\n\r\n")[0])
                if said:
                    client.sendall(said)
                    break
            first = False
            if not self._pass(data, server, "up"):
                break
        _end(server)
        _end(client)

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (data := server.recv(self.slow or PIECE)) and self._pass(data, client, "down"):
                pass
        _end(client)
        _end(server)

    def _pass(self, data: bytes, to: socket.socket, way: str) -> bool:
        """Pass bytes on, as they are to arrive; False: the connection ends here."""
        with self._lock:
            at = getattr(self, way)
            setattr(self, way, at + len(data))
            flip, cut = getattr(self, f"flip_{way}") - at, getattr(self, f"cut_{way}") - at
            if 0 <= flip < len(data):
                data = data[:flip] + bytes([data[flip] ^ 1]) + data[flip + 1 :]
            if 0 <= cut < len(data):
                data = data[:cut]
            else:
                cut = -1
        to.sendall(data)
        return cut < 0


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
