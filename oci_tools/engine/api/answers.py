"""What an answer of the API is: JSON documents, streams of them, and errors in dockerd's words."""

from __future__ import annotations

from oci_tools import document
from oci_tools.http import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

JSON = ("Content-Type", "application/json")
RAW, FRAMED = "application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream"


class Refused(Exception):
    """The answer is an error: a status of HTTP, and a message that a person reads."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def answer(value: Any, status: int = 200) -> Response:
    return Response(status, [JSON], document.dumps(value) + b"\n")


def nothing(status: int = 204) -> Response:
    return Response(status)


def refusal(error: Refused) -> Response:
    return answer({"message": error.message}, error.status)


def stream(pieces: Iterator[bytes], kind: str = "application/json") -> Response:
    """An answer whose head goes out at once and whose pieces go as they come."""
    return Response(200, [("Content-Type", kind)], pieces)


def line(value: Any) -> bytes:
    """One message of a stream of progress."""
    return document.dumps(value) + b"\r\n"
