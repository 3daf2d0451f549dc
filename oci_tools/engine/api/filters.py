"""The `filters` of lists: {"label": {"a=b": true}} as the CLI writes them, {"label": ["a=b"]} as docker-py does."""

from __future__ import annotations

from oci_tools import document
from oci_tools.engine.api.answers import Refused
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Filters = dict[str, list[str]]

TRUE = ("1", "true", "t", "True", "TRUE")


def read(text: str, known: Iterable[str]) -> Filters:
    """What is asked for; refused where a key is none of `known`."""
    if not text:
        return {}
    try:
        said = document.loads(text)
        found = {
            key: list(values if isinstance(values, list) else [each for each, on in values.items() if on])
            for key, values in said.items()
        }
    except (Error, AttributeError, TypeError):
        raise Refused(400, "invalid filter") from None
    for key, values in found.items():
        if key not in set(known):
            raise Refused(400, f"invalid filter '{key}'")
        if not all(isinstance(value, str) for value in values):
            raise Refused(400, "invalid filter")
    return found


def labels(wanted: Filters, said: Mapping[str, str] | None, key: str = "label") -> bool:
    """Whether labels are all that `label` asks for, and none of what `label!` does not want."""
    have = said or {}
    return all(_has(have, each) for each in wanted.get(key, ())) and not any(
        _has(have, each) for each in wanted.get(f"{key}!", ())
    )


def _has(have: Mapping[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in have and (not equals or have[name] == value)


def like(pattern: str, name: str) -> bool:
    """Whether a regular expression, as docker takes it for a name, is found in one; what is none is in nothing."""
    import re

    try:
        return re.search(pattern, name) is not None
    except re.error:
        return False


def flag(wanted: Filters, key: str) -> bool | None:
    """The one truth value of a key; None where it is not said."""
    if not wanted.get(key):
        return None
    value = wanted[key][0]
    if value in TRUE:
        return True
    if value in ("0", "false", "f", "False", "FALSE"):
        return False
    raise Refused(400, f"invalid filter '{key}=[{value}]'")
