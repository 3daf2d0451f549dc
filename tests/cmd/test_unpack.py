"""oci-unpack, by its words."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from oci_tools.image.layout import Layout
from tests.bundle.test_flat import image
from tests.layer import invented, listing, make


@pytest.fixture
def img(oci: Any, tmp_path: Path) -> str:
    """The handle of an image of two layers in ./img, tagged x."""
    (tmp_path / "t/d").mkdir(parents=True)
    (tmp_path / "t/d/f").write_text("f")
    oci("pack", "t", "./img:base")
    oci("unpack", "./img:base", "b0")
    (tmp_path / "b0/rootfs/g").write_text("g")
    (tmp_path / "b0/rootfs/d/f").unlink()
    handle: str = oci("pack", "b0", "./img:x", "--cmd", "true").stdout
    oci("unpack", "--rm", "b0")
    return handle.strip()


def test_the_bundle_is_printed(oci: Any, img: str, tmp_path: Path) -> None:
    assert oci("unpack", "./img:x", "b").stdout == f"{tmp_path}/b\n"
    assert sorted(os.listdir(tmp_path / "b/rootfs")) == ["d", "g"]
    assert os.listdir(tmp_path / "b/rootfs/d") == []


@pytest.mark.parametrize("word", ["handle", "oci", "stdin handle", "stdin archive", "stdin gzip", "archive"])
def test_where_an_image_may_be(word: str, oci: Any, img: str, tmp_path: Path) -> None:
    oci("image", "save", "-o", "x.tar", "./img:x")
    data = (tmp_path / "x.tar").read_bytes()
    more: dict[str, Any] = {
        "handle": {},
        "oci": {},
        "stdin handle": {"input": img + "\n"},
        "stdin archive": {"input": data},
        "stdin gzip": {"input": subprocess.run(["gzip", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout},
        "archive": {},
    }[word]
    operand = {"handle": img, "oci": "oci:img:x", "archive": "oci-archive:x.tar"}.get(word, "-")
    oci("unpack", operand, "b", **more)
    assert (tmp_path / "b/rootfs/g").read_text() == "g"
    assert os.listdir(tmp_path / "root/cache") == [] if (tmp_path / "root/cache").exists() else True


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["./img:y", "b"], "no such image", 1),
        (["./none:x", "b"], "cannot open image layout", 1),
        (["docker.io/x", "b"], "no such image", 1),
        (["docker://x", "b"], "not a local image", 1),
        (["./img:x"], "missing argument", 2),
        (["./img:x", "t"], "it is not empty", 1),
        (["./img:x", "b", "--limit", "x=1"], "not a limit", 2),
        (["./img:x", "b", "--limit", "size=" + "9" * 5000], "not a limit", 2),
        (["./img:x", "b", "--limit", "entries=1"], "more than 1 entries", 1),
        (["./img:x", "b", "--nothing"], "no such option", 2),
        (["--rm", "./t"], "no bundle of ours", 1),
        (["--rm", "./t", "b"], "one operand", 2),
        (["-", "b"], "nothing on standard input", 1),
        (["./img:x", "b", "--path", "nothing"], "no such file in the image 'nothing'", 1),
        (["./img:x", "b", "--path", "d/f"], "no such file in the image", 1),
        (["./img:x", "t", "--path", "g"], "it is there already", 1),
        (["./img:x", "b", "--path", "g", "--overlay"], "different things", 2),
        (["./img:x", "-", "--layers"], "cannot be written to standard output", 2),
        (["./img:x", "t", "--layers"], "it is there already", 1),
        (["./img:x", "-", "--limit", "entries=1"], "more than 1 entries", 1),
    ],
)
def test_errors_are_one_line(words: list[str], said: str, code: int, oci: Any, img: str, tmp_path: Path) -> None:
    done = oci("unpack", *words, code=code, input="")
    assert said in done.stderr and done.stderr.count("\n") == 1 and done.stderr.startswith("oci-unpack: ")
    assert done.stdout == "" and not (tmp_path / "b").exists()


@pytest.mark.parametrize("shape", [[], ["--overlay"], ["--layers"], ["--path", "f"], ["--path", "/"]], ids=" ".join)
@pytest.mark.parametrize(
    ("limit", "layer"),
    [
        ("entries=2", [*"abc"]),
        ("size=1K", [("f", bytes(2000))]),
        ("path=7", ["f", "directory/"]),
        ("header=40", [{"name": "f", "xattrs": {b"user.a": b"v" * 40}}]),
        ("xattrs=1", [{"name": "f", "xattrs": {b"user.a": b"", b"user.b": b""}}]),
        ("attributes=1K", [{"kind": "d", "name": "f", "xattrs": {b"user.a": b"v" * 1100}}]),
    ],
)
def test_what_is_over_a_limit_leaves_nothing(limit: str, layer: list[Any], shape: list[str], oci: Any, tmp_path: Path) -> None:
    """Whatever the shape of the output, the error says which limit it was, and a good layer below is not to be seen."""
    with Layout.create(f"{tmp_path}/img") as layout:
        layout.tag("x", image(layout, ["below"], layer).descriptor)
    done = oci("unpack", *shape, "./img:x", "b", "--limit", limit, code=1)
    assert f"(--limit {limit.partition('=')[0]}=N)" in done.stderr and done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"home", "img", "root", "run"} and done.stdout == ""
    layers = tmp_path / "root/layers"
    assert not (layers / ".new").exists() or os.listdir(layers / ".new") == []
    assert not list(layers.rglob("sha256/*")) and not list(layers.glob(".roots/*"))
    if shape[:1] != ["--path"]:
        oci("unpack", *shape, "./img:x", "b")


def test_overlay(oci: Any, img: str, tmp_path: Path) -> None:
    for name in ("b1", "b2"):
        assert oci("unpack", "--overlay", "./img:x", name).stdout == f"{tmp_path}/{name}\n"
    layers = [path for path in (tmp_path / "root/layers").rglob("sha256/*") if path.is_dir()]
    assert len(layers) == 2
    assert os.listdir(tmp_path / "b1/rootfs") == []
    oci("unpack", "--rm", "b1")
    assert not (tmp_path / "b1").exists()


def test_the_flat_archive(oci: Any, img: str, tmp_path: Path) -> None:
    done = oci.shell("oci-image save ./img:x | oci-unpack - - | tar -t")
    assert done.stdout.split() == ["g", "d/"] and done.stderr == ""
    once, again = (oci("unpack", "./img:x", "-", binary=True).stdout for _ in range(2))
    assert once == again
    oci.shell("oci-unpack ./img:x - | oci-pack - ./img:flat && oci-unpack ./img:flat flat && oci-unpack ./img:x b")
    assert listing.tree(tmp_path / "flat/rootfs") == listing.tree(tmp_path / "b/rootfs")


@pytest.mark.needs("umoci")
@pytest.mark.root
def test_the_flat_archive_is_what_umoci_unpacks(oci: Any, busybox: Path, tmp_path: Path) -> None:
    oci("unpack", f"{busybox}:latest", "b")
    oci.shell("rm -r b/rootfs/etc && mkdir b/rootfs/etc && ln b/rootfs/bin/busybox b/rootfs/etc/b && chmod 700 b/rootfs/tmp")
    oci("pack", "b", "./img:y")
    oci.shell("mkdir x && oci-unpack ./img:y - | tar -xp --numeric-owner -C x && umoci unpack --image ./img:y u")
    assert listing.tree(tmp_path / "x") == listing.tree(tmp_path / "u/rootfs")


def test_one_path(oci: Any, img: str, tmp_path: Path) -> None:
    assert oci("unpack", "./img:x", "--path", "g", "-").stdout == "g"
    assert oci("unpack", "./img:base", "-", "--path", "/d/../d/f").stdout == "f"
    assert oci("unpack", "./img:base", "--path", "d", "e").stdout == f"{tmp_path}/e\n"
    assert os.listdir(tmp_path / "e") == ["f"]
    assert oci("unpack", "./img:base", "--path", "d/f", "f").stdout == f"{tmp_path}/f\n"
    assert (tmp_path / "f").read_text() == "f"
    assert oci.shell("oci-unpack --path d ./img:base - | tar -t").stdout.split() == ["f", "./"]
    assert oci.shell("oci-unpack --path / ./img:base root2 && ls root2").stdout.split()[1:] == ["d"]


def test_a_reader_that_goes_is_no_error(oci: Any, busybox: Path) -> None:
    done = oci.shell(f"{{ oci-unpack {busybox}:latest -; echo $? >&2; }} | true")
    assert done.stderr == "141\n"


def test_layers(oci: Any, img: str, tmp_path: Path) -> None:
    assert oci("unpack", "--layers", "./img:x", "l").stdout == f"{tmp_path}/l\n"
    below, above = sorted(path.name for path in (tmp_path / "l").iterdir())
    assert below[:2] == "1-" and above[:2] == "2-"
    assert (tmp_path / "l" / above / "d/f").is_char_device() and (tmp_path / "l" / below / "d/f").is_file()


@pytest.mark.root
@pytest.mark.parametrize("case", [case for case in invented.AGREED if "hard link" in case])
def test_layers_have_hard_links_where_a_bundle_has(case: str, oci: Any, tmp_path: Path) -> None:
    with Layout.create(f"{tmp_path}/img") as layout:
        layout.tag("x", image(layout, *invented.archives(invented.AGREED[case])).descriptor)
    bundle, apart = oci("unpack", "./img:x", "b", code=None), oci("unpack", "--layers", "./img:x", "l", code=None)
    assert (apart.returncode, apart.stderr) == (bundle.returncode, bundle.stderr)


def test_a_layer_has_what_its_hard_link_through_lower_links_is(oci: Any, tmp_path: Path) -> None:
    with Layout.create(f"{tmp_path}/img") as layout:
        layout.tag("x", image(layout, ["v/", ("v/f", b"it"), "m>/v"], ["l>m", "h=l/f"]).descriptor)
    oci("unpack", "--layers", "./img:x", "l")
    [found] = (tmp_path / "l").glob("2-*/h")
    assert found.read_bytes() == b"it" and not found.is_symlink()


def test_platforms(oci: Any, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    for name in ("arm64", "riscv64"):
        (tmp_path / "t/name").write_text(name)
        oci("pack", "t", f"./img:{name}", "--platform", f"linux/{name}")
    oci("unpack", "./img:riscv64", "b")
    assert (tmp_path / "b/rootfs/name").read_text() == "riscv64", "one of one platform is taken as it is"


@pytest.mark.root
def test_a_plain_user_packs_unpacks_and_packs(plain: Any, public: Path) -> None:
    plain.shell("mkdir -p t/ro && echo f > t/ro/f && chmod 555 t/ro")
    first = plain("pack", "t", "./img:x").stdout
    for words in (["./img:x", "b1"], ["--overlay", "./img:x", "b2"]):
        plain("unpack", *words)
        assert plain("pack", words[-1], "./img:y").stdout == first
    plain("unpack", "--rm", "b1")
    plain("unpack", "--rm", "b2")
    plain.shell("chmod -R u+w t")


NO_NAMESPACE = """
unshare -U --map-user=12345 --map-group=12345 --keep-caps sh -ec '
echo 0 > /proc/sys/user/max_user_namespaces
exec setpriv --inh-caps -all --ambient-caps -all oci-unpack ./img:x c'
"""


@pytest.mark.root
@pytest.mark.needs("setpriv", "unshare")
def test_a_plain_user_has_files_that_nobody_may_read(plain: Any, public: Path, oci: Any, tmp_path: Path) -> None:
    """As Fedora's /etc/shadow, of mode 0: unpacked, packed, and new ones too; it takes a user namespace."""
    tree = tmp_path / "t"
    (tree / "closed/in").mkdir(parents=True)
    for name in ("closed/in/f", "shadow"):
        (tree / name).write_text(name)
    for name in ("closed/in/f", "shadow", "closed/in", "closed"):
        (tree / name).chmod(0)
    first = oci("pack", "t", f"{public}/img:x").stdout
    subprocess.run(["chown", "-R", "12345:12345", public / "img"], check=True)
    for words, where in (([], "rootfs"), (["--overlay"], "upper")):
        plain("unpack", *words, "./img:x", "b")
        assert plain("pack", "b", "./img:y").stdout == first, "nothing has changed"
        plain.shell(f"cd b/{where} && mkdir new && echo f > new/f && echo shadow > shadow2 && chmod 0 new/f new shadow2")
        plain("pack", "b", "./img:y")
        names = oci.shell(f"oci-unpack {public}/img:y - | tar -tv --numeric-owner").stdout.splitlines()
        assert sorted((line.split()[0], line.split()[-1]) for line in names) == [
            ("----------", "closed/in/f"), ("----------", "new/f"), ("----------", "shadow"), ("----------", "shadow2"),
            ("d---------", "closed/"), ("d---------", "closed/in/"), ("d---------", "new/"),
        ]  # fmt: skip
        plain("unpack", "--rm", "b")
    done = plain.shell(NO_NAMESPACE, code=1)
    assert done.stderr == "oci-unpack: cannot read directory 'closed': permission denied\n" and not (public / "c").exists()


@pytest.mark.root
def test_an_image_with_owners_and_devices_by_a_plain_user(plain: Any, public: Path, oci: Any, tmp_path: Path) -> None:
    (tmp_path / "t/d").mkdir(parents=True)
    (tmp_path / "t/d/f").write_text("f")
    os.chown(tmp_path / "t/d/f", 33, 34)
    os.mknod(tmp_path / "t/null", 0o666 | 0o020000, os.makedev(1, 3))
    oci("pack", "t", f"{public}/img:x")
    subprocess.run(["chown", "-R", "12345:12345", public / "img"], check=True)
    done = plain("unpack", "./img:x", "b")
    assert done.stderr == "oci-unpack: warning: devices need root: each is an empty file\n"
    (public / "b/rootfs/d/new").touch()
    plain("pack", "b", "./img:y")
    oci("unpack", f"{public}/img:y", "b")
    seen = (tmp_path / "b/rootfs/d/f").stat()
    assert (seen.st_uid, seen.st_gid) == (33, 34)


@pytest.mark.root
def test_owners_of_links_fifos_and_devices_come_back(plain: Any, public: Path, oci: Any, tmp_path: Path) -> None:
    """They can have no attribute to remember them: the image knows."""
    tree = tmp_path / "t"
    tree.mkdir()
    os.symlink("x", tree / "l")
    os.mkfifo(tree / "p", 0o600)
    os.mknod(tree / "n", 0o620 | 0o020000, os.makedev(1, 3))
    os.chmod(tree / "n", 0o620)
    for at, name in enumerate("lpn"):
        os.chown(tree / name, 30 + at, 40, follow_symlinks=False)
    oci("pack", "t", f"{public}/img:x")
    subprocess.run(["chown", "-R", "12345:12345", public / "img"], check=True)
    for name, where, words in (("b", "rootfs", []), ("o", "upper", ["--overlay"])):
        plain("unpack", *words, "./img:x", name)
        if words:  # as a container would have copied them up
            plain.shell("ln -s x o/upper/l && mkfifo -m 600 o/upper/p && touch o/upper/n && chmod 0 o/upper/n")
        plain.shell(f"cd {name}/{where} && touch -h -d @5 l p n && ln -s y new && chmod 640 p")
        plain("pack", name, f"./img:{name}")
        oci("unpack", f"{public}/img:{name}", name)
        found = {line.path: line for line in listing.lines(tmp_path / name / "rootfs")}
        assert [found[one].owner for one in ("l", "p", "n", "new")] == ["30:40", "31:40", "32:40", "0:0"]
        assert (found["n"].kind, found["n"].what, found["n"].mode, found["p"].mode) == ("c", "dev=1:3", "0620", "0640")
        assert [found[one].mtime for one in "lpn"] == ["5.000000000"] * 3


@pytest.mark.root
@pytest.mark.parametrize("size", ["300k", "600k", "2m"])
@pytest.mark.parametrize("overlay", [[], ["--overlay"]])
def test_a_full_disk(size: str, overlay: list[str], oci: Any, tmp_path: Path) -> None:
    """Wherever it is full, one line says so and nothing is left."""
    (tmp_path / "t/d").mkdir(parents=True)
    for at in range(300):
        (tmp_path / f"t/d/{at}").write_bytes(b"x" * (at * 40))
    oci("pack", "t", "./img:x")
    (tmp_path / "full").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", tmp_path / "full"], check=True)
    try:
        env = {"OCI_ROOT": f"{tmp_path}/full/root"}
        done = oci("unpack", *overlay, "./img:x", "full/b", env=env, code=None)
        if done.returncode:
            assert done.stderr.count("\n") == 1 and "no space left on device" in done.stderr
            assert not (tmp_path / "full/b").exists()
            assert list((tmp_path / "full").rglob("[0-9]*")) == []
        else:
            assert size == "2m"
    finally:
        subprocess.run(["umount", tmp_path / "full"], check=True)


def test_keep_dirlinks(oci: Any, tmp_path: Path) -> None:
    for at, entries in enumerate((["d/", "d/a", "l>d"], ["l/", "l/b"])):
        (tmp_path / f"{at}.tar").write_bytes(make.archive(*entries))
        oci("pack", *(["--append"] if at else []), f"{at}.tar", "./img:x")
    oci("unpack", "--keep-dirlinks", "./img:x", "kept")
    oci("unpack", "./img:x", "replaced")
    assert sorted(os.listdir(tmp_path / "kept/rootfs/d")) == ["a", "b"] and (tmp_path / "kept/rootfs/l").is_symlink()
    assert os.listdir(tmp_path / "replaced/rootfs/l") == ["b"] and not (tmp_path / "replaced/rootfs/l").is_symlink()
    for word in ("--overlay", "--layers", "--path=/"):
        assert "a bundle that has its own files" in oci("unpack", "--keep-dirlinks", word, "./img:x", "z", code=2).stderr
