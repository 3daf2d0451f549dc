"""One verb of the runtime beside runc's, on containers of the same bundle that sleep.

What comes before the verb in a container's life is done untimed, by the same runtime.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench.measure import OURS, PATH, Missing, Side, as_installed, need

Do = Callable[..., None]


def prepared(work: Path, *payload: str) -> tuple[str, Path]:
    """runc's path, and a bundle of busybox that runs this."""
    if os.geteuid():
        raise Missing("root")
    runc, bundle = need("runc"), work / "bundle"
    layer = images.layers(images.image("busybox"))[0]
    (bundle / "rootfs").mkdir(parents=True)
    subprocess.run(["tar", "-xzpf", layer, "-C", bundle / "rootfs"], check=True)
    subprocess.run([runc, "spec", "--bundle", bundle], check=True)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"].update(args=payload, terminal=False)
    (bundle / "config.json").write_text(json.dumps(spec))
    return runc, bundle


@contextmanager
def both(work: Path, words: Callable[[Do, list[str], str], list[str]]) -> Iterator[dict[str, Side]]:
    """Two sides; `words(do, runtime, ID)` prepares with `do("create", ...)` and gives the words that are timed."""
    runc, bundle = prepared(work, "sleep", "1000")
    sides, made = {}, []
    for name, program in (("oci-run", OURS["run"]), ("runc", runc)):
        runtime = [program, "--root", f"{work}/{name}"]

        def do(*more: str, runtime: list[str] = runtime) -> None:
            quiet = subprocess.DEVNULL
            subprocess.run([*runtime, *more], check=True, cwd=bundle, stdin=quiet, stdout=quiet, env={"PATH": PATH})

        def turn(i: int, do: Do = do, runtime: list[str] = runtime) -> list[str]:
            id = f"bench-{os.getpid()}-{len(made)}"
            made.append((do, id))
            return words(do, runtime, id)

        sides[name] = Side(turn, cwd=str(bundle))
    try:
        with as_installed():
            yield sides
    finally:
        for do, id in made:
            do("delete", "--force", id)
