"""Which stages a build needs: what each is based on, copies from and mounts, as far as the target leads."""

from __future__ import annotations

from oci_tools.build import mounts
from oci_tools.build.position import meant
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oci_tools.build.dockerfile import Dockerfile, Stage
    from oci_tools.build.instructions import Instruction


class Graph:
    """The stages of one build.

    target   the one that is asked for
    needed   it, and all that it needs, in the Dockerfile's order
    """

    def __init__(
        self, dockerfile: Dockerfile, target: str | None, base: Callable[[Stage], str], named: Callable[[str], bool]
    ) -> None:
        """`base` gives a stage's FROM with its variables; `named` says whether a name is a context's."""
        self._dockerfile = dockerfile
        self._named = named
        self.bases = {stage.number: base(stage) for stage in dockerfile.stages}
        self._below = dict(self._based())
        self.target = self._target(target)
        found: set[int] = set()
        self._visit(self.target, found, [])
        self.needed = [stage for stage in dockerfile.stages if stage.number in found]
        for stage in self.needed:
            self._check_order(stage)

    def _target(self, name: str | None) -> Stage:
        stages = self._dockerfile.stages
        if not name:
            return stages[-1]
        found = self._dockerfile.find(name)
        if found is None:
            hint = meant(name, [stage.name for stage in stages if stage.name])
            raise Error(f'target stage "{name}" could not be found', hint=hint)
        return found

    def _visit(self, stage: Stage, found: set[int], way: list[Stage]) -> None:
        if stage in way:
            raise stage.start.wrong(f"circular dependency detected on stage: {stage.name or stage.number}")
        if stage.number in found:
            return
        for other in self.needs(stage):
            self._visit(other, found, [*way, stage])
        found.add(stage.number)

    def _check_order(self, stage: Stage) -> None:
        """A stage takes files from those before it only, as BuildKit has it, though a later one would do."""
        for instruction in stage.instructions:
            for name in _names(instruction):
                other = self.find(name)
                if other is not None and other.number > stage.number:
                    verb = "copy" if instruction.name == "COPY" else "mount"
                    here = stage.name or stage.number
                    what = f'cannot {verb} from stage "{name}", it needs to be defined before current stage "{here}"'
                    raise instruction.wrong(what, name)

    def needs(self, stage: Stage) -> Iterator[Stage]:
        """The stages that a stage needs itself."""
        below = self.base(stage)
        if below is not None:
            yield below
        for instruction in stage.instructions:
            for name in _names(instruction):
                other = self.find(name)
                if other is not None:
                    yield other
                elif name.isascii() and name.isdigit() and not self._named(name):
                    raise instruction.wrong(f"invalid stage index {name}", name)

    def base(self, stage: Stage) -> Stage | None:
        """The stage that a stage is based on, None for an image, or nothing."""
        return self._below[stage.number]

    def _based(self) -> Iterator[tuple[int, Stage | None]]:
        """Of each stage the last one before it that has the name of its base."""
        before: dict[str, Stage] = {}
        for stage in self._dockerfile.stages:
            name = self.bases[stage.number]
            yield stage.number, None if self._named(name) else before.get(name.lower())
            if stage.name:
                before[stage.name] = stage

    def find(self, name: str) -> Stage | None:
        """The stage that COPY, ADD or a mount means."""
        if self._named(name):
            return None
        return self._dockerfile.find(name)


def _names(instruction: Instruction) -> Iterator[str]:
    """What an instruction takes files from, besides the context."""
    if instruction.name == "COPY" and instruction.flags["from"]:
        yield instruction.flags["from"]
    elif instruction.name == "RUN":
        for text in instruction.mounts:
            made = mounts.read(text, instruction.statement)
            if made.origin:
                yield made.origin
