"""SOURCE_DATE_EPOCH: the time that nothing new is later than, and where it may come from.

    a number   seconds since 1970
    context    when the context was made: its git commit, Last-Modified of its URL, else the newest file of an
               archive; of a directory and of standard input there is none
    NAME       the same of a named context, or of what a stage adds that is nothing but one ADD of a URL

What --timestamp says, which everything new has as its time, else --build-arg, the environment, or
ARG SOURCE_DATE_EPOCH=... before the first FROM.
"""

from __future__ import annotations

import os

from oci_tools.build import remote
from oci_tools.errors import Error
from oci_tools.image import config as configs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.build.contexts import Contexts
    from oci_tools.build.dockerfile import Dockerfile, Stage
    from oci_tools.build.options import Options
    from oci_tools.build.scope import Scope

NAME = "SOURCE_DATE_EPOCH"


def settle(options: Options, dockerfile: Dockerfile, contexts: Contexts, scope: Scope) -> None:
    """Say in the options which time it is; stages that ask for it are told."""
    given = options.arguments.get(NAME, os.environ.get(NAME) or scope.globals.get(NAME, ""))
    options.epoch = _seconds(given, dockerfile, contexts, scope) if given else None
    if options.exactly:
        from oci_tools.layer.diff import Exactly

        options.epoch = Exactly(given)
    if given:
        options.arguments[NAME] = "" if options.epoch is None else str(options.epoch)


def _seconds(text: str, dockerfile: Dockerfile, contexts: Contexts, scope: Scope) -> int | None:
    seconds = configs.epoch(text)
    if seconds is not None:
        return seconds
    name = text.lower()
    if name == "context":
        return contexts.made
    if name in contexts.named and not contexts.is_tree(name):
        raise Error(f"invalid {NAME}", text, "the build context is an image")
    if name in contexts.named:
        contexts.origin(name)
        return contexts.times[name]
    stage = next((stage for stage in dockerfile.stages if stage.name and stage.name.lower() == name), None)
    if stage is None:
        hint = "it is seconds since 1970, context, a stage or a named context"
        raise Error(f"invalid {NAME}: {text}", None, None, hint, code=2)
    return _of_stage(stage, contexts, scope)


def _of_stage(stage: Stage, contexts: Contexts, scope: Scope) -> int | None:
    """When what a stage adds was made: FROM scratch and one ADD."""
    one = stage.instructions[0] if len(stage.instructions) == 1 else None
    words = [scope.expand(one, word, scope.globals) for word in one.sources] if one and one.name == "ADD" else []
    if stage.start.base != "scratch" or len(words) != 1 or not (remote.git(words[0]) or remote.is_url(words[0])):
        raise stage.start.wrong(f"{NAME} stage does not meet source-only requirements", stage.start.base)
    return remote.made(words[0], contexts.place)
