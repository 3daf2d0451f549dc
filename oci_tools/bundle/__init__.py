"""An image and a directory become a bundle; runtime-spec bundle.md, image-spec conversion.md.

    BUNDLE/                      mode 0700: set-id files of images are not reachable by other users
        config.json
        rootfs/                  the tree; of an overlay bundle only where it will be mounted
        upper/ work/             of an overlay bundle: what the container writes, and overlayfs's own
        .oci-unpack.json         the record: from which image this is; written last
        .oci-unpack.snapshot     what rootfs/ was, for `oci-pack BUNDLE` (layer/snapshot.py)
        .oci-unpack.new/         while it is being made: locked; what a killed maker left is replaced

    record   {"version": 1, "image": "/layout@sha256:...", "name": name in the layout or null,
              "manifest": {"mediaType", "digest", "size"}, "config": digest, "layers": [digests], "diffIds": [digests],
              "owner": key of the ownership mapping, "snapshot": file name or null}
             and of one with subordinate ids "uidMappings" and "gidMappings" as config.json has them

An overlay bundle has none of the image's files: it names layers of the shared store in config.json's
annotation `io.oci-tools.overlay` (oci-bundle(5)), and is made in milliseconds.

Not here: how layers become trees (layer/), what config.json says (runtime/spec.py).
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.errors import Busy, Error, missing, quote
from oci_tools.image import config as configs
from oci_tools.image import manifest as manifests
from oci_tools.layer import store as stores

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.layer.limits import Limits
    from oci_tools.layer.owner import Owner

    Specify = Callable[["Image", Any], dict[str, Any]]

RECORD = ".oci-unpack.json"
SNAPSHOT = ".oci-unpack.snapshot"
WORK = ".oci-unpack.new"
OVERLAY = "io.oci-tools.overlay"
VERSION = 1
PASSWD_MAX = 1 << 20  # bytes of a file that is looked into before there is a container

# How the types of layers begin: what follows is the compression, or nothing.
_LAYERS = (
    manifests.OCI_LAYER,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    manifests.DOCKER_LAYER,
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)
_PARTS = (RECORD, SNAPSHOT, WORK, "config.json", "rootfs", "upper", "work")


class Image:
    """One image of a layout, chosen for a platform, its configuration read."""

    def __init__(
        self, layout: Layout, descriptor: Descriptor, platform: str | None = None, name: str | None = None
    ) -> None:
        self.layout = layout
        self.name = name
        self.descriptor, self.manifest = manifests.choose(layout, descriptor, platform)
        self.config = configs.load(layout, self.manifest)
        self.diff_ids = configs.diff_ids(self.config)
        self.layers: list[Descriptor] = self.manifest["layers"]

    @property
    def id(self) -> str:
        """The digest of its configuration, by which it is known."""
        return str(self.manifest["config"]["digest"])

    def sources(self) -> list[Any]:
        """Its layers, to be unpacked."""
        from oci_tools.layer.apply import Source

        found = []
        checks = getattr(self.layout, "checks", None)  # who fetches a blob sees to its digest: registry/arriving.py
        for layer, diff_id in zip(self.layers, self.diff_ids, strict=True):
            kind = layer.get("mediaType", "")
            if kind and not kind.startswith(_LAYERS):
                raise Error("cannot unpack", layer["digest"], f"unknown type of layer: '{kind}'")
            said = kind.replace(".", "+").rpartition("+")[2] if kind.endswith(("gzip", "zstd")) else "none"
            digest = None if checks and checks(layer) else layer["digest"]
            found.append(Source(self._opener(layer), digest, layer["size"], diff_id, said if kind else None))
        return found

    def _opener(self, layer: Descriptor) -> Callable[[], Any]:
        return lambda: self.layout.blob(layer)

    def record(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "image": f"{self.layout.path}@{self.descriptor['digest']}",
            "name": self.name,
            "manifest": {
                key: self.descriptor[key] for key in ("mediaType", "digest", "size") if key in self.descriptor
            },
            "config": self.id,
            "layers": [layer["digest"] for layer in self.layers],
            "diffIds": self.diff_ids,
        }


def specification(image: Image, rootfs: Any, maps: Any = None) -> dict[str, Any]:
    """The config.json of an image; `rootfs` is where a user's name is looked up: see runtime/spec.py.

    maps  of a user namespace, as subordinate.py has them
    """
    from oci_tools.runtime import spec

    rootless = os.geteuid() != 0 or maps is not None
    return spec.from_image(image.config, rootfs, spec.default(rootless=rootless, maps=maps))


# -- bundles that are there ----------------------------------------------------------------------


def is_bundle(path: str) -> bool:
    """Whether a directory is a bundle of ours (contracts.md, "Path operands")."""
    return os.path.exists(f"{path}/{RECORD}")


def record(path: str) -> dict[str, Any]:
    """The record of a bundle."""
    known = document.load(f"{path}/{RECORD}")
    if not isinstance(known, dict) or known.get("version") != VERSION:
        raise Error("cannot read", f"{path}/{RECORD}", "not a record that this version knows")
    return known


def overlay_of(path: str) -> dict[str, Any] | None:
    """What an overlay bundle stacks: its annotation as a dict; None for a plain bundle."""
    spec = document.load(f"{path}/config.json")
    text = (spec.get("annotations") or {}).get(OVERLAY) if isinstance(spec, dict) else None
    found: dict[str, Any] | None = document.loads(text, OVERLAY) if isinstance(text, str) else None
    return found


def remove(path: str) -> None:
    """Remove a bundle with all that is in it, and its root in the layer store."""
    from oci_tools.bundle import subordinate

    # Also of what was never finished, whose record would tell: files may belong to subordinate ids.
    subordinate.inside(subordinate.maps_of_user(), lambda: _remove(os.path.abspath(path)))


def _remove(path: str) -> None:
    if not is_bundle(path) and not os.path.exists(f"{path}/{WORK}"):
        raise Error("cannot remove", path, "it is no bundle of ours", f"it has no {RECORD}")
    known = overlay_of(path) if os.path.exists(f"{path}/config.json") else None
    unmount(path)
    fs.remove_tree(path)
    if known is not None:
        release(path)


def unmount(path: str) -> None:
    """Undo what mounted.py did, if it did."""
    place = f"{path}/rootfs"
    if not os.path.ismount(place):
        return
    if os.geteuid() == 0:
        from oci_tools.runtime import overlay

        return overlay.detach(place)
    # fusermount3(1) is set-user-ID: it undoes what the same user mounted.
    program = next((p for p in ("/usr/bin/fusermount3", "/bin/fusermount3") if os.access(p, os.X_OK)), None)
    if program is None:
        raise missing("fusermount3", "cannot unmount", place)
    child = os.posix_spawn(program, [program, "-u", place], {})
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise Error("cannot unmount", place, "fusermount3 failed")


def release(path: str) -> None:
    """Let gc have the layers of an overlay bundle that is gone, or was never finished."""
    try:
        os.unlink(f"{stores.directory()}/.roots/{_root_name(os.path.abspath(path))}")
    except FileNotFoundError:
        pass


# -- making one -----------------------------------------------------------------------------------


def unpack(
    image: Image, path: str, owner: Owner, limits: Limits, specify: Specify = specification, maps: Any = None
) -> str:
    """Make the bundle `path`, with all files of an image in it; its absolute path is returned.

    maps  by which the owner is mapped, for the record
    """
    with _Making(path) as making:
        _copy(making, image, owner, limits, specify, maps)
    return making.path


def _copy(making: _Making, image: Image, owner: Owner, limits: Limits, specify: Specify, maps: Any) -> None:
    from oci_tools.layer import beside, lookup, merge, snapshot

    rootfs = making.part("rootfs")
    merge.flatten(image.sources(), rootfs, owner, limits)
    rootfd = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        beside.seeing(lambda: snapshot.take(rootfd, making.part(SNAPSHOT)))
    finally:
        os.close(rootfd)
    spec = specify(image, lookup.reader([rootfs], PASSWD_MAX))
    known = {**image.record(), "owner": owner.key, "snapshot": SNAPSHOT, **(maps or {})}
    making.finish(["rootfs", SNAPSHOT], spec, known)


def overlay(
    image: Image,
    path: str,
    owner: Callable[[], Owner] | None = None,
    limits: Limits | None = None,
    specify: Specify = specification,
    key: str | None = None,
    maps: Any = None,
) -> str:
    """Make the overlay bundle `path` over the shared layer store; its absolute path is returned.

    Where the kernel cannot stack layers it is one that has all files.
    `owner` and `limits` are wanted only where layers have to be unpacked first.
    `key` and `maps` are of the owner's mapping, if it is not this process's own.
    """
    if key is None:
        key = "" if os.geteuid() == 0 else f"single-{os.geteuid()}-{os.getegid()}"
    store = stores.Store(key)
    with _Making(path) as making, store.lock():
        if not stores.can_stack(making.path, key):
            whose = _owner(owner)
            whose.warn("stack", f"overlayfs cannot write where {quote(making.path)} is: all files are copied into it")
            _copy(making, image, whose, limits or _limits(), specify, maps)
            return making.path
        root = _root_name(making.path)
        store.use(making.path, root)
        try:
            chain = store.chain(image.id) or _fill(store, image, owner, limits)
            _stack(making, image, store, chain, specify, maps)
        except BaseException:
            store.leave(root)
            raise
    return making.path


def _stack(
    making: _Making, image: Image, store: stores.Store, chain: stores.Chain, specify: Specify, maps: Any
) -> None:
    """Make what an overlay bundle has of its own."""
    from oci_tools.layer import lookup

    stores.make_upper(making.part("upper"), chain)
    for name in ("work", "rootfs"):
        os.mkdir(making.part(name), 0o700)
    spec = specify(image, lookup.reader([store.tree(digest) for digest in chain.lower], PASSWD_MAX))
    stacked: dict[str, Any] = {"lower": chain.lower, "upper": "upper", "work": "work", "store": store.trees}
    if not store.key and any(each["type"] == "user" for each in spec["linux"].get("namespaces", ())):
        stacked["idmap"] = True  # the layers are as they come, and the container's users are others
    spec.setdefault("annotations", {})[OVERLAY] = document.dumps(stacked).decode()
    known = {**image.record(), "owner": store.key, "snapshot": None, **(maps or {})}
    making.finish(["upper", "work", "rootfs"], spec, known)


def _fill(
    store: stores.Store, image: Image, owner: Callable[[], Owner] | None, limits: Limits | None
) -> stores.Chain:
    if not image.layers:
        raise Error("cannot stack", image.id, "the image has no layers", "unpack it without --overlay")
    return store.ensure(image.id, image.sources(), _owner(owner), limits or _limits())


def _owner(owner: Callable[[], Owner] | None) -> Owner:
    from oci_tools.layer import owner as owners

    return (owner or owners.for_process)()


def _limits() -> Limits:
    from oci_tools.layer.limits import Limits

    return Limits()


def _root_name(path: str) -> str:
    from oci_tools.image import digest

    return digest.of(os.fsencode(path)).partition(":")[2][:32]


class _Making:
    """A bundle being made, in a `with` block: what is not finished is removed with all that was begun."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._work = f"{self.path}/{WORK}"
        self._lock: fs.Lock | None = None
        self._made = False
        self._finished = False

    def part(self, name: str) -> str:
        return f"{self._work}/{name}"

    def __enter__(self) -> _Making:
        try:
            self._claim()
        except BaseException:
            if self._lock:
                self._lock.__exit__()
            raise
        return self

    def _claim(self) -> None:
        """Have the directory, empty but for our work, and nobody else in it."""
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            try:
                os.mkdir(self.path, 0o700)
                self._made = True
            except FileExistsError:
                names = set(os.listdir(self.path))
                if names and (WORK not in names or RECORD in names or not names.issubset(_PARTS)):
                    if RECORD in names:
                        self._forget()
                    raise Error("cannot unpack into", self.path, "it is not empty") from None
                os.chmod(self.path, 0o700)
            if not os.path.isdir(self._work):
                os.mkdir(self._work, 0o700)
        except OSError as error:
            raise Error("cannot make bundle", self.path, error) from None
        lock = fs.Lock(self._work, timeout=0)
        try:
            lock.__enter__()
        except Busy:
            raise Busy("cannot unpack into", self.path, "another process is unpacking into it") from None
        self._lock = lock
        try:
            ours = os.path.samestat(os.fstat(lock.fd), os.stat(self._work))
        except FileNotFoundError:
            ours = False
        if not ours or is_bundle(self.path):  # the other one has just finished
            raise Busy("cannot unpack into", self.path, "another process has unpacked into it")
        self._clean()

    def _forget(self) -> None:
        """Of a finished bundle, remove the directory that its maker was killed before removing."""
        try:
            with fs.Lock(f"{self._work}/", timeout=0):
                os.rmdir(self._work)
        except (Error, OSError):
            pass  # there is none, or it is in use

    def _clean(self) -> None:
        """Remove what a killed maker left."""
        for name in _PARTS:
            if name != WORK:
                fs.remove_tree(f"{self.path}/{name}")
        for name in os.listdir(self._work):
            fs.remove_tree(f"{self._work}/{name}")

    def finish(self, parts: list[str], spec: dict[str, Any], known: dict[str, Any]) -> None:
        """Everything is there: give the parts their names, the record last."""
        try:
            fs.write(self.part("config.json"), document.dumps(spec) + b"\n", sync=False)
            fs.write(self.part(RECORD), document.dumps(known) + b"\n", sync=False)
            for name in (*parts, "config.json", RECORD):
                os.rename(self.part(name), f"{self.path}/{name}")
        except OSError as error:
            raise Error("cannot make bundle", self.path, error) from None
        self._finished = True

    def __exit__(self, kind: object, error: object, *_: object) -> None:
        try:
            if not self._finished:
                self._clean()
            os.rmdir(self._work)
            if self._made and not self._finished:
                os.rmdir(self.path)
        except (OSError, Error):
            if self._finished:
                raise
        finally:
            if self._lock:
                self._lock.__exit__()
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise Error("cannot make bundle", self.path, error) from None
