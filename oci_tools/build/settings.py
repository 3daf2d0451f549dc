"""What instructions change in an image's configuration: pure functions of it, image-spec config.md.

Each gives the text for the history.  ARG, RUN, COPY, ADD and what WORKDIR does to files are `stages.py`'s.
"""

from __future__ import annotations

import posixpath
import re

from oci_tools import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.build.instructions import Instruction

    Expand = Callable[[str], str]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = ["/bin/sh", "-c"]
WINDOWS = ["cmd", "/S", "/C"]
_SIGNALS = frozenset(
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP"
    " TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX".split()
)


class Settings:
    """The `config` member of a configuration, and what goes with it while a stage is built.

    inner    the member
    env      variables that RUN sees: NAME -> value
    system   the image's os
    author   MAINTAINER
    cmd      whether this stage said CMD
    """

    def __init__(self, inner: dict[str, Any], env: dict[str, str] | None = None, system: str = "linux") -> None:
        self.inner = inner
        self.system = system
        self.cmd = False
        self.author: str | None = None
        self._own: dict[str, Any] = {}
        self._places: dict[str, int] = {}  # of the names in Env
        self.env = dict(env or {})
        if env is None:
            for entry in inner.get("Env") or ():
                name, _, value = entry.partition("=")
                self.env[name] = value

    def set_env(self, name: str, value: str) -> None:
        """A variable of the image."""
        entries = self.own("Env", list)
        if len(self._places) != len(entries):
            self._places = {entry.partition("=")[0]: n for n, entry in reversed(list(enumerate(entries)))}
        at = self._places.setdefault(name, len(entries))
        entries[at:at + 1] = [f"{name}={value}"]
        self.env[name] = value

    def own(self, name: str, kind: Callable[[Any], Any] = dict) -> Any:
        """A member that may be changed: not the base's, which others have too."""
        if name not in self._own or self._own[name] is not self.inner.get(name):
            self._own[name] = self.inner[name] = kind(self.inner.get(name) or ())
        return self._own[name]

    def ensure_path(self) -> None:
        """Every image says one, save for Windows, as BuildKit has it."""
        names = {entry.partition("=")[0] for entry in self.inner.get("Env") or ()}
        if self.system != "windows" and "PATH" not in names:
            self.set_env("PATH", PATH)

    @property
    def user(self) -> str:
        return self.inner.get("User") or ""

    @property
    def workdir(self) -> str:
        """The working directory, clean."""
        return clean(self.inner.get("WorkingDir") or "/")

    def command(self, words: list[str], shell: bool) -> list[str]:
        """The words that are executed."""
        default = WINDOWS if self.system == "windows" else SHELL
        return [*(self.inner.get("Shell") or default), *(words or [""])] if shell else list(words)

    def path(self, text: str) -> str:
        """A path as seen from the working directory, clean."""
        return posixpath.normpath(posixpath.join("/", self.workdir, text)).replace("//", "/")


def clean(path: str) -> str:
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def apply(settings: Settings, instruction: Instruction, expand: Expand, many: Callable[[str], list[str]]) -> str:
    """Do what an instruction says that only changes settings; the history's text, "" where it has none."""
    return _KINDS[instruction.name](settings, instruction, expand, many)


def _env(settings: Settings, said: Instruction, expand: Expand, many: Any) -> str:
    # Variables are what they were before the instruction, for all of it.
    pairs = [(expand(name), expand(value)) for name, value in said.pairs]
    for name, value in pairs:
        if not name:
            raise said.wrong("ENV names can not be blank")
        settings.set_env(name, value)
    return "ENV " + " ".join(f"{name}={value}" for name, value in pairs)


def _label(settings: Settings, said: Instruction, expand: Expand, many: Any) -> str:
    pairs = [(expand(name), expand(value)) for name, value in said.pairs]
    settings.own("Labels").update(pairs)
    return "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)


def _maintainer(settings: Settings, said: Instruction, expand: Expand, many: Any) -> str:
    settings.author = said.value
    return f"MAINTAINER {said.value}"


def _cmd(settings: Settings, said: Instruction, expand: Expand, many: Any) -> str:
    settings.inner["Cmd"] = settings.command(said.args, said.shell)
    settings.cmd = True
    return f"CMD {_words(settings.inner['Cmd'])}"


def _entrypoint(settings: Settings, said: Instruction, expand: Expand, many: Any) -> str:
    words = settings.command(said.args, said.shell)
    settings.inner["Entrypoint"] = words
    if not words:
        del settings.inner["Entrypoint"]
    if not settings.cmd:  # what the base says was for its own entrypoint
        settings.inner.pop("Cmd", None)
    return f"ENTRYPOINT {_words(words)}"


def _shell(settings: Settings, said: Instruction, expand: Expand, many: Any) -> str:
    settings.inner["Shell"] = said.args
    return f"SHELL [{' '.join(said.args)}]"


def _healthcheck(settings: Settings, said: Instruction, expand: Expand, many: Any) -> str:
    settings.inner["Healthcheck"] = said.health
    return f"HEALTHCHECK {_json(said.health)}"


def _onbuild(settings: Settings, said: Instruction, expand: Expand, many: Any) -> str:
    settings.own("OnBuild", list).append(said.trigger)
    return ""


def _user(settings: Settings, said: Instruction, expand: Expand, many: Any) -> str:
    settings.inner["User"] = expand(said.value)
    return f"USER {settings.inner['User']}"


def _stopsignal(settings: Settings, said: Instruction, expand: Expand, many: Any) -> str:
    signal = expand(said.value)
    name = signal.upper().removeprefix("SIG")
    number = int(signal) if signal.isascii() and signal.isdigit() else 0
    offset = re.fullmatch(r"RTM(IN\+|AX-)(\d+)", name)
    if not (0 < number < 65 or name in _SIGNALS or (offset and int(offset[2]) < 16)):
        raise said.wrong(f"invalid signal: {signal}", said.value)
    settings.inner["StopSignal"] = signal
    return f"STOPSIGNAL {signal}"


def _volume(settings: Settings, said: Instruction, expand: Expand, many: Any) -> str:
    paths = [expand(path) for path in said.args]
    if not all(paths):
        raise said.wrong("VOLUME specified can not be an empty string")
    settings.own("Volumes").update((path, {}) for path in paths)
    return f"VOLUME [{' '.join(paths)}]"


def _expose(settings: Settings, said: Instruction, expand: Expand, many: Callable[[str], list[str]]) -> str:
    known = settings.own("ExposedPorts")
    for word in said.args:
        for text in many(word):
            for port in ports(text, said):
                known[port] = {}
    return f"EXPOSE {_map(known)}"


def ports(text: str, said: Instruction) -> list[str]:
    """PORT[-PORT][/PROTOCOL] as members of ExposedPorts; docker's [[IP:]HOST:] before it means nothing."""
    numbers, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    published, _, numbers = numbers.rpartition(":")
    _check_published(published, numbers, said, text)
    first, dash, last = numbers.partition("-")
    last = last if dash else first
    if not numbers:
        raise said.wrong(f"invalid port in EXPOSE: {text}", text)
    for number in (first, last):
        if not (number.isascii() and number.isdigit() and int(number) < 65536):
            raise said.wrong(f"invalid containerPort: {numbers}", text)
    if int(first) > int(last):
        raise said.wrong(f"invalid containerPort: {numbers}: the range is backwards", text)
    if protocol not in ("tcp", "udp", "sctp"):
        raise said.wrong(f"invalid proto: {protocol}", text)
    return [f"{number}/{protocol}" for number in range(int(first), int(last) + 1)]


def _check_published(published: str, numbers: str, said: Instruction, text: str) -> None:
    """What docker lets stand before a port: [IP:]PORT, which means nothing here."""
    address, _, host = published.rpartition(":")
    if address:
        from _socket import AF_INET, AF_INET6, inet_pton

        try:
            inet_pton(AF_INET6 if ":" in address else AF_INET, address.removeprefix("[").removesuffix("]"))
        except OSError:
            raise said.wrong(f"invalid IP address: {address}", text) from None
    if host and not re.fullmatch(r"\d{1,5}(-\d{1,5})?", host):
        raise said.wrong(f"invalid hostPort: {host}", text)
    if "-" in host and "-" in numbers and _count(host) != _count(numbers):
        what = f"invalid ranges specified for container and host Ports: {numbers} and {host}"
        raise said.wrong(what, text)


def _count(numbers: str) -> int:
    first, _, last = numbers.partition("-")
    return int(last) - int(first) if first.isdigit() and last.isdigit() else -1


def _map(known: dict[str, Any]) -> str:
    return "[" + " ".join(sorted(known)) + "]"


def _words(words: list[str]) -> str:
    return f"[{' '.join(map(_json, words))}]"


def _json(value: Any) -> str:
    return document.dumps(value).decode()


_KINDS = {
    "ENV": _env, "LABEL": _label, "MAINTAINER": _maintainer, "CMD": _cmd, "ENTRYPOINT": _entrypoint,
    "SHELL": _shell, "HEALTHCHECK": _healthcheck, "ONBUILD": _onbuild, "USER": _user, "STOPSIGNAL": _stopsignal,
    "VOLUME": _volume, "EXPOSE": _expose,
}  # fmt: skip
