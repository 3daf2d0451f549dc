"""oci-push: an image from a layout or an archive into a registry, another layout or an archive."""

from __future__ import annotations

from oci_tools import cli
from oci_tools.errors import Error, Usage
from oci_tools.registry.words import TRANSFER, at_least, changes, options, shared_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oci_tools.image.layout import Descriptor, Layout
    from oci_tools.image.ref import Ref
    from oci_tools.registry.copy import Options

OPTIONS: tuple[cli.Option, ...] = (
    ("--platform OS/ARCH[/VARIANT]", "text", None, "push only this platform of an index"),
    ("-t --tag NAME", "list", (), "give it this tag too"),
    ("--no-clobber", "flag", False, "leave alone a tag that is another image's, and fail"),
    ("--referrers", "flag", False, "push along what in the layout refers to the image"),
    ("--mount-from REPOSITORY", "list", (), "repository of the same registry that may have the blobs"),
    ("--chunk-size BYTES", "int", 0, "send at most this in one request"),
    ("--sign-key FILE", "text", None, "sign the image in its registry with this private key"),
    ("--delete REF", "list", (), "delete this tag, or what this digest names with all its tags, instead"),
    ("--allow-nondistributable", "flag", False, "push layers too that are marked as not to be pushed"),
)


def run(args: cli.Args) -> None:
    from oci_tools.image import convert, index, manifest
    from oci_tools.image import ref as refs
    from oci_tools.image.rewrite import Changed
    from oci_tools.image.source import Source

    if args.delete:
        return _delete(args)
    if not args.image or not args.target:
        raise Usage("missing argument", "TARGET" if args.image else "IMAGE", hint="see --help")
    wanted = changes(args)
    local = refs.is_local(args.target)
    if local and args.sign_key:
        raise Usage("--sign-key signs in a registry", args.target)
    if local and (args.tag or args.no_clobber):
        raise Usage("--tag and --no-clobber are for a registry", args.target, hint="oci-image tag")
    for tag in args.tag:
        if not refs.is_tag(tag):
            raise Usage("not a tag", tag)
    ref = None if local else refs.Ref.parse(args.target.removeprefix("docker://"))
    if args.image.startswith("docker://"):
        return _between(refs.Ref.parse(args.image.removeprefix("docker://")), ref, args)
    if args.blobs_to and not local:
        raise Usage("--blobs-to is for a layout", args.target)
    with Source(args.image, blobs=args.blobs_from or "") as source:
        layout: Any = source.layout
        descriptor = source.descriptor
        layout.hold()
        if args.platform and args.sparse:
            layout = convert.View(layout, [], without=index.left_out(layout, descriptor, [args.platform]))
        elif args.platform:
            descriptor, _ = manifest.choose(layout, descriptor, args.platform)
        with Changed(layout, descriptor, *wanted) as made:
            if ref:
                print(_push(made.view, made.top, ref, args))
            else:
                print(_copy(made.view, made.top, source.name, args))


def _copy(layout: Layout, descriptor: Descriptor, name: str | None, args: cli.Args) -> str:
    """Into another layout, or an archive: what is printed then is its handle, or the file's path."""
    from oci_tools import fs
    from oci_tools.image import layout as layouts
    from oci_tools.image import ref as refs
    from oci_tools.image import target as targets
    from oci_tools.image.referrers import Referrers
    from oci_tools.image.watch import Watched
    from oci_tools.registry.progress import Progress

    fs.LOCK_TIMEOUT = float(args.lock_timeout)
    others = Referrers(layout).all_of(layout, descriptor) if args.referrers else []
    place = refs.locate(args.target)
    place.blobs = shared_by(args, place)
    with Progress("push", args.progress, args.status_fd) as progress:
        view: Any = layout if progress.quiet else Watched(layout, [descriptor, *others], progress.tell)
        if place.kind in targets.ARCHIVES:
            return targets.write(view, name, descriptor, others, place)
        with targets.put(view, name, descriptor, others, place) as made:
            return layouts.handle(made, descriptor)


def _push(layout: Layout, descriptor: Descriptor, ref: Ref, args: cli.Args) -> str:
    with _options(args) as chosen, chosen.progress:
        return _send(layout, descriptor, ref, chosen, args.mount_from, args)


def _options(args: cli.Args, **more: Any) -> Options:
    at_least(args, 0, "chunk_size", most=1 << 62)
    more |= {"chunk": args.chunk_size, "foreign": args.allow_nondistributable}
    return options(args, "push", referrers=args.referrers, warn=_say, **more)


def _send(layout: Any, top: Descriptor, ref: Ref, chosen: Options, sources: Iterable[str], args: cli.Args) -> str:
    from oci_tools.registry import push

    if ref.digest and ref.digest != top["digest"]:
        raise Error("cannot push as", ref, f"the image is {top['digest']}")
    key = _key(args.sign_key) if args.sign_key else None
    return push.push(layout, top, ref, chosen, sources, key, args.tag, not args.no_clobber)


def _between(source: Ref, ref: Ref | None, args: cli.Args) -> None:
    """From a registry to another, or to another of its repositories: what is there already is not fetched."""
    from contextlib import ExitStack

    from oci_tools.image.rewrite import Changed
    from oci_tools.registry.choose import choose
    from oci_tools.registry.passage import Between
    from oci_tools.registry.policy import Policy
    from oci_tools.registry.pull import beside_all

    if ref is None:
        raise Usage("not a registry", args.target, hint="oci-pull brings an image into a layout or an archive")
    with _options(args, policy=Policy(None, ())) as chosen, chosen.progress, ExitStack() as until:
        platforms = [args.platform] if args.platform else ()
        found = choose(source, chosen, platforms, not args.platform, scratch=lambda old: beside_all(until, old))
        known = [source.repository] if source.host == ref.host and source.repository != ref.repository else []
        with Changed(Between(found), found.descriptor, *changes(args)) as made:
            print(_send(made.view, made.top, ref, chosen, [*args.mount_from, *known], args))


def _delete(args: cli.Args) -> None:
    from oci_tools.image import ref as refs
    from oci_tools.registry import removal

    if args.image:
        raise Usage("--delete stands alone")
    found = [refs.Ref.parse(word.removeprefix("docker://")) for word in args.delete]
    with options(args, "push", warn=_say) as chosen:
        for ref in found:
            removal.remove(ref, chosen)
            print(ref, flush=True)


def _say(text: str) -> None:
    cli.say("oci-push", text)


def _key(path: str) -> Any:
    from oci_tools.registry import signature

    return signature.private_key(path)


COMMAND = cli.Command(
    "oci-push",
    "bring an image from a layout into a registry, and print its reference by digest",
    "[IMAGE] [TARGET]",
    OPTIONS + TRANSFER,
    run,
    example="oci-push img:app localhost:5000/app",
)


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
