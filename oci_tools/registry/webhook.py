"""Events told to others over HTTP: what was pushed, pulled and deleted, in distribution's envelope.

    POST URL, application/vnd.docker.distribution.events.v1+json
    {"events": [{"id", "timestamp", "action": "push" | "pull" | "delete",
                 "target": {"mediaType", "digest", "size", "repository", "tag", "url"},
                 "request": {"addr", "host", "method", "useragent"}, "actor": {"name"}}]}

A thread sends them in their order, several at once where they pile up, and tries again for a while.  They
wait in memory only: what has not been taken when the server ends, or while there are too many, is lost.
"""

from __future__ import annotations

import os
import threading
import time

from oci_tools import document
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.http import Request
    from oci_tools.image.layout import Descriptor

TYPE = "application/vnd.docker.distribution.events.v1+json"
WAITING = 10_000  # events at most
TOGETHER = 100  # events in a request


class Webhook:
    """One address that is told."""

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        from oci_tools import fetch

        self._shown = fetch.shown(url)
        if not url.startswith(("http://", "https://")):
            raise Error("cannot tell events to", self._shown, "it is not an http or https URL")
        self._url = url
        self._say = say
        self._waiting: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._ending = False
        self.lost = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, event: dict[str, Any]) -> None:
        with self._changed:
            if len(self._waiting) >= WAITING:
                self.lost += 1
                return
            self._waiting.append(event)
            self._changed.notify()

    def stop(self, seconds: float) -> None:
        """Send what waits, for this long at most."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        from oci_tools import fetch

        with fetch.Client() as client:
            while True:
                with self._changed:
                    while not self._waiting and not self._ending:
                        self._changed.wait()
                    if not self._waiting:
                        return
                    batch = self._waiting[:TOGETHER]
                    del self._waiting[:TOGETHER]
                self._send(client, batch)

    def _send(self, client: Any, batch: list[dict[str, Any]]) -> None:
        try:
            with client.request("POST", self._url, {"Content-Type": TYPE}, document.dumps({"events": batch})) as answer:
                if answer.status >= 300:
                    raise Error("cannot tell events to", self._shown, f"it answers {answer.status}")
                answer.done()
        except Error as error:
            self.lost += len(batch)
            self._say(str(error))


def event(
    action: str, request: Request, repository: str, descriptor: Descriptor, tag: str | None = None
) -> dict[str, Any]:
    """One event."""
    now = time.time()
    target: dict[str, Any] = {key: descriptor[key] for key in ("mediaType", "digest", "size") if key in descriptor}
    scheme = "https" if hasattr(request.sock, "getpeercert") else "http"
    host = request.header("Host")
    target |= {"repository": repository, "url": f"{scheme}://{host}/v2/{repository}/manifests/{target['digest']}"}
    return {
        "id": os.urandom(16).hex(),
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03}Z",
        "action": action,
        "target": target | ({"tag": tag} if tag else {}),
        "request": {
            "addr": request.peer, "host": host, "method": request.method, "useragent": request.header("User-Agent"),
        },
        "actor": {"name": request.user} if request.user else {},
    }  # fmt: skip
