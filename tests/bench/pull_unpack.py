"""oci-pull and oci-unpack of a 120 MB Debian from a local docker-registry beside skopeo and umoci

Every run is into directories of its own, which go only at the end: the file system is
slow for a while after a large removal, for whoever comes next.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import images
from tests.bench import peers
from tests.bench.measure import Side, need

BAR = 1.0
ROUNDS = 5
IDLE = 0.5


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    skopeo, umoci = need("skopeo"), need("umoci")
    with peers.docker_registry(work) as host:
        debian = f"{host}/debian:trixie"
        source = f"oci:{images.image('debian')}:latest"
        subprocess.run([skopeo, "copy", "-q", "--dest-tls-verify=false", source, f"docker://{debian}"], check=True)

        def ours(i: int) -> list[str]:
            place = f"{work}/ours{i}"
            return ["/bin/sh", "-c", f"mkdir {place} && oci-pull {debian} {place}/img | oci-unpack - {place}/bundle"]

        def theirs(i: int) -> list[str]:
            place = f"{work}/theirs{i}"
            copy = f"{skopeo} copy -q --src-tls-verify=false docker://{debian} oci:{place}/img:trixie"
            return ["/bin/sh", "-c", f"mkdir {place} && {copy} && {umoci} unpack --image {place}/img:trixie {place}/bundle"]

        env = {"OCI_ROOT": f"{work}/root", "OCI_RUN": f"{work}/run", "HOME": str(work)}
        yield {"oci-pull, oci-unpack": Side(ours, env), "skopeo, umoci": Side(theirs, env)}
