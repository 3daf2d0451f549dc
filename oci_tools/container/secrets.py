"""--secret: what a container may read and no image should hold, in podman's words and oci-build's.

    --secret NAME[,src=FILE|,env=VARIABLE|,fd=N][,type=mount|env][,target=PATH|VARIABLE][,uid=N][,gid=N][,mode=OCTAL]

Without a source it is the file of that name in `$OCI_ROOT/secrets`, where people put it.  It is copied when the
container is made, into the container's directory, and goes with that:

    containers/ID/secrets/run/NAME    what is to be seen at /run/secrets/NAME, all as one mount
    containers/ID/secrets/N           what has an absolute path as its target
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.container import mounts
from oci_tools.errors import Error, Usage
from oci_tools.runtime import spec as specs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.container.host import Host

WHERE = "/run/secrets"
_LARGEST = 512_000  # bytes, as with podman
_KEYS = ("id", "src", "env", "fd", "type", "target", "uid", "gid", "mode")
_ALIASES = {"source": "src", "file": "src", "dst": "target", "destination": "target"}


def add(spec: dict[str, Any], place: str, words: list[str], host: Host) -> None:
    """Copy the secrets into a container's directory, and have `spec` show them."""
    wanted: list[mounts.Mount] = []
    for number, word in enumerate(words):
        said = parse(word)
        data = _read(said, host)
        if said["type"] == "env":
            name = said.get("target") or said["id"]
            if b"\0" in data or "=" in name:
                raise Error("cannot set secret as variable", name, "its name or its value is none of a variable")
            spec["process"]["env"] = specs.environment(spec["process"].get("env", []), [f"{name}={os.fsdecode(data)}"])
            continue
        target = said.get("target") or said["id"]
        absolute = target.startswith("/")
        _write(f"{place}/secrets/{number if absolute else 'run'}", "" if absolute else target, data, said)
        if absolute:
            wanted.append(mounts.bind(f"{place}/secrets/{number}", mounts.normal(target), True, flat=True))
        elif all(each["destination"] != WHERE for each in wanted):
            wanted.append(mounts.bind(f"{place}/secrets/run", WHERE, True, flat=True))
    for each in wanted if not host.rootless and _has_users(spec) else ():
        host.show_as_inside(each)  # root's inside, too
    mounts.place(spec, wanted)


def parse(word: str) -> dict[str, str]:
    """The fields of one --secret; `id` and `type` are always there."""
    said: dict[str, str] = {}
    for at, field in enumerate(word.split(",")):
        key, equals, value = field.partition("=")
        if not equals and at == 0:
            key, value = "id", field
        key = _ALIASES.get(key, key)
        if key not in _KEYS or not value or key in said:
            raise Usage("invalid value for --secret", word, f"'{field}'")
        said[key] = value
    said.setdefault("id", os.path.basename(said.get("src") or said.get("env") or ""))
    if not said["id"] or said["id"] in (".", "..") or "/" in said["id"]:
        raise Usage("invalid value for --secret", word, "it has no name")
    if sum(key in said for key in ("src", "env", "fd")) > 1:
        raise Usage("invalid value for --secret", word, "only one of src, env and fd can be")
    if said.setdefault("type", "mount") not in ("mount", "env"):
        raise Usage("invalid value for --secret", word, "its type is mount or env")
    if said["type"] == "mount" and not _stays(said.get("target", "x")):
        raise Usage("invalid value for --secret", word, "its target leads upwards")
    for key, digits in (("uid", "0123456789"), ("gid", "0123456789"), ("fd", "0123456789"), ("mode", "01234567")):
        if key in said and (said[key].strip(digits) or len(said[key]) > 10 or said["type"] == "env" and key != "fd"):
            raise Usage("invalid value for --secret", word, f"'{key}={said[key]}'")
    return said


def _stays(target: str) -> bool:
    return ".." not in target.split("/") and target.strip("/") != ""


def _has_users(spec: dict[str, Any]) -> bool:
    return any(each["type"] == "user" for each in spec["linux"].get("namespaces", ()))


def _read(said: dict[str, str], host: Host) -> bytes:
    name = said["id"]
    if "env" in said:
        if said["env"] not in host.environ:
            raise Error(f"cannot use secret '{name}'", None, f"variable {said['env']} is not set")
        return os.fsencode(host.environ[said["env"]])
    path = os.path.expanduser(said["src"]) if "src" in said else f"{fs.root()}/secrets/{name}"
    try:
        return _all(int(said["fd"])) if "fd" in said else document.read(path, _LARGEST)
    except (Error, OSError) as error:
        cause = error.cause if isinstance(error, Error) else error
        if isinstance(cause, FileNotFoundError) and "src" not in said:
            raise Error("no such secret", name, hint=f"put it in {path}, or say src=FILE") from None
        raise Error(f"cannot read secret '{name}'", None if "fd" in said else path, cause) from None


def _all(fd: int) -> bytes:
    with open(fd, "rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise Error("too large", None, f"larger than {_LARGEST} bytes")
    return data


def _write(directory: str, name: str, data: bytes, said: dict[str, str]) -> None:
    """The file `directory`/`name`, or `directory` itself, with its owner and mode."""
    path = f"{directory}/{name}" if name else directory
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    uid, gid = int(said.get("uid", "0")), int(said.get("gid", "0"))
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
            if uid or gid:
                os.fchown(fd, uid, gid)
            os.fchmod(fd, int(said.get("mode", "444"), 8))
    except FileExistsError:
        raise Usage("duplicate secret", said["id"]) from None
    except OSError as error:
        raise Error(f"cannot give secret '{said['id']}' to", f"{uid}:{gid}", error) from None
