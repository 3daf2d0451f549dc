"""A whole build, from its options to what it prints."""

from __future__ import annotations

import os
import time

from oci_tools import fs
from oci_tools.build import calling, ignore, output
from oci_tools.build.building import Building
from oci_tools.build.cache import Cache
from oci_tools.build.contexts import Contexts
from oci_tools.build.dockerfile import Dockerfile
from oci_tools.build.networks import Networks
from oci_tools.build.place import Place
from oci_tools.build.position import Wrong
from oci_tools.build.running import Runner
from oci_tools.build.scope import CHECK, Scope
from oci_tools.errors import Error
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image import ref as refs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from oci_tools.build import lint
    from oci_tools.build.exchange import Sent
    from oci_tools.build.options import Options
    from oci_tools.build.outputs import Output
    from oci_tools.build.progress import Progress
    from oci_tools.build.stages import Result
    from oci_tools.image.layout import Descriptor, Layout

OFTEN = 86400.0  # seconds from one look at what of the cache may go to the next


class Made:
    """What a build made.

    handles  of the image under each tag, the first one first
    top      the descriptor of the image or index, in `layout`
    images   the images of each platform
    id       the digest of its configuration; of an index its own
    bases    the images it was built on: name -> handle
    files    those of the host that were used
    """

    def __init__(self) -> None:
        self.handles: list[str] = []
        self.top: Descriptor = {}
        self.layout: Layout
        self.images: list[Descriptor] = []
        self.id = ""
        self.configs: list[str] = []
        self.bases: dict[str, str] = {}
        self.files: set[str] = set()


def build(
    options: Options, tags: list[str], outputs: list[Output], progress: Progress, warn: Callable[[str], None]
) -> Made:
    """Build, and put the image under its tags and into the outputs."""
    made = Made()
    words = [*tags, *(name for each in outputs if each.is_kept for name in each.names)]
    for word in words:
        output.checked(word)
    with Place(warn, options.call, options.isolation) as place:
        contexts = _contexts(place, options, options.pull)
        contexts.keep_git = options.says("BUILDKIT_CONTEXT_KEEP_GIT_DIR")
        joined = Networks(f"{place.work}/networks", options.call, warn)
        try:
            contexts.open()
            dockerfile, data = _read(contexts, options)
            cache = Cache(place, options.refuse, _sent(options, place, warn))
            if any(where.inline for where in options.cache_to) or options.says("BUILDKIT_INLINE_CACHE"):
                from oci_tools.build import exchange

                options.inline = lambda diff_ids: exchange.inline(cache, diff_ids)
            runner = Runner(options.call, progress, f"{place.work}/running", joined, place.chrooted)
            results = []
            with dockerfile:
                if progress.mode != "none" or "check" in dockerfile.source.directives or CHECK in options.arguments:
                    _complain(dockerfile, lints(dockerfile, options, contexts), progress, options)
                _date(options, dockerfile, contexts)
                platforms: list[str | None] = [*options.platforms]
                for platform in platforms or [None]:
                    one = Building(dockerfile, options, platform, place, contexts, cache, progress, runner)
                    results.append((one, _run(one)))
            for unused in results[0][0].scope.unused():
                warn(f"build argument '{unused}' was not used")
            _put(made, results, options, words, outputs, place, (dockerfile.file, data))
            if options.cache_to:
                from oci_tools.build import exchange

                last = {layer.diff_id for _, each in results for layer in each.layers}
                exchange.send(options.cache_to, cache, place, options.call, last, warn)
            made.bases = dict(contexts.bases)
            made.files = results[0][0].files  # there may be very many
            made.files.update(map(os.path.abspath, contexts.read_files), *(one.files for one, _ in results[1:]))
        finally:
            joined.close()
            contexts.close()
    _seldom(place.path)
    return made


def _contexts(place: Place, options: Options, pull: bool) -> Contexts:
    made = Contexts(place, options.context, options.named, options.call, pull)
    made.ignorefile, made.alone = options.ignorefile, options.alone
    return made


def _read(contexts: Contexts, options: Options) -> tuple[Dockerfile, bytes]:
    """The Dockerfile, or what a script says in its place; and its text."""
    if options.script is None:
        data, name = contexts.read(options.file)
        made = Dockerfile(data, name)
        if options.start:
            made.stages[0].start.__dict__["base"] = options.start
        return made, data
    from oci_tools.build import script

    contexts.read_files.append(options.script)
    contexts.ignore(options.script)
    context = contexts.directory or contexts.place.fresh("nothing")
    os.makedirs(context, exist_ok=True)
    data, shown, places = script.dockerfile(options.script, context, options.arguments)
    return Dockerfile(data, options.script, shown, places), data


def _sent(options: Options, place: Place, warn: Callable[[str], None]) -> list[Sent]:
    if not options.cache_from:
        return []
    from oci_tools.build import exchange

    return exchange.receive(options.cache_from, place, options.call, warn)


def _seldom(path: str) -> None:
    """Prune the cache once a day."""
    mark = f"{path}/pruned"
    try:
        if time.time() - os.stat(mark).st_mtime < OFTEN:
            return
    except FileNotFoundError:
        pass
    from oci_tools.build import prune

    fs.write(mark, b"", 0o600, sync=False)
    prune.prune(path)


def _attest(
    layout: Layout, images: list[Descriptor], results: list[tuple[Building, Result]], options: Options,
    tags: list[str], place: Place, written: tuple[str, bytes],
) -> list[Descriptor]:  # fmt: skip
    """The attestations of the images of each platform."""
    from oci_tools.build import attest

    facts = attest.facts_of(results[0][0], *written)
    known = [refs.locate(tag) for tag in tags]
    names = [str(at.ref or at.name or tag) for at, tag in zip(known, tags, strict=True)]
    return [
        attest.attest(layout, image, one, place.view(result.layers).mount(), options.attest, facts, names)
        for image, (one, result) in zip(images, results, strict=True)
    ]


def check(options: Options, warn: Callable[[str], None]) -> tuple[list[lint.Warning], Dockerfile | Wrong]:
    """What should be written otherwise in the Dockerfile, or before the error in it; nothing is built or asked for."""
    with Place(warn, options.call, options.isolation) as place:
        contexts = _contexts(place, options, False)
        try:
            contexts.open()
            part, whole = _read_part(contexts, options)
            if part is None:
                return [], whole
            with part:
                return lints(part, options, contexts), whole
        finally:
            contexts.close()


def offered(options: Options, what: str, warn: Callable[[str], None]) -> dict[str, Any]:
    """The "targets" of the Dockerfile, or the "outline" of one, as outline.py gives them."""
    from oci_tools.build import outline
    from oci_tools.build.graph import Graph

    with Place(warn, options.call, options.isolation) as place:
        contexts = _contexts(place, options, False)
        try:
            contexts.open()
            dockerfile, _ = _read(contexts, options)
            with dockerfile:
                if what == "targets":
                    return outline.targets(dockerfile)
                scope = _scope(dockerfile, options)
                known = lambda name: name.lower() in contexts.named  # noqa: E731
                base = lambda stage: scope.expand(stage.start, stage.start.base, scope.globals)  # noqa: E731
                return outline.outline(dockerfile, scope, Graph(dockerfile, options.target, base, known))
        finally:
            contexts.close()


def _date(options: Options, dockerfile: Dockerfile, contexts: Contexts) -> None:
    """Have the time that nothing is later than, if somebody says one."""
    scope = _scope(dockerfile, options)
    if any("SOURCE_DATE_EPOCH" in place for place in (options.arguments, os.environ, scope.globals)):
        from oci_tools.build import epoch

        epoch.settle(options, dockerfile, contexts, scope)


def _scope(dockerfile: Dockerfile, options: Options) -> Scope:
    host = manifests.normal(manifests.host_platform())
    platform = manifests.normal(manifests.parse_platform(options.platforms[0])) if options.platforms else host
    return Scope(dockerfile, options.arguments, platform, options.target, host)


def _read_part(contexts: Contexts, options: Options) -> tuple[Dockerfile | None, Dockerfile | Wrong]:
    """The Dockerfile as far as there is no error in it, if that is something; and all of it or the error."""
    if options.script is not None:
        return (_read(contexts, options)[0],) * 2
    data, name = contexts.read(options.file)
    try:
        return (Dockerfile(data, name),) * 2
    except Wrong as error:
        try:
            return Dockerfile(b"\n".join(data.split(b"\n")[: error.start - 1]), name), error
        except Wrong:
            return None, error


def lints(dockerfile: Dockerfile, options: Options, contexts: Contexts) -> list[lint.Warning]:
    from oci_tools.build import lint

    word = options.platforms[0] if options.platforms else None

    def base(name: str) -> dict[str, str] | None:
        found = contexts.known(name, word)
        return found and dict(entry.partition("=")[::2] for entry in (found.get("config") or {}).get("Env") or ())

    def pulled(name: str, platform: str) -> str:
        found = contexts.known(name, platform)
        if not (found and found.get("os") and found.get("architecture")):
            return platform
        return manifests.platform_name(manifests.normal(found))

    return lint.lint(dockerfile, _scope(dockerfile, options), base, ignore.Patterns(contexts.patterns), pulled)


def _complain(dockerfile: Dockerfile, found: list[lint.Warning], progress: Progress, options: Options) -> None:
    """Tell of warnings before a build; where the Dockerfile wants it they are its end."""
    from oci_tools.build import lint

    for one in found:
        if progress.mode in ("plain", "tty", "json"):
            progress.say(f"warning: {one}")
    if found and lint.directive(dockerfile, options.arguments).error:
        rules = ", ".join(sorted({one.rule for one in found}))
        raise found[0].place.again(f"lint violation found for rules: {rules}")


def _run(one: Building) -> Result:
    try:
        return one.run()
    except BaseException as error:
        one.cancel(error)
        raise


def _put(
    made: Made, results: list[tuple[Building, Result]], options: Options, tags: list[str], outputs: list[Output],
    place: Place, written: tuple[str, bytes],
) -> None:  # fmt: skip
    created = results[0][0].created
    finished = [output.squash(place, one, options, created) if options.squash else one for _, one in results]

    def into(layout: Layout, name: str | None, whole: bool = True) -> None:
        images = [output.put(layout, each, options, created, whole) for each in finished]
        told = _attest(layout, images, results, options, tags, place, written) if options.attest else []
        several = len(images) > 1 or told or options.says("BUILDKIT_MULTI_PLATFORM")
        top = output.index(layout, [*images, *told], options.annotations) if several else images[0]
        if layout is not place.layout:
            layout.tag(name, top)
        made.handles.append(layouts.handle(layout, top))
        if not made.images:
            made.layout, made.images, made.top = layout, images, top
            made.id = manifests.load(layout, images[0])["config"]["digest"] if len(images) == 1 else top["digest"]

    for word in tags:
        layout, name = output.at(word)
        with layout:  # a new one that fails goes again
            into(layout, name)
    if not tags:
        kept = any(each.is_kept for each in outputs) or not outputs
        whole = kept or not all(each.is_image or each.kind == "cacheonly" for each in outputs)
        sent = any(each.push for each in outputs)  # from a layout in which it is an image
        passing = layouts.Layout.create(place.fresh("image")) if sent else place.layout
        into(layouts.store() if kept else passing, None, whole)
    for each in outputs:
        if each.push:
            bases = results[0][0].contexts.bases
            try:
                _push(made.handles[0], each.targets, bases, options)
            except Error:
                if tags or not output.complete(made.layout, finished):
                    raise
                _push(made.handles[0], each.targets, bases, options)
            if not (each.store or tags):
                made.handles = [f"{refs.Ref.parse(each.targets[0]).name}@{made.top['digest']}"]
        if not (each.is_image or each.kind == "cacheonly"):
            where = output.write(each, made.layout, made.images, made.top, tags)
            if where is not None and not tags:
                made.handles = [where]
            elif where is None:
                made.handles = []


def enlist(handles: list[str], word: str, options: Options) -> None:
    """Have the image in an index that is there, or in a new one."""
    try:
        calling.output(options.call, ["image", "index", "add", word, *handles[:1]])
    except Error as error:
        if not error.what.startswith(("no such image", "cannot open image layout")):
            raise
        calling.output(options.call, ["image", "index", "create", word, *handles[:1]])


def _push(handle: str, names: list[str], bases: Iterable[str], options: Options) -> None:
    """To the registries that these names are of; layers of base images that are in the same one are there already."""
    known = [at.ref for at in map(refs.locate, bases) if at.ref is not None]
    for name in names:
        host = refs.Ref.parse(name).host
        mounts = [word for base in known if base.host == host for word in ("--mount-from", base.repository)]
        calling.output(options.call, ["push", "--progress", "none", *mounts, handle, name])
