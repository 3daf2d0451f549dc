"""`mount add` and `mount rm`: mounts of a running container; and `unshare`, `spec`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def running(box: Any) -> Any:
    box.process["args"] = ["sleep", "1000"]
    box("create")
    box("start")
    yield box
    box("delete", "--force")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("text\n")
    return tmp_path / "data"


def mount(box: Any, verb: str, *words: Any, options: tuple[str, ...] = (), code: int = 0) -> Any:
    return box.oci("run", "mount", verb, *options, box.id, *words, code=code)


@pytest.mark.root
def test_a_directory(running: Any, data: Path) -> None:
    mount(running, "add", data, "/new/place")
    assert running("exec", "cat", "/new/place/file").stdout == "text\n"
    running("exec", "sh", "-c", "echo more > /new/place/other")
    assert (data / "other").read_text() == "more\n"
    mount(running, "rm", "/new/place")
    assert running("exec", "ls", "/new/place").stdout == ""


@pytest.mark.root
def test_a_file_read_only_and_a_tmpfs(running: Any, data: Path) -> None:
    mount(running, "add", data / "file", "/etc/new", options=("-o", "ro,nosuid"))
    assert running("exec", "cat", "/etc/new").stdout == "text\n"
    assert "Read-only" in running("exec", "sh", "-c", "echo x > /etc/new", code=1).stderr
    mount(running, "add", "none", "/mnt", options=("-t", "tmpfs", "-o", "size=1m", "-o", "noexec"))
    seen = running("exec", "grep", " /mnt ", "/proc/mounts").stdout
    assert "tmpfs" in seen and "noexec" in seen and "size=1024k" in seen


@pytest.mark.root
def test_in_a_user_namespace(box: Any, data: Path) -> None:
    box.mapped()
    box.process["args"] = ["sleep", "1000"]
    box("create")
    box("start")
    mount(box, "add", data, "/data")
    assert box("exec", "cat", "/data/file").stdout == "text\n"
    box("delete", "--force")


@pytest.mark.root
def test_no_link_leads_out(running: Any, data: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (running.rootfs / "link").symlink_to(tmp_path / "outside")
    (running.rootfs / "up").symlink_to("../../../../..")
    mount(running, "add", data, "/link")
    mount(running, "add", data, "/up/beside")
    assert os.listdir(tmp_path / "outside") == []
    assert running("exec", "cat", f"{tmp_path}/outside/file").stdout == "text\n"
    assert running("exec", "cat", "/beside/file").stdout == "text\n"
    assert not Path("/beside").exists()


@pytest.mark.root
def test_nothing_over_proc_and_nothing_that_shows_the_host(running: Any, data: Path) -> None:
    for place in "/proc", "/proc/sys", "/proc/new":
        assert mount(running, "add", data, place, code=1).stderr.startswith("oci-run: cannot mount")
    said = mount(running, "add", "proc", "/p", options=("-t", "proc"), code=1).stderr
    assert said == "oci-run: cannot mount 'proc': only bind and tmpfs can be added\n"
    assert "no such file" in mount(running, "add", data / "nosuch", "/x", code=1).stderr
    assert "it is an option of a file system" in mount(running, "add", data, "/x", options=("-o", "size=1"), code=1).stderr


@pytest.mark.root
def test_only_what_was_added_is_removed(running: Any, data: Path) -> None:
    for place in "/proc", "/proc/keys", "/dev", "/", "/tmp":
        said = mount(running, "rm", place, code=1).stderr
        assert said == f"oci-run: cannot unmount '{place}': no added mount is there\n"
    mount(running, "add", data, "/a/b")
    # A payload that moves its directories about must not have us take another mount away.
    running("exec", "sh", "-c", "mv /a /z; ln -s /dev /a; mkdir /dev/b; mount -t tmpfs none /dev/b 2>/dev/null; true")
    assert mount(running, "rm", "/a/b", code=1).stderr.endswith("no added mount is there\n")


@pytest.mark.root
def test_of_what_does_not_run(box: Any, data: Path) -> None:
    assert "does not exist" in mount(box, "add", data, "/x", code=1).stderr
    box("create")
    mount(box, "add", data, "/x")
    box("kill", "KILL")
    while box.state["status"] != "stopped":
        pass
    assert mount(box, "add", data, "/y", code=1).stderr == f"oci-run: cannot change the mounts of container '{box.id}': it is stopped\n"
    box("delete")


def test_unshare(plain: Any) -> None:
    done = plain("run", "unshare", "sh", "-c", "id -u; cat /proc/self/uid_map; exit 4", code=4)
    words = done.stdout.split()
    assert words[:4] == ["0", "0", str(plain.user.get("user") or os.geteuid()), "1"]
    assert 'exec: "nosuch": executable file not found in $PATH' in plain("run", "unshare", "nosuch", code=1).stderr
    assert plain("run", "unshare", input="echo $((1 + 1))\n").stdout == "2\n"


def test_unshare_with_subordinate_ids() -> None:
    from oci_tools.runtime import ids

    here = Path("/proc/self/nosuch")
    assert ids.mapping(str(here), 5) == [{"containerID": 0, "hostID": 5, "size": 1}]


def test_subordinate_ids_come_after_oneself(tmp_path: Path) -> None:
    from oci_tools.runtime import ids

    (tmp_path / "subuid").write_text(f"other:1:5\n{os.geteuid()}:100000:10\n{os.geteuid()}:200000:20\nbad\n")
    assert ids.mapping(str(tmp_path / "subuid"), 7) == [
        {"containerID": 0, "hostID": 7, "size": 1},
        {"containerID": 1, "hostID": 100000, "size": 10},
        {"containerID": 11, "hostID": 200000, "size": 20},
    ]


@pytest.mark.root
def test_root_needs_no_unshare(oci: Any) -> None:
    assert oci("run", "unshare", "true", code=1).stderr.startswith("oci-run: cannot unshare: root's containers")


def test_spec(oci: Any, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    oci("run", "spec", "-b", "b")
    made = json.loads((tmp_path / "b/config.json").read_text())
    assert made["process"]["args"] == ["sh"] and made["root"]["path"] == "rootfs"
    oci("spec", "check", tmp_path / "b/config.json")
    said = oci("run", "spec", "--bundle", "b", code=1).stderr
    assert said == "oci-run: cannot write 'b/config.json': file exists (remove it first)\n"
    oci("run", "--root", tmp_path / "r", "spec", "--rootless")
    kinds = [each["type"] for each in json.loads((tmp_path / "config.json").read_text())["linux"]["namespaces"]]
    assert "user" in kinds
    shutil.rmtree(tmp_path / "b")
    assert "no such file or directory" in oci("run", "spec", "-b", "b", code=1).stderr
