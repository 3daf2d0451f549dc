"""Whether, and when, a container that has ended is started again: pure.

    --restart no | always | unless-stopped | on-failure[:N]      docker's policies, then, with commas between,
              delay=TIME    before the first restart (100ms)     factor=F   by which each next one is longer (2)
              max=TIME      the longest (1m)                     reset=TIME of running, after which it counts anew (10s)
              jitter=PART   of the delay, at random (0)          unhealthy  also when its health check fails

In policy.json: {"name", "max", "delay", "factor", "longest", "reset", "jitter", "unhealthy"}, times in seconds.
"""

from __future__ import annotations

from oci_tools.errors import Error, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMES = ("no", "always", "unless-stopped", "on-failure")
_DEFAULT = {"delay": 0.1, "factor": 2.0, "longest": 60.0, "reset": 10.0, "jitter": 0.0}
_WORDS = {"delay": "delay", "max": "longest", "reset": "reset"}


def parse(text: str) -> dict[str, Any]:
    """What --restart says, as policy.json has it."""
    first, *rest = text.split(",")
    name, colon, count = first.partition(":")
    wrong = Usage("invalid value for --restart", text, hint="no, always, unless-stopped or on-failure[:N]")
    if name not in NAMES or (colon and (name != "on-failure" or not (count.isascii() and count.isdigit()))):
        raise wrong
    made: dict[str, Any] = {"name": name, **_DEFAULT}
    if count:
        made["max"] = int(count)
    for word in rest:
        key, _, value = word.partition("=")
        if key in _WORDS:
            made[_WORDS[key]] = _seconds(value, word)
        elif key in ("factor", "jitter"):
            made[key] = _number(value, word)
        elif word == "unhealthy":
            made["unhealthy"] = True
        else:
            raise Usage("invalid value for --restart", word, hint="delay=, max=, factor=, reset=, jitter=, unhealthy")
    if made["factor"] < 1 or made["jitter"] > 1:
        raise Usage("invalid value for --restart", text, hint="factor is at least 1, jitter at most 1")
    return made


def _seconds(text: str, word: str) -> float:
    from oci_tools.image.health import duration

    try:
        return float(text) if text.isascii() and text.isdigit() else duration(text) / 1e9
    except Error:
        raise Usage("invalid time for --restart", word, hint="as 500ms, 5s, 1m30s") from None


def _number(text: str, word: str) -> float:
    if not text.isascii() or not text.replace(".", "", 1).isdigit():
        raise Usage("invalid number for --restart", word)
    return float(text)


def again(policy: dict[str, Any], code: int, count: int, stopped: bool) -> bool:
    """Whether it is started once more (count: how often it was already; stopped: somebody ended it)."""
    name = policy.get("name", "no")
    if stopped or name == "no":
        return False
    if name == "on-failure":
        return code != 0 and (not policy.get("max") or count < policy["max"])
    return True


def pause(policy: dict[str, Any], row: int, chance: float) -> float:
    """Seconds before the next start: `row` ends in a row came soon, chance is from 0 to 1."""
    known = {**_DEFAULT, **policy}
    delay: float = min(known["longest"], known["delay"] * known["factor"] ** min(row, 64))
    return float(delay * (1 + known["jitter"] * (2 * chance - 1)))


def at_boot(policy: dict[str, Any], stopped: bool, ran: bool) -> bool:
    """Whether a container is started with the machine (ran: it had not ended when that went down)."""
    name = policy.get("name", "no")
    return name == "always" or (name == "unless-stopped" and not stopped) or (name == "on-failure" and ran)
