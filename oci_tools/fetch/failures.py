"""What goes wrong on the wire, in our form: exceptions of requests, urllib3, http.client, ssl, sockets as an Error."""

from __future__ import annotations

from oci_tools.errors import Busy, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Lost(Busy):
    """The connection could not be made or was cut; trying again may help."""


class NoTls(Error):
    """Who answers does not speak TLS, or not as we do."""


def error_of(error: BaseException, host: str) -> Error:
    """What an exception means, for who speaks to a host; Lost where trying again may help."""
    import http.client
    import ssl

    causes = list(_causes(error))
    proxy = any(type(cause).__name__ == "ProxyError" for cause in causes)
    way = "through the proxy that the environment names" if proxy else None
    for cause in causes:
        if isinstance(cause, Error):
            return cause
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = cause.verify_message or "certificate verify failed"
            hint = "--cert-dir names whom to trust, --tls-verify=false accepts any certificate"
            return Error("cannot trust", host, why.lower(), hint)
        if isinstance(cause, (TimeoutError, ConnectionError)):  # http.client's RemoteDisconnected is one
            return Lost("cannot reach", host, cause if cause.strerror else _plain(cause), way)
        if isinstance(cause, ssl.SSLError):
            return NoTls(
                "cannot speak tls with", host, (cause.reason or str(cause)).lower().replace("_", " ")
            )
        if isinstance(cause, http.client.IncompleteRead):
            return Lost("cannot read from", host, "the connection was cut")
        if isinstance(cause, OSError) and cause.strerror and type(cause).__module__ in ("builtins", "socket"):
            return Lost("cannot reach", host, cause, way)
        if isinstance(cause, http.client.HTTPException):
            return Error("cannot understand", host, str(cause) or type(cause).__name__)
    text = next((str(cause) for cause in reversed(causes) if str(cause)), type(error).__name__)
    passing = any(
        "Timeout" in type(cause).__name__ or "Connection" in type(cause).__name__ for cause in causes
    )
    if any("Timeout" in type(cause).__name__ for cause in causes):
        text = "timed out"
    text = " ".join(word.partition("?")[0] for word in text.split(" "))  # urllib3 likes to say all of a URL
    return (Lost if passing else Error)("cannot fetch from", host, text[:1].lower() + text[1:] if proxy else text, way)


def _plain(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return "the connection was cut" if isinstance(error, ConnectionError) else str(error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception with everything it was raised from or carries, outermost first."""
    seen: list[BaseException] = []
    todo = [error]
    while todo:
        at = todo.pop(0)
        if any(at is one for one in seen):
            continue
        seen.append(at)
        yield at
        inner = [at.__cause__, at.__context__, getattr(at, "reason", None), *at.args]
        todo += [one for one in inner if isinstance(one, BaseException)]
