"""One stage: its base, and its instructions one after the other.

What only changes the configuration is `settings.py`'s; what makes files is a step, that is: a key of all that it
depends on, a look into the cache, else a root, the work on it, and a layer.
"""

from __future__ import annotations

import os
import posixpath
import stat

from oci_tools.build import hashes, instructions, settings
from oci_tools.build.lines import Source
from oci_tools.build.listing import Listing
from oci_tools.build.position import Wrong
from oci_tools.build.settings import Settings
from oci_tools.errors import Error
from oci_tools.image import manifest as manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from oci_tools.build import building
    from oci_tools.build.dockerfile import Stage
    from oci_tools.build.instructions import Instruction
    from oci_tools.build.place import Layer
    from oci_tools.build.progress import Step
    from oci_tools.bundle.step import Packed, Root

    Act = Callable[[Root, Step], Packed | None]  # None: what it wrote into the root is the layer

COMMENT = "oci-build.dockerfile.v0"
LEAST = 70  # bytes of an entry of the history around what it says
LARGEST = 4 << 20  # bytes of a configuration, of which this many are what everybody reads
SCRATCH = "docker-image://scratch"  # a named context that is an image of nothing


class Result:
    """What a stage is so far.

    document  the configuration without what the stage says
    settings  its `config`, and variables
    layers    the lowest first
    history   as config.md has it
    args      the names of ARGs of the stage, as often as it says them, for the history of RUN
    """

    def __init__(self, document: dict[str, Any], inner: Settings, layers: list[Layer], history: list[Any]) -> None:
        self.document = document
        self.settings = inner
        self.layers = layers
        self.history = history
        self.size = 0  # bytes, at the least, of what was said here
        self.args: list[str] = []
        self.base_layers = len(layers)  # those that were not built here

    def copy(self) -> Result:
        below = self.settings
        env = dict(entry.partition("=")[::2] for entry in below.inner.get("Env") or ())
        inner = Settings(dict(below.inner), {**below.env, **env}, below.system)  # ENV is above ARG there
        made = Result(self.document, inner, [*self.layers], [*self.history])
        made.settings.author = self.settings.author
        made.base_layers = self.base_layers
        made.size = self.size
        return made

    def identity(self) -> str:
        """What its files are: by the digests of its layers."""
        return hashes.digest_of(tuple(layer.diff_id for layer in self.layers))


class Building:
    """A stage being built."""

    def __init__(self, shared: building.Building, stage: Stage) -> None:
        self.shared = shared
        self.stage = stage
        self.options = shared.options
        self.scope = shared.scope
        self.platform = shared.platform_name
        self.count = 0
        self.total = 1 + sum(_makes_files(one) for one in stage.instructions)
        self.result: Result

    def run(self) -> Result:
        self.result = self._base()
        if self.shared.graph.base(self.stage) is None:
            self._adapt()
        self.result.settings.cmd = False
        self.result.settings.ensure_path()
        for trigger in self._triggers():
            self._do(trigger)
        for instruction in self.stage.instructions:
            self.shared.check()
            self._do(instruction)
            if self.result.size > LARGEST:
                raise instruction.wrong(f"the image's configuration is larger than {LARGEST} bytes")
        return self.result

    # -- the base ----------------------------------------------------------------------------

    def _base(self) -> Result:
        start = self.stage.start
        name = self.shared.graph.bases[self.stage.number]
        wanted = self.platform
        if start.platform:
            platform = self.shared.platform_of(start)
            self.platform = wanted = manifests.whole_name(manifests.normal(platform))
        below = self.shared.graph.base(self.stage)
        if below is not None:
            return self.shared.result(below).copy()
        named = name.lower() in self.shared.contexts.named
        if (name == "scratch" and not named) or self.shared.contexts.named.get(name.lower()) == SCRATCH:
            return self._scratch()
        step = self.begin(f"FROM {name}")
        try:
            known = name.lower() if named else name
            image = self.shared.contexts.image(known, wanted or None, self.shared.progress.say)
        except Error as error:
            self.shared.progress.end(step, "error", str(error))
            raise start.wrong(f"{name}: {error}", start.base).with_code(error.code) from None
        self.shared.progress.end(step, "done")
        document = {key: value for key, value in image.config.items() if key not in ("config", "rootfs", "history")}
        layers = self.shared.contexts.layers(image)
        said = {key: value for key, value in (image.config.get("config") or {}).items() if value is not None}
        inner = Settings(said, system=str(document.get("os")))
        history = list(image.config.get("history") or [])
        missing = len(layers) - sum(not (isinstance(one, dict) and one.get("empty_layer")) for one in history)
        created = image.config.get("created") or self.shared.created
        history += [{"created": created, "comment": "unknown"}] * max(missing, 0)
        return Result(document, inner, layers, history)

    def _adapt(self) -> None:
        """Have the variables and not the labels of which the command line says so."""
        inner = self.result.settings
        for name, value in self.options.env.items():
            inner.set_env(name, value)
        for name in self.options.unlabeled & (inner.inner.get("Labels") or {}).keys():
            del inner.own("Labels")[name]

    def _scratch(self) -> Result:
        platform = manifests.parse_platform(self.platform) if self.platform else self.shared.platform
        return Result(dict(platform), Settings({"WorkingDir": "/"}, system=platform["os"]), [], [])

    def _triggers(self) -> list[Instruction]:
        """What the base image wants done first; ONBUILD is not inherited any further."""
        texts = self.result.settings.inner.pop("OnBuild", None) or []
        made = []
        for text in texts:
            for statement in Source(text.encode("utf-8", "surrogateescape")).statements:
                start = self.stage.start.statement
                statement.start, statement.end = start.start, start.end
                try:
                    one = instructions.read(statement, self.scope.escape)
                except Wrong as error:
                    raise start.wrong(f"ONBUILD {text}: {error.what}") from None
                made.append(one)
                self.total += _makes_files(one)
        return made

    # -- instructions -----------------------------------------------------------------------

    def _do(self, one: Instruction) -> None:
        try:
            self._one(one)
        except Wrong:
            raise
        except Error as error:
            raise one.wrong(str(error)).with_code(error.code) from None

    def _one(self, one: Instruction) -> None:
        if one.name == "ARG":
            self._arg(one)
        elif one.name == "RUN":
            from oci_tools.build import running

            running.run(self, one)
        elif one.name in ("COPY", "ADD"):
            from oci_tools.build import adding

            adding.add(self, one)
        elif one.name == "WORKDIR":
            self._workdir(one)
        else:
            said = settings.apply(self.result.settings, one, self.expander(one), self._many(one))
            self.shared.progress.note(said or one.statement.text)
            if said:
                self.history(said, None)
            else:
                self.result.size += len(one.trigger)

    def expander(self, one: Instruction) -> Callable[[str], str]:
        return lambda text: self.scope.expand(one, text, self.result.settings.env)

    def _many(self, one: Instruction) -> Callable[[str], list[str]]:
        return lambda text: self.scope.expand_words(one, text, self.result.settings.env)

    def _arg(self, one: Instruction) -> None:
        said = []
        env, new = self.result.settings.env, {}  # variables are what they were before the instruction, for all of it
        for word, default in one.pairs:
            name = self.scope.expand(one, word, env)
            value = self.scope.argument(one, name, default, env)
            if value is not None:
                new[name] = value
            self.result.args.append(name)
            said.append(name if value is None else f"{name}={value}")
        env.update(new)
        self.shared.progress.note(f"ARG {' '.join(said)}")
        self.history(f"ARG {' '.join(said)}", None)

    def _workdir(self, one: Instruction) -> None:
        inner = self.result.settings
        path = self.expander(one)(one.value)
        if not path:
            raise one.wrong("WORKDIR requires exactly one argument")
        # As BuildKit has it: what is absolute is kept as it is written.
        said = path if path.startswith("/") else posixpath.join(inner.workdir, path)
        inner.inner["WorkingDir"] = said if said is path else settings.clean(said)
        said, path = f"WORKDIR {inner.inner['WorkingDir']}", inner.workdir
        user = inner.user
        parts = {"do": "WORKDIR", "path": path, "user": user}

        def act(root: Root, step: Step) -> Packed | None:
            from oci_tools.build.copying import Target
            from oci_tools.layer import lookup

            with lookup.Stack(root.trees()) as below:
                seen = below.look(os.fsencode(path))
            if seen is None or not stat.S_ISDIR(seen.st_mode):
                into = Target(root.mount(), _owner(root, user), time=self.now(), single=self.single())
                os.close(into.directory(path))
            return None

        self.step(one, said, parts, act, said=said)

    # -- steps ------------------------------------------------------------------------------

    def begin(self, text: str) -> Step:
        self.count += 1
        name = self.stage.name or f"stage-{self.stage.number}"
        if len(self.shared.dockerfile.stages) == 1:
            name = ""
        label = " ".join(part for part in (self.platform if self.shared.many else "", name) if part)
        at = f"{self.count}/{max(self.total, self.count)}"
        return self.shared.progress.begin(text, f"{label} {at}".strip(), self.count, self.total)

    def is_last(self, one: Instruction) -> bool:
        """Whether nobody needs the files of this step as a tree: no step that follows, and no other stage."""
        steps = [each for each in self.stage.instructions if _makes_files(each)]
        needed = any(self.stage in self.shared.graph.needs(other) for other in self.shared.graph.needed)
        return bool(steps) and steps[-1] is one and not needed

    def now(self) -> int | None:
        """Nanoseconds, of what is made by nobody else; None: as it comes."""
        return None if self.options.epoch is None else self.options.epoch * 1_000_000_000

    def single(self) -> bool:
        return self.shared.place.owner.single

    def step(
        self,
        one: Instruction,
        text: str,
        parts: dict[str, Any],
        act: Act,
        *,
        said: str,
        content: Callable[[Listing], dict[str, Any]] | None = None,
        quick: dict[str, Any] | None = None,
        alone: bool = False,
    ) -> None:
        """One step that makes files.

        parts    what it depends on, besides what it is done to
        content  more of that, which takes longer to find out; it fills in the digests of files
        quick    what stands for the content, if it is known already: where a hit needs no look at it
        alone    it depends on nothing below
        """
        step = self.begin(text)
        try:
            record = self._made(step, parts, act, content, quick, alone)
        except Error as error:
            why = error.what if isinstance(error, Wrong) else str(error)
            self.shared.progress.end(step, "error", why)
            if isinstance(error, Wrong):
                raise
            raise one.wrong(str(error)).with_code(error.code) from None
        except BaseException:
            self.shared.progress.end(step, "error", "canceled")
            raise
        if record["layer"] is not None:
            self.result.layers.append(self.shared.cache.layer(record))
        self.history(said, record["created"], record["layer"] is None)

    def _made(
        self, step: Step, parts: dict[str, Any], act: Act,
        content: Callable[[Listing], dict[str, Any]] | None, quick: dict[str, Any] | None, alone: bool,
    ) -> dict[str, Any]:  # fmt: skip
        cache, progress, stage = self.shared.cache, self.shared.progress, self.stage.name or str(self.stage.number)
        options = self.options
        same = {
            "parent": "" if alone else self.result.identity(), "platform": self.platform,
            "epoch": options.epoch if options.epoch is None else int(options.epoch), "exactly": options.exactly,
            "compression": f"{options.compression} {options.level}", **parts,
        }  # fmt: skip
        first = cache.key({**same, **quick}) if quick else ""
        record = cache.find(first, stage) if quick else None
        details = Listing(self.shared.place.fresh("files"))
        if record is None:
            whole = {**same, **(content(details) if content else {})}
            details.close()
            key = cache.key(whole)
            record = cache.find(key, stage)
            if record is not None and quick:
                cache.put(first, record["layer"], record["diffId"], record["created"])
        if record is not None:
            if options.why:
                progress.say(f"{step.name()}: hit", options.why)
            progress.end(step, "cached")
            return record
        slot = hashes.digest_of((self.shared.dockerfile_key, self.stage.number, self.platform, self.count))[:32]
        if options.why:
            why = ["the cache is not used"] if options.refuse & {"*", stage} else cache.changes(slot, whole, details)
            progress.say(f"{step.name()}: miss: {'; '.join(why)}", options.why)
        record = self._build(step, key, act, alone)
        if quick:
            cache.put(first, record["layer"], record["diffId"], record["created"])
        cache.remember(slot, whole, details)
        progress.end(step, "done")
        return record

    def _build(self, step: Step, key: str, act: Act, alone: bool) -> dict[str, Any]:
        options, place = self.options, self.shared.place
        with place.root([] if alone else self.result.layers) as root:
            packed = act(root, step)
            if packed is None:
                media_type = manifests.layer_type(manifests.OCI_MANIFEST, options.compression)
                packed = root.pack(
                    place.layout, media_type, options.compression, options.level, options.epoch, place.warn
                )
                if packed is not None:
                    root.keep(packed)
        self.shared.check()
        descriptor, diff_id = (packed.descriptor, packed.diff_id) if packed else (None, None)
        return self.shared.cache.put(key, descriptor, diff_id, self.shared.created)

    def history(self, said: str, created: str | None, empty: bool = True) -> None:
        entry: dict[str, Any] = {"created": created, "created_by": said, "comment": COMMENT}
        if self.options.epoch is not None:
            entry["created"] = self.shared.created
        elif created is None:  # what makes no files is as old as what is below, so that nothing new is nothing new
            before = self.result.history[-1] if self.result.history else {}
            entry["created"] = (before.get("created") if isinstance(before, dict) else None) or self.shared.created
        if empty:
            entry["empty_layer"] = True
        self.result.history.append(entry)
        self.result.size += len(said) + len(entry["created"]) + LEAST


def _owner(root: Root, user: str) -> tuple[int, int]:
    """Whose a working directory is; root's if nobody knows the user yet, as in an image of a program alone."""
    try:
        return root.owner(user) if user else (0, 0)
    except Error:
        return 0, 0


def _makes_files(one: Instruction) -> int:
    return one.name in ("RUN", "COPY", "ADD", "WORKDIR")


def sorted_env(env: dict[str, str], without: Iterable[str] = ()) -> tuple[str, ...]:
    left_out = set(without)
    return tuple(f"{name}={value}" for name, value in sorted(env.items()) if name not in left_out)
