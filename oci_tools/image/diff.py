"""What changed between two images: manifest, configuration, layers, files.

Every difference is one record {"kind", "name", "what", "a", "b"}; a or b is None where there is nothing:

    manifest  annotations.NAME   changed  "x"   "y"
    config    config.Env.PATH    added          "/bin"
    layer     2                  digest   sha256:...  sha256:...
    file      /etc/passwd        mode     0644  0600
    file      /etc/new           added          f 0644 0:0 12 sha256:...

Files are compared as they are after all layers, by type, mode, owner, size, content, link, device,
time and attributes; layers are read once, and none where both images have the same ones.
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import files
from oci_tools.image import manifest as manifests
from oci_tools.image.tree import Dir, side_by_side

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.image.layout import Layout

    Record = dict[str, Any]
    Image = tuple[Layout, dict[str, Any]]  # where it is, and its manifest

KINDS = ("manifest", "config", "layer", "file")
FIELDS = ("kind", "name", "what", "a", "b")
# What may be ignored: a kind as a whole, or one of these wherever it is.
ASPECTS = ("time", "owner", "mode", "xattrs", "history", "annotations")
CREATED = "org.opencontainers.image.created"


def diff(a: Image, b: Image, ignore: frozenset[str] = frozenset()) -> Iterator[Record]:
    """Every difference between two images, but for what is to be ignored: some of KINDS and ASPECTS."""
    both = [_documents(image, ignore) for image in (a, b)]
    try:
        for kind, found in (("manifest", 0), ("config", 1)):
            if kind not in ignore:
                yield from _members(kind, both[0][found], both[1][found])
    except RecursionError:
        raise Error("cannot compare", None, "the documents are nested too deeply") from None
    rows = [_layers(image) for image in (a, b)]
    if "layer" not in ignore:
        yield from _compare_layers(*rows)
    contents = [[row.get("diff_id") for row in found] for found in rows]
    if "file" not in ignore and contents[0] != contents[1] and None not in contents[0] + contents[1]:
        yield from _compare_files(*files.read_two(a, b), ignore)


def _record(kind: str, name: str, what: str, a: Any, b: Any) -> Record:
    return {"kind": kind, "name": name, "what": what, "a": a, "b": b}


def _change(kind: str, name: str, a: Any, b: Any) -> Record:
    return _record(kind, name, "added" if a is None else "removed" if b is None else "changed", a, b)


# -- documents -------------------------------------------------------------------------------


def _documents(image: Image, ignore: frozenset[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What manifest and configuration say, flat; layers and their diff ids are told of elsewhere."""
    layout, manifest = image
    top = {key: value for key, value in manifest.items() if key not in ("config", "layers", "schemaVersion")}
    top["config"] = {"mediaType": manifest["config"].get("mediaType")}
    if "annotations" in ignore:
        top.pop("annotations", None)
    elif "time" in ignore and isinstance(top.get("annotations"), dict):
        top["annotations"] = {key: value for key, value in top["annotations"].items() if key != CREATED}
    found: Any = {}
    if is_container(manifest):
        found = dict(configs.load(layout, manifest))
        found.pop("rootfs", None)
        if "history" in ignore:
            found.pop("history", None)
        if "time" in ignore:
            found.pop("created", None)
            steps = found.get("history")
            if isinstance(steps, list):
                found["history"] = [_untimed(step) for step in steps]
    return flat(top), flat(found)


def is_container(manifest: dict[str, Any]) -> bool:
    """Whether this is an image with a configuration and files, and no other artifact."""
    return manifest["config"].get("mediaType", "") in (*manifests.CONFIGS, "")


def _untimed(step: Any) -> Any:
    return {key: value for key, value in step.items() if key != "created"} if isinstance(step, dict) else step


def flat(found: dict[str, Any]) -> dict[str, str]:
    """Every member of a document as path -> JSON text; a list's by number, variables by their names."""
    rows: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [("", found)]
    while waiting:
        path, value = waiting.pop()
        if path == "config.Env" and isinstance(value, list):
            pairs = [str(word).partition("=") for word in value]
            rows.update({f"{path}.{name}": document.dumps(text).decode() for name, _, text in pairs})
        elif path == "history" and isinstance(value, list):
            waiting += [(f"{path}[{at}]", step) for at, step in enumerate(value)]
        elif isinstance(value, dict) and (value or not path):
            waiting += [(f"{path}.{key}" if path else key, inner) for key, inner in value.items()]
        else:
            rows[path] = document.dumps(value).decode()
    return rows


def _members(kind: str, a: dict[str, str], b: dict[str, str]) -> Iterator[Record]:
    names = sorted(a.keys() | b.keys())
    for name in names:
        one, two = a.get(name), b.get(name)
        if one == two or (None in (one, two) and "{}" in (one, two) and _has_members(names, name)):
            continue  # what was empty and has members now is told by these
        yield _change(kind, name, one, two)


def _has_members(names: list[str], name: str) -> bool:
    from bisect import bisect

    at = bisect(names, f"{name}.")
    return at < len(names) and names[at].startswith(f"{name}.")


# -- layers ----------------------------------------------------------------------------------


def _layers(image: Image) -> list[dict[str, Any]]:
    layout, manifest = image
    keys = ("digest", "mediaType", "size")
    rows = [{key: layer.get(key) for key in keys} for layer in manifest["layers"]]
    if is_container(manifest):
        diff_ids = configs.diff_ids(configs.load(layout, manifest))
        rows = [{**row, "diff_id": diff_id} for row, diff_id in zip(rows, diff_ids, strict=True)]
    return rows


def _compare_layers(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> Iterator[Record]:
    """Layers by their place, after what both have at the beginning and before what both have at the end."""
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    for at in range(start, max(len(a), len(b)) - end):
        one = a[at] if at < len(a) - end else None
        two = b[at] if at < len(b) - end else None
        if one is None or two is None:
            row = one or two or {}
            text = f"{row['digest']} {row['size']}"
            yield _change("layer", str(at), one and text, two and text)
            continue
        for key in {**one, **two}:
            if one.get(key) != two.get(key):
                yield _record("layer", str(at), key, one.get(key), two.get(key))


# -- files -----------------------------------------------------------------------------------


def _compare_files(a: Dir, b: Dir, ignore: frozenset[str]) -> Iterator[Record]:
    yield from _compare("/", a, b, ignore)
    yield from _compare_inside(b"", a, b, ignore)
    levels = [(b"", side_by_side(a, b))]
    while levels:
        path, rest = levels[-1]
        for name, x, y in rest:
            one, two = (each if isinstance(each, Dir) else None for each in (x, y))
            if one or two:
                path += b"/" + name
                yield from _compare_inside(path, one, two, ignore)
                levels.append((path, side_by_side(one, two)))
                break
        else:
            levels.pop()


def _compare_inside(path: bytes, a: Dir | None, b: Dir | None, ignore: frozenset[str]) -> Iterator[Record]:
    for name, x, y in side_by_side(a, b):
        yield from _compare(os.fsdecode(path + b"/" + name), x, y, ignore)


def _compare(path: str, a: Any, b: Any, ignore: frozenset[str]) -> Iterator[Record]:
    """What differs between two things of one name."""
    if a == b or (isinstance(a, Dir) and isinstance(b, Dir) and a.meta == b.meta):
        return
    one, two = (None if found is None else _aspects(found, ignore) for found in (a, b))
    if one is None or two is None:
        yield _change("file", path, one and " ".join(one.values()), two and " ".join(two.values()))
    elif one["type"] != two["type"]:
        yield _record("file", path, "type", one["type"], two["type"])
    else:
        for key in {**one, **two}:
            if one.get(key) != two.get(key):
                yield _record("file", path, key, one.get(key), two.get(key))


_WHAT = {"f": "content", "l": "target", "c": "device", "b": "device"}


def _aspects(found: Any, ignore: frozenset[str]) -> dict[str, str]:
    """What there is to compare of a file or directory, as text, in the order in which it is said."""
    what, size = b"", 0
    if isinstance(found, Dir):
        # A directory that no layer describes is made by whoever unpacks it, with what time it is then.
        kind, (mode, uid, gid, mtime, xattrs) = "d", found.meta or (0o755, 0, 0, None, ())
    else:
        kind, mode, uid, gid, size, mtime, what, _, xattrs = found
    said = {"type": kind}
    if "mode" not in ignore:
        said["mode"] = f"{mode:04o}"
    if "owner" not in ignore:
        said["owner"] = f"{uid}:{gid}"
    if kind == "f":
        said["size"] = str(size)
        said["content"] = f"sha256:{what.hex()}"
    elif what:
        said[_WHAT[kind]] = os.fsdecode(what)
    if "time" not in ignore and mtime is not None:
        said["time"] = f"{mtime // 1_000_000_000}.{mtime % 1_000_000_000:09d}"
    if "xattrs" not in ignore:
        said.update({f"xattr.{os.fsdecode(name)}": value.hex() for name, value in xattrs})
    return said
