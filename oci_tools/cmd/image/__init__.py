"""oci-image: images at rest in a layout.

What can be said is declared here; what it does is beside, by families of verbs, and loaded when it is done.
"""

from __future__ import annotations

from oci_tools import cli
from oci_tools.image.words import CHANGES, PROGRESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FIELDS: cli.Option = ("--fields NAME[,NAME]...", "text", None, "the columns to list")
JSON: cli.Option = ("--json", "flag", False, "list JSON objects, one a line")
LOCK: cli.Option = ("--lock-timeout SECONDS", "int", 60, "how long to wait for another's change")
PLATFORM: cli.Option = ("--platform OS/ARCH[/VARIANT]", "text", None, "the image of an index to take")
PLATFORMS: cli.Option = ("--platform OS/ARCH[/VARIANT]", "list", (), "the image of an index to take; several: an index")
TAG: cli.Option = ("-t --tag NAME", "text", None, "the name of the changed image, if not the same")
GRACE: cli.Option = ("--grace TIME", "text", "1h", "how long what lost its name stays: 90s, 10m, 1h, 7d")
OUTPUT: cli.Option = ("-o --output FILE", "text", None, "write there, not to standard output")
DRY: cli.Option = ("-n --dry-run", "flag", False, "only say what would be removed")
FAST: cli.Option = ("--fast", "flag", False, "leave the contents of layers alone")
FORMAT: cli.Option = ("--format oci|docker", ("oci", "docker"), None, "whose media types, if not as they are")
REFERRERS: cli.Option = ("--referrers", "flag", False, "take along what refers to the image, as signatures do")
SPARSE: cli.Option = ("--sparse", "flag", False, "keep an index as it is, with these images of it only")
BLOBS_FROM: cli.Option = ("--blobs-from DIR", "text", None, "directory with the blobs that the read layout lacks")
BLOBS_TO: cli.Option = ("--blobs-to DIR", "text", None, "directory for the blobs of the layout, which others may share")
ARTIFACT: cli.Option = ("--artifact-type TYPE", "text", None, "list only artifacts of this type")
IGNORE: cli.Option = ("--ignore WHAT[,WHAT]...", "list", (), "differences that are none: time, owner, layer and others")
ANNOTATION: cli.Option = ("-a --annotation NAME[=VALUE]", "list", (), "set an annotation; without a value take it away")
ALGORITHM: cli.Option = ("--digest-algorithm NAME", ("sha256", "sha512"), None, "name all of it by such digests")
KIND: cli.Option = ("--artifact-type TYPE", "text", None, "what kind of artifact it is")
SUBJECT: cli.Option = ("--subject IMAGE", "text", None, "the image that it is about")
NEST: cli.Option = ("--nest", "flag", False, "take an index as one entry, not its images")
BESIDE: cli.Option = ("--beside", "flag", False, "leave the entry for the same platform where it is")
IS: cli.Option = ("--platform OS/ARCH[/VARIANT]", "text", None, "what the entry is for, whatever its image says")


def _late(module: str, name: str) -> Callable[[cli.Args], int | None]:
    """The function of a verb, from its module when it is called."""

    def run(args: cli.Args) -> int | None:
        found = getattr(__import__(f"oci_tools.cmd.image.{module}", fromlist=[name]), name)
        code: int | None = found(args)
        return code

    return run


def _verb(
    where: str, summary: str, usage: str, options: tuple[cli.Option, ...], example: str, group: str = ""
) -> cli.Command:
    module, name = where.split(".")
    full = f"oci-image {group}{name}"
    return cli.Command(full, summary, usage, options, _late(module, name), example=f"{full} {example}")


_INDEX = {
    "create": _verb("index.create", "make an index of images", "INDEX [IMAGE...]", (ANNOTATION, NEST, LOCK),
                    "./img:app ./img:app-amd64 ./img:app-arm64", "index "),
    "add": _verb("index.add", "add images to an index", "INDEX IMAGE...", (IS, ANNOTATION, NEST, BESIDE, LOCK),
                 "./img:app oci-archive:arm.tar", "index "),
    "rm": _verb("index.rm", "take entries out of an index", "INDEX ENTRY...", (LOCK,), "./img:app linux/386", "index "),
    "annotate": _verb("index.annotate", "say more of an index, or of an entry of it", "INDEX [ENTRY]",
                      (ANNOTATION, IS, LOCK), "-a org.opencontainers.image.version=2 ./img:app", "index "),
}  # fmt: skip

_ARTIFACT = {
    "create": _verb("artifact.create", "make an artifact of files", "IMAGE [FILE...]",
                    (KIND, SUBJECT, ANNOTATION, LOCK), "--artifact-type application/spdx+json --subject ./img:app "
                    "./img:app-sbom sbom.json:application/spdx+json", "artifact "),
    "extract": _verb("artifact.extract", "write an artifact's files into a directory", "IMAGE DIR", (),
                     "./img:app-sbom ./out", "artifact "),
}  # fmt: skip

COMMAND = cli.Command(
    "oci-image",
    "list, show, name, change, check, compare, copy and remove images in a layout",
    example="oci-image diff ./img:old ./img:new",
    verbs={
        "ls": _verb("show.ls", "list images", "[IMAGE...]", (FIELDS, JSON), "--fields name,platform,total ./img"),
        "inspect": _verb("show.inspect", "show all that is known of an image", "IMAGE...", (PLATFORM,), "alpine"),
        "cat": _verb("show.cat", "show a manifest or blob, byte for byte", "IMAGE", (PLATFORM,), "./img:app"),
        "config": _verb("change.config", "show or change an image's configuration", "IMAGE",
                        (TAG, *CHANGES, PLATFORM, LOCK), "-e DEBUG=1 --cmd '[\"sh\"]' ./img:app"),
        "history": _verb("show.history", "list the steps that made an image", "IMAGE", (FIELDS, JSON, PLATFORM),
                         "alpine"),
        "tree": _verb("show.tree", "show what an image is made of, and what refers to it", "IMAGE", (JSON,),
                      "./img:app"),
        "referrers": _verb("show.referrers", "list what refers to an image", "IMAGE",
                           (ARTIFACT, PLATFORM, FIELDS, JSON), "--artifact-type application/spdx+json ./img:app"),
        "diff": _verb("show.diff", "list what differs between two images", "A B", (IGNORE, PLATFORM, FIELDS, JSON),
                      "--ignore time ./img:app oci-archive:again.tar"),
        "tag": _verb("change.tag", "give an image more names", "IMAGE NAME...", (LOCK,), "./img:app stable"),
        "rm": _verb("change.rm", "take names away from images", "IMAGE...", (LOCK,), "./img:app"),
        "index": cli.Command("oci-image index", "make and change indexes: images for several platforms under one name",
                             verbs=_INDEX, example=_INDEX["create"].example),
        "artifact": cli.Command("oci-image artifact", "make artifacts of files, and files of artifacts",
                                verbs=_ARTIFACT, example=_ARTIFACT["create"].example),
        "gc": _verb("keep.gc", "remove what nothing leads to any more", "[LAYOUT]", (GRACE, DRY, JSON, LOCK), "./img"),
        "fsck": _verb("keep.fsck", "check every digest, size and diff id", "[LAYOUT]", (FAST, JSON), "./img"),
        "save": _verb("move.save", "write images as an archive", "IMAGE...",
                      (OUTPUT, PLATFORMS, FORMAT, REFERRERS, *PROGRESS), "alpine > a.tar"),
        "load": _verb("move.load", "read images from an archive", "[ARCHIVE [LAYOUT]]", (JSON, LOCK, *PROGRESS),
                      "app.tar ./img"),
        "copy": _verb("move.copy", "copy an image to another layout or archive", "IMAGE TARGET",
                      (PLATFORMS, SPARSE, FORMAT, ALGORITHM, REFERRERS, BLOBS_FROM, BLOBS_TO, LOCK, *PROGRESS),
                      "./img:app app:1"),
    },
)  # fmt: skip


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
