"""Where what a container writes is kept: --log-driver, by docker's and podman's names.

    k8s-file    lines as Kubernetes has them: every byte can be told again
    json-file   docker's JSON lines; bytes that are not UTF-8 become U+FFFD, as there
    local       k8s-file whose full files are compressed
    journald    entries of systemd's journal, by its socket     syslog  messages of RFC 5424, to a socket or address
                (both besides a k8s-file, from which `logs` tells, as docker's dual logging)
    none        nowhere: only a little, for who is attached

--log-opt: max-size=SIZE and max-file=N of the files (16m, 4), compress=true of full ones, labels=NAMES, env=NAMES and
tag=TEXT for json-file's "attrs" and the journal; syslog-address=[unix|unixgram|udp|tcp]://..., syslog-facility=NAME.
What cannot be told now is lost, so that no container waits for who reads.
"""

from __future__ import annotations

import os
from _json import encode_basestring

from oci_tools import document
from oci_tools.container import log
from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    from oci_tools.container.log import Form
    from oci_tools.container.place import Place

DRIVERS = ("k8s-file", "json-file", "local", "journald", "syslog", "none")
JOURNAL = "/run/systemd/journal/socket"
_LITTLE = 1 << 16  # bytes kept with `none`
_FACILITIES = (
    "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp audit alert clock "
    "local0 local1 local2 local3 local4 local5 local6 local7"
).split()
_TEXTS = ("labels", "env", "tag", "syslog-address", "syslog-facility")


def options(driver: str, words: list[str]) -> dict[str, Any]:
    """--log-driver and --log-opt, as policy.json has them."""
    from oci_tools.container import units

    found: dict[str, Any] = {"driver": driver, "size": log.SIZE, "files": log.FILES, "compress": driver == "local"}
    for word in words:
        name, _, value = word.partition("=")
        if name == "max-size":
            found["size"] = units.size(value, "--log-opt max-size")
        elif name == "max-file" and value.isascii() and value.isdigit() and len(value) < 4:
            found["files"] = int(value)
        elif name == "compress" and value in ("true", "false"):
            found["compress"] = value == "true"
        elif name in _TEXTS and value:
            found[name] = value
        elif name == "mode" and value in ("blocking", "non-blocking"):
            pass  # nobody is ever blocked: what is not read waits in files
        elif name == "max-buffer-size":
            units.size(value, "--log-opt max-buffer-size")
        else:
            raise Usage("invalid value for --log-opt", word, hint="max-size=SIZE, max-file=N, compress=true, ...")
    if not found["size"] or not found["files"]:
        raise Usage("invalid value for --log-opt", "0", hint="at least one byte in one file")
    if found.get("syslog-facility", "daemon") not in _FACILITIES:
        raise Usage("invalid value for --log-opt", found["syslog-facility"], hint=" ".join(_FACILITIES))
    if driver == "none":
        found.update(size=_LITTLE, files=1)
    if driver == "journald" and not os.path.exists(JOURNAL):
        raise Error("cannot log to the journal", JOURNAL, "journald is not there")
    if driver == "syslog":
        _address(found.get("syslog-address", "unixgram:///dev/log"))
    return found


def writer(held: Place) -> log.Writer:
    """What writes a container's log."""
    said = held.policy.get("log") or {}
    size, files = said.get("size", log.SIZE), said.get("files", log.FILES)
    form: Form = log.kubernetes
    if said.get("driver") == "json-file":
        form = json_lines(_attributes(held, said))
    told: Any = None
    if said.get("driver") == "journald":
        told = _Journal(held, said)
    elif said.get("driver") == "syslog":
        told = _Syslog(held, said)
    made = log.Writer(f"{held.path}/log", size, files, form, bool(said.get("compress")))
    if told:
        made.also = told
    return made


def _attributes(held: Place, said: dict[str, Any]) -> dict[str, str]:
    """What the options want to be said with each line."""
    labels = held.policy.get("labels") or {}
    found = {name: labels[name] for name in said.get("labels", "").split(",") if name in labels}
    if said.get("env"):
        known = dict(word.partition("=")[::2] for word in held.spec()["process"].get("env") or ())
        found.update({name: known[name] for name in said["env"].split(",") if name in known})
    if said.get("tag"):
        found["tag"] = said["tag"]
    return found


def json_lines(attributes: dict[str, str]) -> Form:
    """The form of docker's json-file."""
    more = f',"attrs":{document.dumps(attributes).decode()}' if attributes else ""

    def form(stream: bytes, now: int, data: bytes) -> bytes:
        end = f',"stream":"{stream.decode()}"{more},"time":"{log.stamp(now).decode()}"}}\n'
        *lines, rest = data.decode("utf-8", "replace").split("\n")
        text = "".join([f'{{"log":{encode_basestring(line + chr(10))}{end}' for line in lines])
        return (text + (f'{{"log":{encode_basestring(rest)}{end}' if rest else "")).encode()

    return form


# -- to others -----------------------------------------------------------------------------------


def _address(text: str) -> tuple[str, Any]:
    kind, _, rest = text.partition("://")
    if kind in ("unix", "unixgram") and rest.startswith("/"):
        return kind, rest
    host, _, port = rest.rpartition(":")
    if kind in ("udp", "tcp") and host and port.isdecimal() and int(port) < 65536:
        return kind, (host.strip("[]"), int(port))
    raise Usage("invalid value for --log-opt syslog-address", text, hint="unixgram:///dev/log, udp://HOST:PORT")


class _Told:
    """Tells a socket each line, with the rest of a line that came in pieces."""

    def __init__(self, kind: str, where: Any) -> None:
        self._kind, self._where = kind, where
        self._sock: socket.socket | None = None
        self._begun: dict[bytes, bytes] = {}

    def write(self, stream: bytes, data: bytes) -> None:
        *lines, rest = (self._begun.pop(stream, b"") + data).split(b"\n")
        if len(rest) > 1 << 16:
            lines, rest = [*lines, rest], b""
        if rest:
            self._begun[stream] = rest
        for line in lines:
            self._send(self._message(stream, line))

    def end(self) -> None:
        """Whoever wrote has ended: what was no whole line yet is one."""
        for stream, rest in self._begun.items():
            self._send(self._message(stream, rest))
        self._begun.clear()

    def _message(self, stream: bytes, line: bytes) -> bytes:
        raise NotImplementedError

    def _send(self, message: bytes) -> None:
        """Send it now or never."""
        try:
            if self._sock is None:
                self._sock = self._connect()
            self._sock.send(message)
        except BlockingIOError:
            pass
        except OSError:
            if self._sock is not None:
                self._sock.close()
            self._sock = None

    def _connect(self) -> socket.socket:
        import socket

        if self._kind in ("unix", "unixgram"):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if self._kind == "unix" else socket.SOCK_DGRAM)
        else:
            family = socket.AF_INET6 if ":" in self._where[0] else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM if self._kind == "tcp" else socket.SOCK_DGRAM)
        sock.settimeout(1)
        sock.connect(self._where)
        sock.setblocking(False)
        return sock


class _Journal(_Told):
    """systemd's native protocol: NAME=VALUE lines, or NAME, a length and the value, where that has a newline."""

    def __init__(self, held: Place, said: dict[str, Any]) -> None:
        super().__init__("unixgram", JOURNAL)
        fields = {
            "CONTAINER_ID": held.id[:12], "CONTAINER_ID_FULL": held.id, "CONTAINER_NAME": held.policy["name"] or "",
            "CONTAINER_TAG": said.get("tag", held.id[:12]), "SYSLOG_IDENTIFIER": said.get("tag", held.id[:12]),
            "IMAGE_NAME": held.policy["image"],
            **{name.upper(): value for name, value in _attributes(held, said).items() if name.isidentifier()},
        }  # fmt: skip
        self._fields = b"".join(_field(name.encode(), value.encode()) for name, value in fields.items())

    def _message(self, stream: bytes, line: bytes) -> bytes:
        level = b"3" if stream == b"stderr" else b"6"
        return self._fields + _field(b"PRIORITY", level) + _field(b"MESSAGE", line)


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name + b"=" + value + b"\n"


class _Syslog(_Told):
    """RFC 5424; over TCP each message is a line (RFC 6587, 3.4.2)."""

    def __init__(self, held: Place, said: dict[str, Any]) -> None:
        super().__init__(*_address(said.get("syslog-address", "unixgram:///dev/log")))
        self._facility = _FACILITIES.index(said.get("syslog-facility", "daemon")) * 8
        self._tag = said.get("tag", held.id[:12]).encode()
        self._end = b"\n" if self._kind in ("tcp", "unix") else b""

    def _message(self, stream: bytes, line: bytes) -> bytes:
        import time

        level = self._facility + (3 if stream == b"stderr" else 6)
        host = os.uname().nodename.encode()
        when = log.stamp(time.time_ns())[:26] + b"Z"
        return b"<%d>1 %b %b %b %d - - %b" % (level, when, host, self._tag, os.getpid(), line) + self._end


