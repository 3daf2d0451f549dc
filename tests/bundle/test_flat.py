"""The flat archive of an image, taken apart by GNU tar, is what unpacking makes of it: in every case."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oci_tools import bundle, shelf
from oci_tools.bundle import apart, flat
from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import digest as digests
from oci_tools.image import manifest
from oci_tools.image.layout import Layout
from oci_tools.layer import merge, owner
from oci_tools.layer.limits import Limits
from tests.layer import invented, listing, make
from tests.layer.test_tricky import LAYERS, cases

NAMES = st.sampled_from(["a", "b", "a/b", "a/c", "b/a", "a/b/c", "l", "l/a"])
ENTRIES = st.one_of(
    NAMES,
    NAMES.map(lambda name: f"{name}/"),
    st.tuples(NAMES, NAMES).map("=".join),
    st.tuples(NAMES, st.sampled_from(["a", "../b", "/a/b", "l"])).map(">".join),
    NAMES.map(lambda name: f"{os.path.dirname(name)}/.wh.{os.path.basename(name)}".lstrip("/")),
    NAMES.map(lambda name: f"{name}/.wh..wh..opq"),
)


def image(layout: Layout, *layers: Any) -> bundle.Image:
    config, descriptors = configs.new("linux/amd64"), []
    for layer in layers:
        data = layer if isinstance(layer, bytes) else make.archive(*layer)
        packed = data.startswith(b"\x1f\x8b")
        config = configs.with_layer(config, digests.of(gzip.decompress(data) if packed else data))
        descriptors.append(layout.put(data, manifest.OCI_LAYER_GZIP if packed else manifest.OCI_LAYER))
    return bundle.Image(layout, configs.store(layout, config, descriptors))


def extracted(archive: bytes, to: Path) -> Path:
    to.mkdir()
    words = ["tar", "-xp", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", to]
    subprocess.run(words, input=archive, check=True)
    return to


def lines(root: Path) -> list[str]:
    """The tree, without the times of what nobody described: those are 1970 here and now there."""
    found = [listing.Line(os.fsencode(root), root.stat(), b".", {}), *listing.lines(root)]
    implied = [line.kind == "d" and (line.mtime.startswith("0.0") or time.time() - float(line.mtime) < 100) for line in found]
    return [line.text("" if new else None) for line, new in zip(found, implied, strict=True)]


def both(made: bundle.Image, place: Path) -> None:
    """Unpacked and as an archive it is the same, or neither can be."""
    try:
        merge.flatten(made.sources(), f"{place}/t", owner.for_process(), Limits())
    except Error:
        with pytest.raises(Error):
            flat.Flat(made, Limits())
        return
    whole = flat.Flat(made, Limits())
    archive = b"".join(whole.archive(whole.find("/")))  # type: ignore[arg-type]
    assert lines(extracted(archive, place / "x")) == lines(place / "t")
    with patch.object(shelf, "ROOM", 0), patch.object(shelf, "PAGE", 1):  # everything is on disk
        whole = flat.Flat(made, Limits())
        assert archive == b"".join(whole.archive(whole.find("/")))  # type: ignore[arg-type]
        merge.flatten(made.sources(), f"{place}/t2", owner.for_process(), Limits())
        assert lines(place / "t2") == lines(place / "t")


@pytest.mark.root
@pytest.mark.skipif(not LAYERS.is_dir(), reason=f"needs {LAYERS}")
@pytest.mark.parametrize("case", cases())
def test_a_tricky_layer(case: str, tmp_path: Path) -> None:
    try:
        source = Layout.open(f"{LAYERS}/img/{case}")
        made = bundle.Image(source, source.find("latest"))
        made.sources()
    except Error:
        return
    both(made, tmp_path)


@pytest.mark.root
@pytest.mark.parametrize("case", [*invented.AGREED, *invented.OURS])
def test_an_invented_layer(case: str, tmp_path: Path) -> None:
    with Layout.create(f"{tmp_path}/img") as layout:
        both(image(layout, *invented.archives({**invented.AGREED, **invented.OURS}[case])), tmp_path)


@pytest.mark.root
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(ENTRIES, max_size=6), min_size=1, max_size=3))
def test_any_layers(tmp_path: Path, layers: list[list[str]]) -> None:
    place = Path(tempfile.mkdtemp(dir=tmp_path))
    with Layout.create(f"{place}/img") as layout:
        both(image(layout, *layers), place)


@pytest.mark.root
def test_attributes_and_hard_links_across_layers(tmp_path: Path) -> None:
    cap = {b"security.capability": bytes.fromhex("0100000200040000000000000000000000000000"), b"user.x": b"\0\xff"}
    below = [
        {"kind": "d", "name": ".", "mode": 0o710, "uid": 3, "gid": 4},
        {"kind": "d", "name": "ro", "mode": 0o555, "uid": 1, "gid": 2, "xattrs": {b"user.d": b"d"}},
        {"name": "ro/f", "mode": 0o4755, "uid": 5, "data": b"f", "xattrs": cap, "mtime": -1_500_000_000},
        "h=ro/f", "z=ro/f", {"kind": "p", "name": "p", "mode": 0o600}, {"kind": "c", "name": "n", "device": (1, 3)},
        "l>/nowhere", {"name": b"\xff\n" + b"n" * 200, "data": b"odd"},
    ]  # fmt: skip
    with Layout.create(f"{tmp_path}/img") as layout:
        both(image(layout, below, ["ro/.wh.f", "y=h", "k=l", ("z", b"other")]), tmp_path)
    assert os.path.samefile(tmp_path / "x/h", tmp_path / "x/y")
    assert (tmp_path / "x/z").read_bytes() == b"other"


def test_holes_are_zeros(tmp_path: Path) -> None:
    with open(tmp_path / "f", "wb") as file:
        os.pwrite(file.fileno(), b"x" * 5000, 1 << 20)
        os.truncate(file.fileno(), 3 << 20)
    words = ["tar", "-cS", "--format=posix", "-C", tmp_path, "f"]
    data = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout
    assert len(data) < 100_000
    with Layout.create(f"{tmp_path}/img") as layout:
        whole = flat.Flat(image(layout, data), Limits())
        found = whole.find("f")
        assert b"".join(whole.content(found, "f")) == (tmp_path / "f").read_bytes()  # type: ignore[arg-type]


def test_what_is_found(tmp_path: Path) -> None:
    layer = ["usr/lib/os-release", "etc>usr/lib", "lib/etc>../usr", "loop>loop", "gone>/nowhere", {"kind": "p", "name": "p"}]
    with Layout.create(f"{tmp_path}/img") as layout:
        whole = flat.Flat(image(layout, layer), Limits())
        for path in ("usr/lib/os-release", "/etc/os-release", "etc/../lib/os-release", "../../etc/./os-release", "lib/etc/lib/os-release"):
            assert b"".join(whole.content(whole.find(path), path)) == b"usr/lib/os-release"  # type: ignore[arg-type]
        for path in ("nothing", "loop", "loop/x", "gone", "etc/os-release/x", "usr/lib/os-release/.."):
            with pytest.raises(Error):
                whole.find(path)
        with pytest.raises(Error, match="not a regular file"):
            list(whole.content(whole.find("p"), "p"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limit", "layers", "message"),
    [
        ("entries=1", [["a", "b"]], "more than 1 entries"),
        ("entries=1", [["a"], ["b"]], None),
        ("names=1", [["a"], ["b"]], "more than 1 "),
        ("names=2", [["a"], ["b"]], None),
        ("names=2", [["a/b/c"]], "more than 2 "),
        ("size=4K", [[("a", bytes(5000))]], "more than 4096 bytes"),
        ("path=3", [["abcd"]], "longer than 3 bytes"),
        ("xattrs=1", [[{"name": "a", "xattrs": {b"user.a": b"", b"user.b": b""}}]], "more than 1 extended"),
        ("header=10", [[{"name": "a", "xattrs": {b"user.a": b"some text"}}]], "header"),
        ("attributes=1K", [[{"kind": "d", "name": "a", "xattrs": {b"user.a": bytes(2000)}}]], "extended attributes have to be kept"),
        ("expansion=2", [[("a", bytes(70 << 20))]], "more than 2 times"),
        ("expansion=2000", [[("a", bytes(70 << 20))]], None),
    ],
)
def test_limits_hold_and_can_be_changed(limit: str, layers: list[list[Any]], message: str | None, tmp_path: Path) -> None:
    """Of what is unpacked, and of what is only read: the same, but that names are counted in one and are files in the other."""
    limits = Limits.parse([limit])
    with Layout.create(f"{tmp_path}/img") as layout:
        made = image(layout, *(gzip.compress(make.archive(*layer), 9) for layer in layers))
        for name, way in (
            ("read", lambda: flat.Flat(made, limits)),
            ("unpacked", lambda: merge.flatten(made.sources(), f"{tmp_path}/t", owner.for_process(), limits)),
        ):
            if message is None or (name, limit.partition("=")[0]) == ("unpacked", "names"):
                way()
            else:
                with pytest.raises(Error, match=message):
                    way()


# -- each layer apart ------------------------------------------------------------------------------


@pytest.mark.root
def test_layers_apart(tmp_path: Path) -> None:
    below = ["d/f", "d/g", "e/x", {"name": "owned", "uid": 7, "mode": 0o600, "data": b"owned", "xattrs": {b"user.k": b"v"}}, "l>d/f"]
    above = ["d/.wh.f", "e/.wh..wh..opq", "e/y", "copy=owned", "twice=owned", "k=l"]
    with Layout.create(f"{tmp_path}/img") as layout:
        made = image(layout, below, above)
        assert apart.unpack(made, f"{tmp_path}/d", owner.for_process(), Limits()) == f"{tmp_path}/d"
    names = sorted(os.listdir(tmp_path / "d"))
    assert names == [f"{at}-{made.diff_ids[at - 1][7:19]}" for at in (1, 2)]
    top = tmp_path / "d" / names[1]
    gone = (top / "d/f").lstat()
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    assert os.getxattr(top / "e", "trusted.overlay.opaque") == b"y"
    seen = (top / "copy").stat()
    assert (seen.st_uid, stat.S_IMODE(seen.st_mode), seen.st_nlink) == (7, 0o600, 2)
    assert os.getxattr(top / "twice", "user.k") == b"v" and os.readlink(top / "k") == "d/f"
    mounted = tmp_path / "m"
    mounted.mkdir()
    lower = ":".join(f"{tmp_path}/d/{name}" for name in reversed(names))
    script = f"mount -t overlay overlay -o lowerdir={lower} {mounted} && cd {mounted} && find . | sort | tr '\\n' ' '"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == ". ./copy ./d ./d/g ./e ./e/y ./k ./l ./owned ./twice "
