"""oci-build, by its words."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.long import rounds
from tests.net.machines import Machine

pytestmark = [pytest.mark.root]


def inspect(oci: Any, word: str) -> Any:
    return json.loads(oci("image", "inspect", word).stdout)


def inner(oci: Any, word: str) -> Any:
    return inspect(oci, word)["config"]["config"]


def test_the_handle_is_printed_and_named(oci: Any, built: Any, tmp_path: Path) -> None:
    handle = built("FROM BASE\nCMD [\"id\"]\n").stdout.strip()
    assert handle.startswith(f"{tmp_path}/img@sha256:")
    assert oci("image", "ls", "./img").stdout.split() == ["x", handle.partition("@")[2]]
    assert "uid=0" in oci("run", handle).stdout


def test_without_a_tag_the_image_is_in_the_store(oci: Any, busybox: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nLABEL a=b\n")
    handle = oci("build").stdout.strip()
    assert handle.startswith(f"{tmp_path}/root/images@sha256:")
    assert inner(oci, handle)["Labels"] == {"a": "b"}


def test_a_cached_build_is_the_same_image_and_runs_nothing(oci: Any, cat: Any, built: Any) -> None:
    text = "FROM BASE\nARG A\nRUN date +%s%N > /when\nCOPY f /f\nENV B=c\nWORKDIR /w\n"
    first = built(text, files={"f": "1"}).stdout
    again = built(text, "--progress", "plain")
    assert again.stdout == first
    assert again.stderr.count("CACHED") == 3
    assert built(text, "--no-cache").stdout != first
    assert built(text, "--why").stderr.count(": hit\n") == 3
    changed = built(text, "--why", files={"f": "2"}).stderr
    assert re.search(r"RUN date.*: hit", changed)
    assert "COPY f /f: miss: 'f' changed" in changed
    assert cat("/f") == "2"
    with_arg = built(text, "--build-arg", "A=1", "--why", "--progress", "plain").stderr
    assert "miss: variable A is \"1\", it was not set" in with_arg


def test_what_a_key_has_of_files(built: Any, tmp_path: Path) -> None:
    """Content and mode, and no time or owner of a context: of what is copied, and of what RUN is shown."""
    text = "FROM BASE AS a\nRUN --mount=type=bind,source=d,target=/d cat /d/f > /x\nFROM BASE AS b\nRUN date +%N > /b\nFROM BASE\nCOPY --from=b /b /b\nCOPY --from=a /x /x\nCOPY d /d\n"
    file = tmp_path / "context/d/f"

    def missed(*words: str) -> list[str]:
        lines = built(text, "--why", *words).stderr.splitlines()
        assert len([line for line in lines if ": hit" in line or ": miss: " in line]) == 5
        return sorted(line.partition("] ")[2] for line in lines if ": miss: " in line)

    built(text, files={"d/f": "1"})
    os.utime(file, (1, 1))
    assert missed() == []
    run, copy = "RUN --mount=type=bind,source=d,target=/d cat /d/f > /x: miss: 'd/f' changed", "COPY d /d: miss: 'd/f' changed"
    file.chmod(0o640)
    assert missed() == [copy, run]
    os.chown(file, 5, 5)
    assert missed() == []
    assert missed("--no-cache-filter", "b")[-1] == "RUN date +%N > /b: miss: the cache is not used"


def test_files_of_a_context_are_read_again_only_where_they_changed(oci: Any, tmp_path: Path) -> None:
    """By the times of access where each one counts; and where the step is done again."""
    (tmp_path / "context").mkdir()
    script = """
mount -t tmpfs -o strictatime none context
printf 'FROM scratch\nCOPY f /f\nADD d /d\n' > context/Dockerfile && mkdir context/d && cd context && echo 1 > f && echo 1 > d/g
sleep 0.1
for change in : : 'echo 2 > d/g' 'mv f h && cp h f' 'chmod 600 f' :; do
    eval "$change"; sleep 0.1
    before=$(date +%s%N)
    oci-build -t ./img:x . > handle
    for file in f d/g; do
        test "$(stat -c %.9X $file | tr -d .)" -lt "$before" || printf %s $file
    done
    echo
done
"""
    said = oci.shell(f"unshare -m sh -ec {shlex.quote(script)}").stdout
    assert said.split("\n") == ["fd/g", "", "d/g", "f", "fd/g", "", ""]


def test_what_a_key_has_of_files_of_a_stage(built: Any, cat: Any) -> None:
    """Their content too, where they are made anew: of what is copied, and of what RUN is shown of them."""
    text = (
        "FROM BASE AS made\nCOPY other /other\nRUN mkdir /out && cp /other /out/all && cut -c1 /other > /out/f\n"
        "FROM BASE AS r\nENV ID=/proc/sys/kernel/random/uuid\nRUN --mount=from=made,source=/out/f,target=/f cat $ID > /r && cat /f >> /r\n"
        "FROM BASE AS w\nENV ID=/proc/sys/kernel/random/uuid\nRUN --mount=from=made,source=out/f,target=/f,rw --mount=target=/c,source=kept cat $ID > /w && echo > /f\n"
        "FROM BASE\nCOPY --from=r /r /r\nCOPY --from=w /w /w\nCOPY --from=made /out/f /f\n"
    )

    def missed(other: str, kept: str = "k") -> list[str]:
        lines = built(text, "--why", files={"other": other, "kept": kept}).stderr.splitlines()
        return [line.partition("] ")[2][:12] for line in lines if ": miss: " in line]

    missed("1a")
    first = cat("/r"), cat("/w")
    assert missed("1a") == []
    assert missed("1b") == ["COPY other /", "RUN mkdir /o"] and (cat("/r"), cat("/w")) == first
    assert missed("1b") == []
    assert "COPY --from=" in missed("2b") and cat("/r").endswith("\n2\n")
    second = cat("/r")
    assert missed("2b", "other") == ["RUN --mount=", "COPY --from=", "COPY --from="] and cat("/r") == second


@pytest.mark.parametrize("terminal", [False, True])
def test_the_output_of_a_step_that_fails_is_whole(oci: Any, busybox: Path, tmp_path: Path, terminal: bool) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nRUN seq 30000; exit 1\n")
    program = oci.bin / "oci-build"
    command = f"{program} --network none . 2>&1"
    if terminal:
        command = f"script -qec '{command}' /dev/null < /dev/null"
    said = oci.shell(command, code=None).stdout.replace("\r", "").split("\n")
    assert [line for line in said if line.isdecimal()] == [str(number) for number in range(1, 30001)]


def test_a_step_that_fails(oci: Any, built: Any, tmp_path: Path) -> None:
    done = built("FROM BASE\nRUN touch /good\nRUN echo said; echo wrong >&2; exit 3\n", code=1)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert "said" in lines and "wrong" in lines
    assert lines[-1] == (
        "oci-build: Dockerfile:3:1: process \"/bin/sh -c echo said; echo wrong >&2; exit 3\" did not complete"
        " successfully: exit code: 3"
    )  # fmt: skip
    assert "  3 | RUN echo said; echo wrong >&2; exit 3" in lines
    assert not (tmp_path / "img").exists()
    assert "CACHED" in built("FROM BASE\nRUN touch /good\n", "--progress", "plain").stderr


def test_errors_point_at_the_text(built: Any) -> None:
    done = built("FROM BASE\n\nCOPY --form=x a b\n", code=1)
    assert done.stderr.splitlines()[-4:] == [
        "  3 | COPY --form=x a b",
        "    |      ^^^^^^",
        "  4 |",
        "oci-build: Dockerfile:3:6: unknown flag: --form (did you mean from?)",
    ] or done.stderr.splitlines()[-3:] == [
        "  3 | COPY --form=x a b",
        "    |      ^^^^^^",
        "oci-build: Dockerfile:3:6: unknown flag: --form (did you mean from?)",
    ]


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        ("COPY O /", "2:6", '"/O": not found'),
        ("ENV abc=1 d=${c?no}", "2:13", 'failed to process "${c?no}": c: no'),
        ("COPY --exclude=[ f /", "2:16", "syntax error in pattern '['"),
        ("COPY --chown=who f /", "2:14", "unable to find user 'who'"),
        ("ADD --chown=0:who f /", "2:13", "unable to find group 'who'"),
        ("RUN --mount=type=cache x", "2:13", 'invalid mount target ""'),
        ("RUN --mount=type=secret,id=a,from=b x", "2:13", "secret mount should not have a from"),
        ("FROM --platform=nope scratch", "2:17", "failed to parse platform nope: invalid platform 'nope'"),
        ("FROM --platform=a/b/c/d scratch", "2:17", "failed to parse platform a/b/c/d: invalid platform"),
        ("COPY --from=7 f /", "2:13", "invalid stage index 7"),
        ("STOPSIGNAL IGNAL", "2:12", "invalid signal: IGNAL"),
    ],
)
def test_errors_of_what_is_done_have_a_place(built: Any, line: str, place: str, said: str) -> None:
    """Those that only building finds, too; and they point at what is wrong, not at letters like it."""
    lines = built(f"FROM BASE\n{line}\n", "--network", "none", files={"f": "1"}, code=1).stderr.splitlines()
    assert lines[-1].startswith(f"oci-build: Dockerfile:{place}: {said}")
    column = int(place.partition(":")[2])
    assert re.fullmatch(rf"    \|{' ' * column}\^+", lines[-2])


def test_contexts(oci: Any, cat: Any, busybox: Path, tmp_path: Path) -> None:
    text = f"FROM {busybox}\nCOPY f /f\n"
    (tmp_path / "c").mkdir()
    (tmp_path / "c/f").write_text("content")
    (tmp_path / "c/Dockerfile").write_text(text)
    for packed in ("cat", "gzip", "bzip2", "xz", "zstd"):
        oci.shell(f"tar -C c -c . | {packed} | oci-build -t ./img:x -")
        assert cat("/f") == "content"
    oci("build", "-t", "./img:y", "-f", "-", "c", input=f"FROM {busybox}\nCOPY f /g\n")
    assert cat("/g", "./img:y") == "content"
    oci("build", "-t", "./img:z", "-", input=f"FROM {busybox}\nRUN echo alone > /h\n")
    assert cat("/h", "./img:z") == "alone\n"
    assert "it is empty" in oci("build", "-", input="", code=1).stderr


def test_links_of_a_context_lead_nowhere_else(oci: Any, busybox: Path, tmp_path: Path) -> None:
    """Nor does what goes for the Dockerfile or the ignore file: what they lead to would be shown in a message."""
    (tmp_path / "secret").write_text("hush\n")
    for name, source in (("Dockerfile", tmp_path / "secret"), ("Dockerfile", "../secret"), (".dockerignore", tmp_path / "secret")):
        context = tmp_path / "c"
        context.mkdir()
        (context / "Dockerfile").write_text(f"FROM {busybox}\n")
        (context / name).unlink(missing_ok=True)
        (context / name).symlink_to(source)
        for words, data in ((["c"], b""), (["-"], subprocess.run(["tar", "-c", "-C", context, "."], capture_output=True, check=True).stdout)):
            done = oci("build", *words, code=name == "Dockerfile", input=data, binary=True)
            assert b"hush" not in done.stderr
            assert (f"{name}': no such file or directory".encode() in done.stderr) == (name == "Dockerfile")
        subprocess.run(["rm", "-r", context], check=True)
    (tmp_path / "c/d").mkdir(parents=True)
    (tmp_path / "c/d/real").write_text(f"FROM {busybox}\n")
    (tmp_path / "c/Dockerfile").symlink_to("/d/real")
    oci("build", "c")
    (tmp_path / "c/Dockerfile").unlink()
    os.mkfifo(tmp_path / "c/Dockerfile")
    assert "not a regular file" in oci("build", "c", code=1).stderr
    oci.shell(f"bash -c 'oci-build -f <(echo FROM {busybox}) c'")


def test_named_contexts(oci: Any, cat: Any, built: Any, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/f").write_text("named")
    built("FROM scratch\nCOPY --from=Other f /\n", "--build-context", "other=more")
    assert cat("/f") == "named"
    built("FROM base\nCOPY f /g\n", "--build-context", f"base=oci-layout://{tmp_path}/img:x", files={"f": "2"})
    assert cat("/f") == "named" and cat("/g") == "2"


def test_outputs(oci: Any, cat: Any, built: Any, busybox: Path, tmp_path: Path) -> None:
    text = "FROM scratch\nCOPY f /d/\n"
    built(text, "-o", "out", files={"f": "1"})
    assert (tmp_path / "out/d/f").read_text() == "1"
    (tmp_path / "context/Dockerfile").write_text(text)
    tar = oci.shell("oci-build -o - context | tar -t").stdout.split()
    assert sorted(tar) == ["d/", "d/f"]
    for kind in ("oci", "docker"):
        done = oci("build", "-o", f"type={kind},dest={kind}.tar", "context")
        assert done.stdout == f"{tmp_path}/{kind}.tar\n"
        assert cat("/d/f", f"{kind}-archive:{kind}.tar") == "1"


def test_records_of_a_build(oci: Any, built: Any, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with open(reader) as pipe:
        done = built(
            "FROM BASE\nRUN echo out\n", "--iidfile", "iid", "--metadata-file", "meta", "--status-fd", str(writer),
            pass_fds=[writer],
        )  # fmt: skip
        os.close(writer)
        lines = [json.loads(line) for line in pipe]
    found = inspect(oci, "./img:x")
    assert (tmp_path / "iid").read_text() == found["manifest"]["config"]["digest"]
    assert json.loads((tmp_path / "meta").read_text())["containerimage.digest"] == done.stdout.strip().partition("@")[2]
    assert {"op": "build", "id": "2", "stream": {"fd": 1, "data": "b3V0Cg=="}} in lines
    assert [line["state"] for line in lines if line.get("id") == "2" and "state" in line] == ["running", "done"]
    assert lines[-1]["image"] == done.stdout.strip() and lines[-1]["exit"] == 0


def test_interrupted(oci: Any, busybox: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nRUN touch /one\nRUN echo started; sleep 1000\n")
    process = oci.start("build", "--progress", "plain", "-t", "./img:x", ".", stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.endswith(" started\n"):
            break
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert not list((tmp_path / "run/runtime").iterdir())
    assert not list((tmp_path / "root/cache/build/work").iterdir())
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox}\nRUN touch /one\n")
    assert "CACHED" in oci("build", "--progress", "plain", ".").stderr


def test_secrets_are_nowhere(oci: Any, built: Any, tmp_path: Path) -> None:
    text = (
        "FROM BASE\nRUN --mount=type=secret,id=a,mode=0444 --mount=type=secret,id=b,env=B"
        " cat /run/secrets/a; echo $B; stat -c %a /run/secrets/a\n"
    )
    (tmp_path / "file").write_text("from-a-file\n")
    reader, writer = os.pipe()
    os.write(writer, b"from-fd")
    os.close(writer)
    words = ("--secret", "id=a,src=file", "--secret", f"id=b,fd={reader}", "--progress", "plain")
    said = built(text, *words, pass_fds=[reader]).stderr
    os.close(reader)
    assert [f"{part}" for part in ("from-a-file", "from-fd", "444") if f" {part}\n" not in said] == []
    (tmp_path / "file").unlink()
    grep = subprocess.run(["grep", "-rl", "from-a-file\\|from-fd", tmp_path], capture_output=True, text=True)
    assert grep.stdout == ""
    required = "FROM BASE\nRUN --mount=type=secret,id=c,required=true true\n"
    assert "secret c: not found" in built(required, code=1).stderr
    assert "exit code: 1" in built("FROM BASE\nRUN --mount=type=secret,id=c cat /run/secrets/c\n", code=1).stderr


def test_bad_words(oci: Any, tmp_path: Path) -> None:
    for words, said in {
        ("-f", "-", "-"): "cannot both be standard input",
        ("--secret", "src"): "unexpected 'src'",
        ("--build-context", "a"): "it is not NAME=WHERE",
        ("--allow", "x"): "invalid entitlement 'x'",
        ("-t", "docker://x"): "not a place in a layout 'docker://x'",
        ("-o", "type=x"): "unknown kind of output 'x'",
        ("--add-host", "a:b"): "invalid value for --add-host 'a:b'",
        ("--shm-size", "a"): "it is no size",
        ("--ulimit", "nofile=2:1"): "the soft limit is above the hard one",
        ("--level", "99"): "unknown compression level '99'",
    }.items():
        done = oci("build", *words, code=2)
        assert said in done.stderr and done.stderr.count("\n") == 1
    assert oci("build", "nowhere", code=1).stderr.startswith("oci-build: cannot use context 'nowhere': no such file or directory (")
    assert "cannot read Dockerfile './Dockerfile'" in oci("build", code=1).stderr


def test_killed(oci: Any, busybox: Path, tmp_path: Path) -> None:
    """What runs for a build that is killed is ended, and what it left is removed."""
    text = f"FROM {busybox}\nRUN touch /one\n"
    (tmp_path / "Dockerfile").write_text(f"{text}RUN echo started; sleep 1000\n")
    process = oci.start("build", "--progress", "plain", "-t", "./img:x", ".", stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.endswith(" started\n"):
            break
    process.kill()
    assert process.stderr.read() == ""  # until all that had it is gone
    process.communicate()
    work, running = tmp_path / "root/cache/build/work", tmp_path / "run/runtime"
    Machine.until(lambda: not [*work.iterdir(), *running.iterdir()])
    (work / "0123456789abcdef/running").mkdir(parents=True)  # of one whose machine was switched off
    (tmp_path / "Dockerfile").write_text(text)
    assert "CACHED" in oci("build", "--progress", "plain", ".").stderr
    assert not list(work.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_at_any_time(oci: Any, busybox: Path, tmp_path: Path, number: signal.Signals) -> None:
    """The next build is as if it had not been: nothing runs, is mounted or lies about, and what it makes is whole."""
    text = "FROM BASE\nRUN --mount=type=cache,target=/c echo 1 > /c/x; echo 1 > /one\nCOPY f /f\nRUN echo 2 > /two\nFROM BASE\nCOPY --from=0 / /\nRUN cat /one /f /two > /all\n"
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(text.replace("BASE", str(busybox)))
    (context / "f").write_text("f\n")
    words = ["-q", "--network", "none", "-t", "./img:x", "context"]
    began = time.monotonic()
    oci("build", "--no-cache", *words)
    whole = time.monotonic() - began
    chance = random.Random(number)
    work, running = tmp_path / "root/cache/build/work", tmp_path / "run/runtime"
    for _ in range(rounds(3, 40)):
        process = oci.start("build", "--no-cache", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            process.communicate(timeout=chance.random() * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        process.communicate()
        assert process.returncode in (0, -number, 128 + number)
        if number != signal.SIGKILL:
            assert not list(running.iterdir()) and not list(work.iterdir())
        oci("build", *words)
        assert not list(work.iterdir()) and oci("unpack", "--path", "/all", "./img:x", "-").stdout == "1\nf\n2\n"
        Machine.until(lambda: not list(running.iterdir()))
        assert oci("image", "fsck", "./img").returncode == 0
        mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        assert not [place for place in mounted if place.startswith(f"{tmp_path}/root/cache")]


def test_two_at_once(oci: Any, busybox: Path, tmp_path: Path) -> None:
    """They may build the same, into the same layout, with the same cache mount."""
    text = "FROM BASE\nRUN --mount=type=cache,target=/c,sharing=locked echo a >> /c/x; sleep 0.2; echo b >> /c/x\nRUN echo 1 > /f\n"
    (tmp_path / "Dockerfile").write_text(text.replace("BASE", str(busybox)))
    several = [oci.start("build", "--no-cache", "-t", f"./img:{n}", ".", stderr=subprocess.PIPE) for n in range(3)]
    assert [process.wait() for process in several] == [0, 0, 0]
    assert sorted(line.split()[0] for line in oci("image", "ls", "./img").stdout.splitlines()) == ["0", "1", "2"]
    assert oci("image", "fsck", "./img").returncode == 0
    (found,) = [path for path in (tmp_path / "root/cache/build/mounts").iterdir() if path.is_dir()]
    assert (found / "x").read_text() == "a\nb\n" * 3


def test_a_full_disk(oci: Any, busybox: Path, tmp_path: Path) -> None:
    for name in "small", "tiny", "context":
        (tmp_path / name).mkdir()
    (tmp_path / "context/big").write_bytes(os.urandom(20_000_000))
    (tmp_path / "context/Dockerfile").write_text(f"FROM {busybox}\nRUN echo 1 > /one\nCOPY big /\n")
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", tmp_path / "small"], check=True)
        env: dict[str, str | None] = {"OCI_ROOT": f"{tmp_path}/small"}
        done = oci("build", "context", env=env, code=1)
        assert done.stderr.splitlines()[-1] == "oci-build: Dockerfile:3:1: cannot copy 'big': no space left on device"
        assert not list((tmp_path / "small/cache/build/work").iterdir())
        (tmp_path / "context/Dockerfile").write_text(f"FROM {busybox}\nRUN echo 1 > /one\n")
        assert "CACHED" in oci("build", "--progress", "plain", "-t", "./img:x", "context", env=env).stderr
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path / "tiny"], check=True)
        done = oci("build", "-t", "./tiny/img:x", "context", code=1)
        assert "no space left on device" in done.stderr and done.stdout == "" and not list((tmp_path / "tiny").iterdir())
    finally:
        for name in "small", "tiny":
            subprocess.run(["umount", "-l", tmp_path / name], capture_output=True)
    assert "no space left" in oci.shell("oci-build context > /dev/full", code=1).stderr


def test_a_descriptor_that_is_not_open(built: Any) -> None:
    said = built("FROM scratch\nENV a=b\n", "--status-fd", "99", code=1).stderr
    assert said == "oci-build: cannot write '--status-fd': bad file descriptor\n"


def test_more_steps_than_the_terminal_has_lines(built: Any) -> None:
    """What is drawn and taken back is never more than the screen, or pieces of it would stay."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 4, 60, 0, 0))
    said = bytearray()
    reader = threading.Thread(target=lambda: _drain(ours, said))
    reader.start()
    built("FROM BASE\nRUN for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done; sleep 1; echo end\n", "--network", "none", stderr=theirs)
    os.close(theirs)
    reader.join()
    os.close(ours)
    heights = [int(up) for up in re.findall(rb"\x1b\[(\d+)A", bytes(said))]
    assert heights and max(heights) <= 3


def _drain(fd: int, into: bytearray) -> None:
    try:
        while data := os.read(fd, 4096):
            into.extend(data)
    except OSError:
        pass  # EIO: the other end is closed


def test_what_a_killed_build_left_of_a_step_is_in_nobodys_way(oci: Any, tmp_path: Path) -> None:
    """Its tree was moved to where a layer of the store is made, and it came no further."""
    (tmp_path / "c/d").mkdir(parents=True)
    (tmp_path / "c/d/a").write_text("a")
    (tmp_path / "c/Dockerfile").write_text("FROM scratch\nCOPY d /d\n")
    when = {"SOURCE_DATE_EPOCH": "1700000000"}  # else it tells the second in which it was made
    first = oci("build", "-q", "-t", "./img:x", "c", env=when).stdout
    layers = Path(oci.env["OCI_ROOT"]) / "layers"
    (made,) = [path for path in layers.rglob("*") if path.is_dir() and len(path.name) == 64]
    key = "" if made.parent.parent == layers else made.parent.parent.name
    left = layers / ".new" / f"{key}-sha256-{made.name}"
    left.parent.mkdir(exist_ok=True)
    made.rename(left)
    made.with_name(f"{made.name}.json").unlink()
    shutil.rmtree(Path(oci.env["OCI_ROOT"]) / "cache")
    assert oci("build", "-q", "-t", "./img:x", "c", env=when).stdout == first
    assert made.is_dir() and not list(left.parent.iterdir())


def test_what_run_may_have(oci: Any, built: Any, tmp_path: Path) -> None:
    """Limits and capabilities, name servers and directories of the host, in the words of docker and buildah."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host/f").write_text("of the host\n")
    text = (
        "FROM BASE\nRUN cd /sys/fs/cgroup; cat memory.max cpu.max memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us; grep CapBnd /proc/self/status;"
        " cat /etc/resolv.conf /host/f; touch /host/g || echo 'only read'\n"
    )
    words = ("--memory", "64m", "--cpu-period=100000", "--cpu-quota", "50000", "--cap-drop", "ALL", "--cap-add", "KILL",
             "--dns", "192.0.2.1", "--dns-search", "example.org", "--dns-option", "ndots:2",
             "-v", f"{tmp_path}/host:/host:ro", "--jobs", "1", "--load", "--rm", "--force-rm", "--compress")  # fmt: skip
    said = built(text, *words, "--progress", "plain").stderr
    for line in (" 67108864\n", " 50000", "0000000000000020", "nameserver 192.0.2.1", "search example.org",
                 "options ndots:2", "of the host", "only read"):  # fmt: skip
        assert line in said
    assert said.count("nameserver") == 1
    assert "host" not in oci("image", "ls", "--json", "./img:x").stdout.replace(str(tmp_path), "")
    assert "CACHED" in built(text, *words, "--memory", "32m", "--progress", "plain").stderr
    assert "CACHED" not in built(text, *words, "--cap-add", "CHOWN", "--progress", "plain").stderr
    own = built("FROM BASE\nRUN echo own > /etc/resolv.conf\nRUN cat /etc/resolv.conf\n", "--dns", "none", "--progress", "plain")
    assert " own\n" in own.stderr
    for word, wrong in (("-v", "a:/b"), ("-v", "/tmp:/b:shared"), ("--jobs", "-1"), ("--dns=none", "--dns=192.0.2.1"),
                        ("--dns", "192.0.2"), ("--dns", "name.example"), ("--add-host", "a:b")):
        assert "invalid value" in built("FROM BASE\n", word, wrong, code=2).stderr
    assert "cannot use volume" in built("FROM BASE\n", "-v", f"{tmp_path}/none:/b", code=1).stderr
    chroot = built("FROM BASE\nRUN id\n", "--memory", "64m", "--isolation", "chroot", code=1).stderr
    assert "RUN in a chroot cannot have --memory=64m" in chroot


def test_what_is_other_than_the_dockerfile_says(oci: Any, built: Any, cat: Any, busybox: Path, tmp_path: Path) -> None:
    built("FROM BASE\nLABEL a=1 b=2\nENV P=base Q=q\n")
    (tmp_path / "ignored").write_text("f\n")
    text = "FROM nowhere AS one\nENV P=own\nCOPY . /c/\nRUN echo $P $N $Q > /said\nFROM one\nLABEL a=3\n"
    context = {"f": "1", "g": "2", ".dockerignore": "g\n"}
    built(text, "--from", f"{tmp_path}/img:x", "--ignorefile", "ignored", "--env", "N=new", "--env", "P=other", "--unsetenv", "Q",
          "--unsetlabel", "a", "--unsetlabel", "b", "--omit-history", files=context)  # fmt: skip
    found = inspect(oci, "./img:x")["config"]
    assert found["config"]["Labels"] == {"a": "3"} and "history" not in found
    assert {"P=own", "N=new"} <= {*found["config"]["Env"]} and "Q=q" not in found["config"]["Env"]
    assert cat("/said") == "own new q\n" and cat("/c/g") == "2"
    assert oci("unpack", "--path", "/c/f", "./img:x", "-", code=1).stdout == ""
    oci("image", "fsck", "./img")
    assert "no such file" in built("FROM BASE\n", "--ignorefile", "none", code=1).stderr


def test_one_layer_of_everything(oci: Any, built: Any, cat: Any) -> None:
    text = "FROM BASE\nRUN echo 1 > /f; rm -r /bin/ls\nENV A=b\nCOPY g /g\n"
    built(text, files={"g": "2"})
    tree = oci.shell("oci-unpack ./img:x - | tar -tv").stdout
    below = inspect(oci, "./img:x")["manifest"]["layers"][:-2]
    for word, count in (("--layers=false", len(below) + 1), ("--squash-all", 1)):
        built(text, word)
        found = inspect(oci, "./img:x")
        assert len(found["manifest"]["layers"]) == len(found["config"]["rootfs"]["diff_ids"]) == count
        assert [*map(bool, (one.get("empty_layer") for one in found["config"]["history"]))].count(False) == count
        assert found["manifest"]["layers"][:-1] == (below if count > 1 else [])
        assert oci.shell("oci-unpack ./img:x - | tar -tv").stdout == tree
        oci("image", "fsck", "./img")
    assert cat("/g") == "2"


def test_an_index_grows_by_what_is_built(oci: Any, built: Any, tmp_path: Path) -> None:
    text = "FROM scratch\nCOPY f /\n"
    for platform in ("linux/amd64", "linux/arm64", "linux/arm64"):
        built(text, "--platform", platform, "--manifest", "./list:all", files={"f": platform})
    entries = json.loads(oci("image", "cat", "./list:all").stdout)["manifests"]
    assert [each["platform"]["architecture"] for each in entries] == ["amd64", "arm64"]
    done = oci("build", "-o", "out", "--manifest", "./list:all", "context", code=2)
    assert "--manifest takes an image in a layout" in done.stderr


def test_a_file_for_what_is_told(built: Any, tmp_path: Path) -> None:
    done = built("FROM BASE\nRUN echo said; exit 3\n", "--logfile", "log", code=1)
    assert "exit code: 3" in done.stderr.splitlines()[-1] and "said\n" not in done.stderr.splitlines()
    assert " said\n" in (tmp_path / "log").read_text()
    before = (tmp_path / "log").read_text()
    assert built("FROM BASE\nRUN echo more\n", "--logfile", "log").stderr == ""
    assert (tmp_path / "log").read_text().startswith(before) and " more\n" in (tmp_path / "log").read_text()
    assert "cannot write 'none/log'" in built("FROM BASE\n", "--logfile", "none/log", code=1).stderr


@pytest.mark.parametrize("leads", ["../outside", "inside", "nowhere", ".", ""])
def test_an_ignore_file_that_is_none(built: Any, cat: Any, tmp_path: Path, leads: str) -> None:
    """As for BuildKit and buildah: a link out of the context or to nowhere, a directory."""
    place = tmp_path / "context/.dockerignore"
    (tmp_path / "outside").write_text("f\n")
    place.parent.mkdir()
    if leads:
        place.symlink_to(leads)
    else:
        place.mkdir()
    built("FROM BASE\nCOPY . /c\nRUN ls /c > /seen\n", files={"f": "", "inside": "f\n"})
    assert ("f" in cat("/seen").split()) == (leads != "inside")
    built("FROM BASE\nCOPY --from=n . /c\nRUN ls /c > /seen\n", "--build-context", "n=context")
    assert ("f" in cat("/seen").split()) == (leads != "inside")
    assert "cannot" in built("FROM BASE\n", "--ignorefile", "context/none", code=1).stderr


def test_arguments_in_a_file(built: Any, cat: Any, tmp_path: Path) -> None:
    (tmp_path / "more").write_text("# of ours\nA=1\n\nB= 2 #\nTERM\nC=3")
    words = ["--build-arg-file", "more", "--build-arg", "A=9"]
    built("FROM BASE\nARG A\nARG B\nARG C\nARG TERM\nRUN echo \"$A,$B,$C,$TERM\" > /f\n", *words, env={"TERM": "t"})
    assert cat("/f") == "9, 2 #,3,t\n"
    assert "cannot read 'none'" in built("FROM BASE\n", "--build-arg-file", "none", code=1).stderr


def test_the_epoch_by_buildahs_name(oci: Any, built: Any) -> None:
    built("FROM scratch\nCOPY f /\n", "--source-date-epoch", "1000", "--rewrite-timestamp", files={"f": "1"})
    assert inspect(oci, "./img:x")["config"]["created"] == "1970-01-01T00:16:40Z"
    assert "1970-01-01" in oci.shell("oci-unpack ./img:x - | tar -tv --utc").stdout


def test_options_of_others_are_told_what_would_do(oci: Any) -> None:
    for word, said in {"--creds=a:b": "--authfile", "--builder=x": "there are no builders", "--format=docker": "oci-push --format docker",
                       "--userns-uid-map=0:1:1": "--isolation", "--cache-ttl=1h": "--prune-age",
                       "--arch=arm64": "--platform", "--runtime=crun": "oci-run", "--print=outline": "--call outline",
                       "--hooks-dir=x": "oci-run", "--os-version=1": "--platform OS(VERSION)/ARCH", "--ipc=host": "--isolation",
                       "--device=/dev/x": "RUN --device", "--stdin": "RUN <<EOF", "--all-platforms": "--platform", "--sbom-scanner-image=x": "--attest", "--disable-compression": "--compression none"}.items():  # fmt: skip
        done = oci("build", word, ".", code=2)
        assert f"no such option '{word.partition('=')[0]}' (" in done.stderr and said in done.stderr and done.stderr.count("\n") == 1
