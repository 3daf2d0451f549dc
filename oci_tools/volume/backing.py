"""The options of docker's local driver, and podman's: where the bytes of a volume are.

    type, device, o     a file system to mount, as mount(8) is told: all or none, `o` may be missing
    o                   alone: uid=, gid=, mode=, size=, inodes=, noquota of a plain directory; timeout= means nothing
    size                bytes that it may have

    kind   "plain"  a directory of the store
           "bind"   a directory of the host: `o` has bind or rbind
           "mount"  anything else that `type` says
"""

from __future__ import annotations

from oci_tools.errors import Usage

KNOWN = ("type", "device", "o", "size")
SECRET = ("password", "passwd", "pass", "password2")
_OWN = ("uid", "gid", "mode", "size", "inodes", "timeout")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


class Backing:
    """What options mean.  `flags` are words of `o` without a value that are not data for the file system."""

    def __init__(self) -> None:
        self.kind = "plain"
        self.type = self.device = ""
        self.words: list[str] = []
        self.size = self.inodes = self.timeout = 0  # 0: no limit
        self.uid = self.gid = -1
        self.mode: int | None = None


def read(options: dict[str, str]) -> Backing:
    """The meaning of a volume's options; a Usage error names the one that is wrong."""
    made = Backing()
    unknown = options.keys() - set(KNOWN)
    if unknown:
        raise Usage("invalid volume option", min(unknown), hint=f"one of {', '.join(KNOWN)}")
    made.type, made.device = options.get("type", ""), options.get("device", "")
    made.words = [word for word in words(options.get("o", "")) if word]
    if "size" in options:
        made.size = size(options["size"])
    binds = {"bind", "rbind"}.intersection(made.words)
    if made.type or made.device:
        missing = "type" if not (made.type or binds) else "device" if not made.device else ""
        if missing:
            raise Usage("missing volume option", missing, "type and device go together")
        made.kind = "bind" if binds or made.type in ("none", "bind") else "mount"
        if made.kind == "bind" and not made.device.startswith("/"):
            raise Usage("invalid volume option", f"device={made.device}", "it must be an absolute path")
        if made.size:
            raise Usage("invalid volume option", f"size={options['size']}", "the file system has its own size")
    else:
        for word in made.words:
            if word != "noquota":
                _own(made, word)
        if "noquota" in made.words and (made.size or made.inodes):
            raise Usage("invalid volume option", "o=noquota", "it excludes size and inodes")
    return made


def _own(made: Backing, word: str) -> None:
    name, equals, value = word.partition("=")
    if name not in _OWN or not equals:
        raise Usage("invalid volume option", f"o={word}", f"without type there are {', '.join(_OWN)}, noquota")
    if name == "size":
        made.size = size(value)
        return
    base = 8 if name == "mode" else 10
    most = 0o7777 if name == "mode" else 0xFFFFFFFE
    if not value or value.strip("01234567" if base == 8 else "0123456789") or int(value, base) > most:
        raise Usage("invalid volume option", f"o={word}", "not a number that it can be")
    setattr(made, name, int(value, base))


def size(text: str) -> int:
    """Bytes: a number with k, m, g, t or p, each 1024 of the one before."""
    number = text.lower().removesuffix("b").removesuffix("i")
    unit = number[-1:] if number[-1:] in _POWERS else ""
    digits = number[: len(number) - len(unit)]
    if not (digits.isascii() and digits.isdigit() and int(digits) > 0 and len(digits) < 17):
        raise Usage("invalid size", text, hint="a number and k, m, g or t")
    return int(digits) * int(1024 ** _POWERS[unit])


def shown(options: dict[str, str]) -> dict[str, str]:
    """Options as everybody may see them: without passwords."""
    return {name: hidden(value) if name == "o" else value for name, value in options.items()}


def hidden(text: str) -> str:
    """The words of `o` without passwords."""
    found = []
    for word in words(text):
        name, equals, _ = word.partition("=")
        found.append(f"{name}=********" if equals and name.lower() in SECRET else word)
    return ",".join(found)


def words(text: str) -> list[str]:
    """The words of `o`; a comma in a password is said twice, as the kernel's cifs has it."""
    found: list[str] = []
    for part in text.split(",,"):
        first, *others = part.split(",")
        if found and found[-1].partition("=")[0].lower() in SECRET:
            found[-1] += f",,{first}"
            found += others
        else:
            found += [*([""] if found else []), first, *others]
    return found
