"""Work in a thread, and its taker."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import TOP

STRUCK = """
import random, signal
from oci_tools.layer.ahead import Ahead

def strike(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, strike)
struck = 0
for _ in range(5000):
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 8e-4))
            with Ahead([b"piece"] * 300) as pieces:
                assert sum(map(len, pieces)) == 1500
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        struck += 1
print(struck)
"""


def test_who_is_interrupted_at_any_moment_leaves() -> None:
    """No lock stays taken by whom Ctrl-C took away: then leaving waits for ever."""
    done = subprocess.run([sys.executable, "-c", STRUCK], cwd=TOP, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
