"""How long a command takes as what it works on grows: curves, for `tests/bench/run --growth[=N]`.

    containers   oci-run list, of so many that rest          1 to 500
    tags         oci-image ls of a layout                    1 to 5,000
    files        oci-pack of a tree                          1 to 100,000
    layers       oci-unpack of an image                      1 to 200

With N the largest size is an Nth of that.  growth.json keeps the points, growth.svg draws them: both axes grow by powers of
ten, so that what takes twice as long for twice as much is a line that climbs as steeply as it goes.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

from tests import images
from tests.bench import many, measure

PLACE = Path(__file__).resolve().parent
ROUNDS = 5
Make = Callable[[Path, int, dict[str, str]], list[str]]
WIDTH, HEIGHT, LEFT, TOP = 520, 320, 60, 20
COLOURS = ("#2e7d5b", "#c0392b", "#2c5aa0", "#b07d12")


def _run(words: list[str], env: dict[str, str], work: Path) -> None:
    subprocess.run(words, check=True, env=env, cwd=work, stdout=subprocess.DEVNULL)


def _containers(work: Path, count: int, env: dict[str, str]) -> list[str]:
    store = Path(env["OCI_ROOT"]) / "images"
    store.mkdir(mode=0o700, parents=True)
    images.add(store, "docker.io/library/busybox:latest", images.image("busybox"))
    for _ in range(count):
        _run([measure.OURS["run"], "new", "--network", "none", "busybox", "true"], env, work)
    return [measure.OURS["run"], "list"]


def _tags(work: Path, count: int, env: dict[str, str]) -> list[str]:
    many.layout(work / "img", count)
    return [measure.OURS["image"], "ls", "./img"]


def _files(work: Path, count: int, env: dict[str, str]) -> list[str]:
    for at in range(count):
        if at % 1000 == 0:
            (work / f"t/{at // 1000}").mkdir(parents=True)
        (work / f"t/{at // 1000}/{at}").write_text(str(at))
    return [measure.OURS["pack"], "t", "./img:x"]


def _layers(work: Path, count: int, env: dict[str, str]) -> list[str]:
    (work / "t").mkdir()
    for at in range(count):
        (work / "t" / str(at)).write_text(str(at))
        _run([measure.OURS["pack"], "t", "./img:x", *(["--append"] if at else [])], env, work)
        (work / "t" / str(at)).unlink()
    return ["sh", "-c", f'd=$(mktemp -d -p .); exec {measure.OURS["unpack"]} ./img:x "$d/b"']


CURVES: dict[str, tuple[str, int, Make]] = {
    "containers": ("oci-run list", 500, _containers), "tags": ("oci-image ls", 5000, _tags),
    "files": ("oci-pack", 100_000, _files), "layers": ("oci-unpack", 200, _layers),
}  # fmt: skip


def sizes(most: int) -> list[int]:
    """1, 10, 100 and so on, and the most."""
    return [10**power for power in range(len(str(most))) if 10**power < most] + [most]


def measured(work: Path, smaller: int) -> Iterator[tuple[str, list[tuple[int, float]]]]:
    """Each curve's name and points: size, median in ms."""
    for name, (command, most, make) in CURVES.items():
        points = []
        for size in sizes(max(1, most // smaller)):
            place = work / f"{name}{size}"
            place.mkdir()
            env = {**os.environ, "PATH": measure.PATH, "OCI_ROOT": f"{place}/root", "OCI_RUN": f"{place}/run"}
            words = make(place, size, env)
            times = []
            for _ in range(ROUNDS):
                begun = time.perf_counter()
                _run(words, env, place)
                times.append((time.perf_counter() - begun) * 1000)
            points.append((size, measure.median(times)))
            print(f"growth of {name}: {command} with {size}: {points[-1][1]:.1f} ms", flush=True)
        yield name, points


def keep(points: dict[str, list[tuple[int, float]]]) -> None:
    """growth.json and growth.svg."""
    (PLACE / "growth.json").write_text(json.dumps(points, indent=1) + "\n")
    (PLACE / "growth.svg").write_text(drawing(points))


def drawing(points: dict[str, list[tuple[int, float]]]) -> str:
    """A line a curve, with its points' figures."""
    every = [point for found in points.values() for point in found]
    right = max(1.0, max(math.log10(size) for size, _ in every))
    low = math.floor(min(math.log10(ms) for _, ms in every))
    high = max(low + 1, math.ceil(max(math.log10(ms) for _, ms in every)))

    def place(size: float, ms: float) -> tuple[float, float]:
        return LEFT + math.log10(size) / right * WIDTH, TOP + (high - math.log10(ms)) / (high - low) * HEIGHT

    parts = []
    for power in range(low, high + 1):
        y = place(1, 10.0**power)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}h{WIDTH}" stroke="#ddd"/><text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g} ms</text>')
    for power in range(int(right) + 1):
        x = place(10.0**power, 1)[0]
        parts.append(f'<path d="M{x:.1f} {TOP}v{HEIGHT}" stroke="#ddd"/><text x="{x:.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{10**power:,}</text>')
    for at, (name, found) in enumerate(points.items()):
        colour = COLOURS[at % len(COLOURS)]
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in found)
        x, y = place(*found[-1])
        label = escape(f"{CURVES[name][0]}, {name}" if name in CURVES else name)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
                     f'<text x="{x + 6:.1f}" y="{y:.1f}" fill="{colour}">{label}: {found[-1][1]:.0f} ms</text>')  # fmt: skip
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 260}" height="{TOP + HEIGHT + 30}" font-family="sans-serif" '
        'font-size="12">\n<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
