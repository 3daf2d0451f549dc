"""oci-spec: make, change and check the config.json of a container.  Filters: stdin to stdout."""

from __future__ import annotations

import sys

from oci_tools import cli, document
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SUBJECT = "config.json"


def _new(args: cli.Args) -> None:
    from oci_tools.container import specification

    rootless = {"auto": None, "true": True, "false": False}[args.rootless]
    _print(specification.new(args.image_bundle, args.platform, rootless))


def _set(args: cli.Args) -> None:
    from oci_tools.runtime import edit

    if not (args.change or args.merge or args.patch):
        raise Usage("nothing to change", hint="see --help")
    spec = document.loads(_read(), SUBJECT)
    for path in args.merge:
        spec = edit.merge(spec, document.load(path))
    for path in args.patch:
        spec = edit.patch(spec, document.load(path))
    for word in args.change:
        spec = edit.apply(spec, word)
    _print(spec)


def _check(args: cli.Args) -> None:
    """The whole document is read and found good before the first byte goes out."""
    from oci_tools import schema
    from oci_tools.runtime import check, spec

    data = spec.read(args.bundle_file) if args.bundle_file else _read()
    found = document.loads(data, SUBJECT)
    schema.check("config", found, SUBJECT)
    check.check(found, SUBJECT)
    if not args.bundle_file:
        _write(data)


def _read() -> bytes:
    from oci_tools.runtime.spec import MAX_CONFIG

    try:
        data = sys.stdin.buffer.read(MAX_CONFIG + 1)
    except (OSError, AttributeError) as error:  # None: it is closed
        raise Error(
            "cannot read standard input", None, error if isinstance(error, OSError) else "closed"
        ) from None
    if len(data) > MAX_CONFIG:
        raise Error("cannot read standard input", None, f"larger than {MAX_CONFIG} bytes")
    if not data.strip():
        raise Error("cannot read standard input", None, "it is empty")
    return data


def _print(spec: Any) -> None:
    _write(document.dumps(spec, indent=2))


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


VERBS = {
    "new": cli.Command(
        "oci-spec new",
        "print the config.json of an image, a bundle's image, or nothing",
        "[IMAGE|BUNDLE]",
        (
            ("--platform OS/ARCH[/VARIANT]", "text", None, "platform to take of an image of several"),
            ("--rootless BOOL", ("auto", "true", "false"), "auto", "for a user who is not root on the host"),
        ),
        _new,
        example="oci-spec new ./img:app > b/config.json",
    ),
    "set": cli.Command(
        "oci-spec set",
        "change the config.json on standard input and print it",
        "[CHANGE...]",
        (
            ("--merge FILE", "list", (), "apply a JSON merge document first (RFC 7386)"),
            ("--patch FILE", "list", (), "then a JSON patch (RFC 6902)"),
        ),
        _set,
        example="""oci-spec set process.args='["id"]' process.env+=A=1 'mounts[destination=/sys]-'""",
    ),
    "check": cli.Command(
        "oci-spec check",
        "pass a good config.json on, from standard input to standard output",
        "[BUNDLE|FILE]",
        (),
        _check,
        example="oci-spec new | oci-spec check > b/config.json",
    ),
}
COMMAND = cli.Command("oci-spec", "make, change and check a container's config.json", verbs=VERBS)


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
