"""Many images at once, out of lists and repositories: which are meant, which are here, which are no longer there."""

from __future__ import annotations

import os

from oci_tools.errors import Usage
from oci_tools.image import layout as layouts
from oci_tools.registry import choose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oci_tools.image.ref import Place, Ref
    from oci_tools.registry.copy import Options

    Means = Callable[[str], bool]


def means(match: str | None, exclude: str | None) -> Means:
    """Whether two regular expressions, each for all of it, mean a tag: by the first and not by the second."""
    import re

    try:
        wanted, unwanted = re.compile(match or ".*"), re.compile(exclude or "(?!)")
    except re.error as error:
        raise Usage("not a regular expression", error.pattern, str(error)) from None
    return lambda tag: bool(wanted.fullmatch(tag)) and not unwanted.fullmatch(tag)


def wanted(heads: Iterable[Ref], every: bool, options: Options, meant: Means) -> list[Ref]:
    """The references that are meant: these, or every tag of their repositories."""
    found = [ref for head in heads for ref in (choose.tags(head, options) if every else [head])]
    return [ref for ref in found if meant(ref.tag)]


def names(place: Place) -> list[str]:
    """The names in a layout, if it is one."""
    if not os.path.exists(f"{place.path}/oci-layout"):
        return []
    entries = layouts.Layout.open(place.path).index()["manifests"]
    return [name for entry in entries if (name := layouts.ref_name(entry)) is not None]


def stale(place: Place, heads: list[Ref], there: list[Ref], meant: Means) -> list[str]:
    """The names here of tags of these repositories that are meant and are not among those `there`."""
    repositories = {head.name for head in heads}
    if place.kind == "layout" and len(repositories) > 1:
        raise Usage("names of several repositories are told apart in the default store only", place.path)
    kept = {place.name_for(ref) for ref in there}
    found = []
    for name in names(place):
        head, _, tag = name.rpartition(":") if place.kind == "store" else ("", "", name)
        if name not in kept and meant(tag) and (place.kind == "layout" or head in repositories):
            found.append(name)
    return found
