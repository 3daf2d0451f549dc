"""What a registry keeps and for how long: rules, and garbage collection by them, also while it serves.

    REPOSITORIES  TAGS  KEEP...         a line each; # begins a comment

REPOSITORIES and TAGS are names in which "*" stands for anything within one component and "**"
for anything at all; TAGS "-" means manifests without a tag.  KEEP is `all`, `last=N` (the N that were used last)
or `days=N` (what was used within N days); what one of them keeps stays.  The first line that
fits decides; what none fits stays, since somebody may pull it by its digest.

Used means pushed or asked for; a manifest's file keeps that time.  A manifest that another one needs, as a part or
as its subject, is not without a tag; what refers to one that goes, goes with it.  Tags that speak of a manifest by its
digest, as cosign's and those of lists of referrers (image/referrers.py), stay and go with that, whatever rules say.
Blobs go when nothing leads to them and their grace is over (image/gc.py).
"""

from __future__ import annotations

import os
import time

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import digest as digests
from oci_tools.image import gc
from oci_tools.image import layout as layouts
from oci_tools.image import manifest as manifests
from oci_tools.image import ref as refs
from oci_tools.image.referrers import cosign_tags, fallback_tag
from oci_tools.registry.users import pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from re import Pattern
    from typing import Any

    from oci_tools.image.layout import Descriptor
    from oci_tools.registry.storage import Repository, Storage

    Rule = tuple[Pattern[str], Pattern[str] | None, int, float]  # repositories, tags or those without, last, days

UNTAGGED = "-"  # what stands for no tag: a tag cannot be called so
DAY = 86400.0
EVER = float("inf")


def rules(text: str, path: str) -> list[Rule]:
    """The rules of a file."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            repositories, tags, *keep = words
            found.append((pattern(repositories), pattern(tags) if tags != UNTAGGED else None, *_keep(keep)))
        except ValueError:
            hint = "REPOSITORIES TAGS all, or last=N or days=N or both"
            raise Error("cannot use rules of", path, f"line {number} cannot be read", hint) from None
    return found


def load(path: str | None) -> list[Rule]:
    """The rules of a file; none without one."""
    if path is None:
        return []
    try:
        with open(path, encoding="utf-8") as file:
            return rules(file.read(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise Error("cannot read", path, error) from None


def _keep(words: list[str]) -> tuple[int, float]:
    """(last, days) of a rule's words."""
    last, days = 0, 0.0
    if not words:
        raise ValueError
    for word in words:
        what, _, count = word.partition("=")
        if word == "all":
            days = EVER
        elif what == "last":
            last = int(count)
        elif what == "days":
            days = float(count)
        else:
            raise ValueError(word)
    return last, days


def expired(rules: list[Rule], repository: str, used: dict[str, float], now: float) -> set[str]:
    """Which keys of `used` (tag, or digest of what has none -> seconds) no rule keeps: pure."""
    groups: dict[int, list[str]] = {}
    for key in used:
        at = next((at for at, rule in enumerate(rules) if _fits(rule, repository, key)), None)
        if at is not None:
            groups.setdefault(at, []).append(key)
    gone: set[str] = set()
    for at, keys in groups.items():
        _, _, last, days = rules[at]
        keys.sort(key=lambda key: (-used[key], key))
        gone |= {key for key in keys[last:] if used[key] < now - days * DAY}
    return gone


def _fits(rule: Rule, repository: str, key: str) -> bool:
    if not rule[0].fullmatch(repository):
        return False
    if rule[1] is None or ":" in key:
        return rule[1] is None and ":" in key
    return bool(rule[1].fullmatch(key))


# -- on disk -----------------------------------------------------------------------------


def collect(
    storage: Storage, rules: list[Rule], grace: float, dry_run: bool = False
) -> Iterator[dict[str, Any]]:
    """Drop what the rules do not keep and then garbage older than `grace` seconds.

    A row for each thing that went, or with dry_run would: {repository, tag or None, digest, size}.
    """
    done: set[str] = set()
    for name in storage.names():
        repository = storage.repository(name)
        if repository is None:
            continue
        layout = layouts.Layout.open(repository.layout.path)
        if rules:
            gone = _drop(repository, rules, dry_run)
            yield from ({"repository": name, **row} for row in gone.values())
            if dry_run:
                layout = _Without(layout.path, set(gone))
        if not storage.single or layout.path not in done:
            done.add(layout.path)
            result = gc.collect(layout, grace, dry_run)
            for digest, size in result.blobs.items():
                yield {"repository": name, "tag": None, "digest": digest, "size": size}


class _Without(layouts.Layout):
    """A layout as it would be without these entries."""

    def __init__(self, path: str, gone: set[bytes] | None = None) -> None:
        super().__init__(path)
        self._gone = gone or set()

    def index(self) -> dict[str, Any]:
        found = super().index()
        found["manifests"] = [d for d in found["manifests"] if document.dumps(d) not in self._gone]
        return found


def _drop(repository: Repository, rules: list[Rule], dry_run: bool) -> dict[bytes, dict[str, Any]]:
    """Take entries out of the index that the rules do not keep: entry -> row."""
    rows: dict[bytes, dict[str, Any]] = {}

    def edit() -> None:
        numbers = _expired(repository, rules)
        for number in numbers:
            descriptor = repository.index.entries[number]
            tag = (layouts.ref_name(descriptor) or "")[len(repository.prefix) :] or None
            row = {"tag": tag, "digest": descriptor.get("digest"), "size": descriptor.get("size")}
            rows[document.dumps(descriptor)] = row
        if not dry_run:
            repository.index.drop(numbers)

    if dry_run:
        repository.index.refresh()
        with repository.index.lock:
            edit()
    else:
        repository.index.change(edit)
    return rows


def _expired(repository: Repository, rules: list[Rule]) -> list[int]:
    """The numbers of the index's entries that go."""
    index = repository.index
    tagged: dict[str, int] = {}
    bare: dict[str, int] = {}
    speaking: dict[str, int] = {}
    digests_here = {str(d["digest"]) for d in index.entries.values() if digests.valid(d.get("digest"))}
    about = {tag: digest for digest in digests_here for tag in (fallback_tag(digest), *cosign_tags(digest))}
    for number, descriptor in index.entries.items():
        name, digest = layouts.ref_name(descriptor), descriptor.get("digest")
        if not digests.valid(digest):
            continue
        if name is None:
            if not repository.prefix:
                bare[str(digest)] = number
        elif name.startswith(repository.prefix) and refs.is_tag(tag := name[len(repository.prefix) :]):
            (speaking if tag in about else tagged)[tag] = number
    used = {key: _used(repository, index.entries[number]) for key, number in {**tagged, **bare}.items()}
    gone = expired(rules, repository.name, used, time.time())
    leave = [number for tag, number in tagged.items() if tag in gone]
    apart = {*leave, *speaking.values()}
    staying = [d for n, d in index.entries.items() if n not in apart and d.get("digest") not in gone]
    needed = _needed(repository, staying)
    leave += [n for tag, n in speaking.items() if not needed(about[tag])]
    return leave + [n for digest, n in bare.items() if digest in gone and not needed(digest)]


def _used(repository: Repository, descriptor: Descriptor) -> float:
    try:
        return os.stat(repository.layout.blob_path(descriptor)).st_mtime
    except OSError:
        return 0.0


def _needed(repository: Repository, staying: list[Descriptor]) -> Callable[[str], bool]:
    """Whether what stays leads to a manifest, or is what this one refers to."""
    reached: set[str] = set()
    for descriptor in staying:
        reached |= {found["digest"] for found, _ in manifests.walk(repository.layout, descriptor)}

    def needed(digest: str) -> bool:
        subject = repository.subject(digest)
        return digest in reached or (subject is not None and subject in reached)

    return needed
