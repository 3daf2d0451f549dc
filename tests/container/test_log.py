"""The log of a detached container: written and rotated, read again across files."""

import os
import random

import pytest

from oci_tools.container import log
from oci_tools.engine.api import logs
from oci_tools.errors import Usage


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path / "log")


def told(reader):
    return [(line.stream, line.text) for line in reader.lines()]


def test_every_byte_comes_back_by_stream(directory):
    with log.Writer(directory) as writer, log.Reader(directory) as reader:
        writer.write(b"stdout", b"one\ntwo\nhalf")
        writer.write(b"stderr", b"\xff\x00\n\n")
        writer.write(b"stdout", b" more\n")
        assert told(reader) == [
            (b"stdout", b"one\n"), (b"stdout", b"two\n"), (b"stdout", b"half"), (b"stderr", b"\xff\x00\n"),
            (b"stderr", b"\n"), (b"stdout", b" more\n"),
        ]  # fmt: skip
        assert told(reader) == []
        writer.write(b"stdout", b"later\n")
        assert told(reader) == [(b"stdout", b"later\n")]


def test_the_form_is_kubernetes(directory):
    with log.Writer(directory) as writer:
        writer.write(b"stdout", b"x\ny")
    with open(f"{directory}/log", "rb") as file:
        first, second = file.read().splitlines()
    assert len(first.split(b" ")[0]) == log.STAMP and first.endswith(b"Z stdout F x") and second.endswith(b"Z stdout P y")


def test_files_are_rotated_and_read_in_order(directory):
    with log.Writer(directory, size=200, files=3) as writer, log.Reader(directory) as reader:
        seen = []
        for number in range(20):
            writer.write(b"stdout", b"line %02d\n" % number)
            seen += told(reader)  # who follows loses nothing
        assert seen == [(b"stdout", b"line %02d\n" % number) for number in range(20)]
    assert sorted(os.listdir(directory)) == [".serial", "log", "log.1", "log.2"]
    with log.Reader(directory) as reader:
        rest = [text for _, text in told(reader)]
    assert rest == [b"line %02d\n" % number for number in range(20 - len(rest), 20)] and 6 <= len(rest) < 20


def test_one_file_only(directory):
    with log.Writer(directory, size=100, files=1) as writer, log.Reader(directory) as reader:
        for number in range(9):
            writer.write(b"stdout", b"line %d\n" % number)
        assert sorted(os.listdir(directory)) == [".serial", "log"]
        assert told(reader)[-1] == (b"stdout", b"line 8\n")


@pytest.mark.parametrize("count", (0, 1, 2, 3, 9))
def test_the_last_lines_are_whole(directory, count):
    with log.Writer(directory) as writer, log.Reader(directory) as reader:
        for data in (b"a\n", b"b", b"b\n", b"c\n", b"d"):
            writer.write(b"stdout", data)
        texts = [line.text for line in reader.tail(count)]
        assert texts == {0: [], 1: [b"d"], 2: [b"c\n", b"d"], 3: [b"b", b"b\n", b"c\n", b"d"]}.get(
            count, [b"a\n", b"b", b"b\n", b"c\n", b"d"]
        )
        writer.write(b"stdout", b"e\n")
        assert told(reader) == [(b"stdout", b"e\n")]


READERS = [
    pytest.param(log.Reader, lambda line: (line.stream, line.text), id="oci-run"),
    pytest.param(logs.Log, lambda line: (b"stderr" if line[1] == 2 else b"stdout", line[2]), id="ocid"),
]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(("kind", "shown"), READERS)
def test_the_last_lines_of_many_files(directory, kind, shown, compress):
    """As a reader of everything finds them, whatever the pieces and wherever files end; what follows is not lost."""
    chance, pieces = random.Random(2), []
    with log.Writer(directory, size=100_000, files=4, compress=compress) as writer:
        for number in range(9000):
            text = b"%d%s" % (number, b"\n" if chance.random() < 0.6 else b"")
            pieces.append((chance.choice([b"stdout", b"stderr"]), text))
            writer.write(*pieces[-1])
        lines, begun = [], {}
        for stream, text in pieces:
            if stream not in begun:
                begun[stream] = []
                lines.append(begun[stream])
            begun[stream].append((stream, text))
            if text.endswith(b"\n"):
                del begun[stream]
        for count in (0, 1, 2, 50, 1500, 2500):
            reader = kind(directory)
            assert [shown(line) for line in reader.tail(count)] == [each for line in lines[len(lines) - count :] for each in line]
            assert list(reader.lines()) == []
        writer.write(b"stdout", b"later\n")
        assert [shown(line) for line in reader.lines()] == [(b"stdout", b"later\n")]


@pytest.mark.parametrize(("kind", "shown"), READERS)
def test_the_last_lines_cost_what_they_are_and_not_the_log(directory, kind, shown):
    with log.Writer(directory) as writer:
        for _ in range(200):
            writer.write(b"stdout", b"a line of the log\n" * 3000)

    def read() -> int:
        with open("/proc/self/io") as file:
            return int(file.readline().split()[1])

    before = read()
    assert shown(kind(directory).tail(1)[0]) == (b"stdout", b"a line of the log\n")
    assert read() - before < 1 << 20 < os.stat(f"{directory}/log").st_size


def test_a_writer_goes_on_where_another_was_killed_in_a_line(directory):
    with log.Writer(directory) as writer:
        writer.write(b"stdout", b"whole\n")
    with open(f"{directory}/log", "ab") as file:
        file.write(b"2026-01-02T03:04:05.0000")
    with log.Writer(directory) as writer, log.Reader(directory) as reader:
        writer.write(b"stdout", b"next\n")
        assert told(reader) == [(b"stdout", b"whole\n"), (b"stdout", b"next\n")]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_stops_nobody(directory):
    os.mkdir(directory)
    with log.Writer(directory) as writer:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, writer._fd)
        os.close(full)
        writer.write(b"stdout", b"lost\n")


@pytest.mark.parametrize("text", ("2026-01-02T03:04:05Z", "2026-01-02T04:04:05+01:00", "1767323045", "1767323045.0"))
def test_times(text):
    assert log.since(text) == b"2026-01-02T03:04:05.000000000Z"


def test_times_ago():
    assert log.since("1h") < log.since("90s") < log.since("1m") < log.since("0s")
    for bad in ("x", "", "1x", "s", "2026-13-01", "1e999"):
        with pytest.raises(Usage, match="invalid time"):
            log.since(bad)


def test_a_line_longer_than_a_file(directory):
    with log.Writer(directory, size=100, files=2) as writer, log.Reader(directory) as reader:
        writer.write(b"stdout", b"x" * 500 + b"\n" + b"y" * 500)
        assert told(reader) == [(b"stdout", b"x" * 500 + b"\n"), (b"stdout", b"y" * 500)]
