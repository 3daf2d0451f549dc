"""The words of --annotation, as buildx has them: `[LEVEL[,LEVEL...]:]NAME=VALUE`.

A LEVEL is where it goes, those of manifests perhaps with a platform, as in `manifest[linux/arm64]`:

    manifest             the image's manifest            manifest-descriptor  its entry in the index over it
    index                the index of several images     index-descriptor     its entry in the layout's index.json

Without one it is for the manifest.  Of an image without an index over it
manifest-descriptor is the entry in index.json.
"""

from __future__ import annotations

import re

from oci_tools.errors import Usage
from oci_tools.image import config as configs
from oci_tools.image import manifest as manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oci_tools.image.layout import Descriptor

LEVELS = ("manifest", "manifest-descriptor", "index", "index-descriptor")
_LEVEL = r"[a-z-]+(?:\[[A-Za-z0-9_/-]+\])?"
_SAID = re.compile(rf"({_LEVEL}(?:,{_LEVEL})*):")


def at(words: Iterable[str], level: str, platform: dict[str, str] | None = None) -> dict[str, str]:
    """What is said of a level, for a platform where it has one."""
    parsed = _parsed(words)
    return configs.annotated({}, [text for place, said, text in parsed if place == level and _fits(said, platform)])


def entry(made: Descriptor, words: Iterable[str], level: str, platform: dict[str, str] | None = None) -> Descriptor:
    """A descriptor with what is said of it."""
    found = at(words, level, platform)
    return {**made, "annotations": found} if found else made


def check(words: Iterable[str], several: bool) -> None:
    """Refuse what has no place to go: a level of an index where there is none, or one that is not known."""
    for word in words:
        if all(place.startswith("index") for place, _, _ in _parsed([word])) and not several:
            raise Usage("no index to annotate", word, "there is one image", "manifest:NAME=VALUE")


def _parsed(words: Iterable[str]) -> list[tuple[str, str, str]]:
    """(level, platform or "", NAME=VALUE) of each."""
    found = []
    for word in words:
        text = word.removeprefix(f"{_said(word)}:")
        for level in (_said(word) or "manifest").split(","):
            place, _, said = level.removesuffix("]").partition("[")
            if place not in LEVELS or (said and place.startswith("index")):
                raise Usage("unknown level of an annotation", word, hint=f"one of {', '.join(LEVELS)}")
            found.append((place, said, text))
    return found


def _said(word: str) -> str:
    match = _SAID.match(word)
    return match[1] if match else ""


def _fits(said: str, platform: dict[str, str] | None) -> bool:
    return not said or manifests.parse_platform(said).items() <= (platform or {}).items()
