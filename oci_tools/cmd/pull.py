"""oci-pull: an image from a registry, an archive or another layout into a layout or an archive."""

from __future__ import annotations

import os

from oci_tools import cli
from oci_tools.errors import Busy, Error, Usage
from oci_tools.registry.words import TRANSFER, changes, options, shared_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.image.layout import Descriptor
    from oci_tools.image.ref import Place, Ref
    from oci_tools.image.source import Source
    from oci_tools.registry.arriving import Arriving
    from oci_tools.registry.copy import Options
    from oci_tools.registry.policy import Policy

OPTIONS: tuple[cli.Option, ...] = (
    ("--platform OS/ARCH[/VARIANT]", "list", (), "platform to take, not this host's; several make an index"),
    ("--all-platforms", "flag", False, "take an index with everything in it"),
    ("--all-tags", "flag", False, "pull every tag of REF's repository"),
    ("--match REGEX", "text", None, "of those and of a list, only the tags that match, whole"),
    ("--exclude REGEX", "text", None, "not the tags that match, whole"),
    ("--no-clobber", "flag", False, "of those leave alone what has its name already"),
    ("--prune", "flag", False, "then take away the names of tags that the repository has no longer"),
    ("-n --dry-run", "flag", False, "only print the references that would be pulled"),
    ("--describe", "flag", False, "only print what the registry has, as JSON: descriptor and platforms"),
    ("--referrers", "flag", False, "take along what refers to the image: signatures, lists of its parts"),
    ("--verify-key FILE", "list", (), "take only an image that this public key, or another one given, has signed"),
    ("--only BLOB", "list", (), "of an image's blobs take just these: digests, or config"),
    ("--policy FILE", "text", None, "policy.json to obey, instead of the user's or the system's"),
    ("--unpack DIR", "text", None, "unpack the image into a bundle too, and print that"),
    ("--check-base", "flag", False, "say whether the base that an image here names is still what its name means"),
    ("--login HOST", "text", None, "store credentials for a registry; the password is read, not said"),
    ("--username NAME", "text", None, "user's name for --login"),
    ("--logout HOST", "text", None, "drop the stored credentials for a registry"),
)


def run(args: cli.Args) -> int | None:
    if args.login or args.logout:
        from oci_tools.registry import signin

        print(signin.change(args))
        return None
    if not args.ref:
        raise Usage("missing argument 'REF'", hint="see --help")
    if args.check_base:
        return _check_base(args)
    if args.all_platforms and args.platform:
        raise Usage("--platform and --all-platforms exclude each other")
    if (args.prune and not args.all_tags) or (args.no_clobber and not (args.all_tags or args.ref == "-")):
        raise Usage("--prune is for --all-tags, and --no-clobber for that and for lists")
    if args.sparse and (args.all_platforms or args.unpack or args.only):
        raise Usage("--sparse keeps an index with some of its images", hint="say them by --platform")
    if args.unpack and (
        args.all_platforms or len(args.platform) > 1 or args.layout == "-" or _is_archive(args.layout)
    ):
        raise Usage("--unpack takes one image", hint="of one platform, in a layout")
    wanted: dict[str, Any] = dict(zip(("format", "compress"), changes(args), strict=True))
    if args.only:
        _check_only(args, wanted)
        wanted["only"] = frozenset(args.only)
    source, words = _local(args)
    if source:
        _from_local(source, args)
        return None
    more = {"referrers": args.referrers, "policy": _policy(args), "warn": _say, **wanted}
    with options(args, "pull", **more) as chosen, chosen.progress:
        if args.ref == "-" or args.all_tags:
            return _several(args, chosen, words)
        _first(args.ref, lambda ref: _one(ref, chosen, args))
    return None


def _check_only(args: cli.Args, changed: dict[str, Any]) -> None:
    from oci_tools.image import ref as refs

    other = args.unpack or any(changed.values()) or refs.is_local(args.ref)
    if other or args.layout == "-" or _is_archive(args.layout):
        raise Usage("--only takes parts of an image of a registry as they are into a layout")


def _one(ref: Ref, chosen: Options, args: cli.Args) -> None:
    if args.dry_run:
        print(ref)
    elif args.describe:
        from oci_tools import document
        from oci_tools.registry.describe import describe

        print(document.dumps(describe(ref, chosen)).decode())
    elif args.layout == "-" or _is_archive(args.layout):
        _archive(ref, chosen, args)
    else:
        _layout(ref, chosen, args)


def _say(text: str) -> None:
    cli.say("oci-pull", text)


# -- from a registry ------------------------------------------------------------------------


def _ref(word: str) -> Ref:
    from oci_tools.image import ref as refs

    place = refs.locate(word)
    if place.kind not in ("store", "registry") or place.ref is None:
        raise Usage("not a reference of a registry", word)
    return place.ref


def _first(word: str, pull: Callable[[Ref], None]) -> None:
    """Pull what a word means; of a name for which several registries are searched, from the first that can."""
    from oci_tools.image import ref as refs

    failed: list[Error] = []
    found = refs.candidates(word) or [_ref(word)]
    for ref in found:
        try:
            return pull(ref)
        except Error as error:
            if len(found) == 1:
                raise
            _say(f"{error}; it is the first of {len(found)} registries to search" if not failed else str(error))
            failed.append(error)
    kind = Busy if {error.code for error in failed} == {75} else Error
    raise kind("cannot pull", word, f"none of {len(found)} registries has given it")


def _several(args: cli.Args, chosen: Options, words: list[str]) -> int:
    """Pull all tags, or a list of references; go on after those that fail, and say how many did."""
    import sys

    from oci_tools.image import ref as refs
    from oci_tools.registry import sync

    target = refs.locate(args.layout) if args.layout and args.layout != "-" else None
    if args.layout == "-" or _is_archive(args.layout) or args.unpack or (target and target.name):
        raise Usage("several images go into a layout", hint="LAYOUT is a path without a tag")
    heads, meant, codes = [_ref(word) for word in words if word], sync.means(args.match, args.exclude), []
    wanted = there = sync.wanted(heads, args.all_tags, chosen, meant)
    if args.no_clobber:
        names = set(sync.names(_target(args)))
        wanted = [ref for ref in there if _target(args, str(ref)).name_for(ref) not in names]
    for ref in wanted:
        try:
            if args.dry_run:
                print(ref)
            else:
                _layout(ref, chosen, args)
            sys.stdout.flush()
        except Error as error:
            _say(str(error))
            codes.append(error.code)
    if args.prune and not codes:
        _prune(args, sync.stale(_target(args), heads, there, meant))
    if codes:
        _say(f"{len(codes)} of {len(wanted)} were not pulled")
    return (75 if set(codes) == {75} else 1) if codes else 0


def _prune(args: cli.Args, names: list[str]) -> None:
    from oci_tools.image import layout as layouts

    for name in names:
        _say(f"{'would take' if args.dry_run else 'takes'} the name '{name}' away")
    if names and not args.dry_run:
        with layouts.Layout.open(_target(args).path) as layout:
            for name in names:
                layout.untag(name)


def _layout(ref: Ref, chosen: Options, args: cli.Args) -> None:
    from oci_tools.image import layout as layouts
    from oci_tools.registry import pull

    target = _target(args, str(ref))
    if args.unpack:
        print(_pull_and_unpack(ref, target, chosen, args))
        return
    layout, found = pull.pull_to(ref, target, chosen, args.platform, args.all_platforms)
    with layout:
        print(layouts.handle(layout, found))


def _pull_and_unpack(ref: Ref, target: Place, chosen: Options, args: cli.Args) -> str:
    """Both at once: the layers are unpacked while they come; the bundle's path."""
    from contextlib import ExitStack

    from oci_tools.layer.beside import Beside
    from oci_tools.registry import pull

    started: list[tuple[Arriving, Beside]] = []
    with ExitStack() as until:

        def along(coming: Arriving) -> None:
            work = Beside(lambda: _unpack(coming, coming.descriptor, args.unpack, coming.wait))
            started.append((coming, until.enter_context(work)))

        layout, found = pull.pull_to(ref, target, chosen, args.platform, args.all_platforms, along)
        with layout:
            try:
                if started:
                    return str(started[0][1].result())
            except Error:
                if not started[0][0].anew:
                    raise
            return _unpack(layout, found, args.unpack)  # nothing had to come, or it began anew


def _unpack(layout: Any, descriptor: Descriptor, path: str, wait: Callable[[], None] | None = None) -> str:
    from oci_tools import bundle
    from oci_tools.bundle import subordinate
    from oci_tools.layer.limits import Limits

    image = bundle.Image(layout, descriptor)
    warn = lambda text: _say(f"warning: {text}")  # noqa: E731
    return subordinate.unpack(image, path, Limits(), warn, subordinate.maps_of_user(), wait)


def _archive(ref: Ref, chosen: Options, args: cli.Args) -> None:
    from oci_tools.registry import pull

    def write(view: Any, images: list[Descriptor]) -> None:
        _write(view, str(ref), images[0], images[1:], args)

    pull.to_archive(ref, write, chosen, args.platform, args.all_platforms)


def _write(view: Any, name: str | None, top: Descriptor, others: list[Descriptor], args: cli.Args) -> None:
    """Write an archive: on standard output, or to the file that is meant."""
    from oci_tools.image import archive
    from oci_tools.image import layout as layouts
    from oci_tools.image import target as targets

    if args.layout != "-":
        print(targets.write(view, name, top, others, _target(args)))
        return
    if os.isatty(1):
        raise Usage(
            "an archive is not for a terminal", hint="pipe it into oci-unpack -, or redirect it to a file"
        )
    with open(1, "wb", buffering=1 << 16, closefd=False) as out:
        archive.write(view, [(name, top), *((layouts.ref_name(one), one) for one in others)], out)


# -- from a layout or an archive ---------------------------------------------------------------


def _local(args: cli.Args) -> tuple[Source | None, list[str]]:
    """The layout or archive that is meant, or None and the references: the word, or the lines of standard input."""
    from oci_tools.image import ref as refs

    if args.ref == "-":
        from oci_tools.image.source import Source
        from oci_tools.image.stdin import from_stdin

        kind, found = from_stdin(other=True)
        if kind == "other":
            return None, [line.strip() for line in found.read().decode(errors="replace").splitlines()]
        return Source("-", found) if kind == "archive" else Source(found), []
    if not refs.is_local(args.ref):
        if args.blobs_from:
            raise Usage("--blobs-from is for a layout to read from", args.ref)
        return None, [args.ref]
    from oci_tools.image.source import Source

    return Source(args.ref, blobs=args.blobs_from or ""), []


def _from_local(source: Source, args: cli.Args) -> None:
    from oci_tools import fs
    from oci_tools.image import convert, index
    from oci_tools.image import layout as layouts
    from oci_tools.image import manifest as manifests
    from oci_tools.image import target as targets
    from oci_tools.image.referrers import Referrers
    from oci_tools.image.rewrite import Changed
    from oci_tools.image.watch import Watched
    from oci_tools.registry.progress import Progress

    if args.all_tags or args.match or args.exclude:
        raise Usage("a layout or an archive has no repository", args.ref, hint="oci-image load takes all of it")
    fs.LOCK_TIMEOUT = float(args.lock_timeout)
    with source:
        layout, top, place = source.layout, source.descriptor, source.place
        archive, path = _is_archive(args.ref), place.path if place else ""
        _policy(args).check_local(place.kind if place and archive else "oci", args.ref, path, source.name)
        if args.dry_run:
            print(source.name or top["digest"])
            return
        platforms = args.platform or [manifests.platform_name(manifests.host_platform())]
        whole = args.all_platforms or args.sparse
        top, documents = (top, []) if whole else index.select(layout, top, platforms)
        without: frozenset[str] = index.left_out(layout, top, platforms) if args.sparse else frozenset()
        view: Any = convert.View(layout, documents, without=without)
        others = Referrers(layout).all_of(view, top) if args.referrers else []
        progress = Progress("pull", args.progress, args.status_fd)
        with Changed(view, top, *changes(args)) as made, progress:
            view = made.view if progress.quiet else Watched(made.view, [made.top, *others], progress.tell)
            if args.layout == "-" or _is_archive(args.layout):
                _write(view, source.name, made.top, others, args)
                return
            with targets.put(view, source.name, made.top, others, _target(args)) as there:
                print(_unpack(there, made.top, args.unpack) if args.unpack else layouts.handle(there, made.top))


def _policy(args: cli.Args) -> Policy:
    from oci_tools.registry.policy import Policy

    return Policy(args.policy, args.verify_key)


def _is_archive(word: str | None) -> bool:
    return (word or "").startswith(("oci-archive:", "docker-archive:", "dir:"))


def _target(args: cli.Args, name: str = "") -> Place:
    """Where the image goes: what is said, or the default store under a name."""
    from oci_tools.image import ref as refs

    if not args.layout and not name:
        return refs.Place("store", refs.store_path(), None, None, "")
    place = refs.locate(args.layout or name)
    if place.kind == "registry":
        raise Usage("not a layout", args.layout, hint="oci-push")
    place.blobs = shared_by(args, place)
    return place


def _check_base(args: cli.Args) -> int:
    """Name, digest then and digest now of the base; 0 if they are the same."""
    from oci_tools.image.source import Source
    from oci_tools.registry import base

    if len(args.platform) > 1:
        raise Usage("--check-base is about one image")
    with Source(args.ref) as source, options(args, "pull", warn=_say) as chosen:
        ref, then, now = base.check(source.layout, source.descriptor, (args.platform or [None])[0], chosen)
    print(f"{ref}\t{then}\t{now}")
    return 0 if now == then else 1


COMMAND = cli.Command(
    "oci-pull",
    "bring an image from a registry into a layout, and print its handle",
    "[REF] [LAYOUT]",
    OPTIONS + TRANSFER,
    run,
    example="oci-pull alpine | oci-unpack - ./web",
)


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
