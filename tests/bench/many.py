"""A layout of many small images, written at once: as 10,000 pushes leave it, without the wait for them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

OCI = "application/vnd.oci.image"


def layout(place: Path, count: int) -> None:
    """`count` images of one layer under the tags t0, t1, ...; the first and the last differ in nothing but their labels."""
    (place / "blobs/sha256").mkdir(parents=True)
    layer = put(place, f"{OCI}.layer.v1.tar", b"\0" * 10240)
    entries = []
    for at in range(count):
        rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
        config = {"os": "linux", "architecture": "amd64", "config": {"Labels": {"at": str(at)}}, "rootfs": rootfs}
        found = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "layers": [layer]}
        found["config"] = put(place, f"{OCI}.config.v1+json", json.dumps(config).encode())
        entry = put(place, f"{OCI}.manifest.v1+json", json.dumps(found).encode())
        entries.append({**entry, "annotations": {"org.opencontainers.image.ref.name": f"t{at}"}})
    index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries}
    (place / "index.json").write_text(json.dumps(index))
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def put(place: Path, media_type: str, data: bytes) -> dict[str, object]:
    name = hashlib.sha256(data).hexdigest()
    (place / "blobs/sha256" / name).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}
