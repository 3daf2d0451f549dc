"""Documents against the schemas of their specifications, with the JSON path in the message.

The schemas are ours, written from the texts of the specifications, in the JSON files beside
this module: one for each specification, one definition for each kind of document.  This is
the only module that imports jsonschema (100 ms), and only when it is asked; what must be
fast checks itself (`runtime/check.py`), and tests hold the verdicts equal.

    config.json: process.args[0]: expected a string, got 5

Draft 4, as the specifications' own schemas: 1.0 is no integer, nor is it to Go.
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# kind of document -> the file that defines it
KINDS = {
    "config": "schema_runtime.json",
    "state": "schema_runtime.json",
    "features": "schema_runtime.json",
    "descriptor": "schema_image.json",
    "image-manifest": "schema_image.json",
    "image-index": "schema_image.json",
    "image-config": "schema_image.json",
    "image-layout": "schema_image.json",
}
_TYPES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}


def check(kind: str, value: Any, subject: str | None = None) -> None:
    """Raise Error, with the JSON path and the offending value, unless `value` is a good document.

    `kind` is one of KINDS; `subject` is what the message calls the document.
    """
    import jsonschema

    try:
        errors = list(validator(kind).iter_errors(value))
    except RecursionError:
        raise Error("cannot check", subject or kind, "nested too deeply") from None
    if errors:
        error = jsonschema.exceptions.best_match(errors)
        raise document.wrong(subject or kind, *explain(error))


def validator(kind: str) -> Any:
    """The jsonschema validator of a kind of document."""
    from jsonschema import Draft4Validator

    schema = document.load(os.path.join(os.path.dirname(__file__), KINDS[kind]))
    return Draft4Validator({**schema, "$ref": f"#/definitions/{kind}"})


def explain(error: Any) -> tuple[str, str]:
    """The JSON path of an error of jsonschema, and what is wrong in our words."""
    path = "".join(f"[{at}]" if isinstance(at, int) else document.step(at) for at in error.absolute_path)
    rule, limit = error.validator, error.validator_value
    if rule == "required":
        name = next(name for name in limit if name not in error.instance)
        return path + document.step(name), "missing"
    return path, f"{_expected(rule, limit, error)}, got {document.shown(error.instance)}"


def _expected(rule: str, limit: Any, error: Any) -> str:
    """What the rule that was broken asks for."""
    if rule == "type":
        return "expected " + " or ".join(
            _TYPES[name] for name in ([limit] if isinstance(limit, str) else limit)
        )
    if rule == "enum":
        return f"expected one of {', '.join(map(str, limit))}"
    if rule in ("minimum", "maximum"):
        return f"expected at {'least' if rule == 'minimum' else 'most'} {limit}"
    if rule == "minItems":
        return f"expected at least {limit} item{'s' if limit > 1 else ''}"
    if rule == "pattern":
        return f"expected {error.schema.get('description') or 'a string that matches ' + limit}"
    return "expected something else" if len(error.message) > 200 else str(error.message)
