"""`oci-run cp` and `export`: files between the host and containers, both of which may be hostile."""

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

MAKE = """
mkdir -p /data/sub; echo one >/data/one; ln -s /data/one /data/link; ln /data/one /data/hard; mkfifo /data/fifo
chown 33:44 /data/one; chmod 4755 /data/one; mknod /data/null c 1 3; ln -s /data /way; ln -s /etc/passwd /data/pass
ln -s /nowhere /data/dangling; touch /data/.wh.name; chmod 700 /data/sub; touch -d '2001-02-03 00:00:00' /data/sub
"""


@pytest.fixture(params=("running", "resting"))
def web(request, run):
    """A container with some files, which runs or has ended."""
    run("-d", "--name", "web", "busybox", "sh", "-c", f"{MAKE} mkfifo /gate; echo ready; read x <>/gate")
    while run("logs", "web").stdout != "ready\n":
        pass
    if request.param == "resting":
        run("stop", "-t", "0", "web")
    yield "web"
    run("rm", "-f", "web")


def inside(run, tmp_path, path):
    """A file as the container has it."""
    run("cp", f"web:{path}", tmp_path / "fetched")
    text = (tmp_path / "fetched").read_text()
    (tmp_path / "fetched").unlink()
    return text


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


# -- what names mean: docker's table ---------------------------------------------------------------


def test_out_of_a_container(run, web, tmp_path):
    (tmp_path / "dir").mkdir()
    run("cp", "web:/data", "new")
    run("cp", "web:/data", "dir")
    run("cp", "web:/data/.", "dir")
    run("cp", "web:data/", "slash")
    names = ["dangling", "fifo", "hard", "link", "one", "pass", "sub"]
    assert sorted(os.listdir(tmp_path / "new")) == [".wh.name", *names]
    assert sorted(os.listdir(tmp_path / "dir")) == [".wh.name", "dangling", "data", *names[1:]]
    assert set(os.listdir(tmp_path / "dir/data")) == set(os.listdir(tmp_path / "slash"))
    assert (tmp_path / "new/one").read_text() == "one\n"
    assert os.readlink(tmp_path / "new/link") == "/data/one"
    assert os.path.samefile(tmp_path / "new/one", tmp_path / "new/hard")
    assert stat.S_ISFIFO((tmp_path / "new/fifo").lstat().st_mode)
    sub = (tmp_path / "new/sub").stat()
    assert (stat.S_IMODE(sub.st_mode), int(sub.st_mtime)) == (0o700, 981158400)
    run("cp", "web:/data/one", "dir/")
    run("cp", "web:/data/one", "file")
    run("cp", "web:/data/one", "file")
    assert (tmp_path / "file").read_text() == "one\n" and (tmp_path / "dir/one").is_file()
    run("cp", "web:/way", "link")
    run("cp", "-L", "web:/way", "followed")
    run("cp", "web:/way/one", "through")
    assert os.readlink(tmp_path / "link") == "/data" and (tmp_path / "followed/one").is_file()
    assert (tmp_path / "through").read_text() == "one\n"
    for words, why in (
        (("web:/data", "file"), "a directory cannot take the place of a file"),
        (("web:/data/one", "none/"), "no such file or directory"),
        (("web:/data/one", "none/x"), "no such file or directory"),
        (("web:/none", "x"), "cannot copy 'web:/none': no such file or directory"),
        (("web:/data/one/", "x"), "not a directory"),
        (("web:/data/dangling", "-L", "x"), "no such file or directory"),
    ):
        assert why in run("cp", *words, code=1).stderr


def test_into_a_container(run, web, tmp_path):
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep/file").write_text("deep\n")
    (tree / "deep/file").chmod(0o640)
    os.chown(tree / "deep/file", 7, 8)
    (tmp_path / "one").write_text("new\n")
    run("cp", "tree", "web:/tmp")
    run("cp", "tree", "web:/other")
    run("cp", "tree/.", "web:/tmp")
    run("cp", "one", "web:/tmp/two")
    assert inside(run, tmp_path, "/tmp/tree/deep/file") == inside(run, tmp_path, "/tmp/deep/file") == "deep\n"
    assert inside(run, tmp_path, "/other/deep/file") == "deep\n" and inside(run, tmp_path, "/tmp/two") == "new\n"
    run("cp", "one", "web:/data/link")  # what a link names is replaced, inside
    assert inside(run, tmp_path, "/data/one") == "new\n"
    run("cp", "one", "web:/data/pass")
    run("cp", "one", "web:/data/dangling")
    assert inside(run, tmp_path, "/etc/passwd") == inside(run, tmp_path, "/nowhere") == "new\n"
    assert "root" in Path("/etc/passwd").read_text()
    run("cp", "-a", "tree", "web:/kept")
    found = members(run("cp", "web:/", "-", binary=True).stdout)
    assert found["/tmp/tree/deep/file"].uid == 0
    entry = found["/kept/deep/file"]
    assert (entry.uid, entry.gid, entry.mode) == (7, 8, 0o640)
    for words, why in (
        (("tree", "web:/data/one"), "a directory cannot take the place of a file"),
        (("none", "web:/"), "cannot copy 'none': no such file or directory"),
        (("one", "web:/none/x"), "no such file or directory"),
        (("one", "web:/data/one/"), "not a directory"),
    ):
        assert why in run("cp", *words, code=1).stderr


def test_streams(run, web, oci, tmp_path):
    out = run("cp", "web:/data", "-", binary=True).stdout
    found = members(out)
    assert {"data", "data/one", "data/sub", "data/null", "data/link"} <= set(found)
    assert found["data/null"].ischr() and (found["data/one"].mode, found["data/hard"].uid) == (0o4755, 33)
    assert list(members(run("cp", "web:/data/one", "-", binary=True).stdout)) == ["one"]
    run("cp", "-", "web:/tmp", input=out)
    assert inside(run, tmp_path, "/tmp/data/one") == "one\n"
    assert "not a directory" in run("cp", "-", "web:/data/one", input=out, code=1).stderr
    assert "cannot read tar" in run("cp", "-", "web:/tmp", input=b"x" * 2000, code=1).stderr
    oci.shell("tar -cz root | oci-run cp - web:/tmp; oci-run cp web:/ - | head -c 1 >/dev/null")
    oci.shell("oci-run cp web:/data - >/dev/full", code=1)


def test_between_containers(run, web, tmp_path):
    run("new", "--name", "other", "busybox", "true")
    run("cp", "web:/data", "other:/")
    run("cp", "other:/data/one", "x")
    assert (tmp_path / "x").read_text() == "one\n"
    run("rm", "other")


def test_what_makes_no_sense(run):
    for words in (("a", "b"), ("-", "-"), ("-", "x"), ("", "x"), ("./a:b", "c")):
        assert "cannot" in (said := run("cp", *words, code=2).stderr) or "between" in said or "empty" in said
    assert "no such container 'nope'" in run("cp", "nope:/x", ".", code=1).stderr
    assert "no such container 'nope'" in run("export", "nope", code=1).stderr


# -- hostile things --------------------------------------------------------------------------------


def test_nothing_dangerous_comes_out(run, web, tmp_path):
    """Without -a a container's files are ours, and ours only: no set-id bits, no devices, no capabilities."""
    done = run("cp", "web:/data", "out")
    assert done.stderr == "oci-run: warning: 'out/null' is a device and left out\n"
    one = (tmp_path / "out/one").stat()
    assert (one.st_uid, one.st_gid, stat.S_IMODE(one.st_mode)) == (os.geteuid(), os.getegid(), 0o755)
    run("cp", "-a", "web:/data", "kept")
    one = (tmp_path / "kept/one").stat()
    assert (one.st_uid, one.st_gid, stat.S_IMODE(one.st_mode)) == (33, 44, 0o4755)


def test_links_of_ours_are_not_followed_by_theirs(run, tmp_path):
    """A directory of the container meets a link of that name in the host's directory: it does not go through it."""
    run("--rm=false", "--name", "web", "busybox", "sh", "-c", "mkdir -p /t/lib; echo x >/t/lib/f; echo y >/t/file")
    for name in ("secret", "dir"):
        (tmp_path / name).mkdir()
    (tmp_path / "dir/lib").symlink_to(tmp_path / "secret")
    (tmp_path / "dir/file").symlink_to(tmp_path / "secret/file")
    assert "too many levels of symbolic links" in run("cp", "web:/t/.", "dir", code=1).stderr
    assert os.listdir(tmp_path / "secret") == []
    (tmp_path / "dir/lib").unlink()
    run("cp", "web:/t/.", "dir")
    assert os.listdir(tmp_path / "secret") == [] and (tmp_path / "dir/file").read_text() == "y\n"
    run("rm", "web")


def test_links_inside_end_inside(run, web, tmp_path):
    (tmp_path / "x").write_text("x")
    outside = f"/../../../../../..{tmp_path}"
    assert "no such file or directory" in run("cp", "x", f"web:{outside}/y", code=1).stderr
    assert not (tmp_path / "y").exists()


def test_proc_links_lead_nowhere(run, tmp_path):
    """CVE-2024-21626 and its kin: a link of procfs to a directory of another process's."""
    run("-d", "--name", "web", "busybox", "sh", "-c", "ln -s /proc/1/root /r; ln -s /proc/self/cwd /c; exec sleep 1000")
    (tmp_path / "x").write_text("x")
    for path in ("/r/etc/passwd", "/c/x", "/proc/1/root/x", "/proc/self/fd/0/x"):
        assert run("cp", f"web:{path}", "out", code=1).stderr.startswith("oci-run: cannot copy")
        assert run("cp", "x", f"web:{path}", code=1).stderr.startswith("oci-run: cannot copy")
    run("rm", "-f", "web")


def test_a_hostile_archive(run, web, tmp_path):
    """What comes on standard input for a container stays in it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, link in (("up", "../../../../../.." + str(tmp_path)), ("abs", str(tmp_path))):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            archive.addfile(entry)
        for name in ("../../../etc/up", "/etc/abs"):
            archive.addfile(tarfile.TarInfo(name))
    run("cp", "-", "web:/tmp", input=data.getvalue())
    found = members(run("cp", "web:/tmp", "-", binary=True).stdout)
    assert {"tmp/etc/up", "tmp/etc/abs", "tmp/up", "tmp/abs"} <= set(found)
    before = sorted(os.listdir(tmp_path))
    run("cp", "-", "web:/tmp", input=hostile("up/evil"), code=1)
    run("cp", "-", "web:/tmp", input=hostile("abs/evil"), code=1)
    assert sorted(os.listdir(tmp_path)) == before


def hostile(name):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return data.getvalue()


def test_a_container_that_exchanges_directories_for_links(run, oci, tmp_path):
    """CVE-2018-15664: while we copy, a directory on the way becomes a link to where the host has the same name."""
    run("-d", "--name", "web", "busybox", "sh", "-c",
        "mkdir -p /swap/d /real/d; ln -s / /way; while :; do mv /swap/d /swap/e; ln -s ../../../../../../../../.. /swap/d;"
        " rm /swap/d; mv /swap/e /swap/d; done")  # fmt: skip
    mark = f"oci-cp-mark-{os.getpid()}"
    (tmp_path / mark).write_text("x")
    for _ in range(12):
        run("cp", mark, "web:/swap/d/", code=None)
    assert not os.path.exists(f"/{mark}")
    run("rm", "-f", "web")


def test_files_that_change_meanwhile(run, oci):
    run("-d", "--name", "web", "busybox", "sh", "-c",
        "mkdir /d; while :; do for i in 1 2 3; do echo $i >>/d/$i; mkdir -p /d/s$i; mv /d/s$i /d/t$i; rm -r /d/t$i; done;"
        " rm /d/2; done")  # fmt: skip
    for _ in range(5):
        members(run("cp", "web:/d", "-", binary=True).stdout)
    members(run("export", "web", binary=True).stdout)
    run("rm", "-f", "web")


# -- what is mounted -------------------------------------------------------------------------------


def test_volumes_are_found(run, web, tmp_path):
    vol = tmp_path / "vol"
    vol.mkdir()
    (tmp_path / "ro").write_text("ro\n")
    (tmp_path / "x").write_text("x\n")
    run("new", "--name", "other", "-v", f"{vol}:/vol", "-v", f"{tmp_path}/ro:/etc/ro:ro", "busybox", "sleep", "1000")
    run("cp", "x", "other:/vol/resting")
    run("cp", "x", "other:/etc/hosts")
    run("cp", "other:/vol", "copied")
    run("cp", "other:/etc/ro", "y")
    assert (tmp_path / "y").read_text() == "ro\n" and (tmp_path / "copied/resting").is_file()
    assert "it is mounted read-only" in run("cp", "x", "other:/etc/ro", code=1).stderr
    assert "something is mounted there while it runs" in run("cp", "other:/proc/version", ".", code=1).stderr
    run("start", "other")
    assert run("exec", "other", "cat", "/etc/hosts").stdout == "x\n"
    run("cp", "x", "other:/vol/running")
    assert sorted(os.listdir(vol)) == ["resting", "running"]
    assert "it is mounted there" in run("cp", "x", "other:/etc/hosts", code=1).stderr
    run("cp", "other:/proc/tty/.", "proc")
    assert "drivers" in os.listdir(tmp_path / "proc"), "a directory that is named is copied"
    run("cp", "other:/proc/1/cmdline", "line")
    assert (tmp_path / "line").read_bytes() == b"sleep\0" b"1000\0", "though its size is said to be 0"
    run("rm", "-f", "other")


# -- export, bundles, plain users ------------------------------------------------------------------


def test_export(run, web, tmp_path, oci):
    found = members(run("export", web, binary=True).stdout)
    assert "bin/busybox" in found and "data/one" in found and "proc" in found and found["data/null"].ischr()
    assert not [name for name in found if name.startswith(("proc/", "sys/", "dev/"))]
    assert found["data/hard"].uid == 33
    run("export", "-o", "out.tar", web)
    assert members((tmp_path / "out.tar").read_bytes()).keys() == found.keys()
    assert run("export", "-o", "none/out.tar", web, code=1).stderr.startswith("oci-run: cannot write 'none/out.tar'")
    assert "no space left" in run("export", "-o", "/dev/full", web, code=1).stderr
    oci.shell("oci-run export web | oci-pack - ./img:x && oci-unpack ./img:x ./b")
    assert (tmp_path / "b/rootfs/data/one").read_text() == "one\n"


@pytest.mark.parametrize("options", ((), ("--overlay",)))
def test_bundles(run, oci, tmp_path, options):
    oci("unpack", *options, "busybox", "./b")
    (tmp_path / "x").write_text("x\n")
    run("cp", "x", "./b:/etc/link-to-x")
    run("cp", "./b:/etc/link-to-x", "y")
    run("cp", "./b:/etc/link-to-x", "./b:/etc/colon")
    run("cp", f"{tmp_path}/b:/etc", "etc")
    assert (tmp_path / "y").read_text() == "x\n" and (tmp_path / "etc/colon").read_text() == "x\n"
    assert "etc/colon" in members(run("export", "./b", binary=True).stdout)
    assert run("diff", "./b").stdout == "C /etc\nA /etc/colon\nA /etc/link-to-x\n"
    oci("unpack", "--rm", "./b")


def test_a_plain_user(plain_run, plain, public):
    plain_run("-d", "--name", "web", "busybox", "sh", "-c", "mkdir /d; echo 1 >/d/one; chmod 0 /d/one; sleep 1000")
    while plain_run("cp", "web:/d/one", "one", code=None).returncode:
        pass
    for _ in ("running", "resting"):
        (public / "host").write_text("host\n")
        plain_run("cp", "host", "web:/d/two")
        plain_run("cp", "web:/d", "-")
        found = members(plain_run("export", "web", binary=True).stdout)
        assert (found["d/two"].uid, found["bin/busybox"].uid) == (0, 0)
        assert plain_run("diff", "web").stdout == "A /d\nA /d/one\nA /d/two\n"
        plain_run("cp", "web:/d/two", "back")
        assert (public / "back").read_text() == "host\n"
        plain_run("stop", "-t", "0", "web")
    plain_run("rm", "web")


def test_a_mapped_container(oci, box, tmp_path):
    """What root puts into a container with a user namespace is its root's, not ours."""
    box.mapped()
    box.process["args"] = ["sleep", "1000"]
    box("create")
    box("start")
    (tmp_path / "x").write_text("x\n")
    oci("run", "cp", "x", f"{box.id}:/tmp/x")
    assert (box.rootfs / "tmp/x").stat().st_uid == 100_000
    box("exec", "sh", "-c", "echo y >/tmp/y")
    found = members(oci("run", "cp", f"{box.id}:/tmp", "-", binary=True).stdout)
    assert (found["tmp/x"].uid, found["tmp/y"].uid) == (0, 0)
    oci("run", "cp", f"{box.id}:/tmp/y", "y")
    assert (tmp_path / "y").stat().st_uid == 0
    box("kill", "KILL")
    oci("run", "rm", "-f", box.id)
