"""A Dockerfile: its stages, each a list of instructions, and what is said before the first of them."""

from __future__ import annotations

from oci_tools.build import instructions
from oci_tools.build.lines import Source
from oci_tools.build.position import Text, Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from oci_tools.build.instructions import Instruction


class Stage:
    """One stage: its FROM, its number, its name in small letters ("" without one), its instructions."""

    def __init__(self, start: Instruction, number: int) -> None:
        self.start = start
        self.number = number
        self.name: str = start.stage
        self.instructions: list[Instruction] = []


class Dockerfile:
    """What is in a Dockerfile.

    file     how it is called in messages
    lines    those that messages show
    source   its text, read (lines.py)
    globals  the ARGs before the first FROM
    stages   in their order

    Where a script says what is in it, `shown` is the lines of that, and `places` the number of the one of them that
    says a line here.
    """

    def __init__(self, data: bytes, file: str, shown: list[str] | None = None, places: Sequence[int] = ()) -> None:
        self.file = file
        self.lines: Sequence[str] | Text = shown or Text(data)
        self._places = places
        self.globals: list[Instruction] = []
        self.stages: list[Stage] = []
        try:
            self.source = Source(data)
            self._read()
        except Wrong as error:
            raise self.place(error) from None

    def place(self, error: Wrong) -> Wrong:
        """The error, knowing in which file it is."""
        if self._places and not error.file:
            error.start, error.end = (self._places[min(at, len(self._places)) - 1] for at in (error.start, error.end))
        return error.placed(self.file, self.lines)

    def _read(self) -> None:
        for statement in self.source.statements:
            made = instructions.read(statement, self.source.escape)
            if made.name == "FROM":
                self.stages.append(Stage(made, len(self.stages)))
            elif self.stages:
                self.stages[-1].instructions.append(made)
            elif made.name == "ARG":
                self.globals.append(made)
            else:
                raise statement.wrong("no build stage in current context", statement.word, "FROM comes first")
        if not self.stages:
            raise Wrong("dockerfile contains no stages to build", len(self._places or self.lines))

    def __enter__(self) -> Dockerfile:
        return self

    def __exit__(self, kind: object, error: Any, *_: object) -> None:
        """An error in a `with` block that has a place learns in which file it is."""
        if isinstance(error, Wrong):
            self.place(error)

    def find(self, name: str) -> Stage | None:
        """The last stage of this name, or of this number."""
        for stage in reversed(self.stages):
            if stage.name and stage.name == name.lower():
                return stage
        if name.isascii() and name.isdigit() and int(name) < len(self.stages):
            return self.stages[int(name)]
        return None
