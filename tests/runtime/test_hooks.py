"""Hooks: six kinds in their order, the state on stdin, time limits, failures."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from oci_tools.errors import Error
from oci_tools.runtime import hooks

# -- running one -----------------------------------------------------------------------------------


def run(*words: str, state: dict[str, Any] | None = None, **more: Any) -> None:
    hooks.run([{"path": words[0], "args": [*words], **more}], "poststart", state or {"id": "x"})


def test_the_state_is_its_input(tmp_path: Path) -> None:
    big = {"id": "x", "annotations": {str(n): "y" * 1000 for n in range(2000)}}
    run("/bin/sh", "-c", f"cat > {tmp_path}/state", state=big)
    assert json.loads((tmp_path / "state").read_text()) == big


def test_one_that_does_not_read() -> None:
    run("/bin/true", state={"id": "x" * 1_000_000})
    run("/bin/sh", "-c", "exec <&-; sleep 0.05", state={"id": "x" * 1_000_000})


def test_its_environment(tmp_path: Path) -> None:
    line = f"env | grep -v -E '^(PWD|SHLVL|_|OLDPWD)=' > {tmp_path}/env"
    hooks.run([{"path": "/bin/sh", "args": ["sh", "-c", line]}], "poststop", {}, {"PATH": "/bin:/usr/bin", "A": "b"})
    assert set((tmp_path / "env").read_text().split()) == {"PATH=/bin:/usr/bin", "A=b"}
    hooks.run([{"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["X=y=z", "PATH=/usr/bin:/bin"]}], "poststop", {}, {"A": "b"})
    assert set((tmp_path / "env").read_text().split()) == {"X=y=z", "PATH=/usr/bin:/bin"}


def test_its_name_is_its_path_unless_args_say_otherwise(tmp_path: Path) -> None:
    script = tmp_path / "hook"
    script.write_text(f"#!/bin/sh\necho $# > {tmp_path}/count\n")
    script.chmod(0o755)
    hooks.run([{"path": str(script)}], "poststart", {})
    assert (tmp_path / "count").read_text() == "0\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("/bin/sh", "-c", "exit 3"), "error running poststart hook #0: '/bin/sh': exit status 3"),
        (("/bin/sh", "-c", "kill -9 $$"), "error running poststart hook #0: '/bin/sh': killed by signal 9 (killed)"),
        (("/no/such",), "error running poststart hook #0: '/no/such': no such file or directory"),
        (("/etc/passwd",), "error running poststart hook #0: '/etc/passwd': permission denied"),
    ],
)
def test_failures(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(Error) as raised:
        run(*words)
    assert str(raised.value) == said


def test_the_time_limit_kills() -> None:
    before = time.monotonic()
    with pytest.raises(Error, match=r"timeout of 1 s passed|error running"):
        run("/bin/sleep", "1000", state={"id": "x" * 1_000_000}, timeout=1)
    assert time.monotonic() - before > 0.9


# -- in a container's life --------------------------------------------------------------------------

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@pytest.fixture
def told(box: Any) -> Path:
    """A box all of whose hooks note, in one file, who they are, where, and what they were told."""
    notes = box.bundle / "notes"
    notes.mkdir()
    box.rootfs.joinpath("notes").mkdir()
    box.mount("/notes", notes, "bind")
    script = (
        "cat > {place}/$0.state; echo $0 >> {place}/order; (readlink /proc/self/ns/mnt; readlink /proc/self/ns/net) > {place}/$0.ns;"
        "pwd > {place}/$0.cwd; test -e /etc/debian_version && echo host >> {place}/$0.ns; true"
    )
    box.spec["hooks"] = {}
    for kind in KINDS:
        place = "/notes" if kind == "startContainer" else notes
        for number in 1, 2:
            hook = {"path": "/bin/sh", "args": ["sh", "-c", script.format(place=place), f"{kind}-{number}"]}
            box.spec["hooks"].setdefault(kind, []).append(hook)
    box.spec["annotations"] = {"a": "b"}
    return Path(notes)


@pytest.mark.root
def test_all_kinds_in_order(box: Any, told: Path) -> None:
    box.process["args"] = ["sh", "-c", "echo payload >> /notes/order; exec sleep 1000"]
    ours = [os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "net")]
    order = told / "order"

    box("create")
    done = [f"{kind}-{number}" for kind in KINDS[:3] for number in (1, 2)]
    assert order.read_text().split() == done
    pid = box.state["pid"]
    theirs = [os.readlink(f"/proc/{pid}/ns/{name}") for name in ("mnt", "net")]
    box("start")
    while not {"payload", "poststart-2"} <= {*order.read_text().split()}:
        pass
    assert set(order.read_text().split()[6:]) == {"startContainer-1", "startContainer-2", "payload", "poststart-1", "poststart-2"}
    assert order.read_text().split()[6:8] == ["startContainer-1", "startContainer-2"]
    box("delete", "--force")
    assert order.read_text().split()[-2:] == ["poststop-1", "poststop-2"]

    for kind in KINDS:
        state = json.loads((told / f"{kind}-1.state").read_text())
        inside = kind in ("createContainer", "startContainer")
        assert state["pid"] == (1 if inside else 0 if kind == "poststop" else pid)
        expected = {"poststart": "running", "poststop": "stopped", "startContainer": "created"}.get(kind, "creating")
        assert (state["status"], state["id"], state["bundle"]) == (expected, box.id, str(box.bundle))
        assert state["annotations"] == {"a": "b"}
        where = (told / f"{kind}-1.ns").read_text().split()
        assert where[:2] == (theirs if inside else ours)
        assert ("host" in where) == (kind != "startContainer")  # createContainer: before pivot_root
    assert (told / "createContainer-1.cwd").read_text() == f"{box.rootfs}\n"


@pytest.mark.root
@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_failure_ends_the_create(box: Any, kind: str) -> None:
    notes = box.bundle / "notes"
    box.spec["hooks"] = {
        kind: [{"path": "/bin/false"}, {"path": "/bin/touch", "args": ["touch", str(notes / "second")]}],
        "poststop": [{"path": "/bin/mkdir", "args": ["mkdir", str(notes)]}],
    }
    said = f"oci-run: error running {kind} hook #0: '/bin/false': exit status 1\n"
    assert box("create", code=1).stderr == said
    assert notes.is_dir() and not (notes / "second").exists()
    notes.rmdir()
    assert box("run", code=1).stderr == said


@pytest.mark.root
def test_a_failure_of_start_container(box: Any) -> None:
    box.spec["hooks"] = {"startContainer": [{"path": "/bin/false"}]}
    said = "oci-run: error running startContainer hook #0: '/bin/false': exit status 1\n"
    assert box("run", code=1).stderr == said
    box("create")
    assert box("start", code=1).stderr == said
    box("delete")


@pytest.mark.root
@pytest.mark.parametrize("privileges", [True, False])
def test_start_container_runs_under_the_filter(box: Any, privileges: bool) -> None:
    """It is a program of the image."""
    box.spec["hooks"] = {"startContainer": [{"path": "/bin/mkdir", "args": ["mkdir", "/tmp/x"]}]}
    box.process["noNewPrivileges"] = not privileges
    names = ["mkdir", "mkdirat"]
    box.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": names, "action": "SCMP_ACT_KILL"}]}
    box.process["args"] = ["true"]
    said = "oci-run: error running startContainer hook #0: '/bin/mkdir': killed by signal 31 (bad system call)\n"
    assert box("run", code=1).stderr == said
    assert not (box.rootfs / "tmp/x").exists()


@pytest.mark.root
def test_a_failure_of_poststart_ends_the_container(box: Any) -> None:
    box.spec["hooks"] = {"poststart": [{"path": "/bin/false"}]}
    box.process["args"] = ["sleep", "1000"]
    said = "oci-run: error running poststart hook #0: '/bin/false': exit status 1\n"
    assert box("run", code=1).stderr == said
    box("create")
    descriptor = os.pidfd_open(box.state["pid"])
    assert box("start", code=1).stderr == said
    import select

    select.select([descriptor], [], [])
    os.close(descriptor)
    box("delete")


@pytest.mark.root
def test_a_failure_of_poststop_only_warns(box: Any) -> None:
    notes = box.bundle / "second"
    box.spec["hooks"] = {"poststop": [{"path": "/bin/false"}, {"path": "/bin/touch", "args": ["touch", str(notes)]}]}
    warning = "oci-run: warning: error running poststop hook #0: '/bin/false': exit status 1\n"
    assert box.sh("exit 5", code=5).stderr == warning
    assert notes.exists()  # the others run all the same (runtime-spec, "poststop")
    box("create")
    assert box("delete").stderr == warning


@pytest.mark.root
def test_no_descriptor_of_the_caller_gets_into_them(box: Any) -> None:
    notes = box.bundle / "notes"
    for kind in KINDS:
        if kind != "startContainer":
            line = f"for f in /proc/self/fd/*; do readlink $f >> {notes}; done; true"
            box.spec.setdefault("hooks", {})[kind] = [{"path": "/bin/sh", "args": ["sh", "-c", line]}]
    box.process["args"] = ["sleep", "1000"]
    box.save()
    leak = "exec 7</etc 9</etc/passwd; oci-run"
    box.oci.shell(f"{leak} create -b {box.bundle} {box.id} > {box.output} 2>&1")
    box.oci.shell(f"{leak} start {box.id}")
    box.oci.shell(f"{leak} delete --force {box.id} >&- 2>&-")
    found = notes.read_text()
    assert "/etc" not in found and str(box.id) not in found


@pytest.mark.root
def test_what_hooks_write_is_not_the_payloads_output(box: Any) -> None:
    for kind in KINDS:
        box.spec.setdefault("hooks", {})[kind] = [{"path": "/bin/sh", "args": ["sh", "-c", "echo noise"]}]
    assert box.says("echo payload") == "payload"


@pytest.mark.root
def test_a_hook_may_configure_the_network_of_the_container(box: Any) -> None:
    """What libnetwork and CNI do: by the pid of the state."""
    script = "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter -t $pid -n ip link add dummy9 type dummy"
    box.spec["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}]}
    done = box.sh("ls /sys/class/net", code=None)
    if "dummy" not in done.stdout and done.returncode:
        pytest.skip("needs dummy network devices")
    assert done.stdout.split() == ["dummy9", "lo"]
