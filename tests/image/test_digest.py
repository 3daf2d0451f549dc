"""Digests, descriptors, and streams that are held to them."""

import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci_tools.errors import Error
from oci_tools.image import digest


def described(data, algorithm="sha256"):
    return {"digest": digest.of(data, algorithm), "size": len(data)}


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("size", [0, 5, (1 << 20) + 1])
def test_of(algorithm, size):
    data = b"x" * size
    assert digest.of(data, algorithm) == f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def test_check():
    assert digest.check("sha256:" + "0a" * 32) == ("sha256", "0a" * 32)
    assert digest.check("sha512:" + "0a" * 64) == ("sha512", "0a" * 64)


@pytest.mark.parametrize(
    "bad",
    ["", "sha256", "sha256:", "sha256:" + "0" * 63, "sha256:" + "0" * 65, "sha256:" + "A" * 64, "md5:" + "0" * 32,
     "sha256:" + "0" * 63 + "/", "sha256:" + "0" * 63 + "\n", "sha512:" + "0" * 64, None, 5, ["sha256:"],
     "sha256:../../../../../../../../etc/passwd/" + "0" * 30, "SHA256:" + "0" * 64],
)  # fmt: skip
def test_check_refuses(bad):
    with pytest.raises(Error):
        digest.check(bad)
    assert not digest.valid(bad)


@pytest.mark.parametrize("size", [-1, 1.0, True, "5", None, 1e400])
def test_descriptor_sizes(size):
    with pytest.raises(Error):
        digest.check_descriptor({"digest": "sha256:" + "0" * 64, "size": size})


@given(
    st.binary(max_size=2000),
    st.lists(st.integers(-1, 700), max_size=20),
    st.sampled_from(["sha256", "sha512"]),
)
def test_verifier_passes_bytes_on(data, sizes, algorithm):
    stream = digest.Verifier(io.BytesIO(data), described(data, algorithm))
    got = b"".join(stream.read(n) for n in sizes) + stream.read()
    assert got == data
    assert stream.read(1) == b""


@given(st.binary(min_size=1, max_size=500), st.data())
def test_verifier_finds_every_change(data, draw):
    """A flipped byte, a missing end, one byte more: never read to the end without an Error."""
    wanted = described(data)
    at = draw.draw(st.integers(0, len(data) - 1))
    flipped = data[:at] + bytes([data[at] ^ draw.draw(st.integers(1, 255))]) + data[at + 1 :]
    step = draw.draw(st.integers(1, 600))
    for wrong in (flipped, data[:at], data + b"\0"):
        with pytest.raises(Error):
            stream = digest.Verifier(io.BytesIO(wrong), wanted)
            while stream.read(step):
                pass


def test_verifier_judges_at_the_last_byte():
    """A reader that knows the length never asks for more, and must not be fooled."""
    stream = digest.Verifier(io.BytesIO(b"abd"), described(b"abc"))
    stream.read(2)
    with pytest.raises(Error, match="wrong digest"):
        stream.read(1)


def test_verifier_ends_an_endless_stream():
    class Endless:
        asked = 0

        def read(self, n):
            self.asked += n
            return b"x" * n

    source = Endless()
    with pytest.raises(Error, match="more than 10 bytes"):
        digest.Verifier(source, described(b"x" * 10)).read()
    assert source.asked == 11


def test_verifier_under_a_buffered_reader():
    data = b"0123456789" * 1000
    stream = digest.Verifier(io.BytesIO(data), described(data))
    buffer = bytearray(7)
    assert stream.readinto(buffer) == 7
    assert bytes(buffer) == data[:7]
    stream.drain()
    assert stream.count == len(data)
