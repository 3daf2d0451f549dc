"""What the benchmarks of ocid's API share: an ocid and a dockerd, each in a network namespace of its own, with busybox."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench import peers
from tests.bench.measure import BIN, PATH, Side, as_installed, need

Words = Callable[[str], list[str]]  # of `docker`, for an address


@contextmanager
def both(work: Path, words: list[str], prepare: list[list[str]] | None = None) -> Iterator[dict[str, Side]]:
    """The docker CLI with these words through either; `prepare`: words that are run before, untimed."""
    docker, busybox, archive = need("docker"), images.image("busybox"), work / "busybox.tar"
    subprocess.run(
        [need("skopeo"), "copy", "-q", f"oci:{busybox}:latest", f"docker-archive:{archive}:busybox:latest"], check=True
    )
    (work / "their").mkdir()
    with peers.dockerd(work / "their", bridged=True) as theirs, ours(work / "our") as address, as_installed():
        sides = {}
        for name, where in (("ocid", address), ("dockerd", theirs)):
            call = [docker, "-H", where]
            subprocess.run([*call, "load", "-q", "-i", archive], check=True, stdout=subprocess.DEVNULL)
            for each in prepare or ():
                subprocess.run([*call, *each], check=True, stdout=subprocess.DEVNULL)
            sides[name] = Side(lambda i, call=call: [*call, *words], {"HOME": str(work)})  # type: ignore[misc]
        try:
            yield sides
        finally:
            for where in (address, theirs):
                listed = subprocess.run([docker, "-H", where, "ps", "-aq"], capture_output=True, text=True).stdout.split()
                for at in range(0, len(listed), 50):
                    subprocess.run([docker, "-H", where, "rm", "-f", *listed[at : at + 50]], stdout=subprocess.DEVNULL)


@contextmanager
def ours(work: Path) -> Iterator[str]:
    """An ocid of our own; the address for `docker -H`."""
    address = f"unix://{work}/s"
    for name in "root", "run":
        (work / name).mkdir(parents=True)
    env = {"PATH": PATH, "HOME": str(work), "OCI_ROOT": f"{work}/root", "OCI_RUN": f"{work}/run"}
    words = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "-", f"{BIN}/ocid", "--listen", address]
    with peers.ended(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env)) as server:
        assert server.stdout and server.stdout.readline()
        yield address
