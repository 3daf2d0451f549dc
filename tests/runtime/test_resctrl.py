"""`linux.intelRdt` as the files of resctrl: the plan, and what it does in a directory like one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oci_tools.errors import Error
from oci_tools.runtime import resctrl


def test_a_class_under_its_id() -> None:
    wanted = {"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=50", "schemata": ["L2:0=1"], "enableMonitoring": True}
    assert resctrl.plan(wanted, "c1") == [
        ("make", "c1", ""),
        ("write", "c1/schemata", "L3:0=f\nMB:0=50\nL2:0=1\n"),
        ("write", "c1/tasks", "PID"),
        ("make", "c1/mon_groups/c1", ""),
        ("write", "c1/mon_groups/c1/tasks", "PID"),
    ]


def test_a_named_class_and_the_root() -> None:
    assert resctrl.plan({"closID": "fast"}, "c1") == [("make", "fast", ""), ("write", "fast/tasks", "PID")]
    assert resctrl.plan({"closID": "/"}, "c1") == [("write", "tasks", "PID")]


def test_a_new_class_is_made_and_removed(tmp_path: Path) -> None:
    made = resctrl.apply(resctrl.plan({"memBwSchema": "MB:0=50"}, "c1"), str(tmp_path), 7, existing=False)
    assert (tmp_path / "c1/schemata").read_text() == "MB:0=50\n" and (tmp_path / "c1/tasks").read_text() == "7"
    for name in "schemata", "tasks":
        (tmp_path / "c1" / name).unlink()  # which the kernel's are not
    resctrl.remove(made)
    assert list(tmp_path.iterdir()) == []


def test_what_others_made_is_joined_and_stays(tmp_path: Path) -> None:
    (tmp_path / "fast").mkdir()
    (tmp_path / "fast/schemata").write_text("    MB:0= 50\n    L3:0=f\n")
    steps = resctrl.plan({"closID": "fast", "memBwSchema": "MB:0=50"}, "c1")
    assert resctrl.apply(steps, str(tmp_path), 7, existing=True) == []
    steps = resctrl.plan({"closID": "fast", "memBwSchema": "MB:0=60"}, "c1")
    with pytest.raises(Error, match="other schemata"):
        resctrl.apply(steps, str(tmp_path), 7, existing=True)


def test_a_class_of_that_id_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "c1").mkdir()
    with pytest.raises(Error, match="cannot use"):
        resctrl.apply(resctrl.plan({}, "c1"), str(tmp_path), 7, existing=False)
    assert (tmp_path / "c1").exists()


@pytest.mark.root
def test_where_there_is_none(box: Any) -> None:
    if "resctrl " in Path("/proc/self/mountinfo").read_text():
        pytest.skip("this host has resctrl")
    box.linux["intelRdt"] = {"closID": "x"}
    assert box.sh("true", code=1).stderr == "oci-run: config.json: linux.intelRdt: no resctrl is mounted on this host\n"


@pytest.mark.root
def test_a_label_for_mounts_is_refused(box: Any) -> None:
    box.linux["mountLabel"] = "system_u:object_r:container_file_t:s0"
    assert box.sh("true", code=1).stderr.startswith("oci-run: config.json: linux.mountLabel: ")
