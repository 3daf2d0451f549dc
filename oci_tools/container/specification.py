"""The config.json of an image, of a bundle's image, or of nothing, as `oci-spec new` prints it; options as changes.

What the options of one-shot containers say of the specification is said to `oci-spec` in the same words.
"""

from __future__ import annotations

import os

from oci_tools import bundle as bundles
from oci_tools import cli, document
from oci_tools.container import options, process
from oci_tools.container.host import Host
from oci_tools.errors import Usage
from oci_tools.runtime import check, fields
from oci_tools.runtime import spec as specs
from oci_tools.runtime import user as users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.runtime.user import Read


class _Base:
    """What the options change: a specification, the words it is of, and where its users are looked up."""

    def __init__(
        self, spec: dict[str, Any], image: dict[str, Any] | None = None, users: str | Read | None = None
    ) -> None:
        config = specs.image_config(image)["config"] if image else {}
        self.spec = spec if image is None else specs.from_image(image, users, spec)
        self.entrypoint: list[str] = config.get("Entrypoint", [])
        self.words: list[str] = config.get("Cmd", []) if image else spec["process"]["args"]
        self.users = users


def new(args: Args) -> dict[str, Any]:
    """What `args` ask for, by an operand (an image, a bundle, or none), words for it, and options."""
    rootless = {"auto": os.geteuid() != 0, "true": True, "false": False}[args.rootless]
    base = _base(args, specs.default(rootless))
    if args.cmd or args.entrypoint is not None:
        base.spec["process"]["args"] = process.command(args, base.entrypoint, base.words)
    if says_something(args):
        options.apply(base.spec, args, Host(base.users))
    if not base.spec["process"]["args"]:
        raise Usage("no command specified")
    return base.spec


def change(spec: Any, args: Args) -> Any:
    """A specification as options change it; its users are not looked up, so they must be numbers."""
    if not says_something(args):
        return spec
    check.fields(spec, {**fields.CONFIG, "": ()}, "config.json")
    absent = [name for name in ("annotations", "linux", "mounts") if name not in spec]
    made = spec.setdefault("process", {"cwd": "/"})
    made.setdefault("cwd", "/")
    spec.setdefault("root", {"path": "rootfs"})
    if args.entrypoint is not None:
        made["args"] = document.words(args.entrypoint, "--entrypoint")
    options.apply(spec, args, Host())
    for name in absent:
        if not spec[name]:
            del spec[name]
    return spec


def says_something(args: Args) -> bool:
    """Whether any option says something of the specification."""
    for option in options.SPECIFYING:
        default = list(option[2]) if option[1] == "list" else option[2]
        if getattr(args, cli.dest(option)) != default:
            return True
    return False


def _base(args: Args, base: dict[str, Any]) -> _Base:
    from oci_tools.image.source import Source

    word = args.image_bundle
    if word is None:
        return _Base(base)
    if word != "-" and bundles.is_bundle(word):
        return _of_bundle(os.path.abspath(word), base)
    with Source(word) as source:
        image = bundles.Image(source.layout, source.descriptor, args.platform, source.name)
        return _Base(base, image.config, _users(image, args))


def _of_bundle(path: str, base: dict[str, Any]) -> _Base:
    """From the image that a bundle was made of; its users are looked up in the bundle as it is now."""
    from oci_tools.container.image import users_of
    from oci_tools.image.source import Source

    stacked = bundles.overlay_of(path)
    if stacked is not None:
        base.setdefault("annotations", {})[bundles.OVERLAY] = document.dumps(stacked).decode()
    with Source(bundles.record(path)["image"]) as source:
        image = bundles.Image(source.layout, source.descriptor)
        return _Base(base, image.config, users_of(path, base))


def _users(image: bundles.Image, args: Args) -> Read | None:
    """The files of an image: of its layers if they are unpacked already, or must be to know a name."""
    from oci_tools.layer import lookup, owner, store
    from oci_tools.layer.limits import Limits

    whose = owner.for_process()
    kept = store.Store(whose.key)
    chain = kept.chain(image.id)
    said = image.config.get("config")
    words = [said.get("User") if isinstance(said, dict) else None, args.user, *args.group_add]
    if chain is None and any(isinstance(word, str) and not users.is_numeric(word) for word in words):
        with kept.lock():
            chain = kept.ensure(image.id, image.sources(), whose, Limits())
    return lookup.reader([kept.tree(digest) for digest in chain.lower], bundles.PASSWD_MAX) if chain else None
