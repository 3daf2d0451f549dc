"""What the default seccomp profile adds to a run of a prepared bundle; the same of runc beside it

A round is a run with the profile and one without, in turns, and what counts is their difference.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oci_tools.runtime import default_seccomp
from tests import images
from tests.bench.measure import OURS, Missing, Side, as_installed, need, timed

LIMIT = 2.0
ROUNDS = 40


def TAKE(side: Side, i: int, words: list[str] | None = None) -> float:  # the frame's name for it
    """How much longer the run with the profile took, in ms."""
    words = words or side.words(i)
    bundle = words.index("-b") + 1
    kinds = ("with", "without") if i % 2 else ("without", "with")
    took = {kind: timed(side, i, [*words[:bundle], f"{words[bundle]}/{kind}", *words[bundle + 1 :]]) for kind in kinds}
    return took["with"] - took["without"]


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    if os.geteuid():
        raise Missing("root")
    runc = need("runc")
    layer = images.layers(images.image("busybox"))[0]
    (work / "rootfs").mkdir()
    subprocess.run(["tar", "-xzpf", layer, "-C", work / "rootfs"], check=True)
    for kind in "with", "without":
        (work / kind).mkdir()
        subprocess.run([runc, "spec", "--bundle", work / kind], check=True)
        config = work / kind / "config.json"
        spec = json.loads(config.read_text())
        spec["process"].update(args=["/bin/true"], terminal=False)
        spec["root"]["path"] = f"{work}/rootfs"
        if kind == "with":
            capabilities = {*spec["process"]["capabilities"]["bounding"]}
            spec["linux"]["seccomp"] = default_seccomp.profile(capabilities)
        config.write_text(json.dumps(spec))
    with as_installed():
        yield {
            name: Side(lambda i, program=program, name=name: [
                program, "--root", f"{work}/{name}", "run", "-b", str(work), f"bench-{os.getpid()}-{i + 1}"
            ]) for name, program in (("oci-run", OURS["run"]), ("runc", runc))
        }  # fmt: skip
