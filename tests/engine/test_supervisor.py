"""The supervising process of ocid, where no command shows it."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from oci_tools.engine import supervisor


def test_what_is_sent_to_a_part_that_begins_reaches_it(monkeypatch: Any) -> None:
    """Not the supervisor's handlers, which a fork has until it forgets them."""
    forget = supervisor._forget
    monkeypatch.setattr(supervisor, "_forget", lambda: (time.sleep(0.3), forget()))
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        part = supervisor.Part(supervisor.Loop(), "part", lambda: time.sleep(30), print)
        part.start()
        os.kill(part.pid, signal.SIGTERM)
        assert os.waitpid(part.pid, 0)[1] == signal.SIGTERM
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.signal(signal.SIGTERM, before)
