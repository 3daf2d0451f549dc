"""The handshake's messages: what crosses, what an error becomes on the other side."""

from __future__ import annotations

import os

import pytest

from oci_tools.errors import Error
from oci_tools.runtime import sync


def both() -> tuple[sync.Channel, sync.Channel]:
    return sync.pair()


def test_messages_and_descriptors() -> None:
    ours, theirs = both()
    reader, writer = os.pipe()
    theirs.send("console", [writer], size=5)
    os.close(writer)
    message, fds = ours.receive()
    assert message == {"op": "console", "size": 5}
    os.write(fds[0], b"through")
    assert os.read(reader, 100) == b"through"
    assert not os.get_inheritable(fds[0])
    os.close(fds[0])
    os.close(reader)
    theirs.close()
    assert ours.receive() == (None, [])
    ours.close()


def test_what_was_said_by_who_ended_without_hearing_our_last_word() -> None:
    ours, theirs = both()
    theirs.send("error", **sync.told(Error("cannot do it", "this")))
    ours.send("go", groups=True)  # and nobody reads it
    theirs.close()
    with pytest.raises(Error, match="cannot do it"):
        ours.receive()
    assert ours.receive() == (None, [])
    ours.close()


def test_a_word_to_who_has_ended_already() -> None:
    ours, theirs = both()
    theirs.send("error", **sync.told(Error("cannot do it", "this")))
    theirs.close()
    with pytest.raises(BrokenPipeError):
        ours.send("start")
    ours.go(groups=True)
    with pytest.raises(Error, match="cannot do it"):
        ours.receive()
    ours.close()


def test_a_word_that_comes_with_descriptors() -> None:
    ours, theirs = both()
    reader, writer = os.pipe()
    ours.send("go", [reader, writer], groups=True)
    ours.send("start")
    taken: list[int] = []
    assert theirs.expect("go", "cannot go on", taken) == {"op": "go", "groups": True}
    assert theirs.expect("start", "cannot go on") == {"op": "start"}
    os.write(taken[1], b"through")
    assert os.read(reader, 100) == b"through" and not os.get_inheritable(taken[0])
    for fd in (reader, writer, *taken):
        os.close(fd)
    ours.close()
    theirs.close()


def test_what_is_not_expected() -> None:
    ours, theirs = both()
    theirs.send("ready")
    with pytest.raises(Error, match="cannot go on") as raised:
        ours.expect("go", "cannot go on")
    assert "said ready instead of go" in str(raised.value)
    theirs.close()
    with pytest.raises(Error, match="cannot go on") as raised:
        ours.expect("go", "cannot go on")
    assert "ended unexpectedly" in str(raised.value)
    ours.close()


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (Error("cannot mount", "/x", OSError(1, "Operation not permitted"), "try root"), "cannot mount '/x': operation not permitted (try root)", 1),
        (Error("a", None, "because", code=126), "a: because", 126),
        (Error("a", b"\xff/b"), "a '\\udcff/b'", 1),
        (Error("a", 5, Error("b", "c")), "a '5': b 'c'", 1),
        (OSError(2, "No such file or directory", "/y"), "cannot set up the container '/y': no such file or directory", 1),
        (OSError("strange"), "cannot set up the container: strange", 1),
    ],
)  # fmt: skip
def test_an_error_is_the_same_on_the_other_side(error: Exception, said: str, code: int) -> None:
    ours, theirs = both()
    theirs.send("error", **sync.told(error))
    with pytest.raises(Error) as raised:
        ours.receive()
    assert (str(raised.value), raised.value.code) == (said, code)
    assert str(raised.value).isprintable()
    ours.close()
    theirs.close()


def test_a_bug_says_where() -> None:
    try:
        {}["missing"]
    except KeyError as error:
        told = sync.told(error)
    assert told["code"] == 70
    assert "KeyError: 'missing' at test_sync.py:" in told["cause"][1]


def test_an_errno_stays_one() -> None:
    """Whoever asks why can still tell a refusal from a bug."""
    revived = sync.revive(sync.told(Error("a", "b", OSError(13, "Permission denied"))))
    assert isinstance(revived.cause, OSError) and revived.cause.errno == 13
