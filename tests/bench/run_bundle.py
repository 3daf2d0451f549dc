"""oci-run of a prepared bundle running /bin/true, the interpreter sealed, beside runc

The same bundle for both: busybox with the specification that runc itself writes.  The final
bar is 0.6.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench.measure import OURS, Missing, Side, as_installed, need

BAR = 0.9
ROUNDS = 40
# The sealed interpreter that stays for the next run, which this must not leave to the host.
STANDING = "/run/oci/python"


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    if os.geteuid():
        raise Missing("root")
    runc, bundle = need("runc"), work / "bundle"
    layer = images.layers(images.image("busybox"))[0]
    (bundle / "rootfs").mkdir(parents=True)
    subprocess.run(["tar", "-xzpf", layer, "-C", bundle / "rootfs"], check=True)
    subprocess.run([runc, "spec", "--bundle", bundle], check=True)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"].update(args=["/bin/true"], terminal=False)
    (bundle / "config.json").write_text(json.dumps(spec))
    ours = [OURS["run"], "--root", f"{work}/oci-run", "run", "-b", str(bundle)]
    their = [runc, "--root", f"{work}/runc", "run", "-b", str(bundle)]
    with as_installed():
        yield {
            "oci-run run": Side(lambda i: [*ours, f"bench-{os.getpid()}-{i + 1}"]),
            "runc run": Side(lambda i: [*their, f"bench-{os.getpid()}-{i + 1}"]),
        }
