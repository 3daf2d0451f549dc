"""The errors that every room raises, and the one form in which they are said.

A library raises with the subject and never prints or exits; `cli.main` is the
one place that prints.  The form is one line on stderr:

    oci-run: cannot mount 'proc' on '/b/rootfs/proc': operation not permitted

what failed first, the subject in single quotes, the cause in strerror's words
in lower case, no full stop, at most one hint in parentheses.
"""

from __future__ import annotations


class Error(Exception):
    """It could not be done, or the answer is no.

    what     what failed: "cannot open"
    subject  what it failed on; said in single quotes after `what`
    cause    an OSError (its strerror is said), another Error, or a string
    hint     what to do next, said in parentheses
    code     the exit code: 1 could not be done, 2 makes no sense, 75 not now;
             125, 126, 127 only where a payload's own code is passed on
    """

    code = 1

    def __init__(
        self,
        what: str,
        subject: object = None,
        cause: BaseException | str | None = None,
        hint: str | None = None,
        code: int | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.subject = subject
        self.cause = cause
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        line = self.what
        if self.subject is not None:
            line += f" {quote(self.subject)}"
        if self.cause is not None:
            line += f": {reason(self.cause)}"
        if self.hint:
            line += f" ({self.hint})"
        return printable(line)


# Debian's packages of the programs of others that may be missing, where the name is not the program's.
PACKAGES = {
    "nft": "nftables", "pasta": "passt", "newuidmap": "uidmap", "newgidmap": "uidmap", "ps": "procps",
    "ssh": "openssh-client", "fusermount3": "fuse3", "mkfs.ext4": "e2fsprogs",
}  # fmt: skip


def missing(program: str, what: str, subject: object = None, hint: str = "") -> Error:
    """A program of others is not there: in the words that engines' clients know, and what has it."""
    package = f"apt install {PACKAGES.get(program, program)}{f', or {hint}' if hint else ''}"
    return Error(what, subject, f'exec: "{program}": executable file not found in $PATH', package)


class Usage(Error):
    """The command line makes no sense."""

    code = 2


class Busy(Error):
    """Not now: the network is down, the registry busy, a lock held; try again."""

    code = 75


def quote(subject: object) -> str:
    """A subject in single quotes, bytes decoded as file names are."""
    if isinstance(subject, bytes):
        subject = subject.decode("utf-8", "surrogateescape")
    return f"'{subject}'"


def reason(cause: BaseException | str) -> str:
    """The cause in the words that people and engines' clients match on."""
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror[:1].lower() + cause.strerror[1:]
    return str(cause) or type(cause).__name__


def printable(text: str) -> str:
    """One line without control characters: names in messages may be hostile."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
