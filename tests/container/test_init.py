"""The init of --init: its program is its source's, and it does what tini does."""

import os
import re
import shutil
import signal
import subprocess

import pytest

from oci_tools.container import init
from oci_tools.errors import Error
from tests.container import make_init

pytestmark = pytest.mark.root
TINI = shutil.which("tini-static") or shutil.which("tini")


@pytest.fixture(params=["ours", "tini"])
def program(request, tmp_path):
    if request.param == "tini":
        return TINI or pytest.fail("Debian's tini is missing")
    path = tmp_path / "init"
    path.write_bytes(init.program(os.uname().machine))
    path.chmod(0o755)
    return str(path)


def execute(program, *words, **more):
    return subprocess.run([program, "--", *words], capture_output=True, text=True, **more)


def test_the_program_is_what_its_source_says():
    assert init.program("x86_64")[init._HEADERS :] == make_init.code("x86_64")


def test_a_machine_that_it_is_not_made_for():
    with pytest.raises(Error, match="there is none for vax"):
        init.program("vax")
    assert init.program("aarch64")[18] == 183


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("true", 0)])
def test_it_ends_as_its_payload_does(program, script, code):
    assert execute(program, "sh", "-c", script).returncode == code


def test_what_cannot_be_executed(program):
    done = execute(program, "nope")
    assert done.returncode == 127 and "exec" in done.stderr and "nope" in done.stderr
    assert execute(program, "/etc").returncode == 126
    assert execute(program, "nope", env={"PATH": "/nowhere:"}).returncode == 127
    assert execute(program, "true", env={"PATH": ":/nowhere:/usr/bin"}).returncode == 0


def test_signals_reach_the_payload_and_orphans_are_reaped(program):
    script = "trap 'exit 5' USR1; (sleep 0.01 &); echo up; while :; do sleep 0.01; done"
    process = subprocess.Popen([program, "-s", "--", "sh", "-c", script] if "tini" in program else
                               [program, "--", "sh", "-c", script], stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGUSR1)
    assert process.wait(10) == 5


def test_the_payload_gets_the_signals_as_they_were(program):
    done = execute(program, "cat", "/proc/self/status", restore_signals=True)
    assert re.search(r"^SigBlk:\t0+$", done.stdout, re.M) and re.search(r"^SigIgn:\t0+$", done.stdout, re.M)


def test_it_leads_a_group_of_its_own(program):
    pid, group = execute(program, "sh", "-c", "echo $$; cut -d' ' -f5 /proc/$$/stat").stdout.split()
    assert pid == group


def test_no_words(tmp_path):
    path = tmp_path / "init"
    path.write_bytes(init.program(os.uname().machine))
    path.chmod(0o755)
    done = subprocess.run([path], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("usage: ")


# -- in containers -----------------------------------------------------------------------------


def test_a_container_with_it(run, tmp_path):
    script = "cat /proc/1/comm; readlink /proc/1/exe; ls -l /sbin/oci-init | cut -c1-10; (sleep 0.01 &); exit 3"
    done = run("--init", "busybox", "sh", "-c", script, code=3)
    assert done.stdout == "oci-init\n/sbin/oci-init\n-r-xr-xr-x\n"


def test_nothing_of_the_host_is_in_it(run):
    said = run("--init", "--cap-add", "SYS_PTRACE", "busybox", "sh", "-c", "cat /proc/1/environ; echo; ls /proc/1/fd",
                env={"SECRET": "x"}).stdout  # fmt: skip
    assert said.startswith("PATH=") and "SECRET" not in said and said.endswith("\n0\n1\n2\n")
    assert "Read-only" in run("--init", "busybox", "sh", "-c", "echo x > /sbin/oci-init", code=1).stderr
    assert run("--init", "busybox", "sh", "-c", "(echo x > /proc/1/exe) 2>&1; true").stdout.count("\n") == 1


def test_a_program_that_is_not_there(run):
    done = run("--init", "busybox", "nope", code=127)
    assert done.stderr == 'oci-init: exec: "nope": executable file not found in $PATH\n'


def test_a_file_that_is_not_whole_is_made_again(run, tmp_path):
    run("--init", "busybox", "true")
    (made,) = (tmp_path / "root/init").iterdir()
    whole = made.read_bytes()
    os.chmod(made, 0o755)
    made.write_bytes(whole[:100])
    run("--init", "busybox", "true")
    assert made.read_bytes() == whole and made.stat().st_mode & 0o777 == 0o555


def test_any_user_any_root(run):
    assert run("--init", "-u", "1234:5", "--read-only", "busybox", "id", "-u").stdout == "1234\n"


def test_a_plain_users_container(plain_run):
    script = "cat /proc/1/comm; (sleep 0.01 &); exit 3"
    assert plain_run("--network", "none", "--init", "busybox", "sh", "-c", script, code=3).stdout == "oci-init\n"
