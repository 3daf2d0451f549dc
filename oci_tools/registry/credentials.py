"""Who we are to a registry: the files and helpers that Docker and containers/image share.

    auth.json, config.json   {"auths": {"HOST[/path]": {"auth": base64("user:password"),
                              "identitytoken": "..."}}, "credHelpers": {"HOST": "NAME"}, "credsStore": "NAME"}
    helper                   `docker-credential-NAME get|store|erase`, JSON on its pipes

Read, in this order, the first that knows the registry decides (containers-auth.json(5)):
--auth-fd; --authfile or $REGISTRY_AUTH_FILE, alone; $XDG_RUNTIME_DIR/containers/auth.json, or without that
variable /run/containers/UID/auth.json, which is only read;
~/.config/containers/auth.json; $DOCKER_CONFIG or ~/.docker/config.json; ~/.dockercfg.
Passwords never stand in argv, in the environment or in messages.
"""

from __future__ import annotations

import os

from oci_tools import document, fs
from oci_tools.errors import Error
from oci_tools.image import shortnames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HUB = "docker.io"
HUB_KEYS = (HUB, "index.docker.io", "registry-1.docker.io")
HUB_SERVER = "https://index.docker.io/v1/"  # how Docker writes it in files and to helpers
TOKEN_USER = "<token>"  # a helper's way to say that the secret is an identity token


class Credential:
    """A user's name and password, or an identity token, or a ready bearer token."""

    def __init__(self, user: str = "", password: str = "", identity: str = "", bearer: str = "") -> None:
        self.user = user
        self.password = password
        self.identity = identity
        self.bearer = bearer

    def basic(self) -> str:
        """The value of an Authorization header."""
        from binascii import b2a_base64

        return "Basic " + b2a_base64(f"{self.user}:{self.password}".encode(), newline=False).decode()

    def __repr__(self) -> str:
        return f"<Credential of {self.user!r}>"


class Credentials:
    """Looks credentials up; what was found for a registry is remembered."""

    def __init__(self, authfile: str | None = None, auth_fd: int | None = None) -> None:
        self._given = _from_fd(auth_fd) if auth_fd is not None else None
        self.authfile = authfile or os.environ.get("REGISTRY_AUTH_FILE") or None
        self._found: dict[str, Credential | None] = {}

    def only(self, credential: Credential) -> Credentials:
        """One credential for whoever is asked: to try it."""
        tried = Credentials(self.authfile)
        tried._given = {"username": credential.user, "password": credential.password}
        return tried

    def find(self, host: str, repository: str = "") -> Credential | None:
        """What to say to this registry about this repository; None: nothing."""
        key = f"{host}/{repository}" if repository else host
        if key not in self._found:
            self._found[key] = self._find(host, repository)
        return self._found[key]

    def _find(self, host: str, repository: str) -> Credential | None:
        if self._given is not None:
            return (
                _in_file(self._given, host, repository, "--auth-fd")
                if "auths" in self._given
                else _said(self._given)
            )
        for helper in shortnames.helpers():
            found = self._in_files(host, repository) if helper == shortnames.FILES else _ask(helper, host)
            if found:
                return found
        return None

    def _in_files(self, host: str, repository: str) -> Credential | None:
        for path in self._paths():
            try:
                found = document.load(path)
            except Error as error:
                if isinstance(error.cause, (FileNotFoundError, NotADirectoryError)):
                    continue
                raise
            if not isinstance(found, dict):
                raise Error("cannot read credentials", path, "not a json object")
            if os.path.basename(path) == ".dockercfg":
                found = {"auths": found}
            credential = _in_file(found, host, repository, path)
            if credential:
                return credential
        return None

    def _paths(self) -> list[str]:
        if self.authfile:
            return [self.authfile]
        home = os.path.expanduser("~")
        config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        docker = os.environ.get("DOCKER_CONFIG") or f"{home}/.docker"
        first = f"{runtime}/containers/auth.json" if runtime else f"/run/containers/{os.getuid()}/auth.json"
        return [first, f"{config}/containers/auth.json", f"{docker}/config.json", f"{home}/.dockercfg"]

    # -- storing ------------------------------------------------------------------------

    def store(self, host: str, credential: Credential) -> str:
        """Keep a credential, in the helper that the file names or in the file; where it is now."""
        path, found = self._own_file()
        helper = _own_helper(found, host)
        if helper:
            said = {"ServerURL": _server(host), "Username": credential.user, "Secret": credential.password}
            _run_helper(helper, "store", document.dumps(said))
            return f"docker-credential-{helper}"
        from binascii import b2a_base64

        text = b2a_base64(f"{credential.user}:{credential.password}".encode(), newline=False).decode()
        found.setdefault("auths", {})[host] = {"auth": text}
        self._write(path, found)
        return path

    def drop(self, host: str) -> str:
        """Forget a credential; where it was."""
        path, found = self._own_file()
        helper = _own_helper(found, host)
        if helper:
            _run_helper(helper, "erase", _server(host).encode())
            return f"docker-credential-{helper}"
        auths = found.get("auths", {})
        keys = [key for key in auths if _normal(key) == _normal(host)]
        if not keys:
            raise Error("not logged in to", host, f"not in {path}")
        for key in keys:
            del auths[key]
        self._write(path, found)
        return path

    def _own_file(self) -> tuple[str, dict[str, Any]]:
        """The file that we write, and what is in it now."""
        path = self.authfile or self._paths()[0 if os.environ.get("XDG_RUNTIME_DIR") else 1]
        try:
            found = document.load(path)
        except Error as error:
            if not isinstance(error.cause, FileNotFoundError):
                raise
            found = {}
        if not isinstance(found, dict) or not isinstance(found.get("auths", {}), dict):
            raise Error("cannot read credentials", path, "not of the form of auth.json")
        return path, found

    def _write(self, path: str, found: dict[str, Any]) -> None:
        directory = os.path.dirname(os.path.abspath(path))
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
        except OSError as error:
            raise Error("cannot make directory", directory, error) from None
        fs.write_to(path, document.dumps(found, indent=2), 0o600)


def _from_fd(fd: int) -> dict[str, Any]:
    """What a parent says on a descriptor: auth.json, or one object as the Engine API has it."""
    try:
        with open(fd, "rb") as file:
            found = document.loads(file.read(1 << 20), "--auth-fd")
    except OSError as error:
        raise Error("cannot read", "--auth-fd", error) from None
    except (ValueError, TypeError):  # of no number that a descriptor can have
        raise Error("cannot read", "--auth-fd", f"{fd} is no descriptor") from None
    if not isinstance(found, dict):
        raise Error("cannot read", "--auth-fd", "not a json object")
    return found


def _said(found: dict[str, Any]) -> Credential | None:
    """An AuthConfig of the Engine API."""

    def text(key: str) -> str:
        value = found.get(key)
        return value if isinstance(value, str) else ""

    credential = Credential(text("username"), text("password"), text("identitytoken"), text("registrytoken"))
    return credential if credential.user or credential.identity or credential.bearer else None


def _in_file(found: dict[str, Any], host: str, repository: str, path: str) -> Credential | None:
    helper = _helper_for(found, host)
    if helper:
        credential = _ask(helper, host)
        if credential:
            return credential
    auths = found.get("auths") or {}
    if not isinstance(auths, dict):
        raise Error("cannot read credentials", path, "auths is not an object")
    known: dict[str, Any] = {}
    for key, value in auths.items():
        known.setdefault(_normal(key), value)
    for key in _keys(host, repository):
        if key in known:
            return _entry(known[key], path, key)
    return None


def _keys(host: str, repository: str) -> list[str]:
    """HOST/a/b, HOST/a, HOST: the most specific entry decides."""
    host = _normal(host)
    parts = repository.split("/") if repository else []
    return ["/".join([host, *parts[:count]]) for count in range(len(parts), -1, -1)]


def _normal(key: str) -> str:
    """A key of `auths`: Docker writes URLs into some, containers/image paths."""
    bare = key.partition("://")[2] if "://" in key else key
    if "://" in key:  # then what follows the host is the API's version, not a repository
        bare = bare.partition("/")[0]
    host, slash, rest = bare.rstrip("/").partition("/")
    host = HUB if host.lower() in HUB_KEYS else host.lower()
    return host + slash + rest if rest not in ("v1", "v2") else host


def _entry(value: Any, path: str, key: str) -> Credential | None:
    if not isinstance(value, dict):
        raise Error("cannot read credentials", path, f"auths.{key} is not an object")
    user, password = value.get("username") or "", value.get("password") or ""
    if value.get("auth"):
        from binascii import a2b_base64

        try:
            text = a2b_base64(str(value["auth"])).decode()
        except ValueError:
            raise Error("cannot read credentials", path, f"auths.{key}.auth is not base64") from None
        user, colon, password = text.partition(":")
        password = password.rstrip("\0")
        if not colon:
            raise Error("cannot read credentials", path, f"auths.{key}.auth is not user:password")
    credential = Credential(
        user, password, str(value.get("identitytoken") or ""), str(value.get("registrytoken") or "")
    )
    return credential if user or credential.identity or credential.bearer else None


# -- helpers ------------------------------------------------------------------------------


def _server(host: str) -> str:
    return HUB_SERVER if host == HUB else host


def _helper_for(found: dict[str, Any], host: str) -> str:
    """The name of the helper that keeps a registry's credential; "" for none."""
    helpers = found.get("credHelpers")
    if isinstance(helpers, dict):
        for key, name in helpers.items():
            if _normal(key) == _normal(host) and isinstance(name, str):
                return name  # an empty name says: none for this one
    store = found.get("credsStore")
    return store if isinstance(store, str) else ""


def _own_helper(found: dict[str, Any], key: str) -> str:
    """The helper that is to keep what is stored for a registry, or for a path in it, which no helper can."""
    host, slash, _ = key.partition("/")
    helper = _helper_for(found, host)
    if helper and slash:
        raise Error("cannot keep credentials for", key, f"docker-credential-{helper} has one entry for all of '{host}'")
    return helper


def _ask(helper: str, host: str) -> Credential | None:
    said = _run_helper(helper, "get", _server(host).encode())
    if said is None:
        return None
    found = document.loads(said, f"answer of docker-credential-{helper}")
    if not isinstance(found, dict):
        raise Error("cannot use", f"docker-credential-{helper}", "its answer is no json object")
    user, secret = str(found.get("Username") or ""), str(found.get("Secret") or "")
    if user == TOKEN_USER:
        return Credential(identity=secret)
    return Credential(user, secret) if user or secret else None


def _run_helper(name: str, verb: str, data: bytes) -> bytes | None:
    """A helper's answer; None when it knows nothing."""
    import subprocess

    program = f"docker-credential-{name}"
    if "/" in name:
        raise Error("cannot use credential helper", name, "its name holds a '/'")
    try:
        done = subprocess.run([program, verb], input=data, capture_output=True, check=False)
    except OSError as error:
        raise Error("cannot run credential helper", program, error) from None
    if done.returncode:
        text = (done.stdout or done.stderr).decode("utf-8", "replace").strip()
        if "not found" in text:  # the one sentence that all helpers share
            return None
        raise Error(
            "credential helper failed",
            program,
            text.splitlines()[0] if text else f"exit code {done.returncode}",
        )
    return done.stdout
