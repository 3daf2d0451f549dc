"""oci-net unshare: a command where a plain user has bridge networks (container/shared.py)."""

from __future__ import annotations

import os

from oci_tools import cli
from oci_tools.container import shared
from oci_tools.errors import Error, Usage
from oci_tools.net import ports, within
from oci_tools.runtime import executable


def unshare(args: cli.Args) -> int:
    """Run a command there; does not return where it could be executed."""
    if os.geteuid() == 0:
        raise Error("cannot unshare", None, "root's networks are the host's", "nsenter(1)")
    words = args.cmd or [os.environ.get("SHELL") or "/bin/sh"]
    published = [mapping for word in args.publish for mapping in ports.parse(word)]
    if any(not mapping["hostPort"] for mapping in published):
        raise Usage("port of the host is missing", args.publish[0])
    shared.enter()
    within.join(published)
    program = executable.find(words[0], dict(os.environ))
    try:
        os.execve(program, words, os.environ)
    except OSError as error:
        raise Error("cannot run", words[0], error) from None
