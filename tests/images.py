#!/usr/bin/python3
"""The images that every test and benchmark uses, made once, from Debian's packages.

They are OCI layouts in a cache outside the repository, made with tar, gzip, zstd,
hashlib and json alone, so that no test has its input from the code it tests.  Each is
built beside its place and renamed, under a lock.  `OCI_TEST_IMAGES` moves the cache.

    busybox  Debian's busybox-static, 2 MB: one layer
    debian   a Debian trixie base, 120 MB: one layer
    big      that base, then python3, then git and build-essential, then nodejs: four
             layers, 1 GB, 15,700 files; for benchmarks only

and NAME-zstd, the same layers under zstd.  `tests/images.py NAME...` prints their paths.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

EPOCH = 1_750_000_000  # every file's newest time, and the images' creation
SUITE = "trixie"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
OCI = "application/vnd.oci.image"
SMALLER = ["--aptopt=Apt::Install-Recommends false", "--dpkgopt=path-exclude=/usr/share/man/*"]


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("OCI_TEST_IMAGES") or f"{base}/oci-tools-tests")


def image(name: str) -> Path:
    """The layout of an image by its name above; its one image is tagged `latest`."""
    place = cache() / name
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{place}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            fresh = Path(f"{place}.new")  # what a killed maker left goes first
            shutil.rmtree(fresh, ignore_errors=True)
            (fresh / "work").mkdir(parents=True)
            if name.endswith("-zstd"):
                write_layout(fresh, *unpacked(image(name.removesuffix("-zstd")), fresh / "work"), "zstd")
            else:
                write_layout(fresh, *MAKERS[name](fresh / "work"), "gzip")
            shutil.rmtree(fresh / "work")
            fresh.rename(place)
    return place


def layers(source: Path) -> list[Path]:
    """The blobs of an image's layers, the lowest first."""
    return [blob(source, descriptor) for descriptor in manifest(source)["layers"]]


def manifest(source: Path) -> dict[str, Any]:
    descriptor = json.loads((source / "index.json").read_text())["manifests"][0]
    found: dict[str, Any] = json.loads(blob(source, descriptor).read_text())
    return found


def add(layout: Path, name: str, source: Path) -> None:
    """Add the image of a layout made here to another layout, new or not, under a name of its own."""
    index = json.loads((source / "index.json").read_text())
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = name
    if (layout / "index.json").exists():
        index["manifests"] += json.loads((layout / "index.json").read_text())["manifests"]
    subprocess.run(["cp", "-r", "--reflink=auto", source / "blobs", source / "oci-layout", layout], check=True)
    (layout / "index.json").write_text(json.dumps(index))


# -- what is in them -----------------------------------------------------------------------


def make_busybox(work: Path) -> tuple[list[Path], dict[str, Any]]:
    tree = work / "tree"
    for directory in "bin", "dev", "etc", "proc", "root", "sys", "tmp", "var/spool":
        (tree / directory).mkdir(parents=True)
    shutil.copyfile("/usr/bin/busybox", tree / "bin/busybox")
    (tree / "bin/busybox").chmod(0o755)
    (tree / "tmp").chmod(0o1777)
    applets = subprocess.run(["/usr/bin/busybox", "--list"], check=True, capture_output=True, text=True)
    for applet in applets.stdout.split():
        if applet != "busybox":
            (tree / "bin" / applet).symlink_to("busybox")
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    (tree / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (tree / "etc/os-release").write_text('ID=busybox\nNAME="BusyBox"\n')
    layer = work / "0.tar"
    options = [f"--mtime=@{EPOCH}", "--sort=name", "--numeric-owner", "--owner=0", "--group=0"]
    subprocess.run(["tar", *options, "-cf", layer, "-C", tree, "."], check=True)
    return [layer], {"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}


def make_debian(work: Path) -> tuple[list[Path], dict[str, Any]]:
    layer = work / "0.tar"
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    words = ["mmdebstrap", "--quiet", "--variant=minbase", *SMALLER, SUITE, layer]
    subprocess.run(words, check=True, env=env, cwd="/")
    return [layer], {"Cmd": ["bash"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}


def make_big(work: Path) -> tuple[list[Path], dict[str, Any]]:
    """One mmdebstrap a layer would not share files; so one tree grows, and each growth is a layer."""
    (base,), config = make_debian(work)
    tree = work / "tree"
    tree.mkdir()
    subprocess.run(["tar", "--xattrs", "--numeric-owner", "-xpf", base, "-C", tree], check=True)
    shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf")
    tars, before = [base], snapshot(tree)
    for number, packages in enumerate((["python3"], ["git", "build-essential"], ["nodejs"]), 1):
        install(tree, packages)
        for package in tree.glob("var/cache/apt/archives/*.deb"):
            package.unlink()
        after = snapshot(tree)
        tars.append(difference(tree, before, after, work / f"{number}.tar"))
        before = after
    return tars, config


def install(tree: Path, packages: list[str]) -> None:
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    for words in ["update"], ["install", "-y", "--no-install-recommends", *packages]:
        subprocess.run(["chroot", tree, "apt-get", "-qq", *words], check=True, env=env, stdout=subprocess.DEVNULL)


def snapshot(tree: Path) -> dict[str, tuple[int, ...]]:
    """Every path with what changes when it is changed."""
    found = {}
    for directory, names, files in os.walk(tree):
        for name in names + files:
            path = os.path.join(directory, name)
            seen = os.lstat(path)
            size = 0 if os.path.isdir(path) else seen.st_size
            found[os.path.relpath(path, tree)] = (seen.st_mode, seen.st_uid, seen.st_gid, size, seen.st_mtime_ns)
    return found


def difference(tree: Path, before: dict[str, Any], after: dict[str, Any], layer: Path) -> Path:
    """A layer of what is new or changed, with a whiteout for what has gone."""
    changed = sorted(path for path, seen in after.items() if before.get(path) != seen)
    gone = sorted(path for path in before if path not in after and os.path.dirname(path) in {*after, ""})
    options = [f"--mtime=@{EPOCH}", "--clamp-mtime", "--numeric-owner", "--xattrs", "--no-recursion"]
    archive(tree, changed, layer, ["-c", *options])
    if gone:
        marks = layer.with_suffix(".whiteouts")
        for path in gone:
            mark = marks / os.path.dirname(path) / f".wh.{os.path.basename(path)}"
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        names = [os.path.join(os.path.dirname(path), f".wh.{os.path.basename(path)}") for path in gone]
        archive(marks, names, layer, ["-r", "--owner=0", "--group=0", f"--mtime=@{EPOCH}"])
    return layer


def archive(tree: Path, paths: Iterable[str], layer: Path, options: list[str]) -> None:
    names = "".join(f"{path}\0" for path in paths).encode(errors="surrogateescape")
    words = ["tar", *options, "-f", layer, "-C", tree, "--null", "--verbatim-files-from", "-T", "-"]
    subprocess.run(words, check=True, input=names)


def unpacked(source: Path, work: Path) -> tuple[list[Path], dict[str, Any]]:
    """The layers and configuration of an image made before."""
    tars = []
    for number, packed in enumerate(layers(source)):
        tars.append(work / f"{number}.tar")
        with open(tars[-1], "wb") as out:
            subprocess.run(["gzip", "-dc", packed], check=True, stdout=out)
    return tars, json.loads(blob(source, manifest(source)["config"]).read_text())["config"]


MAKERS: dict[str, Callable[[Path], tuple[list[Path], dict[str, Any]]]] = {
    "busybox": make_busybox,
    "debian": make_debian,
    "big": make_big,
}


# -- a layout -----------------------------------------------------------------------------


def write_layout(place: Path, tars: list[Path], config: dict[str, Any], compression: str) -> None:
    (place / "blobs/sha256").mkdir(parents=True)
    created = "2025-06-15T15:06:40Z"
    document = {
        "created": created,
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in tars]},
        "history": [{"created": created, "created_by": f"tests/images.py {tar.stem}"} for tar in tars],
    }
    image_manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": put_json(place, f"{OCI}.config.v1+json", document),
        "layers": [put_layer(place, tar, compression) for tar in tars],
    }
    descriptor = put_json(place, f"{OCI}.manifest.v1+json", image_manifest)
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": [descriptor]}
    (place / "index.json").write_text(json.dumps(index))
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def blob(place: Path, descriptor: dict[str, Any]) -> Path:
    return place / "blobs" / descriptor["digest"].replace(":", "/")


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def put_json(place: Path, media_type: str, document: dict[str, Any]) -> dict[str, Any]:
    path = place / "work" / "document"
    path.write_text(json.dumps(document))
    return put(place, media_type, path)


def put_layer(place: Path, layer: Path, compression: str) -> dict[str, Any]:
    words = {"gzip": ["gzip", "-6", "-n", "-c"], "zstd": ["zstd", "-q", "-3", "-c"]}[compression]
    packed = layer.with_suffix(".packed")
    with open(packed, "wb") as out:
        subprocess.run([*words, layer], check=True, stdout=out)
    return put(place, f"{OCI}.layer.v1.tar+{compression}", packed)


def put(place: Path, media_type: str, path: Path) -> dict[str, Any]:
    name, size = digest(path), path.stat().st_size
    path.rename(place / "blobs" / name.replace(":", "/"))
    return {"mediaType": media_type, "digest": name, "size": size}


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        print(image(wanted))
