"""oci-vol as people and scripts type it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.long import rounds


@pytest.fixture
def vol(oci: Any) -> Any:
    def run(*words: Any, code: int | None = 0, **more: Any) -> Any:
        return oci("vol", *words, code=code, **more)

    return run


def data(oci: Any, name: str) -> Path:
    return Path(oci("vol", "path", name).stdout.rstrip("\n"))


def listing(directory: Path) -> list[bytes]:
    """What find says of every file: name, type, mode, owner, time, length, target, names."""
    words = ["find", ".", "-printf", "%p %y %m %U %G %T@ %s %l %n\n"]
    return sorted(subprocess.run(words, cwd=directory, check=True, capture_output=True).stdout.splitlines())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a file of each kind."""
    top = tmp_path / "tree"
    (top / "d").mkdir(parents=True)
    (top / "a").write_text("a")
    os.link(top / "a", top / "d/b")
    os.setxattr(top / "a", "user.x", b"y\0z")
    os.symlink("/etc/passwd", top / "link")
    os.mkfifo(top / "pipe")
    with open(top / "holes", "wb") as file:
        for at in (1 << 20, 5 << 20):
            os.pwrite(file.fileno(), b"x" * 4096, at)
        os.truncate(file.fileno(), 40 << 20)
    (top / ".wh.a").write_text("a name like others")
    (top / "d/.wh..wh..opq").write_text("")
    (top / os.fsdecode(b"\xff\xfe")).write_text("")
    if os.geteuid() == 0:
        os.mknod(top / "null", 0o020666, os.makedev(1, 3))
        os.chown(top / "a", 5, 6)
        os.chmod(top / "a", 0o4755)
    os.chmod(top, 0o1777)
    os.utime(top / "d", ns=(0, -123_456_789))
    os.utime(top, ns=(0, 1_600_000_000_000_000_001))
    return top


def test_the_life_of_a_volume(vol: Any, oci: Any) -> None:
    assert vol("create", "db", "--label", "a=b", "--label", "c").stdout == "db\n"
    assert vol("create", "db").stdout == "db\n"
    assert vol("ls").stdout == "db\tlocal\tplain\t0\n" and vol("ls", "-q").stdout == "db\n"
    (found,) = json.loads(vol("inspect", "db").stdout)
    assert found["Labels"] == {"a": "b", "c": ""} and found["Mountpoint"] == str(data(oci, "db")) and found["Scope"] == "local"
    assert data(oci, "db").stat().st_mode & 0o7777 == 0o755 and data(oci, "db").parents[1].stat().st_mode & 0o7777 == 0o700
    assert vol("rename", "db", "two").stdout == "two\n"
    assert vol("rm", "two", "none", code=1).stdout == "two\n" and vol("ls").stdout == ""
    assert vol("rm", "-f", "two").stdout == ""
    (unnamed,) = vol("create").stdout.split()
    assert len(unnamed) == 64 and vol("create", "kept").stdout
    assert vol("prune").stdout == f"{unnamed}\t0\n"
    assert vol("prune", "-a", "--filter", "label=none").stdout == ""
    assert vol("prune", "-a").stdout.split() == ["kept", "0"]


def test_filters_and_columns(vol: Any) -> None:
    vol("create", "one", "--label", "k=1")
    vol("create", "two", "--label", "k=2", "-o", "o=uid=3,mode=700")
    assert vol("ls", "-q", "--filter", "label=k=1").stdout == "one\n"
    assert vol("ls", "-q", "--filter", "label=k", "--filter", "label!=k=1").stdout == "two\n"
    assert vol("ls", "-q", "--filter", "name=wo", "--filter", "dangling=true", "--filter", "driver=local").stdout == "two\n"
    assert vol("ls", "-q", "--filter", "until=1h").stdout == ""
    assert vol("ls", "--fields", "name,labels,size", "--filter", "name=one").stdout == "one\tk=1\t0\n"
    assert [json.loads(line)["Name"] for line in vol("ls", "--json").stdout.splitlines()] == ["one", "two"]
    assert json.loads(vol("inspect", "-s", "--json", "one").stdout)["UsageData"] == {"Size": 0, "RefCount": 0}
    assert vol("ls", "-q", "--filter", "name=^t.o$").stdout == "two\n" and vol("ls", "-q", "--filter", "name=^o$").stdout == ""
    for words in (["--filter", "no=1"], ["--filter", "name=("], ["--filter", "name"], ["--fields", "no"], ["--filter", "until=x"]):
        vol("ls", *words, code=2)


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "-x", "a\nb", "a b", "ü", "x" * 241])
def test_names(name: str, vol: Any, tmp_path: Path) -> None:
    if not name.startswith("-"):
        assert "invalid volume name" in vol("create", "--", name, code=2).stderr
        assert "invalid volume name" in vol("import", name, code=2, input=b"x").stderr
        assert "invalid volume name" in vol("rm", name, code=2).stderr
    vol("create", "there")
    assert vol("rename", "there", "--", name, code=2).stdout == ""
    assert vol("ls", "-q").stdout == "there\n"
    assert {path.name for path in (tmp_path / "root/volumes").iterdir()} == {"there", ".lock"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "type=tmpfs"], "missing volume option 'device'"),
        (["-o", "device=/dev/x"], "missing volume option 'type'"),
        (["-o", "wat=1"], "invalid volume option 'wat'"),
        (["-o", "o=ro"], "invalid volume option 'o=ro'"),
        (["-o", "o=uid=x"], "invalid volume option 'o=uid=x'"),
        (["-o", "type=none", "-o", "device=x", "-o", "o=bind"], "must be an absolute path"),
        (["-o", "type=tmpfs", "-o", "device=tmpfs", "--size", "1g"], "its own size"),
        (["--size", "much"], "invalid size 'much'"),
        (["-o", "noequals"], "invalid volume option 'noequals'"),
        (["-o", "o=noquota,size=1m"], "invalid volume option 'o=noquota': it excludes size and inodes"),
        (["-o", "o=noquota", "--size", "1m"], "invalid volume option 'o=noquota': it excludes size and inodes"),
        (["-o", "o=timeout=soon"], "invalid volume option 'o=timeout=soon'"),
        (["-o", "image=x"], "invalid volume option 'image'"),
        (["-d", "image"], "missing volume option 'image'"),
        (["-d", "image", "-o", "image=x", "-o", "type=tmpfs"], "invalid volume option 'type'"),
        (["-d", "image", "-o", "image=x", "--size", "1m"], "invalid volume option 'size'"),
        (["--label", "=x"], "invalid value for --label"),
    ],
)
def test_bad_options(words: list[str], says: str, vol: Any) -> None:
    assert says in vol("create", "x", *words, code=2).stderr
    assert vol("ls").stdout == ""


def test_other_options_are_another_volume(vol: Any) -> None:
    vol("create", "x", "-o", "o=uid=1")
    assert vol("create", "x", "-o", "o=uid=1").stdout == "x\n"
    assert "already exists with other options" in vol("create", "x", "-o", "o=uid=2", code=1).stderr
    assert "no such volume driver 'nfs'" in vol("create", "y", "-d", "nfs", code=1).stderr


def test_options_that_ask_for_nothing(vol: Any) -> None:
    """podman's: no quota, which there is none of, and how long a plugin may take, which it is not."""
    vol("create", "x", "-o", "o=noquota,timeout=5,uid=3")
    assert os.stat(vol("path", "x").stdout.rstrip()).st_uid == (3 if os.geteuid() == 0 else os.geteuid())


def test_passwords_are_not_shown(vol: Any) -> None:
    vol("create", "share", "-o", "type=cifs", "-o", "device=//nas/x", "-o", "o=addr=nas,username=me,password=geheim,PASSWD=x")
    shown = vol("inspect", "share").stdout
    assert "geheim" not in shown and "PASSWD=x" not in shown and "username=me,password=********" in shown
    said = vol("export", "share", code=None)
    assert "geheim" not in said.stderr and said.stderr.startswith("oci-vol: cannot")


def test_passwords_with_commas(vol: Any) -> None:
    """One is said twice, as the kernel's cifs has it: what follows is the password's, and no word of its own."""
    vol("create", "share", "-o", "type=cifs", "-o", "device=//nas/x", "-o", "o=username=me,password=ge,,heim,uid=5")
    shown = vol("inspect", "share").stdout
    assert "heim" not in shown and "username=me,password=********,uid=5" in shown


def test_options_that_nobody_sees(vol: Any, oci: Any, tmp_path: Path) -> None:
    """--opt-fd: a password is in the words of no process, from the making of a volume to its mount."""
    options = {"type": "cifs", "device": "//nas.invalid/x", "o": "addr=127.0.0.1,username=me,password=geheim"}
    secret = tmp_path / "options"
    secret.write_text(json.dumps(options))
    traced = ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=execve", "-o", tmp_path / "trace"]
    line = '"$0" vol create --opt-fd 3 share 3<"$1"; exec "$0" vol export share'.replace('"$0" vol', "oci-vol")
    done = oci.run([*traced, "sh", "-c", line, "sh", secret], code=None)
    assert done.stdout == "share\n" and done.stderr.startswith("oci-vol: cannot mount volume 'share': ") or os.geteuid()
    trace = (tmp_path / "trace").read_text()
    assert trace.count("execve(") >= 3 and "geheim" not in trace and "geheim" not in done.stderr
    assert "password=********" in vol("inspect", "share").stdout
    for text in ("", "[]", '{"o": 5}'):
        secret.write_text(text)
        with open(secret) as file:
            assert vol("create", "--opt-fd", "0", "bad", stdin=file, code=None).returncode in (1, 2)
    assert vol("ls", "-q").stdout == "share\n"


def test_credentials_in_a_file(vol: Any, tmp_path: Path) -> None:
    """As mount.cifs(8) has them: read when it is mounted, never kept."""
    vol("create", "share", "-o", "type=cifs", "-o", "device=//nas/x", "-o", f"o=addr=127.0.0.1,credentials={tmp_path}/secret")
    if os.geteuid() == 0:
        said = vol("export", "share", code=1, stdout=subprocess.PIPE).stderr
        assert said.startswith(f"oci-vol: cannot read credentials '{tmp_path}/secret': ")
    assert str(tmp_path) in vol("inspect", "share").stdout


def test_how_far_it_is(vol: Any, oci: Any, tmp_path: Path) -> None:
    """For people on a terminal, for others in plain lines, for machines on a descriptor; never on standard output."""
    vol("create", "db")
    (data(oci, "db") / "file").write_bytes(os.urandom(30_000_000))

    def told(*words: Any, **more: Any) -> list[dict[str, Any]]:
        reader, writer = os.pipe()
        vol(*words, "--status-fd", str(writer), pass_fds=(writer,), **more)
        os.close(writer)
        with open(reader, encoding="utf-8") as pipe:
            return [json.loads(line) for line in pipe]

    archive = tmp_path / "db.tar"
    lines = told("export", "db", "-o", archive)
    size = archive.stat().st_size
    assert {(each["op"], each["id"]) for each in lines} == {("export", "db")}
    assert lines[0]["state"] == "send" and lines[-1] == {"op": "export", "id": "db", "state": "done", "current": size, "total": size}
    lines = told("import", "two", archive)
    assert lines[0]["state"] == "get" and lines[0]["total"] == size
    assert [each["current"] for each in lines] == sorted(each["current"] for each in lines)
    assert lines[-1] == {"op": "import", "id": "two", "state": "done", "current": size, "total": size}
    with open(archive, "rb") as file:
        done = vol("import", "three", "--progress", "plain", stdin=file)
    assert done.stdout == "three\n" and done.stderr == "three 30.0 MB done\n"
    assert vol("export", "three", binary=True).stderr == b""
    ours, theirs = pty.openpty()
    process = oci.start("vol", "export", "db", stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # the terminal has gone with its last user
        while piece := os.read(ours, 1000):
            said += piece
    os.close(ours)
    assert process.wait() == 0 and b"export 30.0 MB of 30.0 MB" in said
    assert told("export", "none", code=1) == []


@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd"])
def test_there_and_back(packed: str, vol: Any, oci: Any, tree: Path, tmp_path: Path) -> None:
    words = ["tar", "-cS", "--xattrs", "--format=posix", "."]
    archive = subprocess.run(words, cwd=tree, check=True, capture_output=True).stdout
    if packed != "plain":
        archive = subprocess.run([packed, "-c"], input=archive, check=True, capture_output=True).stdout
    assert vol("import", "x", input=archive).stdout == "x\n"
    assert listing(data(oci, "x")) == listing(tree)
    assert os.getxattr(data(oci, "x") / "a", "user.x") == b"y\0z"
    assert (data(oci, "x") / "holes").stat().st_blocks < 100
    stream = vol("export", "x", binary=True).stdout
    assert len(stream) < 100_000
    vol("import", "y", "-", input=stream)
    vol("export", "x", "-o", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == stream
    vol("import", "z", tmp_path / "file")
    assert listing(data(oci, "y")) == listing(data(oci, "z")) == listing(tree)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-x", "--xattrs"], cwd=tmp_path / "out", input=stream, check=True, stderr=subprocess.DEVNULL)
    assert listing(tmp_path / "out") == listing(tree)
    assert (tmp_path / "out/holes").read_bytes() == (tree / "holes").read_bytes()


def test_a_stream_goes_anywhere(vol: Any, oci: Any, tree: Path, tmp_path: Path) -> None:
    """The kernel moves large files into pipes and files; where it cannot, the bytes are the same."""
    large = tree / "large"
    large.write_bytes(random.Random(1).randbytes(3_000_001))
    vol("import", "x", input=subprocess.run(["tar", "-c", "."], cwd=tree, check=True, capture_output=True).stdout)
    stream = vol("export", "x", binary=True).stdout
    assert large.read_bytes() in stream
    place = tmp_path / "file"
    for flags in os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_APPEND | os.O_CREAT:
        with open(os.open(place, flags, 0o600), "wb") as file:
            vol("export", "x", stdout=file)
        assert place.read_bytes() == stream
        place.unlink()
    ours, theirs = socket.socketpair()
    with open(place, "wb") as file, subprocess.Popen(["cat"], stdin=theirs, stdout=file) as cat, ours:
        theirs.close()
        vol("export", "x", stdout=ours)
        ours.shutdown(socket.SHUT_WR)
        assert cat.wait() == 0
    assert place.read_bytes() == stream
    with open("/dev/full", "wb") as full:
        assert vol("export", "x", stdout=full, code=1).stderr == "oci-vol: cannot write standard output: no space left on device\n"


def test_a_clone_is_the_same_and_its_own(vol: Any, oci: Any, tree: Path) -> None:
    vol("import", "x", input=subprocess.run(["tar", "-c", "--xattrs", "."], cwd=tree, check=True, capture_output=True).stdout)
    vol("clone", "x", "y", "--label", "copy=1")
    assert listing(data(oci, "y")) == listing(data(oci, "x")) == listing(tree)
    (data(oci, "y") / "a").write_text("other")
    assert (data(oci, "x") / "a").read_text() == "a"
    vol("clone", "x", "snap", "--snapshot")
    assert json.loads(vol("inspect", "snap").stdout)[0]["ReadOnly"] is True
    assert "it is a snapshot" in vol("import", "--replace", "snap", code=1, input=b"\0" * 1024).stderr
    assert "there is a volume 'y'" in vol("clone", "x", "y", code=1).stderr
    assert "there is a volume 'y'" in vol("rename", "x", "y", code=1).stderr
    assert "no such volume 'none'" in vol("clone", "none", "z", code=1).stderr


def test_nothing_is_half_imported(vol: Any, oci: Any, tree: Path, tmp_path: Path) -> None:
    whole = subprocess.run(["tar", "-c", "."], cwd=tree, check=True, capture_output=True).stdout
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    for cut in (0, 100, 512, 700, 4096, end // 2, end - 512, end):
        assert vol("import", "x", code=1, input=whole[:cut]).stderr.count("\n") == 1
        assert vol("ls").stdout == ""
    vol("create", "x")
    (data(oci, "x") / "mine").write_text("here")
    assert "it is not empty (--replace empties it first)" in vol("import", "x", code=1, input=whole).stderr
    vol("import", "--replace", "x", code=1, input=whole[: end // 2])
    assert os.listdir(data(oci, "x")) == ["mine"]
    vol("import", "--replace", "x", input=whole)
    assert "mine" not in os.listdir(data(oci, "x"))
    assert {path.name for path in (tmp_path / "root/volumes").iterdir()} == {"x", ".lock"}
    vol("export", "x", "-o", tmp_path / "none/file", code=1)
    with open("/dev/full", "wb") as full:
        assert "no space left" in vol("export", "x", code=1, stdout=full).stderr


def test_an_archive_stays_in_its_volume(vol: Any, oci: Any, tmp_path: Path) -> None:
    import io
    import tarfile

    def made(*members: tuple[str, bytes, str]) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name, kind, link in members:
                info = tarfile.TarInfo(name)
                info.type, info.linkname, info.size = kind, link, 1 if kind == tarfile.REGTYPE else 0
                archive.addfile(info, io.BytesIO(b"x"))
        return stream.getvalue()

    victim = tmp_path / "victim"
    victim.mkdir()
    file, link, hard = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
    for at, members in enumerate((
        [("../../../../victim/x", file, "")],
        [(f"{victim}/x", file, "")],
        [("l", link, str(victim)), ("l/x", file, "")],
        [("l", link, "../../../.."), ("l/victim/x", file, "")],
    )):  # fmt: skip
        vol("import", f"v{at}", code=None, input=made(*members))
        assert not list(victim.iterdir())
    secret = tmp_path / "secret"
    secret.write_text("host")
    done = vol("import", "h", code=1, input=made(("l", link, str(tmp_path)), ("h", hard, "l/secret")))
    assert "to link to" in done.stderr and secret.stat().st_nlink == 1


def test_a_plain_user(plain: Any) -> None:
    plain("vol", "create", "x")
    path = Path(plain("vol", "path", "x").stdout.rstrip("\n"))
    assert "only root can" in plain("vol", "create", "y", "--size", "1m", code=1).stderr
    archive = plain.run(["tar", "-c", "--owner=33", "--group=34", "home"]).stdout.encode("utf-8", "surrogateescape")
    plain("vol", "import", "x", input=archive)
    assert (path / "home").is_dir()
    listed = plain.run(["tar", "-tv", "--numeric-owner"], input=plain("vol", "export", "x", binary=True).stdout).stdout
    assert "33/34" in listed
    plain("vol", "clone", "x", "z")
    plain("vol", "rm", "x", "z")


def test_killed_at_any_moment(vol: Any, oci: Any, tree: Path, tmp_path: Path) -> None:
    """Nothing is half there afterwards, and the next command takes away what was left."""
    archive = tmp_path / "archive"
    for at in range(40):
        (tree / f"d/{at}").write_bytes(bytes(100_000))
    subprocess.run(["tar", "-cf", archive, "."], cwd=tree, check=True)
    sized = ["--size", "64m"] if os.geteuid() == 0 and os.path.exists("/dev/loop-control") else []
    chance = random.Random(1)
    for at in range(rounds(6, 100)):
        vol("create", "old", *sized)
        steps = [("import", "new", archive), ("import", "--replace", "old", archive), ("clone", "old", "copy"), ("rm", "old")]
        for words in steps:
            process = oci.start("vol", *words, stdout=subprocess.DEVNULL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.03, 0.3))
            process.kill()
            process.wait()
        there = vol("ls", "-q").stdout.split()
        assert set(there) <= {"old", "new", "copy"}, at
        for name in there:
            found = subprocess.run(["tar", "-t"], input=vol("export", name, binary=True).stdout, capture_output=True, check=True)
            assert name == "old" or found.stdout.count(b"\n") in (1, len(listing(tree))), "all or nothing"
        vol("create", "last")
        vol("rm", *there, "last")
        assert os.listdir(tmp_path / "root/volumes") == [".lock"]
    with open("/proc/self/mountinfo") as file:
        assert f"{tmp_path}/" not in file.read()
