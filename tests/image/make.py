"""Small images for the tests of this room."""

import io
import tarfile

from oci_tools import document
from oci_tools.image import config as configs
from oci_tools.image import digest as digests
from oci_tools.image import manifest


def tar(*members):
    """A tar of (name, bytes) files, and of (name, "-> TARGET") links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as made:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data.removeprefix("-> ")
                made.addfile(info)
            else:
                info.size = len(data)
                made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def image(
    layout, note="hello", compress=None, created="2024-01-01T00:00:00Z", algorithm="sha256", platform=None
):
    """An image of one layer with one file, called and containing `note`."""
    plain = tar((note, note.encode()))
    kind = "gzip" if compress else "none"
    layer = layout.put(compress(plain) if compress else plain, manifest.layer_type("", kind), algorithm)
    made = configs.with_layer(configs.new(platform, created=created), digests.of(plain), created)
    return configs.store(layout, made, [layer])


def index(layout, *entries):
    return layout.put(document.dumps(manifest.new_index(entries)), manifest.OCI_INDEX)


class Pipe(io.RawIOBase):
    """Bytes that come in small pieces and can be read once."""

    def __init__(self, data, step=1000):
        self.left = memoryview(data)
        self.step = step

    def readinto(self, buffer):
        n = min(len(buffer), self.step, len(self.left))
        buffer[:n], self.left = self.left[:n], self.left[n:]
        return n

    def readable(self):
        return True
