"""An answer of the registry that is an error (distribution-spec, "Error Codes")."""

from __future__ import annotations

from oci_tools import document
from oci_tools.http import Request, Response
from oci_tools.image import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Headers = list[tuple[str, str]]

JSON = "application/json"
VERSION = ("Docker-Distribution-API-Version", "registry/2.0")  # old clients look for it


class Refusal(Exception):
    """An answer that is an error: its status, the specification's code, and words for people.

    more: details of further errors of the same kind.
    """

    def __init__(
        self, status: int, code: str, message: str, detail: object = None, headers: Headers | None = None,
        more: list[dict[str, str]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = [detail, *(more or [])]
        self.headers = headers or []

    def response(self) -> Response:
        said: dict[str, Any] = {"code": self.code, "message": str(self)}
        entries = [said if detail is None else {**said, "detail": detail} for detail in self.details]
        body = document.dumps({"errors": entries}) + b"\n"
        return Response(self.status, [("Content-Type", JSON), VERSION, *self.headers], body)


def only(request: Request, *methods: str) -> None:
    """Refuse other methods."""
    if request.method not in methods:
        allow = [("Allow", ", ".join(methods))]
        raise Refusal(405, "UNSUPPORTED", f"{request.method} is not for this", headers=allow)


def digest_of(text: str) -> str:
    """A digest out of a path or query."""
    if not digests.valid(text):
        raise Refusal(400, "DIGEST_INVALID", "not a digest", {"digest": text})
    return text
