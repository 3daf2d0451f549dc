"""`oci-run run` is a Unix program: its exit code, its streams, the signals that reach it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

import pytest

from oci_tools.runtime import executable

pytestmark = pytest.mark.root


@pytest.mark.parametrize("code", [0, 1, 2, 70, 75, 125, 126, 127, 128, 137, 255])
def test_the_payloads_exit_code(box: Any, code: int) -> None:
    done = box.sh(f"exit {code}", code=None if code != 70 else 70)
    assert done.returncode == code
    assert done.stderr == ""


def test_every_exit_code_there_is(box: Any) -> None:
    """The kernel keeps 8 bits of it, and so do we."""
    from oci_tools.runtime import foreground

    for code in range(256):
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {code}"], {})
        with foreground.Signals() as signals:
            assert foreground.wait(os.pidfd_open(pid), pid, -1, signals) == code


@pytest.mark.parametrize("name", ["KILL", "SEGV", "TERM", "HUP", "RTMIN", "SYS"])
def test_a_payload_killed_by_a_signal(box: Any, name: str) -> None:
    number = getattr(signal, f"SIG{name}")
    box.share("pid")  # in its own namespace it would be init, which a signal of its own does not end
    box.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    assert box.sh(f"kill -{int(number)} $$", code=128 + number).stderr == ""


def test_not_found_and_not_executable(box: Any) -> None:
    """The words by which engines know 127 and 126; the verbs themselves exit 1 (contracts.md)."""
    (box.rootfs / "text").write_text("no program\n")
    (box.rootfs / "format").write_text("no program\n")
    (box.rootfs / "format").chmod(0o755)
    (box.rootfs / "lost").write_text("#!/no/such/interpreter\n")
    (box.rootfs / "lost").chmod(0o755)
    for word, said in (
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH'),
        ("/nosuch", 'exec: "/nosuch": no such file or directory'),
        ("./bin/nosuch", 'exec: "./bin/nosuch": no such file or directory'),
        ("/text", 'exec: "/text": permission denied'),
        ("/bin/sh/x", 'exec: "/bin/sh/x": not a directory'),
        ("/etc", 'exec: "/etc": is a directory'),
        ("/format", 'exec /format: exec format error (it is no executable, and has no #! line)'),
        ("/lost", 'exec /lost: no such file or directory (no interpreter "/no/such/interpreter")'),
        ("", 'exec: "": executable file not found in $PATH'),
    ):
        box.process["args"] = [word]
        assert box("run", code=1).stderr == f"oci-run: {said}\n"
    box.process["args"] = ["/nosuch"]
    assert box("create", code=1).stderr == 'oci-run: exec: "/nosuch": no such file or directory\n'
    box.process["args"] = ["/format"]  # what only execve(2) finds out is an error of start
    box("create")
    assert box("start", code=1).stderr.startswith("oci-run: exec /format: exec format error (")
    box("delete")


def elf(machine: int, interpreter: bytes = b"", word: int = 8) -> bytes:
    """An executable's header and, behind it, the one of its interpreter: elf(5)."""
    size = 56 if word == 8 else 32
    begin = 40 + 3 * word
    made = bytearray(begin + size) + interpreter + b"\0"
    for at, value, length in (
        (0, 0x464C457F, 4), (4, word // 4, 1), (5, 1, 1), (6, 1, 1), (16, 2, 2), (18, machine, 2), (20, 1, 4),
        (24 + word, begin, word), (30 + 3 * word, size, 2), (32 + 3 * word, 1, 2),
        (begin, 3, 4), (begin + word, begin + size, word), (begin + 4 * word, len(interpreter) + 1, word),
    ):  # fmt: skip
        made[at : at + length] = value.to_bytes(length, "little")
    return bytes(made)


def test_why_a_program_that_is_there_is_not_executed(box: Any) -> None:
    """Of all that the kernel says the same two things about, the one that it is."""
    other, name = (183, "arm64") if os.uname().machine == "x86_64" else (62, "amd64")
    ours = {"x86_64": 62, "aarch64": 183}[os.uname().machine]
    for content, said in (
        (b"#!/bin/sh\r\necho\r\n", 'no interpreter "/bin/sh\\r": its lines end with carriage returns'),
        (b"#! \t/no/such\tword", 'no interpreter "/no/such"'),
        (b"#!/first\n", 'no interpreter "/lib/no-loader.so"'),
        (elf(ours, b"/lib/no-loader.so.2"), 'no interpreter "/lib/no-loader.so.2"'),
        (b"", "it is empty"),
        (elf(other), f"it is for {name}: --platform takes another image"),
    ):
        for path, written in (("first", b"#!/lib/no-loader.so\n"), ("program", content)):
            (box.rootfs / path).write_bytes(written)
            (box.rootfs / path).chmod(0o755)
        box.process["args"] = ["/program"]
        reason = "no such file or directory" if "interpreter" in said else "exec format error"
        assert box("run", code=1).stderr == f"oci-run: exec /program: {reason} ({said})\n"
    for word in (4, 8):
        (box.rootfs / "program").write_bytes(elf(3, b"/lib/none.so.1", word))
        error = executable.refused(str(box.rootfs / "program"), FileNotFoundError(2, "not there"), tried=True)
        assert error.hint == 'no interpreter "/lib/none.so.1"'
    (box.rootfs / "program").write_bytes(elf(ours)[:30])  # a header that ends early has nothing to say
    assert box("run", code=1).stderr == "oci-run: exec /program: exec format error\n"
    (box.rootfs / "program").write_bytes(b"no program")
    (box.rootfs / "program").chmod(0o111)  # and one that may not be read
    box.process["user"] = {"uid": 1, "gid": 1}
    box.process["capabilities"] = {}
    assert box("run", code=1).stderr == "oci-run: exec /program: exec format error\n"


def test_path_is_searched_as_execvp_does(box: Any) -> None:
    (box.rootfs / "first").mkdir()
    (box.rootfs / "second").mkdir()
    (box.rootfs / "first/tool").write_text("#!/bin/sh\necho first\n")
    (box.rootfs / "second/tool").write_text("#!/bin/sh\necho second\n")
    (box.rootfs / "second/tool").chmod(0o755)
    box.process["env"] = ["PATH=/nowhere:/first:/second:/bin"]
    box.process["args"] = ["tool"]
    assert box("run").stdout == "second\n"
    (box.rootfs / "second/tool").chmod(0o644)
    assert "permission denied" in box("run", code=1).stderr
    box.process["env"] = []
    assert "not found in $PATH" in box("run", code=1).stderr
    box.process["env"] = ["PATH="]  # an empty part is the working directory
    box.process["cwd"] = "/bin"
    box.process["args"] = ["echo", "here"]
    assert box("run").stdout == "here\n"


def test_standard_streams(box: Any) -> None:
    done = box.sh("cat; echo error >&2", input="x" * 300_000)
    assert done.stdout == "x" * 300_000
    assert done.stderr == "error\n"
    assert box.sh("wc -c", stdin=subprocess.DEVNULL).stdout == "0\n"


def test_a_pipeline_ends_when_its_reader_does(box: Any) -> None:
    """The payload has SIGPIPE as a program expects it, though Python ignores it."""
    box.share("pid")  # init itself would see EPIPE
    box.process["args"] = ["sh", "-c", "while echo line; do :; done"]
    box.save()
    line = f"{box.oci.bin}/oci-run run -b {box.bundle} {box.id}; echo $? >&2"
    done = box.oci.shell(f"({line}) | head -n 1")
    assert done.stdout == "line\n"
    assert done.stderr == f"{128 + signal.SIGPIPE}\n"


def test_closed_streams_are_null_and_not_the_next_file(box: Any) -> None:
    box.process["args"] = ["sh", "-c", "ls -l /proc/self/fd > /out; cat /proc/self/mounts > /dev/null"]
    box.save()
    box.oci.shell(f"oci-run run -b {box.bundle} {box.id} <&- >&- 2>&-")
    assert (box.rootfs / "out").read_text().count("/dev/null") == 2


def test_no_descriptor_of_ours_or_of_our_caller_gets_in(box: Any) -> None:
    box.process["args"] = ["sh", "-c", "ls /proc/1/fd"]
    box.save()
    line = f"exec 7</etc 9</etc/passwd; oci-run run -b {box.bundle} {box.id}"
    assert set(box.oci.shell(line).stdout.split()) - {"0", "1", "2"} <= {"3", "10"}  # the shell's own, if any
    line = f"exec 7</etc 9</etc/passwd; oci-run create -b {box.bundle} {box.id} > {box.output}"
    box.oci.shell(line, stderr=subprocess.DEVNULL)
    open_files = os.listdir(f"/proc/{box.state['pid']}/fd")
    names = [os.readlink(f"/proc/{box.state['pid']}/fd/{fd}") for fd in open_files]
    asked = [f"{box.oci.env['OCI_RUN']}/runtime/{box.id}/{name}.fifo" for name in ("answer", "start")]  # by `start`
    assert sorted(names) == sorted(["/dev/null", "/dev/null", str(box.output), *asked])
    box("delete")


def test_preserved_descriptors(box: Any) -> None:
    box.process["args"] = ["sh", "-c", "cat <&3; cat <&4; cd /proc/self/fd; echo *"]
    box.save()
    (box.bundle / "three").write_text("3")
    (box.bundle / "four").write_text("4 ")
    line = f"exec 3<three 4<four 5</etc; oci-run run --preserve-fds 2 -b {box.bundle} {box.id}"
    assert box.oci.shell(line, cwd=box.bundle).stdout.startswith("34 0 1 2 3 4")
    line = f"exec 3<three 5</etc; oci-run run --preserve-fds 2 -b {box.bundle} {box.id}"
    said = box.oci.shell(line, code=1, cwd=box.bundle).stderr
    assert said == "oci-run: cannot preserve descriptor '4': preserved-fd 1: bad file descriptor\n"


def test_every_signal_is_passed_on(box: Any) -> None:
    names = "HUP INT QUIT USR1 USR2 TERM CONT WINCH ALRM XCPU IO".split()
    traps = "".join(f"trap 'echo {name}' {name};" for name in names)
    box.process["args"] = ["sh", "-c", f"{traps} trap 'exit 7' ABRT; echo ready; while :; do sleep 0.02; done"]
    running = box.start(stdout=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "ready\n"
    for name in names:
        running.send_signal(getattr(signal, f"SIG{name}"))
        assert running.stdout.readline() == f"{name}\n"
    running.send_signal(signal.SIGABRT)
    assert running.wait() == 7


def test_a_signal_right_after_the_payload_began(box: Any) -> None:
    """It says so before we are back from starting it: the signal must be its own all the same."""
    box.process["args"] = ["sh", "-c", "trap 'exit 9' TERM; echo; while :; do sleep 0.01; done"]
    for _ in range(5):
        running = box.start(stdout=subprocess.PIPE)
        running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        assert running.wait() == 9


def test_a_payload_deaf_to_sigterm_goes_by_sigkill(box: Any) -> None:
    box.process["args"] = ["sh", "-c", "echo; exec sleep 1000"]
    running = box.start(stdout=subprocess.PIPE)
    running.stdout.readline()
    running.send_signal(signal.SIGTERM)  # no handler, and it is pid 1: ignored
    assert box.state["status"] == "running"
    box("kill", "KILL")
    assert running.wait() == 128 + 9


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT"])
def test_a_signal_while_it_is_made_leaves_nothing(box: Any, name: str) -> None:
    fifo = box.bundle / "fifo"
    os.mkfifo(fifo)
    box.spec["hooks"] = {"createRuntime": [{"path": "/bin/cat", "args": ["cat", str(fifo)]}]}
    running = box.start(stderr=subprocess.PIPE, text=True)
    with open(fifo, "w"):
        running.send_signal(getattr(signal, f"SIG{name}"))
        assert running.wait() == 128 + getattr(signal, f"SIG{name}")
    assert box.remains() == []


def test_what_the_caller_ignores_stays_ignored(box: Any) -> None:
    """nohup(1): the runtime passes nothing on; the payload has its own mind about it."""
    box.process["args"] = ["sh", "-c", "trap 'echo hup' HUP; trap 'echo term; exit' TERM; echo; while :; do sleep 0.01; done"]
    box.save()
    line = f"trap '' HUP; exec oci-run run -b {box.bundle} {box.id}"
    running = subprocess.Popen(["sh", "-c", line], env=box.oci.env, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    running.stdout.readline()
    running.send_signal(signal.SIGHUP)
    running.send_signal(signal.SIGTERM)
    assert running.stdout.read() == "term\n"
    assert running.wait() == 0
    running.stdout.close()


def test_the_payload_starts_with_no_signal_ignored_or_blocked(box: Any) -> None:
    box.process["args"] = ["grep", "^Sig[BIQ]", "/proc/self/status"]
    box.save()
    line = f"trap '' HUP INT USR1 PIPE; exec oci-run run -b {box.bundle} {box.id}"
    found = dict(row.split(":\t") for row in box.oci.shell(line).stdout.splitlines())
    assert int(found["SigIgn"], 16) == 0
    assert int(found["SigBlk"], 16) == 0


def test_detached(box: Any) -> None:
    box.process["args"] = ["sleep", "1000"]
    with open(box.output, "w") as out:
        box("run", "-d", "--pid-file", box.bundle / "pid", stdout=out, stderr=out)
    pid = int((box.bundle / "pid").read_text())
    assert box.state["pid"] == pid
    assert not (box.bundle / "pid").read_text().endswith("\n")
    descriptor = os.pidfd_open(pid)
    box("kill", "KILL")
    import select

    select.select([descriptor], [], [])
    os.close(descriptor)
    box("delete")


def test_a_pid_file_that_cannot_be_written(box: Any) -> None:
    done = box("run", "--pid-file", "/nowhere/pid", code=1)
    assert done.stderr == "oci-run: cannot write '/nowhere/pid': no such file or directory\n"


def test_errors_in_the_log_that_engines_read(box: Any, tmp_path: Any) -> None:
    log = tmp_path / "log"
    box.process["args"] = ["/no\nsuch"]
    box.save()
    words = ["run", "-b", box.bundle, box.id]
    box.oci("run", "--log", log, "--log-format", "json", *words, code=1)
    box.oci("run", "--log", log, "--log-format=json", *words, code=1)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["level"] for line in lines] == ["error", "error"]
    assert lines[0]["msg"].endswith("no such file or directory")
    assert lines[0]["time"].endswith("Z")
    box.oci("run", "--log", log, *words, code=1)
    assert log.read_text().splitlines()[2].startswith('time="')
    assert 'level=error msg="' in log.read_text().splitlines()[2]


def test_a_big_environment_and_many_words(box: Any) -> None:
    box.process["env"].append("BIG=" + "x" * 100_000)
    box.process["args"] = ["sh", "-c", 'echo ${#BIG} $#', "-", *["y"] * 5000]
    assert box("run").stdout == "100000 5000\n"
    box.process["env"].append("TOO=" + "x" * 200_000)
    assert box("run", code=1).stderr == 'oci-run: exec /bin/sh: argument list too long\n'
