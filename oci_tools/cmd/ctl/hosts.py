"""Where the engines are: addresses, contexts, and the sockets that lead there.

    unix:///run/oci/ocid.sock    tcp://HOST:PORT (TLS with --tls*, or a directory of certificates)
    ssh://[USER@]HOST[:PORT][/SOCKET]    by ssh(1) and `oci-ctl system dial-stdio` over there

Who is meant, the first that says so: --host, --context, $OCI_HOST, $OCI_CONTEXT, $DOCKER_HOST, the context in use, the
local socket.  A context is a file, $XDG_CONFIG_HOME/oci/contexts/NAME.json: {"host", "ca", "cert", "key"}; the file
`current` beside them names the one in use.
"""

from __future__ import annotations

import os
import socket

from oci_tools import document, fs
from oci_tools.errors import Error, Usage, missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-")
_DIAL = (
    "if command -v oci-ctl >/dev/null; then exec oci-ctl {host}system dial-stdio; "
    "else exec docker {host}system dial-stdio; fi"
)


class Host:
    """One engine: its address and the files of its TLS."""

    def __init__(
        self, address: str, ca: str = "", cert: str = "", key: str = "", verify: bool = True
    ) -> None:
        self.address = address
        self.ca, self.cert, self.key = ca, cert, key
        self.verify = verify
        self.kind, found, self.rest = address.partition("://")
        if not found or self.kind not in ("unix", "tcp", "ssh", "https") or not self.rest:
            raise Usage("invalid host", address, hint="unix:///PATH, tcp://HOST:PORT or ssh://[USER@]HOST")

    def connect(self) -> socket.socket:
        """A connected socket; an Error of code 75 where nobody answers."""
        try:
            if self.kind == "unix":
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(self.rest)
                return sock
            if self.kind == "ssh":
                return self._ssh()
            return self._tcp()
        except OSError as error:
            hint = "is ocid running?" if self.kind == "unix" else None
            raise Error("cannot connect to", self.address, error, hint, code=75) from None

    def _tcp(self) -> socket.socket:
        name, _, port = self.rest.rstrip("/").rpartition(":")
        if not port.isdecimal():
            raise Usage("invalid host", self.address, hint="tcp://HOST:PORT")
        sock = socket.create_connection((name.strip("[]"), int(port)), timeout=30)
        sock.settimeout(None)
        if not (self.ca or self.cert or self.kind == "https"):
            return sock
        import ssl

        context = ssl.create_default_context(cafile=self.ca or None)
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.cert:
            context.load_cert_chain(self.cert, self.key or None)
        return context.wrap_socket(sock, server_hostname=name.strip("[]"))

    def _ssh(self) -> socket.socket:
        import shlex
        import subprocess

        place, _, path = self.rest.partition("/")
        user, at, name = place.rpartition("@")
        name, colon, port = name.partition(":") if not name.startswith("[") else (name, "", "")
        if not name or name.startswith("-") or user.startswith("-"):
            raise Usage("invalid host", self.address, hint="ssh://[USER@]HOST[:PORT]")
        host = f"--host unix:///{shlex.quote(path)} " if path else ""
        words = ["ssh", *(["-l", user] if at else []), *(["-p", port] if colon else []), "-T", "--", name]
        ours, theirs = socket.socketpair()
        try:
            pipe = theirs.fileno()
            subprocess.Popen(
                [*words, _DIAL.format(host=host)], stdin=pipe, stdout=pipe, start_new_session=True
            )
        except FileNotFoundError:
            raise missing("ssh", "cannot connect to", self.address) from None
        finally:
            theirs.close()
        return ours


def chosen(args: Args) -> list[Host]:
    """The engines that are meant."""
    if args.host and args.context:
        raise Usage("--host and --context exclude each other")
    if args.host:
        return [_host(address, args) for address in args.host]
    if args.context:
        return [_of_context(name, args) for name in args.context]
    for address in (
        os.environ.get("OCI_HOST"),
        None if os.environ.get("OCI_CONTEXT") else os.environ.get("DOCKER_HOST"),
    ):
        if address:
            return [_host(address, args)]
    name = os.environ.get("OCI_CONTEXT") or current()
    return [_of_context(name, args)] if name and name != "default" else [_host(local(), args)]


def local() -> str:
    return f"unix://{fs.run()}/ocid.sock"


def _host(address: str, args: Args) -> Host:
    if "://" not in address:
        address = f"unix://{address}" if address.startswith("/") else f"tcp://{address}"
    where = os.environ.get("DOCKER_CERT_PATH") or ""
    usual = (
        where if address.startswith("tcp://") and (args.tls or os.environ.get("DOCKER_TLS_VERIFY")) else ""
    )
    said = ((args.tlscacert, "ca.pem"), (args.tlscert, "cert.pem"), (args.tlskey, "key.pem"))
    ca, cert, key = (path or (f"{usual}/{name}" if usual else "") for path, name in said)
    if args.tls and not (ca or cert):
        address = address.replace("tcp://", "https://", 1)
    return Host(address, ca, cert, key, args.tlsverify)


# -- contexts ------------------------------------------------------------------------------------


def directory() -> str:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return f"{base}/oci/contexts"


def _path(name: str) -> str:
    if not name or not _NAME.issuperset(name) or not name[0].isalnum():
        raise Usage("invalid context name", name, hint="letters, digits, and behind the first '_', '.', '+' and '-'")
    return f"{directory()}/{name}.json"


def names() -> list[str]:
    try:
        return sorted(
            name.removesuffix(".json") for name in os.listdir(directory()) if name.endswith(".json")
        )
    except FileNotFoundError:
        return []


def load(name: str) -> dict[str, Any]:
    path = _path(name)
    if not os.path.exists(path):
        raise Error("no such context", name)
    found: dict[str, Any] = document.load(path)
    return found


def save(name: str, said: dict[str, str]) -> None:
    if name == "default":
        raise Usage("context name is reserved", name)
    path = _path(name)
    fs.make_private(directory())
    if os.path.exists(path):
        raise Error("context exists", name)
    Host(said["host"])
    fs.write(path, document.dumps(said, indent=2), 0o600)


def remove(name: str) -> None:
    load(name)
    if current() == name:
        raise Error("context is in use", name, hint="oci-ctl context use default")
    os.unlink(_path(name))


def current() -> str:
    try:
        with open(f"{directory()}/current", encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def use(name: str) -> None:
    if name != "default":
        load(name)
    fs.make_private(directory())
    fs.write(f"{directory()}/current", f"{name}\n".encode(), 0o600)


def _of_context(name: str, args: Args) -> Host:
    if name == "default":
        return _host(local(), args)
    said = load(name)
    return Host(
        said["host"], said.get("ca") or "", said.get("cert") or "", said.get("key") or "", args.tlsverify
    )
