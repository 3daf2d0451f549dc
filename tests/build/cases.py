"""The corpus: builds that docker and oci-build do alike, in corpus/*.txt; and what is compared of them.

    === NAME
    peers: buildkit classic     who else builds it; "none": what is expected stands below (buildkit)
    words: --target x           for both
    stdin: context|dockerfile   what comes on standard input
    fails: TEXT                 nobody can build it, and TEXT is in what we say
    $ mkdir d; ln -s d e        makes the context, whose files are of 2001 then
    FROM base                   the Dockerfile; `base` is what `base_layers` makes
    --- expect
    d/f f 644 0:0 'text'        every name that is not as in the base, as `Entry.text` shows it

Times are compared where one of them is not that of the build.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any
from zlib import crc32

CORPUS = Path(__file__).parent / "corpus"
CONTEXT_TIME = 1_000_000_000  # and something for each case: BuildKit takes a file of the same size and time for the same
MEMBERS = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal",
           "Healthcheck", "OnBuild", "Shell")  # fmt: skip


class Case:
    """One build: its `name`, how to make its `context`, its `dockerfile`, and what is said of it."""

    def __init__(self, text: str) -> None:
        self.name, _, rest = text.partition("\n")
        rest, _, expected = rest.partition("\n--- expect\n")
        lines = rest.split("\n")
        self.said: dict[str, str] = {}
        while lines and (colon := lines[0].partition(": "))[1] and colon[0] in ("peers", "words", "stdin", "fails"):
            self.said[colon[0]] = colon[2]
            del lines[0]
        self.script = []
        while lines and lines[0].startswith("$ "):
            self.script.append(lines.pop(0)[2:])
        self.dockerfile = "\n".join(lines)
        if not self.dockerfile.endswith("\n"):
            self.dockerfile += "\n"
        self.expected = [line for line in expected.split("\n") if line]
        self.peers = [peer for peer in self.said.get("peers", "buildkit").split() if peer != "none"]
        self.words = [word.replace("context/", f"{self.name}/") for word in self.said.get("words", "").split()]

    def make(self, context: Path) -> None:
        """Make the context."""
        context.mkdir()
        (context / "Dockerfile").write_text(self.dockerfile)
        start, time = os.stat(context / "Dockerfile").st_mtime, CONTEXT_TIME + crc32(self.name.encode()) % 100_000_000
        subprocess.run(["sh", "-ec", "umask 022\n" + "\n".join(self.script)], cwd=context, check=True)
        for directory, names, files in os.walk(context, topdown=False):
            for name in [*names, *files]:
                path = f"{directory}/{name}"
                if os.lstat(path).st_mtime >= start:
                    os.utime(path, (time, time + len(name)), follow_symlinks=False)

    def archive(self, context: Path) -> bytes:
        words = ["tar", "--format=gnu", "--numeric-owner", "-c", "-C", context, "."]
        return subprocess.run(words, check=True, capture_output=True).stdout

    def input(self, context: Path) -> tuple[list[str], bytes | None]:
        """The words that say where the context is, and what comes on standard input."""
        kind = self.said.get("stdin")
        if kind == "context":
            return ["-"], self.archive(context)
        if kind == "dockerfile":
            return ["-f", "-", str(context)], self.dockerfile.encode()
        return [str(context)], None


def cases() -> list[Case]:
    """All of them, in the order of their files."""
    found = []
    for path in sorted(CORPUS.glob("*.txt")):
        found += [Case(text.rstrip("\n") + "\n") for text in ("\n" + path.read_text()).split("\n=== ")[1:]]
    return found


# -- images ------------------------------------------------------------------------------------


class Entry:
    """One name of a tree."""

    def __init__(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        kinds = {tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.FIFOTYPE: "p", tarfile.CHRTYPE: "c", tarfile.BLKTYPE: "b"}
        self.kind = kinds.get(member.type, "f")
        self.mode = member.mode & 0o7777 if self.kind != "l" else 0o777
        self.owner = f"{member.uid}:{member.gid}"
        self.time = int(member.mtime)
        self.what = ""
        if self.kind == "l":
            self.what = f"->{member.linkname}"
        elif self.kind in "cb":
            self.what = f"dev={member.devmajor}:{member.devminor}"
        elif self.kind == "f":
            file = archive.extractfile(member)
            data = file.read() if file else b""
            self.what = repr(data.decode("latin-1")) if len(data) < 200 else f"{len(data)} bytes, hash {hash(data)}"
        prefix = "SCHILY.xattr."
        self.xattrs = " ".join(
            f"{name.removeprefix(prefix)}={value.encode('utf-8', 'surrogateescape').hex()}"
            for name, value in sorted(member.pax_headers.items())
            if name.startswith(prefix)
        )

    def text(self) -> str:
        return " ".join(part for part in (self.kind, f"{self.mode:o}", self.owner, self.what, self.xattrs) if part)


Tree = dict[str, Entry]


def flatten(layers: list[bytes]) -> tuple[Tree, dict[str, str]]:
    """A tree out of its layers, and for each name with hard links the first of them."""
    tree: Tree = {}
    for layer in layers:
        _apply(tree, layer)
    groups: dict[int, list[str]] = {}
    for name, entry in tree.items():
        groups.setdefault(id(entry), []).append(name)
    return tree, {name: min(names) for names in groups.values() if len(names) > 1 for name in names}


def _apply(tree: Tree, layer: bytes) -> None:
    fresh: Tree = {}
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        for member in archive:
            name = member.name.removeprefix("./").strip("/")
            directory, _, base = name.rpartition("/")
            if base == ".wh..wh..opq":
                _remove(tree, f"{directory}/", directory)
            elif base.startswith(".wh."):
                gone = f"{directory}/{base[4:]}".lstrip("/")
                _remove(tree, f"{gone}/")
                tree.pop(gone, None)
            elif member.islnk():
                target = member.linkname.removeprefix("./").strip("/")
                fresh[name] = fresh[target] if target in fresh else tree[target]
            else:
                fresh[name] = Entry(member, archive)
    for name, entry in fresh.items():
        if name in tree and entry.kind != "d":
            _remove(tree, f"{name}/")
        tree[name] = entry


def _remove(tree: Tree, prefix: str, but: str | None = None) -> None:
    for name in [name for name in tree if name.startswith(prefix) and name != but]:
        del tree[name]


class Image:
    """An image: its configuration, and its tree."""

    def __init__(self, config: dict[str, Any], layers: list[bytes]) -> None:
        self.config = config
        self.tree, self.links = flatten(layers)

    @classmethod
    def of_archive(cls, data: bytes) -> Image:
        """What `docker save` writes."""
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            files = {m.name: f.read() for m in archive if m.isreg() and (f := archive.extractfile(m))}
        (said,) = json.loads(files["manifest.json"])
        return cls(json.loads(files[said["Config"]]), [files[name] for name in said["Layers"]])

    def inner(self) -> dict[str, Any]:
        found = self.config.get("config") or {}
        return {name: found[name] for name in MEMBERS if found.get(name) not in (None, {}, [], "")}

    def history(self) -> list[str]:
        """What was done; without what versions of BuildKit differ in, or show as Go shows a struct."""
        said = [re.sub(r" # buildkit$| --from=\S+", "", one.get("created_by", "")) for one in self.config["history"]]
        said = [re.sub(r"^(EXPOSE|HEALTHCHECK) .*", r"\1", one) for one in said]
        return [re.sub(r"=\S*", "", one) if one.startswith("ARG ") else one for one in said]

    def new(self, base: Image) -> list[str]:
        """Every name that is not as in the base."""
        said = []
        for name in sorted({*self.tree, *base.tree}):
            ours, theirs = self.tree.get(name), base.tree.get(name)
            if ours is None:
                said.append(f"{name} gone")
            elif theirs is None or ours.text() != theirs.text() or self.links.get(name) != base.links.get(name):
                said.append(f"{name} {ours.text()}" + (f" ={self.links[name]}" if name in self.links else ""))
        return said


def differences(ours: Image, theirs: Image, start: float, classic: bool) -> list[str]:
    """What is not alike, a line each; the classic builder writes another history, and no times of directories."""
    said = []
    if ours.inner() != theirs.inner():
        names = {*ours.inner(), *theirs.inner()}
        said += [
            f"config {name}: {ours.inner().get(name)!r}, not {theirs.inner().get(name)!r}"
            for name in sorted(names)
            if ours.inner().get(name) != theirs.inner().get(name)
        ]
    for name in sorted({*ours.tree, *theirs.tree} - {""}):
        mine, other = ours.tree.get(name), theirs.tree.get(name)
        if mine is None or other is None:
            said.append(f"{name}: {mine and mine.text()}, not {other and other.text()}")
        elif mine.text() != other.text() or ours.links.get(name) != theirs.links.get(name):
            said.append(f"{name}: {mine.text()} ={ours.links.get(name)}, not {other.text()} ={theirs.links.get(name)}")
        elif mine.time != other.time and min(mine.time, other.time) < int(start) and not (classic and mine.kind == "d"):
            said.append(f"{name}: time {mine.time}, not {other.time}")
    if not classic and ours.history() != theirs.history():
        said += [f"history {a!r}, not {b!r}" for a, b in zip(ours.history(), theirs.history(), strict=False) if a != b]
        if len(ours.history()) != len(theirs.history()):
            said.append(f"history has {len(ours.history())} entries, not {len(theirs.history())}")
    return said


# -- the base ------------------------------------------------------------------------------------

BASE = """
set -e
mkdir -p home/app real/deep srv/data var/lib/app opt
echo 'app:x:1000:1001:app:/home/app:/bin/sh' >> etc/passwd
touch etc/hosts etc/hostname etc/resolv.conf
printf 'app:x:1001:\\nstaff:x:50:app\\n' >> etc/group
chown -R 1000:1001 home/app; chmod 750 home/app
echo old > srv/data/old; echo keep > srv/data/keep; chown 1000:50 srv/data srv/data/old; chmod 2775 srv/data
ln -s real link; ln -s /real/deep absolute; ln -s nowhere dangling; echo real > real/file; ln real/file real/hard
echo x > opt/setuid; chmod 4755 opt/setuid
touch -h -d @900000000 home/app real real/* srv srv/* srv/data/* var/lib/app opt/* link absolute dangling home opt var/lib
"""
BASE_CONFIG: dict[str, Any] = {
    "Cmd": ["sh"],
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "BASE=of the base"],
    "Labels": {"base": "1"},
}


def base_layers(work: Path) -> tuple[list[Path], dict[str, Any]]:
    """The layers of the image `base`, for tests/images.py."""
    from tests import images

    (below,), _ = images.make_busybox(work)
    layer = work / "1.tar"
    subprocess.run(["sh", "-c", BASE], cwd=work / "tree", check=True)
    paths = "home real srv var/lib opt link absolute dangling etc".split()
    options = ["--numeric-owner", "--mtime=@900000000", "--clamp-mtime"]
    subprocess.run(["tar", "-c", "-f", layer, *options, "-C", work / "tree", *paths], check=True)
    return [below, layer], BASE_CONFIG
