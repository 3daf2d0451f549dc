"""Eight clients at once take four blobs of 64 MB each from oci-registry, beside Debian's docker-registry

What is served is the same image, pushed to both; the clients cost next to nothing (clients.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench import peers
from tests.bench.measure import OURS, PATH, Side

BAR = 1.0
MEMORY = 100.0
ROUNDS = 7
IDLE = 0.5
CLIENTS, BLOBS, SIZE = 8, 4, 64 << 20
PROGRAM = str(Path(__file__).with_name("clients.py"))


@contextmanager
def sides(work: Path) -> Iterator[dict[str, Side]]:
    blobs = layout(work / "img")
    with ExitStack() as stack:
        places = {}
        for name, server in (("oci-registry", peers.our_registry), ("docker-registry", peers.docker_registry_process)):
            (work / name).mkdir()
            places[name] = stack.enter_context(server(work / name))
            words = [OURS["push"], f"{work}/img:v1", f"{places[name][0]}/app:v1"]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env={"PATH": PATH, "OCI_ROOT": f"{work}/root"})
        paths = [f"/v2/app/blobs/{digest}" for digest in blobs]

        def words_of(host: str) -> list[str]:
            return [PROGRAM, host, str(CLIENTS), *paths]

        yield {
            name: Side(lambda i, host=host: words_of(host), pid=pid) for name, (host, pid) in places.items()  # type: ignore[misc]
        }


def layout(place: Path) -> list[str]:
    """An image of layers that do not compress; their digests."""
    (place / "blobs/sha256").mkdir(parents=True)
    kind = "application/vnd.oci.image"

    def put(media_type: str, data: bytes, times: int = 1) -> dict[str, object]:
        hasher = hashlib.sha256()
        with open(place / "new", "wb") as file:
            for _ in range(times):  # what this process has in memory counts for those that it starts
                hasher.update(data)
                file.write(data)
        name = hasher.hexdigest()
        (place / "new").rename(place / "blobs/sha256" / name)
        return {"mediaType": f"{kind}.{media_type}", "digest": f"sha256:{name}", "size": len(data) * times}

    layers = [put("layer.v1.tar", os.urandom(1 << 20), SIZE >> 20) for _ in range(BLOBS)]
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [d["digest"] for d in layers]}}
    manifest = {"schemaVersion": 2, "config": put("config.v1+json", json.dumps(config).encode()), "layers": layers}
    manifest["mediaType"] = f"{kind}.manifest.v1+json"
    top = put("manifest.v1+json", json.dumps(manifest).encode())
    top["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return [str(layer["digest"]) for layer in layers]
