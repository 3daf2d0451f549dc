"""What is known of very many files: their digests, what changed of them, and what a layer changes, all in little memory."""

from __future__ import annotations

import os
import random
from pathlib import Path

from oci_tools.build.listing import Listing, differences
from oci_tools.build.remembered import Remembered
from oci_tools.layer.planned import Plan
from tests.long import rounds


def test_digests_are_found_again(tmp_path: Path) -> None:
    chance = random.Random(1)
    path, model = str(tmp_path / "hashes"), dict[bytes, tuple[bytes, bytes]]()
    for _ in range(4):
        known = Remembered(path)
        for _ in range(rounds(3000, 50_000)):
            name = b"dir/%d" % chance.randrange(5000)
            model[name] = (chance.randbytes(40), chance.randbytes(32))
            known.put(name, *model[name])
        for name, (said, digest) in model.items():
            assert known.find(name, said) == digest
            assert known.find(name, said + b"x") is None and known.find(name + b"x", said) is None
        known.save(path)
    assert os.path.getsize(path) < 56 * len(model) + 8 * 2 * len(model) + 100


def test_what_nobody_asks_for_goes(tmp_path: Path) -> None:
    path = str(tmp_path / "hashes")
    known = Remembered(path)
    for number in range(30_000):
        known.put(b"%d" % number, b"stat", bytes(32))
    known.save(path)
    again = Remembered(path)
    assert again.find(b"7", b"stat") and again.find(b"29999", b"stat")
    again.save(path)
    last = Remembered(path)
    assert last.find(b"7", b"stat") == bytes(32) and last.find(b"8", b"stat") is None


def test_a_damaged_file_of_digests_is_none(tmp_path: Path) -> None:
    path = tmp_path / "hashes"
    known = Remembered(str(path))
    known.put(b"a", b"stat", bytes(32))
    known.save(str(path))
    whole = path.read_bytes()
    for data in (b"", whole[:10], whole[:-1], whole + b"\0", b"X" + whole[1:], whole[:-4] + b"\xff\xff\xff\xff"):
        path.write_bytes(data)
        assert Remembered(str(path)).find(b"a", b"stat") is None


def listing(path: Path, files: dict[str, str]) -> Listing:
    made = Listing(str(path))
    for name, digest in files.items():
        made.add(os.fsencode(name), digest.rjust(16, "0"))
    return made


def test_what_changed_is_told(tmp_path: Path) -> None:
    before = {f"dir/{number}": "1" for number in range(20_000)}
    listing(tmp_path / "a", before).keep(str(tmp_path / "kept"))
    now = {**before, "dir/7": "2", "dir/9": "2", "new": "1"}
    del now["dir/5"]
    made = listing(tmp_path / "b", now)
    assert differences(str(tmp_path / "kept"), made, 9) == (["'dir/7' changed", "'dir/9' changed", "'new' is new", "'dir/5' is gone"], 4)
    assert differences(str(tmp_path / "kept"), made, 1) == (["'dir/7' changed"], 4)
    other = listing(tmp_path / "c", {f"x{number}": "1" for number in range(1000)})
    said, count = differences(str(tmp_path / "kept"), other, 3)
    assert said == ["'x0' is new", "'x1' is new", "'x10' is new"] and count == 21_000
    assert made.digest() == listing(tmp_path / "d", now).digest() != other.digest()


def test_a_plan_is_in_the_archives_order() -> None:
    changes = [(b"a/z", False), (b"a/b", True), (b"b", True), (b"c", False), (b"c/d/e", False), (b"c/d", False), (b"a.b", False)]
    assert list(Plan(changes)) == [
        (b"b", True), (b"a", False), (b"a/b", True), (b"a/z", False), (b"a.b", False), (b"c", False), (b"c/d", False),
        (b"c/d/e", False),
    ]  # fmt: skip
    assert not Plan([]) and list(Plan([(b"", False), (b"x/y", True)])) == [(b"", False), (b"x", False), (b"x/y", True)]
    assert Plan(changes).gone() == [b"a/b", b"b"]
