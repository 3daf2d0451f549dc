"""Images of very many names, written at once: what a hostile or a very large image asks of memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from oci_tools.image import config as configs
from oci_tools.image import manifest
from oci_tools.image.layout import Layout
from oci_tools.layer.write import Writer

Layers = list[Iterable[tuple[str, str, str]]]  # of each layer's entries: type, name, where a link leads


def _spread(count: int) -> list[str]:
    return [f"d{at % 500:03}/name-{at:07}" for at in range(count)]


# How an image of so many entries is made.
KINDS: dict[str, Callable[[int], Layers]] = {
    "files of one directory": lambda n: [(("f", f"d/name-{at:07}", "") for at in range(n))],
    "directories": lambda n: [(("d", name, "") for name in _spread(n))],
    "directories of one": lambda n: [(("d", f"d/name-{at:07}", "") for at in range(n))],
    "directories of two layers": lambda n: [
        (("d", f"d/name-{at:07}", "") for at in range(n // 2)),
        (("d", f"d/name-{at:07}", "") for at in range(n // 2)),
    ],
    "links": lambda n: [(("l", name, f"to-{name}") for name in _spread(n))],
    "hard links": lambda n: [(("h", f"e/n{at:07}", f"d/n{at - 1:07}") if at % 2 else ("f", f"d/n{at:07}", "") for at in range(n))],
    "hard links of links": lambda n: [(("h", f"e/n{at:07}", f"d/n{at - 1:07}") if at % 2 else ("l", f"d/n{at:07}", "x") for at in range(n))],
    "hard links across layers": lambda n: [
        (("f", f"d/n{at:07}", "") for at in range(n // 2)),
        (("h", f"e/n{at:07}", f"d/n{at:07}") for at in range(n // 2)),
    ],
    "whiteouts": lambda n: [
        (("f", f"d/n{at:07}", "") for at in range(n // 2)),
        (("f", f"d/.wh.n{at:07}", "") for at in range(n // 2)),
    ],
    "implied directories": lambda n: [
        (("d", f"d/n{at:07}", "") for at in range(n // 2)),
        (("f", f"d/n{at:07}/f", "") for at in range(n // 2)),
    ],
    "directories of whiteouts": lambda n: [[("d", "d", "")], (("f", f"d/n{at:07}/.wh.f", "") for at in range(n))],
    "opaque directories": lambda n: [
        (("d", f"d/n{at:07}", "") for at in range(n // 2)),
        (("f", f"d/n{at:07}/.wh..wh..opq", "") for at in range(n // 2)),
    ],
    "names through links": lambda n: [
        (("l", f"d/n{at:07}", "/t") for at in range(n // 2)),
        (("f", f"d/n{at:07}/f{at}", "") for at in range(n // 2)),
    ],
}


def image(layout: Layout, kind: str, count: int, mtime: int = 1) -> dict[str, Any]:
    """An image of a kind; its descriptor."""
    config, layers = configs.new("linux/amd64"), []
    for entries in KINDS[kind](count):
        path = Path(layout.path) / "layer"
        with open(path, "wb") as file:
            hashed = _Hashed(file)
            writer = Writer(hashed)
            for what, name, link in entries:
                mode = {"d": 0o755, "l": 0o777}.get(what, 0o644)
                writer.entry(what, name.encode(), mode, 0, 0, mtime * 1_000_000_000, link=link.encode())
                writer.end()
            writer.close()
        digest = f"sha256:{hashed.sum.hexdigest()}"
        blob = Path(layout.path) / "blobs" / digest.replace(":", "/")
        blob.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blob)
        config = configs.with_layer(config, digest)
        layers.append({"mediaType": manifest.OCI_LAYER, "digest": digest, "size": blob.stat().st_size})
    return configs.store(layout, config, layers)


class _Hashed:
    def __init__(self, file: Any) -> None:
        self._file = file
        self.sum = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.sum.update(data)
        self._file.write(data)
