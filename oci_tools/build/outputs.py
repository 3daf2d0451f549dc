"""The words of --output: what kind, where to, and how, in the words of buildx and BuildKit.

    type=image      name=IMAGE[,IMAGE...], push=true     into layouts; to registries too; store=false: only there
    type=registry   the same, pushed
    type=oci|docker dest=FILE, name=..., tar=false       an archive; oci with tar=false a layout
    type=local      dest=DIR, mode=copy|delete, platform-split=true|false
    type=tar        dest=FILE
    type=cacheonly  nothing: what is built is in the cache
    DIR, -          local, tar on standard output

Of images also annotation.NAME=VALUE, compression=, compression-level=, oci-mediatypes=true, rewrite-timestamp=true:
these are about the whole build here, where there is one image for all.
"""

from __future__ import annotations

from oci_tools import compress
from oci_tools.build import levels
from oci_tools.errors import Usage
from oci_tools.image import ref as refs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oci_tools.build.options import Options

_IMAGE = ("name", "compression", "compression-level", "oci-mediatypes", "rewrite-timestamp")
_ARCHIVE = ("dest", "tar", *_IMAGE)
_FILES = ("dest", "platform-split")
_KNOWN = {
    "image": ("dest", "push", "store", *_IMAGE), "registry": ("store", *_IMAGE), "oci": _ARCHIVE, "docker": _ARCHIVE,
    "local": ("mode", *_FILES), "tar": _FILES, "cacheonly": (),
}  # fmt: skip
KINDS = tuple(_KNOWN)
_ONLY = ("oci-mediatypes", "rewrite-timestamp")  # the other way is not there
_ANNOTATIONS = {"annotation": "manifest,index", **{f"annotation-{level}": level for level in levels.LEVELS}}
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Output:
    """One output.

    dest    a path, "-" for standard output
    names   of the image
    tar     whether it is an archive; delete: what is not in the image goes from `dest`
    push    to registries too; store: in a layout of ours
    split   a directory for each platform; None: if there are several
    """

    def __init__(self, kind: str, dest: str = "-") -> None:
        self.kind = kind
        self.dest = dest
        self.names: list[str] = []
        self.targets: list[str] = []  # of a push: what it is called, else those tags that a registry can have
        self.tar = True
        self.push = kind == "registry"
        self.store = True
        self.delete = False
        self.split: bool | None = None
        self.compression = ""
        self.level: int | None = None
        self.annotations: list[str] = []

    @property
    def is_image(self) -> bool:
        return self.kind in ("image", "registry")

    @property
    def is_kept(self) -> bool:
        """Whether it is an image in a layout of ours."""
        return self.is_image and self.store


def parse(word: str) -> Output:
    """type=KIND,dest=PATH,...; or DIR; or - for a tar on standard output."""
    if "=" not in word:
        return Output("tar") if word == "-" else Output("local", word)
    import csv

    fields = next(csv.reader([word]), [])
    said = {key.strip(): value for key, _, value in (field.partition("=") for field in fields)}
    kind = said.pop("type", "")
    if kind not in KINDS:
        raise Usage("unknown kind of output", kind or word, hint=f"type={'|'.join(KINDS)}")
    made = Output(kind)
    for key, value in said.items():
        _set(made, key, value, word)
    if kind == "local" and made.dest == "-":
        raise Usage("an output of type local needs dest=DIR", word)
    if not made.tar and made.dest == "-":
        raise Usage("an output that is no archive needs dest=DIR", word)
    return made


def _set(made: Output, key: str, value: str, word: str) -> None:
    place, dot, name = key.partition(".")
    key = {"destination": "dest"}.get(key, key)
    if dot and name and place in _ANNOTATIONS and "name" in _KNOWN[made.kind]:
        made.annotations.append(f"{_ANNOTATIONS[place]}:{name}={value}")
    elif key not in _KNOWN[made.kind]:
        hint = f"{made.kind} has {', '.join(_KNOWN[made.kind])}" if _KNOWN[made.kind] else None
        raise Usage("unknown word of --output", f"{key}={value}", hint=hint)
    elif key == "dest" and not made.is_image:
        made.dest = value or "-"
    elif key in ("name", "dest"):
        made.names = [each for each in value.split(",") if each]
    elif key == "compression":
        made.compression = {"uncompressed": "none"}.get(value, value)
        if made.compression not in ("gzip", "zstd", "none"):
            raise Usage("invalid value for --output", f"{key}={value}", hint="gzip, zstd, uncompressed")
    elif key == "compression-level":
        if not value.isdigit():
            raise Usage("invalid value for --output", f"{key}={value}", "it is no number")
        made.level = int(value)
    elif key == "mode":
        if value not in ("copy", "delete"):
            raise Usage("invalid value for --output", f"{key}={value}", hint="copy, delete")
        made.delete = value == "delete"
    elif value.lower() not in _BOOLEANS:
        raise Usage("invalid value for --output", f"{key}={value}", hint="true, false")
    elif key in _ONLY:
        if not _BOOLEANS[value.lower()]:
            raise Usage("invalid value for --output", f"{key}={value}", "it is always so")
    else:
        setattr(made, {"platform-split": "split"}.get(key, key), _BOOLEANS[value.lower()])


def settle(outputs: Iterable[Output], tags: list[str], options: Options) -> None:
    """What outputs say of the image is what is built; and they are asked what they need."""
    for each in outputs:
        each.targets = [*each.names] or [tag for tag in tags if refs.locate(tag).kind == "store"]
        for name in (each.targets or tags or [""]) if each.push else ():
            if not name or refs.locate(name).kind != "store":
                raise Usage("cannot push to", name, "it is no reference of a registry", f"type={each.kind},name=REF")
        options.annotations = [*options.annotations, *each.annotations]
        if each.compression:
            options.compression, options.level = each.compression, each.level
        elif each.level is not None:
            options.level = each.level
    lowest, highest, _ = compress.LEVELS[options.compression]
    if options.level is not None and not lowest <= options.level <= highest:
        raise Usage("unknown compression level", options.level, f"{options.compression} has {lowest} to {highest}")
