"""20,000 look-ups of names that a network's resolver knows, by dnsperf, beside aardvark-dns

At least a third of the look-ups per second: at most three times the time.  What of memory the resolver takes is
held by tests/net/test_names.py.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import peers
from tests.bench.measure import OURS, Missing, Side, as_installed, need

BAR = 3.0
ROUNDS = 10
COUNT = 50  # containers
AARDVARK = "/usr/lib/podman/aardvark-dns"


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    dnsperf, _ = need("dnsperf"), need("nft")
    if not os.path.exists(AARDVARK):
        raise Missing(AARDVARK)
    names = work / "names"
    names.write_text("".join(f"n{i} A\n" for i in range(COUNT)))
    env = {**os.environ, "OCI_ROOT": f"{work}/root"}

    def run(*words: str, quiet: bool = True) -> None:
        subprocess.run(words, check=True, env=env, stdout=subprocess.DEVNULL if quiet else None)

    def client(server: str, port: str) -> list[str]:
        repeat = 20_000 // COUNT
        return [dnsperf, "-s", server, "-p", port, "-d", str(names), "-n", str(repeat), "-c", "4", "-q", "50"]

    with peers.machine(), as_installed():
        run(OURS["net"], "create", "--subnet", "10.201.0.0/16", "bench")
        for i in range(COUNT):
            run("ip", "netns", "add", f"n{i}")
            run(OURS["net"], "attach", "bench", f"/run/netns/n{i}")
        try:
            with aardvark(work):
                yield {
                    "oci-net": Side(lambda i: client("10.201.0.1", "53")),
                    "aardvark-dns": Side(lambda i: client("10.202.0.1", "5353")),
                }
        finally:
            for i in range(COUNT):
                run(OURS["net"], "detach", "bench", f"/run/netns/n{i}")


@contextmanager
def aardvark(work: Path) -> Iterator[None]:
    """It, for as many containers; its own file says who they are."""
    subprocess.run(["ip", "addr", "add", "10.202.0.1/16", "dev", "lo"], check=True)
    config = work / "aardvark"
    config.mkdir()
    lines = ["10.202.0.1"] + [f"{i:064x} 10.202.0.{i + 2}  n{i}" for i in range(COUNT)]
    (config / "bench").write_text("\n".join(lines) + "\n")
    words = [AARDVARK, "--config", str(config), "-p", "5353", "run"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        os.kill(int((config / "aardvark.pid").read_text()), 15)
