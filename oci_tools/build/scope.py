"""Variables: which an instruction sees, and what they are.

    globals   ARGs before the first FROM, and those of the platform: for FROM, and as what an ARG of a
              stage has that says no value of its own
    env       of a stage: its base image's and all ENVs and ARGs so far, the latest wins; a stage that is
              based on another has its, ARGs too
"""

from __future__ import annotations

from oci_tools.build import words
from oci_tools.errors import Error
from oci_tools.image import manifest as manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oci_tools.build.dockerfile import Dockerfile
    from oci_tools.build.instructions import Instruction

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
# Given with --build-arg they steer a build, or are in every RUN, without being asked for by ARG.
FREE = frozenset([*PROXIES, *(name.lower() for name in PROXIES), "SOURCE_DATE_EPOCH"])
CHECK = "BUILDKIT_DOCKERFILE_CHECK"
STEERING = frozenset(f"BUILDKIT_{name}" for name in (
    "BUILD_NAME", "CACHE_MOUNT_NS", "CONTEXT_KEEP_GIT_DIR", "DOCKERFILE_CHECK", "INLINE_CACHE", "MULTI_PLATFORM",
    "SANDBOX_HOSTNAME", "SYNTAX",
))  # fmt: skip


class Scope:
    """The variables of a whole build for one platform.

    given    what --build-arg says
    used     the names of those that somebody asked for
    unset    told (instruction, name) of each variable that is used and not set
    """

    def __init__(
        self,
        dockerfile: Dockerfile,
        given: Mapping[str, str],
        platform: Mapping[str, str],
        target: str | None = None,
        build: Mapping[str, str] | None = None,
    ) -> None:
        self.given = given
        self.target = platform
        self.escape = dockerfile.source.escape
        self.used: set[str] = set()
        self.unset: Callable[[Instruction, str], None] = lambda instruction, name: None
        self.platform = {**_platform("BUILD", build or platform), **_platform("TARGET", platform)}
        self.platform["TARGETSTAGE"] = target or (dockerfile.stages and dockerfile.stages[-1].name) or "default"
        self.globals = dict(self.platform)
        for name in self.platform:
            if name in given:
                self.globals[name] = given[name]
                self.used.add(name)
        for instruction in dockerfile.globals:
            for name, default in instruction.pairs:
                if name in given:
                    self.globals[name] = given[name]
                    self.used.add(name)
                elif default is not None:
                    self.globals[name] = self.expand(instruction, default, self.globals)

    def expand(self, instruction: Instruction, text: str, env: Mapping[str, str], raw: bool = False) -> str:
        """A text of an instruction with its variables; `raw`: the content of a here-document."""
        return self._process(instruction, text, env, raw, False).text

    def expand_words(self, instruction: Instruction, text: str, env: Mapping[str, str]) -> list[str]:
        """The same, parted into words."""
        return self._process(instruction, text, env, False, True).words

    def _process(
        self, instruction: Instruction, text: str, env: Mapping[str, str], raw: bool, parted: bool
    ) -> words.Words:
        try:
            found = words.process(text, env, "\\" if raw else self.escape, skip_quotes=raw, parted=parted)
        except Error as error:
            raise instruction.wrong(str(error), text) from None
        for name in sorted(found.unmatched):
            self.unset(instruction, name)
        return found

    def missing(self, instruction: Instruction, text: str) -> list[str]:
        """The variables of a FROM that are not declared."""
        return sorted(words.process(text, self.globals, self.escape).unmatched)

    def argument(self, instruction: Instruction, name: str, default: str | None, env: Mapping[str, str]) -> str | None:
        """The value of an ARG of a stage, None if it has none."""
        if name in self.given:
            self.used.add(name)
            return self.given[name]
        if default is not None:
            return self.expand(instruction, default, env)
        return self.globals.get(name)

    def proxies(self) -> dict[str, str]:
        """What every RUN has without being part of the image or of what it depends on, in capitals and without."""
        given = {name: value for name, value in self.given.items() if name.upper() in PROXIES}
        both = [(each, value) for name, value in given.items() for each in (name.upper(), name.lower())]
        return {**dict(both), **given}

    def unused(self) -> list[str]:
        """The --build-arg that nobody asked for."""
        return sorted(set(self.given) - self.used - FREE - STEERING)


def _platform(prefix: str, platform: Mapping[str, str]) -> dict[str, str]:
    return {
        f"{prefix}PLATFORM": manifests.whole_name(dict(platform)),
        f"{prefix}OS": platform["os"],
        f"{prefix}OSVERSION": platform.get("os.version", ""),
        f"{prefix}ARCH": platform["architecture"],
        f"{prefix}VARIANT": platform.get("variant", ""),
    }
