"""`logs`: the log of a detached container told again, each stream to its own."""

from __future__ import annotations

from oci_tools import fs
from oci_tools.container import ending, log, names
from oci_tools.errors import Error, Usage
from oci_tools.linux import inotify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci_tools.cli import Args


def logs(root: str, container: str, args: Args) -> int:
    """Write the log's lines to stdout and stderr, as `args` say; with --follow until the container has ended."""
    after = log.since(args.since) if args.since else b""
    before = log.since(args.until) if args.until else b"\x7f"
    if args.tail != "all" and not (args.tail.isascii() and args.tail.isdigit()):
        raise Usage("invalid value for --tail", args.tail, hint="a number, or all")
    directory = log.need(f"{names.place(container)}/log", container)
    if (names.policy(container).get("log") or {}).get("driver") == "none":
        raise Error("no log of container", container, "its log driver is none")
    shown = Shown(args.timestamps, after, before)
    with ending.Ending(root, container) as watched, log.Reader(directory) as reader:
        watched.watch.add(directory, inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO)
        shown.write(reader.lines() if args.tail == "all" else iter(reader.tail(int(args.tail))))
        while args.follow:
            over = watched.over
            shown.write(reader.lines())
            if over:
                break
            watched.turn({})
    return 0


class Shown:
    """Lines as they are shown."""

    def __init__(self, stamps: bool = False, after: bytes = b"", before: bytes = b"\x7f") -> None:
        self._stamps = stamps
        self._after = after
        self._before = before
        self._middle: set[bytes] = set()  # streams in the middle of a line

    def write(self, lines: Iterator[log.Line]) -> None:
        kept, at = bytearray(), b"stdout"
        for line in lines:
            if not self._after <= line.stamp <= self._before:
                continue
            if line.stream != at or len(kept) > 1 << 16:
                _out(at, kept)
                kept, at = bytearray(), line.stream
            if self._stamps and line.stream not in self._middle:
                kept += line.stamp + b" "
            kept += line.text
            (self._middle.discard if line.text.endswith(b"\n") else self._middle.add)(line.stream)
        _out(at, kept)


def _out(stream: bytes, data: bytearray) -> None:
    if data:
        fs.write_all(2 if stream == b"stderr" else 1, memoryview(data))
