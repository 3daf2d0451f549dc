"""Every command that changes something: killed at each system call that does, on a full disk, without memory.

Then all is as before or as wanted, our fsck-like commands find nothing, the same words do their work, and what is left
beside goes with gc.  By default a sample, by a seed; with --long each call of each command.
"""

from __future__ import annotations

import importlib
import random
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oci_tools import cli
from tests import images
from tests.conftest import BIN, PATH
from tests.fault import killing
from tests.fault.cases import CASES, ELSEWHERE, READING, Case
from tests.long import rounds

pytestmark = [pytest.mark.root, pytest.mark.needs("strace", "mount")]
SEED = 9
# What a killed writer had not yet given its name, beside it: nobody takes it for anything.
BESIDE = re.compile(r"\.\d+(\.HEX)?\.new$|/\.oci-cp\.HEX$")
PREPARE = """
mkdir -p t/d; echo a > t/a; echo b > t/d/b; ln -s d t/l; printf 'FROM scratch\\nCOPY a /\\n' > t/Dockerfile
oci-pack t ./img:x; echo other > t/d/b; oci-pack t ./img:y --base ./img:x; oci-image save -o out.tar ./img:x
oci-image index create ./img:i ./img:x; oci-registry key add held me
oci-image copy ./img:x ./registry/app:1; oci-image copy ./img:y ./registry/app:2
oci-image copy ./img:y other; oci-vol create v1; oci-vol create v2; tar -c -C t . | oci-vol import v1; tar -c -C t -f v.tar .
oci-net create n1; oci-run new --network none --name c1 app true; oci-run new --network none --name c2 app true
"""


class World:
    """The directory on a file system of its own, as it was prepared, again and again."""

    def __init__(self, place: Path) -> None:
        self.dir, self.kept, self.log = place / "w", place / "kept", place / "strace"
        self.dir.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "world", self.dir], check=True)
        self.env = {"PATH": f"{BIN}:{PATH}", "HOME": str(place), "OCI_ROOT": f"{self.dir}/root", "OCI_RUN": f"{self.dir}/run", "LANG": "C.UTF-8"}
        (self.dir / "root/images").mkdir(0o700, parents=True)
        images.add(self.dir / "root/images", "docker.io/library/app:latest", images.image("busybox"))
        done = self.sh(f"set -e; {PREPARE}")
        assert done.returncode == 0, done.stderr
        subprocess.run(["cp", "-a", self.dir, self.kept], check=True)

    def close(self) -> None:
        for name in "w/run/python", "w":
            subprocess.run(["umount", "-R", "-q", self.dir.parent / name], capture_output=True)
        shutil.rmtree(self.kept)

    def restore(self) -> None:
        for path in self.dir.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        subprocess.run(["cp", "-a", f"{self.kept}/.", self.dir], check=True)

    def words(self, line: str) -> list[str]:
        name, *rest = line.split()
        return ["unshare", "--net", f"{BIN}/{name}", *rest]

    def sh(self, line: str, **more: Any) -> subprocess.CompletedProcess[str]:
        words = ["unshare", "--net", "sh", "-c", line]
        return subprocess.run(words, env=self.env, cwd=self.dir, capture_output=True, text=True, stdin=subprocess.DEVNULL, **more)

    def view(self, case: Case) -> str:
        seen = re.sub(r"[0-9a-f]{12,64}", "HEX", self.sh(case.view).stdout)
        return re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "TIME", seen)

    def files(self) -> list[str]:
        """All paths but of what is rebuilt from others; ids are alike."""
        found = sorted(str(path.relative_to(self.dir)) for path in self.dir.rglob("*"))
        return sorted(re.sub(r"[0-9a-f]{12,64}", "HEX", path) for path in found if not path.startswith(("run/", "root/events", "root/cache")))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("fault"))
    yield made
    made.close()


class Fault:
    """A case in a world: how it is before and after, and whether it is one of these now."""

    def __init__(self, world: World, case: Case) -> None:
        self.world, self.case = world, case
        world.restore()
        self.before = world.view(case)
        self.calls = killing.trace(world.words(case.words), world.log, env=world.env, cwd=world.dir)
        self.after = world.view(case)
        self.tidy()
        self.clean = world.files()

    def tidy(self) -> None:
        done = self.world.sh(self.case.tidy)
        assert done.returncode == 0, done.stderr

    def check(self, what: str) -> None:
        """After a fault: nothing is broken, and the next run works."""
        case, world = self.case, self.world
        done = world.sh(case.fsck)
        assert done.returncode == 0, f"{what}: {case.fsck}\n{done.stdout}{done.stderr}"
        seen = world.view(case)
        assert seen in (self.before, self.after) or case.steps, f"{what}: neither as before nor as wanted: {seen}"
        done = world.sh(case.words)
        good = {0, case.again} if seen == self.after or case.again < 0 else {0}
        assert done.returncode in good or (case.again < 0 and done.returncode == 1), f"{what}: the next run: {done.returncode} {done.stderr}"
        if case.again < 0 and done.returncode:  # what was begun is there, and not taken for whole by its own command
            return
        assert world.view(case) == self.after, f"{what}: after the next run"
        self.tidy()
        left = [path for path in world.files() if path not in self.clean and not BESIDE.search(path)]
        assert not left, f"{what}: left beside: {left}"


def chosen(name: str, points: list[int], few: int) -> list[int]:
    return random.Random(f"{SEED} {name}").sample(points, min(len(points), rounds(few, 10_000)))


@pytest.mark.parametrize("name", CASES)
def test_killed_at_any_system_call(name: str, world: World) -> None:
    fault = Fault(world, CASES[name])
    points = killing.points(fault.calls)
    assert points
    for at in chosen(name, points, 1):
        world.restore()
        killing.kill(world.words(CASES[name].words), fault.calls, at, world.log, env=world.env, cwd=world.dir)
        fault.check(f"killed at call {at}, {fault.calls[at]}")


@pytest.mark.parametrize("name", chosen("full", list(range(len(CASES))), 4))
def test_a_full_disk(name: int, world: World) -> None:
    """From no page free to some: each more lets it come further."""
    case = list(CASES.values())[name]
    fault = Fault(world, case)
    for pages in chosen(f"{name} pages", list(range(40)), 2):
        world.restore()
        used = int(subprocess.run(["df", "-k", "--output=used", world.dir], capture_output=True, text=True, check=True).stdout.split()[1])
        size(world, f"{used + 4 * pages}k")
        done = world.sh(case.words)
        size(world, "64m")
        refused = re.fullmatch(r"oci-\w+: cannot .*: no space left on device( \(.*\))?\n", done.stderr)
        assert not done.returncode or done.returncode == 1 and refused and "standard output" not in done.stderr, done.stderr
        fault.check(f"with {pages} pages free ({done.returncode})")


def size(world: World, text: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={text}", world.dir], check=True)


@pytest.mark.parametrize("name", chosen("memory", list(range(len(CASES))), 4))
def test_without_memory(name: int, world: World) -> None:
    case = list(CASES.values())[name]
    fault = Fault(world, case)
    for megabytes in chosen(f"{name} memory", list(range(20, 120, 3)), 2):
        world.restore()
        limit = megabytes << 20
        world.sh(case.words, preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
        fault.check(f"with {megabytes} MB of memory")


def verbs(command: cli.Command, name: str) -> Iterator[str]:
    if not command.verbs or name in ("ctl", "ocid"):
        yield name
        return
    for verb, inner in command.verbs.items():
        yield from verbs(inner, f"{name} {verb}")


def test_no_command_is_forgotten() -> None:
    names = [path.name.removeprefix("oci-") for path in BIN.iterdir()]
    every = {verb for name in names for verb in verbs(importlib.import_module(f"oci_tools.cmd.{name}").COMMAND, name)}
    elsewhere = {verb for words in ELSEWHERE.values() for verb in words.split("|")}
    assert every - {*CASES, *READING} - elsewhere == set()
    assert {*READING, *elsewhere} <= every
