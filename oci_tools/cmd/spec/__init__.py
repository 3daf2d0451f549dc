"""oci-spec: make, change, check, compare and explain the config.json of a container.  Filters: stdin to stdout."""

from __future__ import annotations

import sys

from oci_tools import cli, document
from oci_tools.container.options import SPECIFYING
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SUBJECT = "config.json"


def _new(args: cli.Args) -> None:
    from oci_tools.container import specification

    _print(specification.new(args))


def _set(args: cli.Args) -> None:
    from oci_tools.container import specification
    from oci_tools.runtime import edit

    if not (args.change or args.merge or args.patch or specification.says_something(args)):
        raise Usage("nothing to change", hint="see --help")
    spec = document.loads(_read(), SUBJECT)
    for path in args.merge:
        spec = edit.merge(spec, document.load(path))
    for path in args.patch:
        spec = edit.patch(spec, document.load(path))
    spec = specification.change(spec, args)
    for word in args.change:
        spec = edit.apply(spec, word)
    _print(spec)


def _from_kube(args: cli.Args) -> None:
    from oci_tools.cmd.spec import from_kube

    specs = from_kube.specs(args, VERBS["new"])
    if len(specs) == 1:
        _print(specs[0])
    else:
        _write(b"".join(document.dumps(spec) + b"\n" for spec in specs))


def _check(args: cli.Args) -> None:
    """The whole document is read and found good before the first byte goes out."""
    from oci_tools.runtime import spec, supported

    data = spec.read(args.bundle_file) if args.bundle_file else _read()
    found = _checked(data, SUBJECT)
    if args.features:
        supported.check(found, document.load(args.features), SUBJECT, args.features)
    if not args.bundle_file:
        _write(data)


def _checked(data: bytes, subject: str) -> Any:
    """A document that is a good config.json."""
    from oci_tools import schema
    from oci_tools.runtime import check

    found = document.loads(data, subject)
    schema.check("config", found, subject)
    check.check(found, subject)
    return found


def _diff(args: cli.Args) -> int:
    """Exit code 0 for no difference, 1 for any: as diff(1) has it."""
    from oci_tools import rows
    from oci_tools.runtime import difference

    fields = rows.fields(args, ",".join(difference.FIELDS), difference.FIELDS)
    if args.a == args.b == "-":
        raise Usage("only one configuration can be on standard input")
    one, other = (document.loads(_of(word), word) for word in (args.a, args.b))
    found = list(difference.diff(one, other))
    if not args.json:
        for row in found:
            row.update({name: document.dumps(row[name]).decode() for name in ("old", "new") if row[name] is not None})
    return 1 if rows.show(found, None if args.json else fields) else 0


def _explain(args: cli.Args) -> None:
    from oci_tools import rows
    from oci_tools.runtime import explanation

    fields = rows.fields(args, ",".join(explanation.FIELDS), explanation.FIELDS)
    word = args.bundle_file or "-"
    found = explanation.explain(_checked(_of(word), SUBJECT))
    if args.warnings:
        found = (row for row in found if row["level"] == explanation.WARNING)
    rows.show(found, None if args.json else fields)


def _of(word: str) -> bytes:
    """The bytes of a configuration: a bundle's, a file's, or `-` for standard input."""
    from oci_tools.runtime import spec

    return _read() if word == "-" else spec.read(word)


def _read() -> bytes:
    from oci_tools.runtime.spec import MAX_CONFIG

    try:
        data = sys.stdin.buffer.read(MAX_CONFIG + 1)
    except OSError as error:
        raise Error("cannot read standard input", None, error) from None
    if len(data) > MAX_CONFIG:
        raise Error("cannot read standard input", None, f"larger than {MAX_CONFIG} bytes")
    if not data.strip():
        raise Error("cannot read standard input", None, "it is empty", "oci-spec new makes a config.json")
    return data


def _print(spec: Any) -> None:
    _write(document.dumps(spec, indent=2))


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


_ROWS = (
    ("--fields LIST", "text", None, "columns, with commas between"),
    ("--json", "flag", False, "one JSON document a line"),
)

VERBS = {
    "new": cli.Command(
        "oci-spec new",
        "print the config.json of an image, a bundle's image, or nothing",
        "[IMAGE|BUNDLE] [CMD...]",
        (
            ("--platform OS/ARCH[/VARIANT]", "text", None, "platform to take of an image of several"),
            ("--rootless BOOL", ("auto", "true", "false"), "auto", "for a user who is not root on the host"),
            *SPECIFYING,
        ),
        _new,
        stop=True,
        example="oci-spec new --memory 64m ./img:app > b/config.json",
    ),
    "from-kube": cli.Command(
        "oci-spec from-kube",
        "print what the containers of a pod of Kubernetes become: one config.json, or each in a line",
        "FILE [CONTAINER]",
        (
            ("--configmap FILE", "list", (), "more ConfigMaps and Secrets"),
            ("--volumes DIR", "text", None, "where its volumes are made, with the files of ConfigMaps and Secrets"),
            ("--pod ID", "text", None, "join the network, ipc and uts namespaces of this running container"),
        ),
        _from_kube,
        example="oci-spec from-kube --volumes ./volumes pod.yaml web > b/config.json",
    ),
    "set": cli.Command(
        "oci-spec set",
        "change the config.json on standard input and print it",
        "[CHANGE...]",
        (
            ("--merge FILE", "list", (), "apply a JSON merge document first (RFC 7396)"),
            ("--patch FILE", "list", (), "then a JSON patch (RFC 6902)"),
            *SPECIFYING,
        ),
        _set,
        example="""oci-spec set --cap-drop ALL process.args='["id"]' 'mounts[destination=/sys]-'""",
    ),
    "check": cli.Command(
        "oci-spec check",
        "pass a good config.json on, from standard input to standard output",
        "[BUNDLE|FILE]",
        (("--features FILE", "text", None, "and one that the runtime can do whose 'features' printed FILE"),),
        _check,
        example="oci-spec new | oci-spec check > b/config.json",
    ),
    "diff": cli.Command(
        "oci-spec diff",
        "print what two config.json say differently: A added, D deleted, C changed",
        "A B",
        _ROWS,
        _diff,
        example="oci-spec diff old/config.json b",
    ),
    "explain": cli.Command(
        "oci-spec explain",
        "say in words what a container may do, with warnings of what is dangerous",
        "[BUNDLE|FILE]",
        (("-w --warnings", "flag", False, "only the warnings"), *_ROWS),
        _explain,
        example="oci-run spec -b b && oci-spec explain b",
    ),
}
COMMAND = cli.Command(
    "oci-spec", "make, change, check, compare and explain a container's config.json", verbs=VERBS,
    example="oci-spec new alpine id | oci-spec set -e DEBUG=1 > config.json",
)  # fmt: skip


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
