"""Instructions of a Dockerfile that change an image's configuration, as options of `oci-pack` and `oci-image config`.

What `docker commit --change` and `docker import --change` send, and what a container's Config says.
"""

from __future__ import annotations

import re
import shlex

from oci_tools import document
from oci_tools.engine.api.answers import Refused
from oci_tools.engine.api.wording import seconds
from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


# What a shell would take for a variable, behind what it would not: '...', \\x.
_VARIABLE = re.compile(r"('[^']*'|\\.)|\$(\w+)|\$\{(\w+)(?:(:[-+])([^}]*))?\}", re.DOTALL)
_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")
_SYSTEMS = frozenset(
    "android darwin dragonfly freebsd illumos ios js linux macos netbsd openbsd plan9 solaris wasip1 windows".split()
)
_MACHINES = frozenset(
    "386 aarch64 amd64 arm arm64 armbe arm64be armel armhf i386 loong64 mips mipsle mips64 mips64le ppc ppc64 ppc64le "
    "riscv riscv64 s390 s390x sparc sparc64 wasm x86_64 x86-64".split()
)


def platform(text: str, only: str = "linux") -> str:
    """A platform of a request, in containerd's words if it is none; `only` is a system that it must be of."""
    parts = text.lower().split("/")
    for part in parts:
        if not _COMPONENT.fullmatch(part):
            raise Refused(400, f'"{part}" is an invalid component of "{text}": platform specifier component must match '
                               '"^[A-Za-z0-9_.-]+$": invalid argument')  # fmt: skip
    if len(parts) == 1 and parts[0] not in _SYSTEMS | _MACHINES:
        raise Refused(400, f'"{text}": unknown operating system or architecture: invalid argument')
    if len(parts) > 3:
        raise Refused(400, f'"{text}": cannot parse platform specifier: invalid argument')
    if only and parts[0] != only and not (len(parts) == 1 and parts[0] in _MACHINES):
        raise Refused(400, "operating system is not supported")
    return text


def options(changes: Iterable[str], environment: Iterable[str] = ()) -> list[str]:
    """The options of some instructions, in which variables may stand; each of `changes` may be many lines."""
    found: list[str] = []
    known = dict(each.partition("=")[::2] for each in environment)
    for change in changes:
        for line in change.splitlines():
            if line.strip():
                made = list(_instruction(*line.strip().partition(" ")[::2], known))
                known.update(each[6:].partition("=")[::2] for each in made if each.startswith("--env="))
                found += made
    return found


def _told(text: str, known: dict[str, str]) -> str:
    """A text with the values of its variables."""

    def value(match: re.Match[str]) -> str:
        asis, plain, braced, sign, other = match.groups()
        if asis is not None:
            return asis
        has = known.get(plain or braced) or ""
        return other if (sign == ":-" and not has) or (sign == ":+" and has) else "" if sign == ":+" else has

    return _VARIABLE.sub(value, text)


def _instruction(name: str, rest: str, known: dict[str, str]) -> Iterator[str]:
    name, rest = name.upper(), rest.strip()
    if name in ("ENV", "LABEL", "EXPOSE", "VOLUME", "USER", "WORKDIR", "STOPSIGNAL"):
        rest = _told(rest, known)
    if name in ("CMD", "ENTRYPOINT"):
        yield f"--{name.lower()}={_command(rest)}"
    elif name == "ENV":
        pairs = _pairs(rest)
        known.update(each.partition("=")[::2] for each in pairs)  # for the instructions behind it
        yield from (f"--env={each}" for each in pairs)
    elif name == "LABEL":
        yield from (f"--label={each}" for each in _pairs(rest))
    elif name == "EXPOSE":
        yield from (f"--expose={each}" for each in rest.split())
    elif name == "VOLUME":
        words = _json(rest)
        yield from (f"--volume={each}" for each in (words if words is not None else rest.split()))
    elif name in ("USER", "WORKDIR", "STOPSIGNAL"):
        option = {"USER": "user", "WORKDIR": "workdir", "STOPSIGNAL": "stop-signal"}[name]
        yield f"--{option}={rest}"
    elif name in ("ONBUILD", "HEALTHCHECK"):
        yield f"--{name.lower()}={rest}"
    else:
        raise Refused(400, f"{name.lower()} is not a valid change command")


def _json(text: str) -> list[str] | None:
    try:
        found = document.loads(text)
    except Error:
        return None
    return found if isinstance(found, list) and all(isinstance(each, str) for each in found) else None


def _command(text: str) -> str:
    """Words as a JSON list, a line as what the shell is told."""
    words = _json(text)
    return document.dumps(words if words is not None else ["/bin/sh", "-c", text]).decode()


def _pairs(text: str) -> list[str]:
    """NAME=VALUE words with the shell's quotes, or the old form `NAME the rest`."""
    try:
        words = shlex.split(text)
    except ValueError:
        raise Refused(400, f"unexpected end of statement while looking for matching quote: {text}") from None
    if words and "=" not in words[0]:
        name, _, value = text.partition(" ")
        return [f"{name}={value.strip()}"]
    if not all("=" in word for word in words):
        raise Refused(400, f"Syntax error - can't find = in \"{next(w for w in words if '=' not in w)}\"")
    return words


def of_config(config: dict[str, Any]) -> list[str]:
    """The options that give an image what a container's Config says."""
    words = ["--clear=env", "--clear=cmd", "--clear=entrypoint"]
    words += [f"--env={each}" for each in config.get("Env") or () if "=" in each]
    for key, option in (("Cmd", "cmd"), ("Entrypoint", "entrypoint"), ("Shell", "shell")):
        if config.get(key):
            words.append(f"--{option}={document.dumps(config[key]).decode()}")
    words += [f"--label={key}={value}" for key, value in (config.get("Labels") or {}).items()]
    words += [f"--expose={port}" for port in config.get("ExposedPorts") or ()]
    words += [f"--volume={path}" for path in config.get("Volumes") or ()]
    for key, option in (("User", "user"), ("WorkingDir", "workdir"), ("StopSignal", "stop-signal")):
        if config.get(key):
            words.append(f"--{option}={config[key]}")
    return [*words, *_health(config.get("Healthcheck") or {})]


def _health(check: dict[str, Any]) -> list[str]:
    test = check.get("Test") or []
    if test[:1] == ["NONE"]:
        return ["--healthcheck=NONE"]
    if test[:1] not in (["CMD"], ["CMD-SHELL"]) or len(test) < 2:
        return []
    said = [
        f"--{option}={seconds(check[key])}"
        for key, option in (("Interval", "interval"), ("Timeout", "timeout"), ("StartPeriod", "start-period"))
        if check.get(key)
    ]
    if check.get("Retries"):
        said.append(f"--retries={check['Retries']}")
    command = test[1] if test[0] == "CMD-SHELL" else document.dumps(test[1:]).decode()
    return [f"--healthcheck={' '.join([*said, 'CMD', command])}"]
