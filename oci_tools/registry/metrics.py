"""What a registry has done, as numbers: the text that Prometheus reads (its exposition format 0.0.4).

Labels are of few kinds: what a client can make up, a repository's name or a method, is in none.
"""

from __future__ import annotations

import threading
import time

from oci_tools.http import Request, Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)  # seconds
METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE")
KINDS = ("manifests", "blobs", "uploads", "referrers")
TEXT = ("Content-Type", "text/plain; version=0.0.4; charset=utf-8")


class Metrics:
    """Counters; told of every answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = time.time()
        self._requests: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[str, list[float]] = {}  # kind -> what each bucket counts, then the sum
        self._sent = 0
        self._counts: dict[str, int] = {}
        self.gauges: dict[str, Callable[[], int]] = {}  # name -> what it is now

    def answered(self, request: Request, status: int, size: int, seconds: float) -> None:
        what = kind(request.path)
        method = request.method if request.method in METHODS else "other"
        with self._lock:
            key = what, method, status
            self._requests[key] = self._requests.get(key, 0) + 1
            self._sent += size
            row = self._seconds.setdefault(what, [0.0] * (len(BUCKETS) + 2))
            row[next((at for at, limit in enumerate(BUCKETS) if seconds <= limit), len(BUCKETS))] += 1
            row[-1] += seconds

    def count(self, name: str, more: int = 1) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + more

    def __call__(self, request: Request) -> Response:
        return Response(200, [TEXT], "".join(f"{line}\n" for line in self._lines()).encode())

    def _lines(self) -> Iterator[str]:
        with self._lock:
            requests, counts = sorted(self._requests.items()), sorted(self._counts.items())
            seconds, sent = [(key, list(row)) for key, row in sorted(self._seconds.items())], self._sent
        yield "# TYPE oci_registry_requests_total counter"
        for (what, method, status), number in requests:
            labels = f'kind="{what}",method="{method}",status="{status}"'
            yield f"oci_registry_requests_total{{{labels}}} {number}"
        yield "# TYPE oci_registry_request_seconds histogram"
        for what, row in seconds:
            total = 0
            for limit, count in zip((*BUCKETS, "+Inf"), row, strict=False):
                total += int(count)
                yield f'oci_registry_request_seconds_bucket{{kind="{what}",le="{limit}"}} {total}'
            yield f'oci_registry_request_seconds_sum{{kind="{what}"}} {row[-1]:.6f}'
            yield f'oci_registry_request_seconds_count{{kind="{what}"}} {total}'
        for name, number in [("sent_bytes", sent), *counts]:
            yield f"# TYPE oci_registry_{name}_total counter"
            yield f"oci_registry_{name}_total {number}"
        for name, now in sorted(self.gauges.items()):
            yield f"# TYPE oci_registry_{name} gauge"
            yield f"oci_registry_{name} {now()}"
        yield "# TYPE process_start_time_seconds gauge"
        yield f"process_start_time_seconds {self._began:.2f}"


def kind(path: str) -> str:
    """What a path is about, as one of few words."""
    if not path.startswith("/v2/"):
        return "other"
    parts = path.split("/")
    if path.endswith("/tags/list"):
        return "tags"
    if path == "/v2/_catalog":
        return "catalog"
    if parts[-2:] == ["blobs", "uploads"] or parts[-3:-1] == ["blobs", "uploads"]:
        return "uploads"
    return parts[-2] if len(parts) > 4 and parts[-2] in KINDS else "other"
