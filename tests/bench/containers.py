"""What the benchmarks of memory share: processes that stay, and what they have."""

from __future__ import annotations

from pathlib import Path

from tests.bench.measure import Side, share


def total(side: Side, i: int, words: list[str] | None = None) -> float:
    """The memory in MB of the processes whose numbers a side's words are; what they share counts once."""
    return sum(share(int(pid)) for pid in words or side.words(i)) / 1024


def mean(side: Side, i: int, words: list[str] | None = None) -> float:
    """The same, of one of them."""
    words = words or side.words(i)
    return total(side, i, words) / len(words)


def processes(*texts: str) -> list[str]:
    """Those that have all of these texts in their words."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_text()
        except OSError:
            continue  # it has ended
        if all(text in words for text in texts):
            found.append(place.name)
    return found


def families(root: Path) -> list[str]:
    """Those that look after the containers of one of our roots, and their guards, which are above them."""
    found = []
    for pid in monitors(root):
        while pid != "1" and "oci-run" in Path(f"/proc/{pid}/cmdline").read_text():
            found.append(pid)
            pid = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    return found


def monitors(root: Path) -> list[str]:
    """Those that look after the containers of one of our roots."""
    return [(place / "lock").read_text().strip() for place in (root / "containers").iterdir()]
