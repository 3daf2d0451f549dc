"""What --check found as JSON, in the form of BuildKit's subrequest `frontend.lint`.

    {"warnings": [{"ruleName", "description", "url", "detail", "location"}],
     "sources": [{"fileName", "language", "data": its bytes in base64}],
     "buildError": {"message", "location"}}

A location is of the one source, with a range for each line: {"ranges": [{"start": {"line"}, "end": {"line"}}]}, lines
from 1 on.  `buildError` is
there if what is in the file cannot be built, and warnings then are of what comes before.
"""

from __future__ import annotations

import base64
import re

from oci_tools.build.position import Text, Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from oci_tools.build.dockerfile import Dockerfile
    from oci_tools.build.lines import Statement
    from oci_tools.build.lint import Warning

DESCRIPTIONS = {
    "ConsistentInstructionCasing": "All instructions are written in the same case",
    "CopyIgnoredFile": "Nothing is copied that the ignore file leaves out",
    "DuplicateStageName": "Each stage has a name of its own",
    "ExposeInvalidFormat": "EXPOSE has neither an address nor a port of the host",
    "ExposeProtoCasing": "The protocol of EXPOSE is written in lowercase",
    "FromAsCasing": "'as' is written in the same case as 'from'",
    "FromPlatformFlagConstDisallowed": "The platform of FROM is no constant",
    "InvalidBaseImagePlatform": "The base image is for the platform that is built",
    "InvalidDefaultArgInFrom": "The defaults of ARG alone name a base image",
    "InvalidDefinitionDescription": "A comment above ARG or FROM begins with the name that it describes",
    "JSONArgsRecommended": "CMD and ENTRYPOINT are JSON arrays, so that signals reach the program",
    "LegacyKeyValueFormat": "ENV and LABEL have = between name and value",
    "MaintainerDeprecated": "An image's author is named by a label, not by MAINTAINER",
    "MultipleInstructionsDisallowed": "What only counts once is said once in a stage",
    "NoEmptyContinuation": "No line is empty within an instruction",
    "RedundantTargetPlatform": "The platform of FROM is not what it is anyway",
    "ReservedStageName": "No stage has a name that means something else",
    "SecretsUsedInArgOrEnv": "No secret is in ARG or ENV",
    "StageNameCasing": "Names of stages are written in lowercase",
    "UndefinedArgInFrom": "Variables in FROM are declared by ARG before",
    "UndefinedVar": "Variables are defined before they are used",
    "WorkdirRelativePath": "A relative WORKDIR follows an absolute one",
}  # fmt: skip
RULES_AT = "https://docs.docker.com/go/dockerfile/rule/"
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]*")


def results(found: Iterable[Warning], whole: Dockerfile | Wrong) -> dict[str, Any]:
    """`whole` is the error in the Dockerfile if there is one."""
    source = {"fileName": whole.file, "language": "Dockerfile", "data": data(whole)}
    said: dict[str, Any] = {"warnings": [_warning(one) for one in found], "sources": [source]}
    if isinstance(whole, Wrong):
        said["buildError"] = {"message": whole.message(), "location": location(whole)}
    return said


def data(whole: Dockerfile | Wrong) -> str:
    """The bytes of a Dockerfile in base64."""
    lines = whole.lines
    found = lines.data if isinstance(lines, Text) else "\n".join(lines).encode("utf-8", "surrogateescape")
    return base64.b64encode(found).decode()


def address(rule: str) -> str:
    return f"{RULES_AT}{'-'.join(_WORD.findall(rule)).lower()}/"


def _warning(one: Warning) -> dict[str, Any]:
    return {
        "ruleName": one.rule,
        "description": DESCRIPTIONS[one.rule],
        "url": address(one.rule),
        "detail": one.place.what,
        "location": location(one.place),
    }


def location(place: Wrong | Statement) -> dict[str, Any]:
    return {"ranges": [{"start": {"line": at}, "end": {"line": at}} for at in range(place.start, place.end + 1)]}
