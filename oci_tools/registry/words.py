"""The options that oci-pull and oci-push share, and what they say."""

from __future__ import annotations

from oci_tools.errors import Usage
from oci_tools.image.words import PROGRESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.image.ref import Place
    from oci_tools.image.rewrite import Compression
    from oci_tools.registry.copy import Options

TRANSFER: tuple[tuple[str, Any, Any, str], ...] = (
    ("--format oci|docker", ("oci", "docker"), None, "whose media types, if not as they are"),
    ("--compress gzip|zstd[:LEVEL]", "text", None, "how to compress layers that are not so yet"),
    ("--sparse", "flag", False, "keep an index as it is, with the images for --platform, or this host's, only"),
    ("--blobs-from DIR", "text", None, "directory with the blobs that the layout to read from lacks"),
    ("--blobs-to DIR", "text", None, "directory for the blobs of the layout, which others may share"),
    ("--tls-verify", "flag", True, "demand a valid certificate, and https of all hosts but this one"),
    ("--cert-dir DIR", "text", None, "directory with *.crt, *.cert and *.key for the registry"),
    ("--authfile FILE", "text", None, "credentials file, instead of the usual ones"),
    ("--auth-fd N", "int", None, "read credentials as JSON from this descriptor"),
    ("-j --jobs N", "int", 6, "blobs moved at the same time"),
    ("--retries N", "int", 5, "how often a failure that may pass is tried again"),
    ("--retry-delay MS", "int", 500, "milliseconds before the first retry; they double"),
    ("--timeout SECONDS", "int", 60, "how long a registry may be silent"),
    ("--lock-timeout SECONDS", "int", 60, "how long to wait for another's change"),
    *PROGRESS,
)


def options(args: Any, op: str, **more: Any) -> Options:
    """What the words say."""
    from oci_tools import fs
    from oci_tools.registry import copy
    from oci_tools.registry.credentials import Credentials
    from oci_tools.registry.progress import Progress

    at_least(args, 1, "jobs", "timeout")
    at_least(args, 0, "retries", "retry_delay", "lock_timeout")
    fs.LOCK_TIMEOUT = float(args.lock_timeout)
    return copy.Options(
        verify=args.tls_verify,
        cert_dir=args.cert_dir,
        credentials=Credentials(args.authfile, args.auth_fd),
        jobs=args.jobs,
        retries=args.retries,
        delay=args.retry_delay / 1000,
        timeout=float(args.timeout),
        progress=Progress(op, args.progress, args.status_fd),
        sparse=args.sparse,
        **more,
    )


def at_least(args: Any, least: int, *names: str, most: int = 1 << 31) -> None:
    """Refuse options that are less, or more, than they can be."""
    for name in names:
        value = getattr(args, name)
        if not least <= value <= most:
            wrong = f"{value} is {f'less than {least}' if value < least else f'more than {most}'}"
            raise Usage(f"invalid value for '--{name.replace('_', '-')}': {wrong}")


def shared_by(args: Any, place: Place) -> str:
    """The directory for the blobs of a layout, if the words say one."""
    if args.blobs_to and place.kind != "layout":
        raise Usage("--blobs-to is for a layout", place.text or place.path)
    return args.blobs_to or ""


def changes(args: Any) -> tuple[str | None, Compression | None]:
    """What the words ask to change of an image: its format, its compression."""
    from oci_tools.image.rewrite import compression

    made = args.format, compression(args.compress)
    if args.sparse and any(made):
        raise Usage("--sparse takes an index as it is", hint="--format and --compress make another of it")
    if args.referrers and any(made):
        raise Usage("--referrers takes images as they are", hint="--format and --compress give them other digests")
    return made
