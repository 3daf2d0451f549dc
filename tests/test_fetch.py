"""The HTTP client by itself: what a server asks for, and what is shown of a URL; the rest is in tests/registry."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from oci_tools import fetch
from oci_tools.errors import Error
from tests.peers import Answer, Asked, Fake


@pytest.mark.parametrize(
    "said, seconds",
    [
        ("", 0), ("0", 0), (" 7 ", 7), ("120", 120), ("9" * 30, 999_999_999), ("-1", 0), ("1.5", 0), ("soon", 0), ("٣", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("Thu, 99 Jan 1970 00:00:00 GMT", 0), ("Mon, 01 Jan 99999 00:00:00 GMT", 0),
    ],
)  # fmt: skip
def test_retry_after(said: str, seconds: float) -> None:
    assert fetch.retry_after(said) == seconds


def test_retry_after_a_date() -> None:
    assert 50 < fetch.retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert 50 < fetch.retry_after(time.strftime("%A, %d-%b-%y %H:%M:%S GMT", time.gmtime(time.time() + 60))) <= 60


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("date", [False, True])
def test_a_server_is_waited_for(status: int, date: bool) -> None:
    """Not before it said, though our own first pause is shorter; and no longer than we have patience."""
    with Fake() as fake, fetch.Client(delay=0.001) as client:
        when: list[float] = []
        fake.guard = lambda asked: when.append(time.time())  # type: ignore[func-returns-value]
        until = time.time() + 2
        said = formatdate(until, usegmt=True) if date else "1"
        fake.on("GET", "/x", Answer(), Answer(status, {"Retry-After": said}), Answer(200, {}, b"there"))
        client.request("GET", f"{fake.url}/x").done()
        with client.request("GET", f"{fake.url}/x") as answer:
            assert answer.read() == b"there" and len(when) == 3
        assert when[2] >= (int(until) if date else when[1] + 1)
        fake.on("GET", "/x", Answer(status, {"Retry-After": str(int(fetch.PATIENCE) + 1)}))
        with client.request("GET", f"{fake.url}/x") as answer:
            assert answer.status == status and len(when) == 4


def test_retries_have_a_limit() -> None:
    with Fake() as fake, fetch.Client(delay=0.001, retries=3) as client:
        asked: list[Asked] = []
        fake.guard = asked.append  # type: ignore[assignment]
        fake.on("GET", "/x", Answer(500))
        with client.request("GET", f"{fake.url}/x") as answer:
            assert answer.status == 500 and len(asked) == 4
        for status in (400, 401, 403, 404, 410, 416):
            asked.clear()
            fake.on("GET", "/x", Answer(status))
            with client.request("GET", f"{fake.url}/x") as answer:
                assert answer.status == status and len(asked) == 1


def test_a_body_that_is_cut_is_lost(tmp_path: Any) -> None:
    with Fake() as fake, fetch.Client() as client:
        fake.on("GET", "/x", Answer(200, {"Content-Length": "10"}, b"0123456789", cut=4))
        with client.request("GET", f"{fake.url}/x") as answer, pytest.raises(fetch.Lost) as raised:
            while answer.read(2):
                pass
        assert raised.value.code == 75


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" * 2000,
        b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" * 2000,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 2000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;" + b"x" * 100_000,
    ],
)
def test_what_has_no_end(raw: bytes) -> None:
    """A server that never comes to the end of a head or of what follows the last chunk holds nobody."""
    with Fake() as fake, fetch.Client() as client:
        fake.on("GET", "/x", Answer(raw=raw))
        with pytest.raises(Error, match=r"has no end|got more than \d+") as raised:
            client.request("GET", f"{fake.url}/x").read_all(100)
        assert raised.value.code == 1
