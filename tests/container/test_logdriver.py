"""Log drivers: docker's json-file and local read back, syslog told, and options refused."""

import json
import os
import socket

import pytest

from oci_tools.container import log, logdriver
from oci_tools.errors import Error, Usage

pytestmark = [pytest.mark.root, pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")]


def place(tmp_path):
    (found,) = (tmp_path / "root/containers").iterdir()
    return found


def test_options():
    assert logdriver.options("k8s-file", ["max-size=1m", "max-file=2"]) == {
        "driver": "k8s-file", "size": 1 << 20, "files": 2, "compress": False,
    }  # fmt: skip
    assert logdriver.options("local", [])["compress"]
    for bad in ("max-size=0", "max-file=0", "max-file=x", "x=1", "max-file=9999", "max-size=x", "compress=1", "tag="):
        with pytest.raises(Usage):
            logdriver.options("json-file", [bad])
    for bad in ("syslog-address=x://y", "syslog-address=udp://h", "syslog-facility=x"):
        with pytest.raises(Usage):
            logdriver.options("syslog", [bad])


def test_json_lines():
    form = logdriver.json_lines({"a": "b"})
    first, second = form(b"stderr", 0, b'x "\\\n\xff').splitlines()
    assert json.loads(first) == {
        "log": 'x "\\\n', "stream": "stderr", "attrs": {"a": "b"}, "time": "1970-01-01T00:00:00.000000000Z",
    }  # fmt: skip
    assert json.loads(second)["log"] == "\ufffd"


@pytest.mark.parametrize("driver", ["json-file", "local", "k8s-file"])
def test_what_is_kept_is_told(run, driver, tmp_path):
    script = "seq 3000; echo wrong >&2; printf end"
    words = ["--log-driver", driver, "--log-opt", "max-size=20k", "--log-opt", "max-file=20"]
    run("-d", "--name", "web", *words, "busybox", "sh", "-c", script)
    run("wait", "web")
    told = run("logs", "web")
    assert told.stdout == "".join(f"{n}\n" for n in range(1, 3001)) + "end" and told.stderr == "wrong\n"
    assert run("logs", "-n", "3", "web").stdout in ("3000\nend", "2999\n3000\nend")
    files = os.listdir(place(tmp_path) / "log")
    assert any(name.endswith(".gz") for name in files) == (driver == "local")
    if driver == "json-file":
        lines = (place(tmp_path) / "log/log").read_text().splitlines()
        assert all({"log", "stream", "time"} == set(json.loads(line)) for line in lines)
    run("rm", "web")


def test_a_reader_follows_while_full_files_are_compressed(tmp_path):
    directory = str(tmp_path / "log")
    with log.Writer(directory, size=20000, files=50, compress=True) as writer, log.Reader(directory) as reader:
        seen = []
        for number in range(4000):
            writer.write(b"stdout", b"line %04d\n" % number)
            if number % 300 == 0:
                seen += [line.text for line in reader.lines()]
        seen += [line.text for line in reader.lines()]
    assert seen == [b"line %04d\n" % number for number in range(4000)]


def test_labels_and_environment_are_said(run, tmp_path):
    words = ["-l", "team=a", "-e", "STAGE=test", "--log-opt", "labels=team", "--log-opt", "env=STAGE", "--log-opt", "tag=t"]
    run("-d", "--name", "web", "--log-driver", "json-file", *words, "busybox", "echo", "x")
    run("wait", "web")
    line = json.loads((place(tmp_path) / "log/log").read_text())
    assert line["attrs"] == {"team": "a", "STAGE": "test", "tag": "t"}
    run("rm", "web")


def test_syslog_is_told_besides(run, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "syslog"))
        words = ["--log-opt", f"syslog-address=unixgram://{tmp_path}/syslog", "--log-opt", "tag=mine"]
        run("-d", "--name", "web", "--log-driver", "syslog", *words, "busybox", "sh", "-c", "echo one; echo two >&2")
        assert heard.recv(1000).startswith(b"<30>1 ") and heard.recv(1000).startswith(b"<27>1 ")
    run("wait", "web")
    assert run("logs", "web").stdout == "one\n"
    run("rm", "web")


def test_nobody_who_listens_keeps_it(run, tmp_path):
    words = ["--log-opt", "syslog-address=tcp://127.0.0.1:1"]
    run("-d", "--name", "web", "--log-driver", "syslog", *words, "busybox", "seq", "10000")
    assert run("wait", "web").stdout == "0\n"
    run("rm", "web")


def test_none(run):
    run("-d", "--name", "web", "--log-driver", "none", "busybox", "seq", "100000")
    assert run("wait", "web").stdout == "0\n"
    assert "none" in run("logs", "web", code=1).stderr
    run("rm", "web")


def test_no_journal():
    if not os.path.exists(logdriver.JOURNAL):
        with pytest.raises(Error, match="journald is not there"):
            logdriver.options("journald", [])
