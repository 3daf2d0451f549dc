"""What should be written otherwise in a Dockerfile: BuildKit's rules by their names, without building anything.

    # check=skip=RULE,RULE;error=true;experimental=RULE     in the Dockerfile; `all` for every rule
    # check=skip=RULE,RULE                                  right above an instruction: of it alone

A variable is called undefined only where the environment of the base image is known.
"""

from __future__ import annotations

import re

from oci_tools.build import mounts
from oci_tools.build.ignore import clean
from oci_tools.build.position import Wrong, meant
from oci_tools.build.scope import CHECK, FREE, Scope
from oci_tools.errors import Error, Usage
from oci_tools.image import manifest as manifests
from oci_tools.image import ref as refs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from oci_tools.build.dockerfile import Dockerfile, Stage
    from oci_tools.build.ignore import Patterns
    from oci_tools.build.instructions import Instruction

    Base = Callable[[str], Mapping[str, str] | None]

EXPERIMENTAL = frozenset(["InvalidDefinitionDescription"])
RESERVED = ("context", "scratch")
ONCE = ("CMD", "ENTRYPOINT", "HEALTHCHECK")
_CHECK = re.compile(r"(?i)check\s*=\s*(\S+)")
_WILDCARD = re.compile(r"[*?\[\\]")
_SECRET = re.compile(r"(?i)(_|^)(apikey|auth|credentials?|key|password|pword|passwd|secret|token)(_|$)")
_NO_SECRET = re.compile(r"(?i)(_|^)(public|file|version)(_|$)")


class Warning:
    """One thing that a rule says, with its place."""

    def __init__(self, rule: str, place: Wrong) -> None:
        self.rule = rule
        self.place = place

    def __str__(self) -> str:
        return str(self.place.again(f"{self.rule}: {self.place.what}"))


class Directive:
    """What `# check=` says: rules to skip, whether warnings are errors, experimental rules to keep."""

    def __init__(self, text: str) -> None:
        self.skip: set[str] = set()
        self.experimental: set[str] = set()
        self.error = False
        for part in filter(None, text.split(";")):
            name, equals, value = part.strip().partition("=")
            if name in ("skip", "experimental") and equals:
                getattr(self, name).update(word.strip().lower() for word in value.split(","))
            elif name == "error" and value.lower() in ("true", "false", "1", "0"):
                self.error = value.lower() in ("true", "1")
            else:
                raise Error(f"invalid check option '{part}'", hint="skip=, error=, experimental=")

    def wants(self, rule: str) -> bool:
        known = {rule.lower(), "all"}
        return bool(self.experimental & known) if rule in EXPERIMENTAL else not self.skip & known


def directive(dockerfile: Dockerfile, given: Mapping[str, str]) -> Directive:
    """What the Dockerfile says, or a build argument in its place."""
    if CHECK in given:
        try:
            return Directive(given[CHECK])
        except Error as error:
            raise Usage("invalid build argument", f"{CHECK}={given[CHECK]}", str(error)) from None
    text, line = dockerfile.source.directives.get("check", ("", 1))
    try:
        return Directive(text)
    except Error as error:
        raise dockerfile.place(Wrong(str(error), line, text=text)) from None


def lint(
    dockerfile: Dockerfile, scope: Scope, base: Base, ignored: Patterns | None = None,
    pulled: Callable[[str, str], str] = lambda name, platform: platform,
) -> list[Warning]:  # fmt: skip
    """All that the rules say, by line.

    base    gives the variables of an image, None if they are not known
    pulled  gives the platform that an image has which is here for the one that is asked for
    """
    work = _Lint(dockerfile, scope, base, ignored, pulled)
    work.whole()
    for stage in dockerfile.stages:
        work.stage(stage)
    wanted = directive(dockerfile, scope.given)
    found = {str(one): one for one in work.found if wanted.wants(one.rule)}
    return sorted(found.values(), key=lambda one: (one.place.line, one.rule, str(one)))


class _Lint:
    def __init__(
        self, dockerfile: Dockerfile, scope: Scope, base: Base, ignored: Patterns | None,
        pulled: Callable[[str, str], str],
    ) -> None:  # fmt: skip
        self._pulled = pulled
        self._file = dockerfile
        self._scope = scope
        self._base = base
        self._ignored = ignored
        self._envs: dict[int, dict[str, str] | None] = {}
        self._absolute: dict[int, bool] = {}  # stages in which a WORKDIR was absolute
        self._shells: dict[int, bool] = {}  # stages that said SHELL
        self.found: list[Warning] = []
        self._declared = {name for one in dockerfile.globals for name, _ in one.pairs}
        scope.unset = lambda one, name: None

    def _say(self, rule: str, one: Instruction, what: str, text: str | None = None, line: int | None = None) -> None:
        if any(told.skip & {rule.lower(), "all"} for told in _told(one)):
            return
        place = one.wrong(what, text) if line is None else Wrong(what, line)
        self.found.append(Warning(rule, self._file.place(place)))

    def _all(self) -> Iterator[Instruction]:
        for stage in self._file.stages:
            yield stage.start
            yield from stage.instructions

    # -- the whole file --------------------------------------------------------------------------

    def whole(self) -> None:
        self._casing()
        names: set[str] = set()
        for stage in self._file.stages:
            if stage.name and stage.name in names:
                what = f'Duplicate stage name "{stage.name}", stage names should be unique'
                self._say("DuplicateStageName", stage.start, what, stage.start.written[1])
            names.add(stage.name)
        for one in self._file.globals:
            self._comment(one, [name for name, _ in one.pairs])
        for one in [*self._file.globals, *self._all()]:
            if one.statement.empty:
                self._say("NoEmptyContinuation", one, "Empty continuation line", line=one.statement.end)
            if one.name == "ARG":
                for name, _ in one.pairs:
                    self._secret(one, name)

    def _casing(self) -> None:
        words = [one.statement.word for one in self._all()]
        lower = sum(map(str.islower, words)) > sum(map(str.isupper, words))
        for one in self._all():
            word = one.statement.word
            if not (word.islower() if lower else word.isupper()):
                right = "lowercase" if lower else "uppercase"
                what = f"Command '{word}' should match the case of the command majority ({right})"
                self._say("ConsistentInstructionCasing", one, what, word)

    def _secret(self, one: Instruction, name: str) -> None:
        if _SECRET.search(name) and not _NO_SECRET.search(name):
            what = f'Do not use ARG or ENV instructions for sensitive data ({one.name} "{name}")'
            self._say("SecretsUsedInArgOrEnv", one, what, name)

    # -- stages ------------------------------------------------------------------------------------

    def stage(self, stage: Stage) -> None:
        self._from(stage)
        env, absolute, shell = self._begin(stage)
        known = env is not None
        env = env or {}
        last = {one.name: one for one in stage.instructions if one.name in ONCE}
        for one in stage.instructions:
            if one is not last.get(one.name, one):
                what = "instructions should not be used in the same stage because only the last one will be used"
                self._say("MultipleInstructionsDisallowed", one, f"Multiple {one.name} {what}")
            if one.name == "SHELL":
                shell = True
            if one.name in ("CMD", "ENTRYPOINT") and one.shell and one.args and not shell:
                what = f"JSON arguments recommended for {one.name} to prevent unintended behavior related to OS signals"
                self._say("JSONArgsRecommended", one, what)
            if one.name == "WORKDIR":
                path = self._expanded(one, one.value, env)
                if not path.startswith("/") and not absolute:
                    what = f'Relative workdir "{path}" can have unexpected results if the base image changes'
                    self._say("WorkdirRelativePath", one, what, one.value)
                absolute = absolute or path.startswith("/")
            self._one(one)
            self._variables(one, env, known)
        self._envs[stage.number] = env if known else None
        self._absolute[stage.number] = absolute
        self._shells[stage.number] = shell

    def _begin(self, stage: Stage) -> tuple[dict[str, str] | None, bool, bool]:
        """The variables that a stage begins with, whether its working directory is set, and its shell."""
        name = self._expanded(stage.start, stage.start.base, self._scope.globals)
        for other in reversed(self._file.stages[: stage.number]):
            if other.name and other.name == name.lower():
                below = self._envs[other.number]
                said = self._absolute[other.number], self._shells[other.number]
                return dict(below) if below is not None else None, *said
        if name == "scratch":
            return {"PATH": ""}, False, False
        env = self._base(name)
        return {"PATH": "", **env} if env is not None else None, False, False

    def _expanded(self, one: Instruction, text: str, env: Mapping[str, str]) -> str:
        try:
            return self._scope.expand(one, text, env)
        except Error:
            return text

    def _from(self, stage: Stage) -> None:
        start = stage.start
        word, name = start.written
        if name != name.lower():
            self._say("StageNameCasing", start, f"Stage name '{name}' should be lowercase", name)
        first = start.statement.word
        if word and ((first.isupper() and not word.isupper()) or (first.islower() and not word.islower())):
            what = f"'{word}' and '{start.statement.word}' keywords' casing do not match"
            self._say("FromAsCasing", start, what, f" {word} ")
        if stage.name in RESERVED:
            what = f'Stage name should not use the same name as reserved stage "{stage.name}"'
            self._say("ReservedStageName", start, what, name)
        self._arguments(start)
        self._platform(stage)
        self._base_platform(stage)
        self._default(stage)
        self._comment(start, [name] if name else [])

    def _arguments(self, start: Instruction) -> None:
        for text in (start.base, start.platform):
            for name in self._unset(start, text, self._scope.globals):
                if name in self._declared:
                    continue
                hint = meant(name, self._scope.globals)
                what = f"FROM argument '{name}' is not declared"
                self._say("UndefinedArgInFrom", start, what + (f" ({hint})" if hint else ""), name)

    def _unset(self, one: Instruction, text: str, env: Mapping[str, str], raw: bool = False) -> list[str]:
        """Variables of a text that are not there."""
        names: list[str] = []
        self._scope.unset = lambda _, name: names.append(name)
        try:
            self._scope.expand(one, text, env, raw)
        except Error:
            pass  # it is said when it is built
        self._scope.unset = lambda one, name: None
        return names

    def _platform(self, stage: Stage) -> None:
        written = stage.start.platform
        if not written:
            return
        if re.fullmatch(r"\$(TARGETPLATFORM|\{TARGETPLATFORM\})", written):
            what = f"Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
            self._say("RedundantTargetPlatform", stage.start, what, written)
        elif "$" not in written and not any(part in stage.name for part in written.split("/") if stage.name):
            what = f'FROM --platform flag should not use constant value "{written}"'
            self._say("FromPlatformFlagConstDisallowed", stage.start, what, written)

    def _base_platform(self, stage: Stage) -> None:
        """Whether an image that is no index is for the platform that is built."""
        start = stage.start
        name = self._expanded(start, start.base, self._scope.globals)
        if name == "scratch" or any(other.name == name.lower() for other in self._file.stages[: stage.number]):
            return
        written = start.platform or "$TARGETPLATFORM"
        try:
            platform = manifests.parse_platform(self._expanded(start, written, self._scope.globals))
        except Error:
            return  # it is said when it is built
        wanted = manifests.platform_name(manifests.normal(platform))
        pulled = self._pulled(name, wanted)
        if pulled.split("/")[:2] != wanted.split("/")[:2]:  # whatever their variants
            what = f'Base image {name} was pulled with platform "{pulled}", expected "{wanted}" for current build'
            self._say("InvalidBaseImagePlatform", start, what, start.base)

    def _default(self, stage: Stage) -> None:
        """Whether a base is named without any --build-arg too."""
        written = stage.start.base
        if "$" not in written:
            return
        plain = Scope(self._file, {}, self._scope.target, build=self._scope.target)
        try:
            name = plain.expand(stage.start, written, plain.globals)
            if not name:
                raise Error("empty")
            refs.locate(name)
        except Error:
            what = f"Default value for ARG {written} results in empty or invalid base image name"
            self._say("InvalidDefaultArgInFrom", stage.start, what, written)

    # -- one by one ----------------------------------------------------------------------------------

    def _one(self, one: Instruction) -> None:
        name = one.name
        if name == "MAINTAINER":
            self._say("MaintainerDeprecated", one, "Maintainer instruction is deprecated in favor of using label")
        elif name in ("ENV", "LABEL") and one.legacy:
            what = f'"{name} key=value" should be used instead of legacy "{name} key value" format'
            self._say("LegacyKeyValueFormat", one, what)
        elif name == "EXPOSE":
            self._ports(one)
        elif name == "ARG":
            self._comment(one, [name for name, _ in one.pairs])
        elif name in ("COPY", "ADD") and not one.flags.get("from"):
            self._copied(one)
        if name == "ENV":
            for key, _ in one.pairs:
                self._secret(one, key)

    def _ports(self, one: Instruction) -> None:
        for port in one.args:
            numbers, _, protocol = port.partition("/")
            if protocol != protocol.lower():
                what = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
                self._say("ExposeProtoCasing", one, what, port)
            if ":" in numbers and "$" not in numbers:
                what = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                self._say("ExposeInvalidFormat", one, what, port)

    def _copied(self, one: Instruction) -> None:
        if self._ignored is None:
            return
        for source in one.sources:
            path = clean(source).strip("/")
            if path in ("", "."):
                path = "*"  # all that is in it
            if "$" in path or not self._ignored.match(path):
                continue
            fixed, *wild = _WILDCARD.split(path, maxsplit=1)
            if not self._ignored.may_show(fixed.rpartition("/")[0] if wild else path):
                what = f'Attempting to {one.name.capitalize()} file "{source}" that is excluded by .dockerignore'
                self._say("CopyIgnoredFile", one, what, source)

    def _comment(self, one: Instruction, names: list[str]) -> None:
        last = None
        for comment in one.statement.comments if names else ():
            last = last if _CHECK.match(comment) else comment
        if last is not None and last.split()[:1] not in [[name] for name in names]:
            example = names[0] if len(names) == 1 else "<arg_key>"
            what = f"Comment for {one.name} should follow the format: `# {example} <description>`"
            self._say("InvalidDefinitionDescription", one, what)

    # -- variables -------------------------------------------------------------------------------------

    def _variables(self, one: Instruction, env: dict[str, str], known: bool) -> None:
        for text, raw in _texts(one):
            for name in self._unset(one, text, env, raw) if known else ():
                if name in FREE or name in env:
                    continue
                hint = (meant(name, env) or "").replace("did you mean ", "did you mean $")
                what = f"Usage of undefined variable '${name}'" + (f" ({hint})" if hint else "")
                self._say("UndefinedVar", one, what, name)
        if one.name == "ENV":
            env.update({name: self._expanded(one, value, dict(env)) for name, value in one.pairs})
        elif one.name == "ARG":
            for name, default in one.pairs:
                value = self._scope.given.get(name, self._scope.globals.get(name) if default is None else default)
                env[name] = value or ""


def _told(one: Instruction) -> Iterator[Directive]:
    """What comments right above an instruction say of it."""
    for comment in one.statement.comments:
        if found := _CHECK.match(comment):
            try:
                yield Directive(found[1])
            except Error:
                pass  # a comment like others


def _texts(one: Instruction) -> Iterator[tuple[str, bool]]:
    """The texts of an instruction in which variables are replaced; whether quotes mean nothing in it."""
    if one.name in ("ENV", "LABEL"):
        for name, value in one.pairs:
            yield from ((name, False), (value, False))
    elif one.name == "ARG":
        yield from ((default, False) for _, default in one.pairs if default is not None)
    elif one.name in ("WORKDIR", "USER", "STOPSIGNAL"):
        yield one.value, False
    elif one.name in ("EXPOSE", "VOLUME"):
        yield from ((word, False) for word in one.args)
    elif one.name in ("COPY", "ADD"):
        yield from ((word, False) for word in (*one.sources, one.dest, *one.flags["exclude"]))
        yield from ((one.flags[flag], False) for flag in ("chown", "chmod") if one.flags[flag])
        yield from ((heredoc.chomped(), True) for heredoc in one.contents if heredoc.expand)
    elif one.name == "RUN":
        for text in one.mounts:
            yield from ((field, False) for field in mounts.fields(text, one.statement))
