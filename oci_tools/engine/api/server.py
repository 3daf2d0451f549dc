"""The API's process: its parts put together, and the server that they answer through."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from socket import AF_UNIX

from oci_tools import fs
from oci_tools.engine.api import (
    archive,
    build,
    create,
    describe,
    disk,
    events,
    execs,
    images,
    life,
    logs,
    networks,
    stats,
    streams,
    system,
    transfer,
    volumes,
)
from oci_tools.engine.api.commands import Commands
from oci_tools.engine.api.events import Events
from oci_tools.engine.api.execs import Execs
from oci_tools.engine.api.routes import Table
from oci_tools.engine.api.store import Store
from oci_tools.engine.api.world import World
from oci_tools.errors import Error
from oci_tools.http import Server
from oci_tools.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence
    from socket import socket

    from oci_tools.engine.api.commands import Begin
    from oci_tools.http import Request, Response

THREADS = 1200  # answers at a time: each that waits, follows or is attached keeps one
CONNECTIONS = 4000
_MODULES = (
    system, create, describe, life, logs, streams, execs, events, disk, images, transfer, archive, networks, volumes,
    build, stats,
)  # fmt: skip


class Api:
    """What every answer may need."""

    def __init__(self, begin: Begin) -> None:
        self.commands = Commands(begin)
        self.world = World()
        self.store = Store()
        self.events = Events(self.world.root)
        self.execs = Execs()
        self.built: dict[bytes, None] = {}  # what builds have been through (build.py)
        self._table = Table([route for module in _MODULES for route in module.ROUTES])

    @staticmethod
    def private() -> str:
        """A directory of ours for what passes: consoles, credentials that are tried."""
        return fs.make_private(f"{fs.run()}/api")

    def answer(self, request: Request) -> Response:
        return self._table.handle(self, request)


def serve(
    listeners: Sequence[socket], begin: Begin, context: Callable[[], ssl.SSLContext] | None = None
) -> None:
    """Answer on these sockets until SIGTERM; `context` makes the TLS of those that are no unix sockets."""
    libc.mallopt(libc.M_ARENA_MAX, 1)  # threads of one interpreter seldom allocate at once, and each heap has its holes
    api = Api(begin)
    local = [sock for sock in listeners if sock.family == AF_UNIX]
    far = [sock for sock in listeners if sock.family != AF_UNIX]
    servers = [_server(api, local, None), _server(api, far, context() if context and far else None)]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop(servers))
    if context and far:
        signal.signal(signal.SIGHUP, lambda *_: _renew(servers[1], context))
    threading.Thread(target=api.world.follow, daemon=True).start()
    other = threading.Thread(target=servers[1].serve, daemon=True)
    other.start()
    servers[0].serve()
    other.join()


def _renew(server: Server, context: Callable[[], ssl.SSLContext]) -> None:
    """Read the certificates again; those that are no good leave the old ones in use."""
    try:
        server.tls = context()
    except Error as error:
        sys.stderr.write(f"ocid: {error}\n")


def _stop(servers: Sequence[Server]) -> None:
    for server in servers:
        server.stop(1.0)


def _server(api: Api, listeners: Sequence[socket], tls: ssl.SSLContext | None) -> Server:
    server = Server(
        api.answer, threads=THREADS, connections=CONNECTIONS, tls=tls, broken=_broken, idle_timeout=600.0
    )
    for sock in listeners:
        server.listen(f"fd:{sock.detach()}")
    return server


def _broken(request: Request) -> None:
    sys.stderr.write(f"ocid: {request.method} {request.target}: a bug of ours\n{traceback.format_exc()}")
