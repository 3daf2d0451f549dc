"""What is remembered of very many things is right whether it is in memory or in files, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from oci_tools.errors import Error
from oci_tools.image import kept
from oci_tools.image.kept import Digests, Documents, Kept


def digest(at: int, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, b'%d' % at).hexdigest()}"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OCI_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


def opened() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("count", [1, kept.FEW - 1, kept.FEW, kept.FEW + 1, 4 * kept.FEW, 4 * kept.FEW + 1, 20_000])
def test_bytes_by_their_digest(count: int, root: Path) -> None:
    pick, before = random.Random(count), opened()
    found, wanted = Kept(), {}
    for at in range(count):
        name = digest(at, pick.choice(["sha256", "sha512"]))
        wanted[name] = pick.randbytes(pick.choice([0, 1, 100, 300]))
        assert name not in found
        found.put(name, wanted[name])
    assert len(found) == count
    for name, data in pick.sample(list(wanted.items()), count):
        assert name in found and found.get(name) == data
        found.put(name, b"another")  # the first stays
    assert found.get(digest(-1)) is None and digest(-1) not in found and len(found) == count
    assert all(found.get(name) == data for name, data in wanted.items())
    files = (count > kept.FEW) + (sum(map(len, wanted.values())) > kept.ROOM)
    assert opened() == before + files
    del found
    assert opened() == before and not (list((root / "cache").iterdir()) if files else root.exists())


def test_large_ones_go_to_the_file_and_small_ones_stay() -> None:
    found, large = Kept(), os.urandom(3 * kept.ROOM)
    found.put(digest(0), large)
    found.put(digest(1), b"small")
    found.put(digest(2), large[::-1])
    assert (found.get(digest(0)), found.get(digest(1)), found.get(digest(2))) == (large, b"small", large[::-1])


def test_documents_keep_their_order_and_what_is_said_of_them() -> None:
    pairs = []
    for at in range(3000):
        data = b"%d" % at * 200
        pairs.append((data, {"mediaType": "x/y", "digest": digest(at), "size": len(data), "urls": ["ü"]}))
    pairs.append((pairs[0][0], {**pairs[0][1], "platform": {"os": "linux"}}))  # the same bytes, said otherwise
    found = Documents(pairs)
    assert list(found) == pairs and len(found) == 3001 and found[-1] == pairs[-1] and found[7] == pairs[7]
    assert found.get(digest(5)) == pairs[5][0] and digest(3000) not in found and not Documents()
    for at in (3001, -3002):
        with pytest.raises(IndexError):
            found[at]


def test_a_set_of_digests() -> None:
    found = Digests()
    for at in range(3000):
        assert digest(at) not in found
        found.add(digest(at))
        found.add(digest(at))
    assert len(found) == 3000 and all(digest(at) in found for at in range(3000))


def test_where_nothing_can_be_written(root: Path) -> None:
    root.write_text("in the way")
    found = Kept()
    found.put(digest(0), b"x" * kept.ROOM)
    with pytest.raises(Error, match=f"cannot .*'{root}"):
        found.put(digest(1), b"x")
    found = Kept()
    for at in range(kept.FEW):
        found.put(digest(at), b"")
    with pytest.raises(Error, match=f"cannot .*'{root}"):
        found.put(digest(kept.FEW), b"")
