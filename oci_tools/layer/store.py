"""The shared layer store: every layer unpacked once, read-only, for all bundles that use it.

    layers/                     mode 0700: set-id files of images are not reachable by other users
    layers/[OWNER/]ALGORITHM/HEX       a layer's tree by its diff id, whiteouts as overlayfs has them
    layers/[OWNER/]ALGORITHM/HEX.json  what the tree cannot say; written before the tree gets its name
    layers/[OWNER/]chains/HEX.json     what stacks a known image: see `Chain`; HEX is its config's digest
    layers/.new/                being made; each under the lock of its name
    layers/.roots/HASH          links to the bundles that use layers; a dangling one counts no more
    layers/.lock                shared by who takes layers into use, exclusive for gc

HEX.json says, paths as strings as os.fsdecode gives them:

    implied    directories that only appear in the names of others: what they are like is for lower layers to say
    hollow     directories that are there for marks alone
    hiding     directories with names in them that are devices 0:0
    opaques    directories whose content below is hidden, whatever they are like there
    root       whether the layer says what the root is like
    links      it cannot be stacked: hard links into lower layers, or more paths than fit in ROOM, which are not said

OWNER is the ownership mapping (`Owner.key`), nothing for layers as they say.

overlayfs shows a directory with the attributes of the highest layer that has it, so what a layer only
implies ("etc" by "etc/passwd") would hide the attributes below; and it shows a whiteout that has no
directory below it as a name.  The bundle's own upper directory gets what makes this good.  Layers
that cannot be stacked at all (a hard link into a lower layer, a name through a lower layer's link),
and those of which too much would have to be made good, are flattened into one tree.
"""

from __future__ import annotations

import os
import stat
import sys

from oci_tools import document, fs
from oci_tools.errors import Busy, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from oci_tools.layer.apply import Source
    from oci_tools.layer.limits import Limits
    from oci_tools.layer.owner import Owner

VERSION = 1
NEW_TIMEOUT = 600.0  # seconds to wait for another process that unpacks the same layer
ROOM = 16 << 20  # bytes of what is said of all layers of an image, in the memory of who stacks them; some 40,000 paths
LISTS = ("implied", "hollow", "hiding", "opaques")
NOTHING: dict[str, Any] = {**{name: [] for name in LISTS}, "root": True, "links": False}
OPAQUE = {True: "trusted.overlay.opaque", False: "user.overlay.opaque"}  # by whether the kernel trusts us


def weight(path: bytes | str) -> int:
    """Bytes of a path for who stacks: in what is read, in its list, and in a set."""
    return 3 * len(path) + 130


def directory() -> str:
    """Where the layers of this user are."""
    return f"{fs.root()}/layers"


class Chain:
    """What to stack for an image.

    lower   digests, the top one first, of trees in the store
    made    directories to make in an upper directory: [path, mode, uid, gid, mtime, {xattr: value}], the
            root's path is ""; ids are the layer's, values and paths strings as os.fsdecode gives them
    hidden  paths of whiteouts to make there
    """

    __slots__ = ("hidden", "lower", "made")

    def __init__(self, lower: list[str], made: list[list[Any]], hidden: list[str]) -> None:
        self.lower = lower
        self.made = made
        self.hidden = hidden


class Store:
    """The store of one ownership mapping; `trees` is where its layers are."""

    def __init__(self, key: str = "", path: str | None = None) -> None:
        self.path = path or directory()
        self.key = key
        self.trees = f"{self.path}/{key}" if key else self.path

    def tree(self, digest: str) -> str:
        """The path that a layer has or would have."""
        algorithm, _, text = digest.partition(":")
        return f"{self.trees}/{algorithm}/{text}"

    def lock(self, shared: bool = True, timeout: float | None = None) -> fs.Lock:
        """What gc waits for, and who takes layers into use meanwhile."""
        fs.make_private(self.path)
        return fs.Lock(f"{self.path}/.lock", shared=shared, timeout=timeout)

    def use(self, bundle: str, name: str) -> None:
        """Keep gc from what a bundle uses until the bundle is gone.

        Under the lock, and before the layers are looked for.
        """
        roots = fs.make_private(f"{self.path}/.roots")
        beside = f"{roots}/{name}.{os.getpid()}.new"
        try:
            os.symlink(bundle, beside)
            os.rename(beside, f"{roots}/{name}")
        except OSError as error:
            raise Error("cannot write", roots, error) from None

    def leave(self, name: str) -> None:
        """A bundle uses layers no more."""
        try:
            os.unlink(f"{self.path}/.roots/{name}")
        except FileNotFoundError:
            pass

    # -- known images ------------------------------------------------------------------------

    def chain(self, config: str) -> Chain | None:
        """What to stack for the image with this config digest, if all of it is here."""
        try:
            with open(self._chain_path(config), "rb", buffering=0) as file:
                known = document.loads(file.read())
            if known["version"] != VERSION:
                return None
            for digest in known["lower"]:
                os.stat(self.tree(digest))
        except (FileNotFoundError, KeyError, TypeError):
            return None
        return Chain(known["lower"], known["made"], known["hidden"])

    def _chain_path(self, config: str) -> str:
        return f"{self.trees}/chains/{config.partition(':')[2]}.json"

    # -- new ones ------------------------------------------------------------------------------

    def ensure(self, config: str, sources: Sequence[Source], owner: Owner, limits: Limits) -> Chain:
        """What to stack for an image: what is missing is unpacked, and checked as it is."""
        from oci_tools.layer import stack

        found = self.chain(config)
        if found is None:
            found = stack.build(self, sources, owner, limits)
            fs.make_private(f"{self.trees}/chains")
            known = {"version": VERSION, "lower": found.lower, "made": found.made, "hidden": found.hidden}
            fs.write(self._chain_path(config), document.dumps(known), 0o600, sync=False)
        return found

    def has(self, digest: str) -> bool:
        return os.path.isdir(self.tree(digest))

    def says(self, digest: str) -> dict[str, Any]:
        """What a layer's tree cannot say, as `marks.finish` put it down."""
        said: dict[str, Any] = document.load(f"{self.tree(digest)}.json")
        if "whiteouts" in said:  # an older store says every name
            said["hiding"] = list({path.rpartition("/")[0] for path in said.pop("whiteouts")})
        return said

    def new(self, digest: str) -> _New:
        """A place to make a layer in, for one process at a time; in a `with` block that ends with `commit`."""
        return _New(self, digest)


class _New:
    """A layer being made: `place` is where, `say` puts down what the tree cannot say, `commit` gives it its name."""

    def __init__(self, store: Store, digest: str) -> None:
        self._path = store.tree(digest)
        name = f"{store.key}-{digest.replace(':', '-')}"
        fresh = fs.make_private(f"{store.path}/.new")
        self.place = f"{fresh}/{name}"
        self._lock = fs.Lock(f"{fresh}/{name}.lock", timeout=NEW_TIMEOUT)

    def __enter__(self) -> _New:
        while True:
            self._lock.__enter__()
            try:
                if os.path.samestat(os.fstat(self._lock.fd), os.stat(self._lock.path)):
                    fs.remove_tree(self.place)  # a killed one's
                    return self
            except FileNotFoundError:
                pass
            self._lock.__exit__()  # whoever had it removed it: the next one is another file

    def __exit__(self, *_: object) -> None:
        fs.remove_tree(self.place)
        for path in (self._lock.path, *(() if os.path.isdir(self._path) else (f"{self._path}.json",))):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
        self._lock.__exit__()

    def say(self, said: dict[str, Any]) -> None:
        fs.make_private(os.path.dirname(self._path))
        fs.write(f"{self._path}.json", document.dumps({"version": VERSION, **said}), 0o600, sync=False)

    def commit(self) -> None:
        """The tree at `place` is done: it gets its name, and never changes again."""
        try:
            os.rename(self.place, self._path)
        except OSError as error:
            if not os.path.isdir(self._path):
                raise Error("cannot write", self._path, error) from None


def sweep(path: str | None = None) -> None:
    """Remove what killed processes left half-made."""
    fresh = f"{path or directory()}/.new"
    try:
        names = os.listdir(fresh)
    except FileNotFoundError:
        return
    for name in {name.removesuffix(".lock") for name in names}:
        try:
            with fs.Lock(f"{fresh}/{name}.lock", timeout=0):
                fs.remove_tree(f"{fresh}/{name}")
                os.unlink(f"{fresh}/{name}.lock")
        except (Busy, FileNotFoundError):
            pass


# File systems in which overlayfs makes no upper directory, by statfs(2): itself, and those whose names may change
# behind the kernel's back: overlayfs, FUSE, NFS, CIFS, SMB, 9P, Ceph, VFAT.
_NO_UPPER = (0x794C7630, 0x65735546, 0x6969, 0xFF534D42, 0xFE534D42, 0x01021997, 0x00C36400, 0x4D44)
_USERS = (5, 11)  # the first Linux where overlayfs can be had in a user namespace


def can_stack(path: str, key: str) -> bool:
    """Whether an overlay of the layers of an owner can have its upper directory in a directory."""
    from oci_tools.linux import libc

    if key and tuple(int(word) for word in os.uname().release.split("-")[0].split(".")[:2] if word.isdigit()) < _USERS:
        return False
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        held = libc.buffer(120)  # struct statfs; f_type is its first word
        libc.call("fstatfs", fd, libc.address(held))
        return int.from_bytes(bytes(held)[:4], sys.byteorder) not in _NO_UPPER
    finally:
        os.close(fd)


# -- bundles ---------------------------------------------------------------------------------


def make_upper(upper: str, chain: Chain, roomy: bool = False) -> None:
    """Make an overlay's upper directory, `roomy` if it is to have many files, with what the stack needs in it."""
    from oci_tools.layer.tree import READ, Tree, new_root
    from oci_tools.names import words

    fd = new_root(upper, roomy)
    try:
        with Tree(fd) as tree:
            made = [(tree.find(words(os.fsencode(path)), make=True) or tree.root, row) for path, *row in chain.made]
            for path in map(os.fsencode, chain.hidden):
                parent, _, name = path.rpartition(b"/")
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=tree.fd(tree.find(words(parent), make=True) or tree.root))
            for node, row in reversed(made):
                at = os.open(node.name or b".", READ, dir_fd=tree.fd(node.parent or node))
                try:
                    _settle(at, *row)
                finally:
                    os.close(at)
    finally:
        os.close(fd)


def _settle(fd: int, mode: int, uid: int, gid: int, mtime: int | None, xattrs: dict[str, str]) -> None:
    """The attributes of a directory."""
    if (uid, gid) != (os.geteuid(), os.getegid()):
        os.fchown(fd, uid, gid)
    for name, value in xattrs.items():
        os.setxattr(fd, name, os.fsencode(value))
    os.fchmod(fd, mode)
    if mtime is not None:
        os.utime(fd, ns=(mtime, mtime))
