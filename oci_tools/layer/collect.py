"""Garbage in the layer store: layers that no bundle stacks any more.

A bundle keeps what its config.json names as long as its link in `.roots/` leads to it; a link
that leads nowhere is removed.  This takes the lock that everybody shares who takes layers into
use, so that none goes between being found and being named.  A bundle that was moved has lost its link:
it is made again, or `Store.use` links it anew.
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.layer import store as stores

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

ANNOTATION = "io.oci-tools.overlay"
_ALGORITHMS = ("sha256", "sha512")


def collect(
    path: str | None = None, dry_run: bool = False, among: Container[str] | None = None, timeout: float | None = None
) -> list[str]:
    """Remove all layers that no bundle uses, or those of these diff ids, and with `dry_run` only say which; the paths
    of their trees.  Busy where others take layers into use for longer than `timeout` seconds."""
    path = path or stores.directory()
    if not os.path.isdir(path):
        return []
    with stores.Store(path=path).lock(shared=False, timeout=timeout):
        live: set[str] = set()
        for root, bundle in _roots(path):
            found = _trees(bundle, path)
            if found is None and not dry_run:
                os.unlink(root)
            live.update(found or ())
        dead = [tree for tree in trees(path) if tree not in live and (among is None or diff_id(tree) in among)]
        if not dry_run:
            stores.sweep(path)
            for tree in dead:
                _remove(tree, path)
            _forget(path)
    return dead


def _roots(path: str) -> Iterator[tuple[str, str]]:
    """Each link of the roots, and the bundle that it leads to."""
    roots = f"{path}/.roots"
    for name in sorted(os.listdir(roots)) if os.path.isdir(roots) else ():
        yield f"{roots}/{name}", os.readlink(f"{roots}/{name}")


def _trees(bundle: str, path: str) -> list[str] | None:
    """The trees that a bundle stacks; None if there is no bundle.

    One that is being made has no config.json yet; what it is going to use is under the lock of who makes it.
    An Error where it cannot be told: nothing may be removed then.
    """
    try:
        with open(f"{bundle}/config.json", "rb") as file:
            spec = document.loads(file.read(), f"{bundle}/config.json")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Error("cannot read", f"{bundle}/config.json", error) from None
    text = (spec.get("annotations") or {}).get(ANNOTATION) if isinstance(spec, dict) else None
    if not isinstance(text, str):
        return None
    try:
        said = document.loads(text, ANNOTATION)
        place = os.path.normpath(said.get("store") or path)
        return [f"{place}/{digest.replace(':', '/')}" for digest in said["lower"]]
    except (KeyError, TypeError, AttributeError):
        raise Error("cannot read", f"{bundle}/config.json", f"bad value of {ANNOTATION}") from None


def diff_id(tree: str) -> str:
    """The diff id of a layer by its tree's path."""
    return ":".join(tree.rsplit("/", 2)[1:])


def trees(path: str) -> Iterator[str]:
    """Every layer's tree, of every ownership mapping."""
    for place in (path, *(f"{path}/{name}" for name in sorted(os.listdir(path)))):
        for algorithm in _ALGORITHMS:
            kept = f"{place}/{algorithm}"
            if os.path.isdir(kept):
                yield from (
                    f"{kept}/{name}" for name in sorted(os.listdir(kept)) if not name.endswith(".json")
                )


def _forget(path: str) -> None:
    """Remove what says how to stack images whose layers are gone, and what killed makers left of such and of layers."""
    for place in (path, *(f"{path}/{name}" for name in sorted(os.listdir(path)))):
        chains = f"{place}/chains"
        for name in os.listdir(chains) if os.path.isdir(chains) else ():
            config = f"sha256:{name.removesuffix('.json')}"
            if not name.endswith(".json") or stores.Store(path=place).chain(config) is None:
                os.unlink(f"{chains}/{name}")
        for algorithm in _ALGORITHMS:
            kept = f"{place}/{algorithm}"
            for name in os.listdir(kept) if os.path.isdir(kept) else ():
                if name.endswith(".json") and not os.path.isdir(f"{kept}/{name.removesuffix('.json')}"):
                    os.unlink(f"{kept}/{name}")


def _remove(tree: str, path: str) -> None:
    """First out of its place, so that a killed one leaves no half of a layer under a layer's name."""
    name = tree[len(path) + 1 :].replace("/", "-")
    beside = f"{fs.make_private(f'{path}/.new')}/{name}"
    fs.remove_tree(beside)
    os.rename(tree, beside)
    try:
        os.unlink(f"{tree}.json")
    except FileNotFoundError:
        pass
    fs.remove_tree(beside)
