"""Commands taking turns: what a side of a comparison is, and how its time is taken."""

from __future__ import annotations

import glob
import mmap
import os
import select
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

__all__ = ["IDLE", "Missing", "OURS", "Side", "as_installed", "interleaved", "median", "need", "together", "share", "timed"]

# Hot loops hide what the kernel does late (grace periods); people do not type in loops.
IDLE = 0.08  # seconds
BIN = Path(os.environ.get("OCI_BIN") or Path(__file__).resolve().parent.parent.parent / "bin")
OURS = {name: str(BIN / f"oci-{name}") for name in ("build", "image", "net", "pack", "pull", "push", "registry", "run", "spec", "unpack")}
STANDING = "/run/oci/python"
PATH = f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Missing(Exception):
    """A peer or a right that this machine does not have."""


@dataclass
class Side:
    """One side: the words of run number `i`, made untimed by `words(i)`; a server's `pid` where its memory counts."""

    words: Callable[[int], list[str]]
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = "/"
    pid: int = 0
    peak: float = 0.0  # MB of resident memory at most, of the server or of the command, in all runs


@contextmanager
def as_installed() -> Iterator[None]:
    """The sealed interpreter may stand between runs, as it does for people; a new one is taken away."""
    was_standing = os.path.ismount(STANDING)
    try:
        yield
    finally:
        if os.path.ismount(STANDING) and not was_standing:
            os.spawnlp(os.P_WAIT, "umount", "umount", STANDING)


def need(program: str) -> str:
    """The path of a peer's program."""
    found = shutil.which(program, path=PATH)
    if found is None:
        raise Missing(program)
    return found


Take = Callable[[Side, int, "list[str] | None"], float]


def interleaved(
    sides: dict[str, Side], rounds: int, idle: float = IDLE, take: Take | None = None, room: int = 0
) -> dict[str, list[float]]:
    """What `take` says (else milliseconds) of every run of every side; each begins every other round.

    `room` is how many bytes of memory, page cache included, a run may take: they are there for each.
    """
    take = take or timed
    for side in sides.values():
        take(side, -1, None)  # caches warm, and both sides work
    times: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds):
        for name in sorted(sides, reverse=bool(i % 2)):
            words = sides[name].words(i)
            time.sleep(idle)
            have_memory(room)
            times[name].append(take(sides[name], i, words))
    return times


def have_memory(size: int) -> None:
    """Take and give back memory: a virtual machine hands what is free to its host, and who takes it then waits for it."""
    if size and os.path.exists("/sys/module/page_reporting"):
        if (pid := os.fork()) == 0:
            mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
            os._exit(0)
        os.waitpid(pid, 0)


def timed(side: Side, i: int, words: list[str] | None = None) -> float:
    """How long one run takes, in ms, from before its spawn to its end."""
    words = words or side.words(i)
    start = time.perf_counter()
    pid = spawned(side, words)
    _, status, usage = os.wait4(pid, 0)
    took = (time.perf_counter() - start) * 1000
    side.peak = max(side.peak, resident(side.pid) if side.pid else usage.ru_maxrss / 1024)
    if status:
        raise RuntimeError(f"exit code {os.waitstatus_to_exitcode(status)} of {' '.join(words)}")
    return took


def spawned(side: Side, words: list[str]) -> int:
    env = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **side.env}
    quiet = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    os.chdir(side.cwd)
    return os.posix_spawn(words[0], words, env, file_actions=quiet)


def resident(pid: int) -> float:
    """The most memory that a process has had at a time, in MB (VmHWM of proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def together(side: Side, i: int, words: list[str] | None = None) -> float:
    """The most memory that all processes of one run have at once, in MB; what they share counts once."""
    words = words or side.words(i)
    pid, most = spawned(side, words), 0
    pidfd = os.pidfd_open(pid)
    while not select.select([pidfd], [], [], 0.005)[0]:
        most = max(most, sum(map(share, _family(pid))))
    os.close(pidfd)
    if status := os.waitpid(pid, 0)[1]:
        raise RuntimeError(f"exit code {os.waitstatus_to_exitcode(status)} of {' '.join(words)}")
    return most / 1024


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            found += [each for child in Path(task).read_text().split() for each in _family(int(child))]
        except OSError:
            pass
    return found


def share(pid: int) -> int:
    """A process's memory in KiB, with its part of what is shared (proc_pid_smaps(5))."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0
