"""Mounts: what config.json asks for is what the container has, and nothing leaks to the host."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oci_tools.runtime import mounts, overlay
from tests.box import populate

# -- the plan ----------------------------------------------------------------------------------


def planned(*options: str, **entry: str) -> mounts.Plan:
    return mounts.Plan({"destination": "/x", "source": "/s", **entry, "options": list(options)})


def test_what_decides_a_bind_is_its_options() -> None:
    assert planned("bind").bind and not planned("bind").recursive
    assert planned("rbind", type="whatever").recursive
    assert not planned(type="tmpfs").bind
    assert planned(type="bind").bind


def test_a_later_option_takes_an_earlier_one_back() -> None:
    from oci_tools.linux.mount import MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY

    step = planned("bind", "ro", "nosuid", "noexec", "rw", "exec")
    assert step.set == MOUNT_ATTR_NOSUID
    assert step.clear & (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC) == MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC
    step = planned("rbind", "rro", "rnosuid")
    assert (step.set, step.rset) == (0, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)


def test_what_is_no_attribute_is_data() -> None:
    step = planned("nosuid", "mode=755", "size=1k", "private", "defaults", type="tmpfs")
    assert step.data == ["mode=755", "size=1k"]
    assert len(step.propagation) == 1


def test_destinations_are_made_plain() -> None:
    assert [planned(destination=d).destination for d in ("a/b", "//a//b/", "/a/./c/../b")] == ["/a/b"] * 3


# -- as the kernel sees them --------------------------------------------------------------------


def mountinfo(box: Any, place: str, script: str = ":") -> dict[str, Any]:
    """A mount of the container: its options, optional fields, type, source and data."""
    for row in box.says(f"{script}; cat /proc/self/mountinfo").splitlines():
        before, _, after = row.partition(" - ")
        fields = before.split()
        if len(fields) > 5 and fields[4] == place:
            kind, source, data = after.split(" ", 2)
            found = {"options": set(fields[5].split(",")), "tags": fields[6:], "type": kind, "source": source}
            last = {**found, "data": set(data.split(","))}
    return last


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory of the host with a file, and a tmpfs mounted in it with another."""
    made = tmp_path / "source"
    (made / "sub").mkdir(parents=True)
    (made / "file").write_text("content\n")
    (made / "script").write_text("#!/bin/sh\necho ran\n")
    (made / "script").chmod(0o755)
    return made


@pytest.fixture
def nested(source: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "sub"], check=True)
    (source / "sub/inner").write_text("inner\n")
    yield source
    subprocess.run(["umount", "-R", source / "sub"], check=True)


@pytest.mark.root
class TestBinds:
    def test_a_directory(self, box: Any, source: Path) -> None:
        box.mount("/made/on/the/way", source, "bind")
        box.says("cd /made/on/the/way; cat file; echo more >> file; touch new")
        assert (source / "file").read_text() == "content\nmore\n"
        assert (source / "new").exists()
        assert os.stat(box.rootfs / "made/on/the").st_mode & 0o7777 == 0o755
        assert os.listdir(box.rootfs / "made/on/the/way") == []

    def test_a_file(self, box: Any, source: Path) -> None:
        box.mount("/etc/a/file", source / "file", "bind", "ro")
        text = box.says("cat /etc/a/file; (echo x >> /etc/a/file) 2>&1; true")
        assert text.startswith("content\n") and text.endswith("Read-only file system")
        assert (box.rootfs / "etc/a/file").read_text() == ""

    def test_what_only_a_file_system_takes_is_told_and_left_out(self, box: Any, source: Path) -> None:
        """As podman's and containerd's callers write it, for runtimes that say nothing of it."""
        box.mount("/data", source, "bind", "ro", "mode=755", "size=1k")
        told = "oci-run: warning: config.json: mounts: a bind on /data takes no option '{}'\n"
        done = box.sh("cat /data/file")
        assert (done.stdout, done.stderr) == ("content\n", told.format("mode=755") + told.format("size=1k"))
        assert "ro" in mountinfo(box, "/data")["options"]

    def test_a_socket_a_fifo_and_a_device(self, box: Any, source: Path) -> None:
        os.mkfifo(source / "fifo")
        for name in "fifo", "/dev/null":
            box.mount(f"/{Path(name).name}", source / name, "bind")
        assert box.says("test -p /fifo && test -c /null && echo yes") == "yes"

    @pytest.mark.parametrize(
        ("options", "outer", "inner"),
        [(["bind", "ro"], "ro", None), (["rbind", "ro"], "ro", "rw"), (["rbind", "rro"], "ro", "ro"), (["rbind", "rw"], "rw", "rw"),
         (["rbind", "ro", "rrw"], "ro", "rw")],
        ids=lambda value: "+".join(value) if isinstance(value, list) else "",
    )  # fmt: skip
    def test_read_only(self, box: Any, nested: Path, options: list[str], outer: str, inner: str | None) -> None:
        box.mount("/data", nested, *options)
        assert outer in mountinfo(box, "/data")["options"]
        if inner is None:
            assert box.says("ls -A /data/sub") == ""
        else:
            assert inner in mountinfo(box, "/data/sub")["options"]
            assert box.says("cat /data/sub/inner") == "inner"

    def test_attributes(self, box: Any, source: Path) -> None:
        box.mount("/data", source, "bind", "nosuid", "nodev", "noexec", "noatime", "nosymfollow")
        found = mountinfo(box, "/data")["options"]
        assert {"nosuid", "nodev", "noexec", "noatime", "nosymfollow", "rw"} <= found
        assert "ermission denied" in box.says("/data/script 2>&1; true")

    def test_attributes_are_taken_away(self, box: Any, nested: Path) -> None:
        subprocess.run(["mount", "-o", "remount,bind,nosuid,nodev,noexec,noatime,ro", nested / "sub"], check=True)
        box.mount("/kept", nested / "sub", "bind")
        box.mount("/data", nested / "sub", "bind", "suid", "dev", "exec", "relatime", "rw")
        kept = {"nosuid", "nodev", "noexec", "noatime", "ro"}
        assert kept <= mountinfo(box, "/kept")["options"]
        assert not kept & mountinfo(box, "/data")["options"]

    def test_a_source_that_is_not_there(self, box: Any, source: Path) -> None:
        box.mount("/data", source / "nothing", "bind")
        assert box("run", code=1).stderr == f"oci-run: cannot mount '{source}/nothing' on '/data': no such file or directory\n"

    def test_relative_to_the_bundle(self, box: Any) -> None:
        """runtime-spec: a relative source of a bind is relative to the bundle."""
        (box.bundle / "beside").mkdir()
        (box.bundle / "beside/file").write_text("beside\n")
        box.mount("/data", "beside", "bind")
        assert box.says("cat /data/file", cwd="/") == "beside"

    def test_a_file_on_a_directory_and_the_other_way(self, box: Any, source: Path) -> None:
        box.mount("/etc", source / "file", "bind")
        assert "cannot mount" in box("run", code=1).stderr
        box.spec["mounts"].pop()
        box.mount("/etc/passwd", source, "bind")
        assert "cannot mount" in box("run", code=1).stderr

    def test_in_the_order_listed(self, box: Any, source: Path) -> None:
        box.mount("/one", source, "bind")
        box.mount("/one/sub", "tmpfs", type="tmpfs")
        box.mount("/two", source, "bind")
        box.mount("/one/sub/deep", source, "bind")
        assert box.says("ls /one/sub; cat /one/sub/deep/file; ls -A /two/sub").split() == ["deep", "content"]


@pytest.mark.root
class TestPropagation:
    """Seen by mounting on one side and looking on the other."""

    @pytest.fixture
    def shared(self, source: Path) -> Iterator[Path]:
        subprocess.run(["mount", "--bind", source, source], check=True)
        subprocess.run(["mount", "--make-shared", source], check=True)
        yield source
        while subprocess.run(["umount", source / "sub"], capture_output=True).returncode == 0:
            pass
        subprocess.run(["umount", source], check=True)

    def sees(self, box: Any, shared: Path, *options: str) -> tuple[bool, bool]:
        """(whether the container sees a mount of the host, whether the host sees one of the container)."""
        box.process["capabilities"] = {s: ["CAP_SYS_ADMIN"] for s in ("bounding", "effective", "permitted")}
        box.mount("/data", shared, "rbind", *options)
        os.mkfifo(box.rootfs / "go")
        (shared / "other").mkdir()
        box.process["args"] = ["sh", "-c", "mount -t tmpfs mine /data/other; echo; read x < /go; grep -c ' /data/sub ' /proc/self/mountinfo"]
        running = box.start(stdout=subprocess.PIPE, text=True)
        running.stdout.readline()
        outwards = os.path.ismount(shared / "other")
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", shared / "sub"], check=True)
        (box.rootfs / "go").write_text("\n")
        inwards = running.stdout.read() == "1\n"
        assert running.wait() in (0, 1)
        if outwards:
            subprocess.run(["umount", shared / "other"], check=True)
        return inwards, outwards

    @pytest.mark.parametrize(
        ("options", "root", "expected"),
        [
            ([], None, (False, False)),
            (["rprivate"], None, (False, False)),
            (["rslave"], None, (True, False)),
            (["rslave"], "rslave", (True, False)),
            (["rshared"], "rshared", (True, True)),
            (["shared"], "shared", (True, True)),
            (["rprivate"], "rshared", (False, False)),
        ],
    )
    def test_of_a_bind(
        self, box: Any, shared: Path, options: list[str], root: str | None, expected: tuple[bool, bool]
    ) -> None:
        if root:
            box.linux["rootfsPropagation"] = root
        assert self.sees(box, shared, *options) == expected

    @pytest.mark.parametrize("kind", ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"])
    def test_of_the_root(self, box: Any, kind: str) -> None:
        """Whatever it is: nothing that is mounted inside appears outside."""
        box.linux["rootfsPropagation"] = kind
        tags = mountinfo(box, "/")["tags"]
        expected = {"s": "shared", "u": "unbindable"}.get(kind.removeprefix("r")[0]) if "slave" not in kind else None
        assert [tag.partition(":")[0] for tag in tags if "master" not in tag] == ([expected] if expected else [])

    @pytest.mark.parametrize("kind", ["private", "rslave", "shared", "rshared", "unbindable"])
    @pytest.mark.parametrize("words", ["", "--no-pivot"])
    def test_a_host_that_shares_everything(self, box: Any, nested: Path, kind: str, words: str) -> None:
        """As hosts with systemd do: nothing appears there, and nothing goes."""
        box.linux["rootfsPropagation"] = kind
        box.mount("/data", nested, "rbind", "rshared")
        box.process["args"] = ["true"]
        box.save()
        subprocess.run(["mount", "--bind", box.bundle, box.bundle], check=True)  # its own mount, not that of /
        run, look = f"oci-run run {words} -b {box.bundle} {box.id}", "cat /proc/self/mountinfo"
        line = f"mount --make-rshared /; {look} > before; unshare -m --propagation unchanged {run}; {look} > after"
        try:
            box.oci.shell(f"unshare -m --propagation slave sh -ec '{line}'; cmp before after")
        finally:
            subprocess.run(["umount", box.bundle], check=True)

    def test_an_unknown_one(self, box: Any) -> None:
        box.linux["rootfsPropagation"] = "sideways"
        assert "linux.rootfsPropagation" in box("run", code=1).stderr


@pytest.mark.root
class TestFileSystems:
    def test_tmpfs(self, box: Any) -> None:
        (box.rootfs / "kept").mkdir(mode=0o700)
        (box.rootfs / "kept").chmod(0o1750)
        box.mount("/kept", "tmpfs", "nosuid", "size=64k", type="tmpfs")
        box.mount("/given", "tmpfs", "mode=711", type="tmpfs")
        box.mount("/new", "tmpfs", "ro", type="tmpfs")
        assert box.says("stat -c %a /kept /given /new; touch /new/x 2>&1; true").split("\n") == [
            "1750", "711", "1777", "touch: /new/x: Read-only file system"
        ]  # fmt: skip
        found = mountinfo(box, "/kept")
        assert (found["type"], found["source"]) == ("tmpfs", "tmpfs")
        assert "nosuid" in found["options"] and "size=64k" in found["data"]

    def test_a_read_only_tmpfs_may_hold_other_mounts(self, box: Any, source: Path) -> None:
        """And /dev its devices: it is read-only once all is there."""
        for entry in box.spec["mounts"]:
            if entry["destination"] == "/dev":
                entry["options"].append("ro")
        box.mount("/top", "tmpfs", "ro", type="tmpfs")
        box.mount("/top/data", source, "bind")
        script = "cat /top/data/file; head -c 1 /dev/zero | wc -c; touch /top/x /dev/x 2>&1; echo > /top/data/new && echo yes"
        assert box.says(script).splitlines()[1:] == [
            "1", "touch: /top/x: Read-only file system", "touch: /dev/x: Read-only file system", "yes"
        ]  # fmt: skip

    @pytest.mark.parametrize("words", [(), ("--no-pivot",)])
    def test_no_unmasked_proc_in_a_nested_user_namespace(self, box: Any, words: tuple[str, ...]) -> None:
        """The kernel allows a new one only where it finds one without masks: none of the host's may be in reach."""
        for name in "bounding", "effective", "permitted":
            box.process["capabilities"][name].append("CAP_SYS_ADMIN")
        script = "unshare -mUrpf sh -c 'mount -t proc none /proc && cat /proc/1/comm'"
        done = box.sh(script, *words, code=None)
        assert done.returncode and "ermission denied" in done.stderr + done.stdout

    @pytest.mark.parametrize("mounted", [False, True], ids=["", "mounted"])
    def test_in_a_chroot(self, box: Any, tmp_path: Path, mounted: bool) -> None:
        """pivot_root(2) wants a root that is a mount: in a chroot to a mere directory it is said what to do."""
        box.process["args"] = ["echo", "fine"]
        box.save()
        script = """set -e; top=$0
            if [ $1 = True ]; then mount --bind $top $top; fi
            for d in /*; do if [ -L $d ]; then cp -P $d $top/; elif [ -d $d ]; then mkdir $top$d; mount --rbind $d $top$d; fi; done
            shift; exec chroot $top "$@" """
        place = tmp_path / "top"
        place.mkdir()
        words = ["unshare", "--mount", "sh", "-c", script, place, str(mounted), f"{box.oci.bin}/oci-run", "run", "-b", box.bundle, box.id]
        done = subprocess.run(words, capture_output=True, text=True, env=box.oci.env, stdin=subprocess.DEVNULL)
        if mounted:
            assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
        else:
            assert done.returncode == 1 and "invalid argument (in a chroot, its directory must be mounted on itself)" in done.stderr

    def test_a_tmpfs_with_what_it_hides(self, box: Any) -> None:
        """tmpcopyup: owners, modes, times, links; wide and deep trees; nothing of other file systems."""
        top = box.rootfs / "data"
        (top / "deep/deeper").mkdir(parents=True)
        (top / "deep/deeper/file").write_text("content\n")
        (top / "deep/deeper/file").chmod(0o4751)
        os.chown(top / "deep", 7, 8)
        os.utime(top / "deep", (1_000_000_000, 1_000_000_000))
        (top / "link").symlink_to("deep/deeper/file")
        for number in range(1500):
            (top / f"wide{number}").mkdir()
        os.mkfifo(top / "fifo")
        top.chmod(0o2770)
        box.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}]
        box.mount("/data", "tmpfs", "tmpcopyup", "size=8m", type="tmpfs")
        script = "cd /data; cat link; stat -c '%a %u:%g %Y' deep; stat -c %a deep/deeper/file .; ls | wc -l; test -p fifo && echo fifo; rm -r /data/*"
        assert box.says(script).splitlines() == [
            "content", "755 7:8 1000000000", "4751", "2770", "1503", "fifo"
        ]  # fmt: skip
        assert (top / "deep/deeper/file").read_text() == "content\n"

    def test_owners_by_another_map(self, box: Any, source: Path) -> None:
        """idmap: the container sees and makes files of other owners than there are."""
        os.chown(source / "file", 1000, 1000)
        maps = [{"containerID": 1000, "hostID": 0, "size": 1}, {"containerID": 0, "hostID": 5, "size": 1}]
        box.mount("/data", source, "bind", "idmap")
        box.spec["mounts"][-1].update(uidMappings=maps, gidMappings=maps)
        done = box.sh("stat -c %u /data/file; touch /data/new; stat -c %u /data/new", code=None)
        if "invalid argument" in done.stderr:
            pytest.skip("needs a file system that can be id-mapped")
        assert done.stdout.split() == ["0", "0"]
        assert os.stat(source / "new").st_uid == 1000

    @pytest.mark.parametrize(("option", "below"), [("idmap", "1000"), ("ridmap", "0")])
    def test_mounts_beneath_have_the_map_too_if_that_is_said(self, box: Any, nested: Path, option: str, below: str) -> None:
        os.chown(nested / "file", 1000, 1000)
        os.chown(nested / "sub/inner", 1000, 1000)
        maps = [{"containerID": 1000, "hostID": 0, "size": 1}]
        box.mount("/data", nested, "rbind", option)
        box.spec["mounts"][-1].update(uidMappings=maps, gidMappings=maps)
        done = box.sh("stat -c %u /data/file /data/sub/inner", code=None)
        if "invalid argument" in done.stderr:
            pytest.skip("needs file systems that can be id-mapped")
        assert done.stdout.split() == ["0", below]

    def test_the_usual_ones(self, box: Any) -> None:
        rows = box.says("cut -d ' ' -f 2-3 /proc/self/mounts").splitlines()
        for row in ("/proc proc", "/dev tmpfs", "/dev/pts devpts", "/sys sysfs", "/dev/mqueue mqueue", "/dev/shm tmpfs"):
            assert rows.count(row) == 1
        assert box.says("stat -c %a /proc /sys /dev /dev/shm /dev/pts /dev/mqueue").split() == ["555", "555", "755", "1777", "755", "1777"]
        assert {"nosuid", "noexec", "nodev", "ro"} <= mountinfo(box, "/sys")["options"]

    def test_an_option_that_the_file_system_does_not_know(self, box: Any) -> None:
        box.mount("/x", "tmpfs", "colour=blue", type="tmpfs")
        done = box("run", code=1)
        assert done.stderr.startswith("oci-run: cannot mount 'tmpfs' on '/x': ")
        assert "colour" in done.stderr

    def test_a_type_that_is_not_there(self, box: Any) -> None:
        box.mount("/x", "none", type="nosuchfs")
        assert box("run", code=1).stderr == "oci-run: cannot mount 'none' on '/x': no such device\n"

    def test_overlay(self, box: Any, tmp_path: Path) -> None:
        for name in "lower", "upper", "work":
            (tmp_path / name).mkdir()
        (tmp_path / "lower/file").write_text("lower\n")
        options = [f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work")]
        box.mount("/over", "overlay", *options, type="overlay")
        assert box.says("cat /over/file; echo new > /over/file") == "lower"
        assert (tmp_path / "upper/file").read_text() == "new\n"


@pytest.mark.root
class TestTheRoot:
    def test_read_only(self, box: Any) -> None:
        box.spec["root"]["readonly"] = True
        text = box.says("touch /x 2>&1; touch /dev/shm/y; touch /tmp/z 2>&1; true")
        assert text.count("Read-only file system") == 2
        assert os.listdir(box.rootfs / "tmp") == []

    def test_mounts_below_it_come_along(self, box: Any, nested: Path) -> None:
        (box.rootfs / "mnt").mkdir()
        subprocess.run(["mount", "--bind", nested / "sub", box.rootfs / "mnt"], check=True)
        try:
            assert box.says("cat /mnt/inner") == "inner"
        finally:
            subprocess.run(["umount", box.rootfs / "mnt"], check=True)

    def test_an_absolute_path_and_a_link(self, box: Any) -> None:
        box.spec["root"]["path"] = str(box.rootfs)
        assert box.says("echo yes") == "yes"
        (box.bundle / "link").symlink_to("rootfs")
        box.spec["root"]["path"] = "link"
        assert box.says("echo yes") == "yes"

    def test_one_that_is_not_there(self, box: Any) -> None:
        box.spec["root"]["path"] = "nothing"
        assert box("run", code=1).stderr == f"oci-run: cannot use rootfs '{box.bundle}/nothing': no such directory\n"
        box.spec["root"]["path"] = "config.json"
        assert "no such directory" in box("run", code=1).stderr

    def test_without_pivot_root(self, box: Any) -> None:
        box.process["args"] = ["sh", "-c", "ls -d /work 2>&1; cat /etc/passwd | head -n 1; grep -c . /proc/self/mounts"]
        lines = box("run", "--no-pivot").stdout.splitlines()
        assert "No such file" in lines[0] and lines[1].startswith("root:")

    def test_the_hosts_tree_is_gone(self, box: Any) -> None:
        roots = {row.split()[4] for row in box.says("cat /proc/self/mountinfo").splitlines()}
        assert all(place == "/" or place.split("/")[1] in ("proc", "dev", "sys") for place in roots)
        assert box.says("ls -di / /..").split()[0::2] == [str(os.stat(box.rootfs).st_ino)] * 2


@pytest.mark.root
class TestTargets:
    """Destinations are looked up in the image, whose links mean the image's root."""

    def test_links_inside(self, box: Any, source: Path) -> None:
        (box.rootfs / "real").mkdir()
        (box.rootfs / "absolute").symlink_to("/real")
        (box.rootfs / "relative").symlink_to("real")
        (box.rootfs / "var").mkdir()
        (box.rootfs / "run").mkdir()
        (box.rootfs / "var/run").symlink_to("../run")
        for destination in "/absolute", "/relative/below", "/var/run/secret":
            box.mount(destination, source, "bind")
        assert box.says("cat /real/file /real/below/file /run/secret/file").split() == ["content"] * 3

    def test_dangling_links_are_completed_inside(self, box: Any, source: Path) -> None:
        (box.rootfs / "dangling").symlink_to("/not/yet/there")
        (box.rootfs / "etc/link").symlink_to("../also/missing")
        box.mount("/dangling", source, "bind")
        box.mount("/etc/link", source / "file", "bind")
        assert box.says("cat /not/yet/there/file /also/missing").split() == ["content"] * 2

    def test_links_that_would_lead_out(self, box: Any, source: Path, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (box.rootfs / "up").symlink_to("../../../../../../.." + str(outside))
        (box.rootfs / "down").symlink_to(outside)
        box.mount("/up/made", source, "bind")
        box.mount("/down/also", source / "file", "bind")
        box.mount("/a/../../../../b/../../made", source, "bind")
        assert box.says(f"cat {outside}/made/file {outside}/also /made/file").split() == ["content"] * 3
        assert list(outside.iterdir()) == []

    @pytest.mark.parametrize("words", [(), ("--no-pivot",)], ids=" ".join)
    def test_over_the_root(self, box: Any, tmp_path: Path, words: tuple[str, ...]) -> None:
        """What is mounted on / is the root, for all that comes after it."""
        populate(tmp_path / "other")
        (tmp_path / "other/only").touch()
        box.spec["mounts"].insert(0, {"destination": "/", "type": "bind", "source": f"{tmp_path}/other", "options": ["bind"]})
        box.mount("/made", tmp_path, "bind")
        box.spec["root"]["readonly"] = True
        assert box.says("ls -d /only /made/other /proc/self/stat; touch /x 2>&1 || ls /dev/null", *words).split("\n") == [
            "/made/other", "/only", "/proc/self/stat", "touch: /x: Read-only file system", "/dev/null",
        ]  # fmt: skip
        assert (tmp_path / "other/made").is_dir() and not (box.rootfs / "made").exists()

    def test_a_tmpfs_with_a_copy_of_the_root_over_it(self, box: Any) -> None:
        box.spec["mounts"].insert(0, {"destination": "/", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]})
        assert box.says("touch /x; ls /x; stat -f -c %T / /proc | sort").split() == ["/x", "proc", "tmpfs"]
        assert not (box.rootfs / "x").exists()

    @pytest.mark.parametrize("users", [False, True], ids=["", "mapped"])
    def test_links_as_crun_has_them(self, box: Any, tmp_path: Path, users: bool) -> None:
        """copy-symlink makes the link that the source is; dest-nofollow and src-nofollow take links for themselves."""
        if users:
            box.mapped()
        (tmp_path / "file").write_text("text\n")
        (tmp_path / "away").symlink_to("nowhere")
        (tmp_path / "link").symlink_to(tmp_path / "file")
        for name, target in ("one", "/one-target"), ("two", "/two-target"), ("same", "nowhere"):
            (box.rootfs / name).symlink_to(target)
        for place in "/a/sym/link", "/same":
            box.mount(place, tmp_path / "away", "rbind", "copy-symlink")
        box.mount("/file", tmp_path / "file", "rbind", "copy-symlink")
        box.mount("/one", tmp_path / "link", "bind", "dest-nofollow")
        for place in "/two", "/new/link":
            box.mount(place, tmp_path / "link", "bind", "dest-nofollow", "src-nofollow")
        script = "for f in /a/sym/link /same /two /new/link; do readlink $f; done; cat /file /one; ls -d /*-target 2>&- || echo none"
        assert box.says(script).split() == ["nowhere", "nowhere", f"{tmp_path}/file", f"{tmp_path}/file", "text", "text", "none"]

    def test_a_link_that_is_not_followed_leads_nowhere_in_proc(self, box: Any, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("x")
        box.mount("/proc/self", tmp_path / "link", "bind", "dest-nofollow", "src-nofollow")
        assert box("run", code=1).stderr == "oci-run: cannot mount over '/proc/self': it is inside /proc\n"

    def test_links_in_a_circle(self, box: Any, source: Path) -> None:
        (box.rootfs / "circle").symlink_to("circle")
        box.mount("/circle", source, "bind")
        assert box("run", code=1).stderr == f"oci-run: cannot mount '{source}' on '/circle': too many levels of symbolic links\n"

    def test_a_file_in_the_way(self, box: Any, source: Path) -> None:
        box.mount("/etc/passwd/below", source, "bind")
        assert box("run", code=1).stderr == f"oci-run: cannot mount '{source}' on '/etc/passwd/below': not a directory\n"


@pytest.mark.root
class TestMasks:
    def test_masked(self, box: Any) -> None:
        (box.rootfs / "secret").mkdir()
        (box.rootfs / "secret/file").write_text("secret\n")
        (box.rootfs / "etc/key").write_text("key\n")
        (box.rootfs / "link").symlink_to("secret")
        (box.rootfs / "away").symlink_to("/etc/key")
        box.linux["maskedPaths"] += ["/link", "/away", "/not/there", "/etc/passwd/below", "/bin/busybox/x"]
        text = box.says("ls -A /secret; cat /etc/key; (echo x > /etc/key) 2>&1; touch /secret/x 2>&1; ls -A /proc/acpi; true")
        assert "secret" not in text.replace("touch: /secret/x: Read-only file system", "")
        assert "key" not in text.replace("/etc/key", "")
        assert (box.rootfs / "etc/key").read_text() == "key\n"

    def test_the_default_ones(self, box: Any) -> None:
        script = "".join(f"if [ -d {path} ]; then ls -A {path}; elif [ -e {path} ]; then cat {path}; fi;" for path in box.linux["maskedPaths"])
        assert box.says(script) == ""

    def test_read_only(self, box: Any, nested: Path) -> None:
        box.mount("/data", nested, "rbind")
        (box.rootfs / "link").symlink_to("/etc")
        box.linux["readonlyPaths"] += ["/data", "/link", "/not/there"]
        script = "touch /data/x /data/sub/x /etc/x; touch /proc/sys/kernel/domainname; touch /proc/fs /proc/sys"
        assert box.says(f"({script}) 2>&1; true").count("ead-only file system") == 6
        assert not (nested / "x").exists() and not (nested / "sub/x").exists()


def test_directories_of_an_overlay() -> None:
    """overlayfs.rst: a colon of a path has a backslash; one by one there is none, and an option may be longer."""
    data = ["metacopy=off", r"lowerdir=/a\:b:/c\\d:/e", "upperdir=/u"]
    assert overlay.one_by_one(data) == ["lowerdir+=/a:b", r"lowerdir+=/c\d", "lowerdir+=/e", "metacopy=off", "upperdir=/u"]
    assert overlay.one_by_one(["lowerdir=/a::/data"]) == ["lowerdir=/a::/data"]


@pytest.mark.root
def test_an_overlay_of_an_id_map(box: Any, tmp_path: Path) -> None:
    """Without anything to write in it, too."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of{name}").write_text("")
    box.mapped()
    box.mount("/m", "overlay", "ro", "idmap", f"lowerdir={tmp_path}/one:{tmp_path}/two", type="overlay")
    assert box.says("cd /m; stat -c '%u %n' *; touch x 2>/dev/null || echo ro").splitlines() == ["0 ofone", "0 oftwo", "ro"]
    box.spec["mounts"][-1]["options"] = ["idmap", f"lowerdir={tmp_path}/none"]
    assert box("run", code=1).stderr == "oci-run: cannot mount 'overlay' on '/m': no such file or directory\n"
    box.spec["mounts"][-1]["options"] = ["idmap"]
    assert box("run", code=1).stderr.endswith(": an overlay needs lowerdir, and upperdir with workdir\n")
