"""What containers are called: names of their own, and what a verb's word means; and what is written of them.

    names/NAME              a link to ../containers/ID, made exclusively
    names                   locked by whoever renames

A word is a whole ID, a NAME, or the beginning of just one ID (contracts.md, "Names"), in this order; IDs
are those of containers/ and those that the runtime knows, which has no names.
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def directory() -> str:
    """Where containers are."""
    return f"{fs.root()}/containers"


def place(container: str) -> str:
    """The directory of a container, whether it exists or not."""
    return f"{directory()}/{container}"


def ids() -> list[str]:
    """Every container that has a directory."""
    return sorted(name for name in listed(directory()) if name[0] != ".")


def listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


# -- what a word means -------------------------------------------------------------------------


def find(word: str, runtime: str) -> str | None:
    """The ID of the container that a word means, None if there is none; an Error if there are several.

    A plain user's command goes on inside his shared namespaces if it is one that was made there.

    runtime  where the runtime keeps the state of its containers
    """
    found = _find(word, runtime)
    if found is not None and os.geteuid():
        from oci_tools.container import shared

        shared.follow(policy(found))
    return found


def _find(word: str, runtime: str) -> str | None:
    if not _NAME.issuperset(word) or not word or word[0] == ".":
        return None  # no path gets in here
    if os.path.isdir(place(word)) or os.path.isdir(f"{runtime}/{word}"):
        return word
    try:
        found = os.path.basename(os.readlink(_link(word)))
        if os.path.isdir(place(found)):
            return found
    except OSError:
        pass
    known = {each for each in (*ids(), *listed(runtime)) if each.startswith(word)}
    if len(known) > 1:
        raise Error("ambiguous container", word, f"{len(known)} ids begin so")
    return known.pop() if known else None


def need(word: str, runtime: str) -> str:
    """The ID that a word means; an Error if there is none."""
    found = find(word, runtime)
    if found is None:
        raise Error("no such container", word)
    return found


def known(word: str, runtime: str, verb: str) -> str:
    """The ID that a word means to a verb of the runtime, which does not know it as one; the word if nobody does."""
    found = find(word, runtime)
    if found is None:
        return word
    if verb not in ("start", "state", "update") and not os.path.isdir(f"{runtime}/{found}"):
        hint = "oci-run rm removes it" if verb == "delete" else "oci-run start starts it"
        raise Error(f"cannot {verb} container", word, "it is not running", hint)
    return found


# -- what is written of them --------------------------------------------------------------------


def policy(container: str) -> dict[str, Any]:
    """What is to be done with a container of people; empty for one that only the runtime knows."""
    return _read(container, "policy.json")


def exit_code(container: str) -> int | None:
    """The code that a container of people ended with, if that is known and it is not about to be started again."""
    record = end(container)
    code: int | None = None if record.get("restarting") else record.get("code")
    return code


def end(container: str) -> dict[str, Any]:
    """The record of a container's end; empty if there is none."""
    return _read(container, "exit.json") or dict(start(container).get("end") or {})


def start(container: str) -> dict[str, Any]:
    """The record of its last start."""
    return _read(container, "start.json")


def _read(container: str, name: str) -> dict[str, Any]:
    path = f"{place(container)}/{name}"
    try:
        with open(path, "rb", buffering=0) as file:
            found: dict[str, Any] = document.loads(file.read(), path)
        return found
    except FileNotFoundError:
        return {}


def was_started(container: str) -> bool:
    """Whether a container that is kept, or waited to be started, was started at all."""
    return os.path.exists(f"{place(container)}/start.json")


# -- names -----------------------------------------------------------------------------------


def check(text: str) -> None:
    """Refuse what no container can be called."""
    if not is_name(text):
        raise Usage("invalid container name", text, hint="two or more letters, digits, '_', '.' and '-'")


def is_name(text: str) -> bool:
    """Whether a container may be called so: as docker says, [a-zA-Z0-9][a-zA-Z0-9_.-]+."""
    return 1 < len(text) <= 255 and text[0] not in "_.-" and _NAME.issuperset(text)


def take(name: str, container: str) -> None:
    """Give a container a name that no other has."""
    fs.make_private(f"{fs.root()}/names")
    for last in (False, True):
        try:
            return os.symlink(f"../containers/{container}", _link(name))
        except FileExistsError:
            if is_of(name, container):
                return None  # a rename that was killed had come so far
            if not last:
                from oci_tools.container import place as places

                places.sweep()
                if not os.path.exists(_link(name)):
                    _unlink(_link(name))
    raise Error("container name is in use", name, f"by {os.path.basename(os.readlink(_link(name)))[:12]}")


def is_of(name: str, container: str) -> bool:
    """Whether a container has a name; one that has not the name that it was made for is none yet."""
    try:
        return os.readlink(_link(name)) == f"../containers/{container}"
    except OSError:
        return False


def give_back(name: str, container: str) -> None:
    """Take a container's name from it, if it is its own."""
    try:
        if is_of(name, container):
            os.unlink(_link(name))
    except OSError:
        pass


def rename(container: str, name: str) -> None:
    """Call a container otherwise, whatever its state; killed in between it has both names, until that is said again."""
    check(name)
    with fs.Lock(fs.make_private(f"{fs.root()}/names")):
        known = policy(container)
        if not known:
            raise Error("cannot rename container", container, "it was made by the runtime's own verbs")
        if known["name"] == name:
            _give_back_others(name, container)
            return
        take(name, container)
        try:
            fs.write(f"{place(container)}/policy.json", document.dumps({**known, "name": name}), 0o600)
        except Error:
            give_back(name, container)
            raise
        _give_back_others(name, container)


def _give_back_others(name: str, container: str) -> None:
    """What a container was called before, which a rename that was killed has left to it."""
    for each in listed(f"{fs.root()}/names"):
        if each != name:
            give_back(each, container)


def _link(name: str) -> str:
    return f"{fs.root()}/names/{name}"


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
