"""How many requests a client may send: a token bucket for each address."""

from __future__ import annotations

import threading
import time

BURST = 10.0  # seconds of the rate that may come at once
MANY = 10_000  # addresses that are remembered


class Rate:
    """So many requests a second of each client, and for a moment more."""

    def __init__(self, rate: int) -> None:
        self._rate = float(rate)
        self._left: dict[str, tuple[float, float]] = {}  # address -> requests that are left, as of when
        self._lock = threading.Lock()

    def wait(self, who: str) -> float:
        """0 for a request that may be answered now, else in how many seconds it may."""
        now, most = time.monotonic(), self._rate * BURST
        with self._lock:
            if len(self._left) > MANY:
                self._left = {key: (left, at) for key, (left, at) in self._left.items() if now - at < BURST}
            left, at = self._left.get(who, (most, now))
            left = min(most, left + (now - at) * self._rate)
            self._left[who] = (left - 1 if left >= 1 else left), now
            return 0.0 if left >= 1 else (1 - left) / self._rate
