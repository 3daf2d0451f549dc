"""The Docker Engine HTTP API: a process of its own, which a crash or a hostile request takes no container with."""

from __future__ import annotations

from oci_tools.http import Request, Response, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from socket import socket
    from typing import Any

    from oci_tools.engine.forker import Asker


def serve(listeners: Sequence[socket], call: Asker, args: Any) -> None:
    """Answer on these sockets until SIGTERM (call: how commands are run; args: the words of `ocid`)."""
    import signal

    server = Server(_answer)
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    for sock in listeners:
        server.listen(f"fd:{sock.detach()}")
    server.serve()


def _answer(request: Request) -> Response:
    if request.path == "/_ping":
        return Response(200, body=b"OK")
    return Response(404, body=b'{"message":"page not found"}\n')
