"""The Docker Engine HTTP API, as Docker's own clients speak it (`docs.docker.com/reference/api/engine`, 1.24 to 1.45).

    server.py      its parts put together, limits                 tls.py         who may come in by TCP
    routes.py      versions, paths, errors         answers.py    what an answer is
    commands.py    our commands, called            world.py      containers, read from their files
    create.py      what a client asks for -> words of `oci-run new`      describe.py   and back
    life.py  execs.py  streams.py  logs.py  archive.py  events.py  stats.py         what is done to them
    images.py  store.py  pull.py  build.py  networks.py  volumes.py  system.py

What a container, an image or a network is, is read from files; what is changed, a command changes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from socket import socket
    from typing import Any

    from oci_tools.engine.forker import Asker


def serve(listeners: Sequence[socket], call: Asker, args: Any) -> None:
    """Answer on these sockets until SIGTERM (call: how commands are run; args: the words of `ocid`)."""
    from oci_tools.engine.api import server, tls

    def context() -> ssl.SSLContext:
        return tls.context(args.tlscert, args.tlskey, args.tlscacert)

    server.serve(listeners, call.begin, context if args.tlscert else None)
