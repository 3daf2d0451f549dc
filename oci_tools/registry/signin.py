"""Credentials for a registry, or for a path in one, stored after it has accepted them; and dropped."""

from __future__ import annotations

from oci_tools.errors import Usage
from oci_tools.registry import hosts
from oci_tools.registry.client import Registry
from oci_tools.registry.credentials import Credential, Credentials
from oci_tools.registry.words import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def change(args: Any) -> str:
    """Do what --login or --logout says; where the credentials are now, or were."""
    if args.ref or (args.login and args.logout):
        raise Usage("--login and --logout stand alone")
    if "://" in (args.login or ""):
        raise Usage("not a registry", args.login, hint="without a scheme")
    credentials = Credentials(args.authfile)
    if args.logout:
        return credentials.drop(args.logout)
    user = args.username or _ask("user: ", False)
    password = _ask("password: ", True)
    return credentials.store(args.login, _checked(args, Credential(user, password)))


def _ask(prompt: str, secret: bool) -> str:
    """A line from the terminal, without echo if it is secret; else from standard input."""
    import sys

    if sys.stdin.isatty() and secret:
        import getpass

        return getpass.getpass(prompt)
    if sys.stdin.isatty():
        sys.stderr.write(prompt)
        sys.stderr.flush()
    line = sys.stdin.readline().rstrip("\n")
    if not line:
        raise Usage(
            "nothing on standard input", hint="the user's name, unless --username says it, then the password"
        )
    return line


def _checked(args: Any, credential: Credential) -> Credential:
    """A credential that the registry accepts; else an Error."""
    host = args.login.partition("/")[0]
    with options(args, "login") as chosen:
        api_host = hosts.API_HOSTS.get(host, host)
        registry = Registry(chosen.client, chosen.credentials.only(credential), host, api_host)
        with registry.request("GET", "/v2/") as answer:
            if answer.status != 200:
                raise registry.fail(answer, "cannot log in to", args.login)
    return credential
