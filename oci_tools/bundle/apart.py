"""The layers of an image, each in a directory of its own, as overlayfs stacks them.

    DIR/1-HEX DIR/2-HEX ...    the lowest first; HEX begins its diff id; as many digits as all need

Whiteouts are devices 0:0, opaque directories have overlayfs's attribute (`layer/store.py`).  A hard link
into a lower layer is the file itself once more, as overlayfs would copy it up.
"""

from __future__ import annotations

import os
import stat

from oci_tools.bundle.fresh import Fresh
from oci_tools.errors import Error, quote
from oci_tools.layer import lookup, marks, merge
from oci_tools.layer.apply import link_at
from oci_tools.names import words
from oci_tools.shelf import Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.bundle import Image
    from oci_tools.layer.limits import Limits
    from oci_tools.layer.owner import Owner
    from oci_tools.layer.unpacked import Layer


def unpack(image: Image, path: str, owner: Owner, limits: Limits) -> str:
    """Unpack the layers into directories in the new directory `path`, which is returned, absolute."""
    owner.stacked = True
    sources = image.sources()
    digits = len(str(len(sources)))
    names = [f"{at:0{digits}}-{one.diff_id.partition(':')[2][:12]}" for at, one in enumerate(sources, 1)]
    with Fresh(path) as fresh:
        try:
            os.mkdir(fresh.place, 0o700)  # set-id files of images are not reachable by other users
        except OSError as error:
            raise Error("cannot make directory", fresh.path, error) from None
        places = [f"{fresh.place}/{name}" for name in names]
        with merge.Unpackers(sources, places, owner, limits) as layers:
            for at, layer in enumerate(layers):
                with layer.tree:
                    _copy_links(layer, places[:at][::-1], owner)
                    marks.finish(layer, owner)
        fresh.done()
    return fresh.path


_DIRECTORY = "a hard link to a directory"


def _copy_links(layer: Layer, below: list[str], owner: Owner) -> None:
    """What hard links into lower layers link to."""
    made = Shelf(layer.tree.root.attic)  # the first name of each
    for name, target in layer.links:
        parts = words(name)
        node = layer.tree.find(parts[:-1])
        assert node is not None
        if (known := made.get(target)) is not None:
            first = words(known)
            holder = layer.tree.find(first[:-1])
            assert holder is not None
            link_at(layer.tree, holder, first[-1], node, parts[-1])
            continue
        made.set(target, name, len(name))
        with lookup.Stack(below) as stack:
            fd = stack.resolve(target)
        if fd is None:
            what = _DIRECTORY if layer.tree.literal(words(target)) else f"no such file to link to: {quote(target)}"
            raise Error("cannot unpack", name, what)
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise Error("cannot unpack", name, _DIRECTORY)
            _copy(fd, layer.tree.fd(node), parts[-1], owner)
        except OSError as error:
            raise Error("cannot unpack", name, error) from None
        finally:
            os.close(fd)


def _copy(fd: int, at: int, name: bytes, owner: Owner) -> None:
    """A file or link of a lower layer once more; its attributes are the host's already."""
    seen = os.fstat(fd)
    source = f"/proc/self/fd/{fd}"
    if stat.S_ISREG(seen.st_mode):
        with open(source, "rb") as old, open(b"/proc/self/fd/%d/%b" % (at, name), "xb") as new:
            while os.copy_file_range(old.fileno(), new.fileno(), 1 << 30):
                pass
            if not owner.single:
                os.fchown(new.fileno(), seen.st_uid, seen.st_gid)
            for attribute in os.listxattr(source):
                os.setxattr(new.fileno(), attribute, os.getxattr(source, attribute))
            os.fchmod(new.fileno(), stat.S_IMODE(seen.st_mode))
    else:
        if stat.S_ISLNK(seen.st_mode):
            os.symlink(os.readlink(b"", dir_fd=fd), name, dir_fd=at)
        else:
            os.mknod(name, stat.S_IFMT(seen.st_mode) | 0o600, seen.st_rdev, dir_fd=at)
        if not owner.single:
            os.chown(name, seen.st_uid, seen.st_gid, dir_fd=at, follow_symlinks=False)
        if not stat.S_ISLNK(seen.st_mode):
            os.chmod(name, stat.S_IMODE(seen.st_mode), dir_fd=at, follow_symlinks=False)
    os.utime(name, ns=(seen.st_mtime_ns, seen.st_mtime_ns), dir_fd=at, follow_symlinks=False)
