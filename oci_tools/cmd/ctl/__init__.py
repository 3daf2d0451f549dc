"""oci-ctl: the client of one or more `ocid`, or of any engine that speaks Docker's API.

What can be said is declared in *_verbs.py; what it does is beside, by families of verbs, and loaded when it is done.
"""

from __future__ import annotations

from oci_tools import cli
from oci_tools.cmd.ctl import container_verbs, other_verbs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.cli import Option

HOSTS: tuple[Option, ...] = (
    (
        "-H --host URL",
        "list",
        (),
        "the engine: unix:///PATH, tcp://HOST:PORT, ssh://[USER@]HOST; several: all of them",
    ),
    ("--context NAME", "list", (), "the engine of a context; several: all of them"),
    ("--tls", "flag", False, "speak TLS to tcp:// engines"),
    ("--tlscacert FILE", "text", "", "certificates that sign the engine's"),
    ("--tlscert FILE", "text", "", "our certificate"),
    ("--tlskey FILE", "text", "", "its key"),
    ("--tlsverify", "flag", True, "demand a valid certificate of the engine"),
)
COMMAND = cli.Command(
    "oci-ctl",
    "run and look after containers of one or more engines",
    "",
    options=HOSTS,
    example="oci-ctl --host ssh://one --host ssh://two ps",
    verbs={**container_verbs.VERBS, **other_verbs.IMAGES, **other_verbs.OTHERS},
)


def main(words: list[str]) -> int:
    return cli.main(COMMAND, words)
