"""A handle or an archive on standard input, known by its bytes."""

import pytest

from oci_tools.errors import Error
from oci_tools.image.stdin import from_stdin
from tests.image.make import Pipe


@pytest.mark.parametrize("text", ["/srv/img", "/srv/img\n", "/srv/img@sha256:" + "0" * 64 + "\n", "/x y:z\n"])
def test_a_handle_on_stdin(text):
    assert from_stdin(Pipe(text.encode(), 3)) == ("handle", text.rstrip("\n"))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "nothing on standard input"),
        (b"\n", "neither a handle nor an image archive"),
        (b"docker://alpine\n", "neither a handle"),
        (b"alpine\n", "neither a handle"),
        (b"./img\n", "neither a handle"),
        (b"/a\n/b\n", "more than one line"),
        (b"/a\n\n", "more than one line"),
        (b"/" + b"x" * 10000, "not a handle"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "neither a handle .*: it is "),
    ],
)
def test_stdin_that_is_neither(data, why):
    with pytest.raises(Error, match=why):
        from_stdin(Pipe(data))
