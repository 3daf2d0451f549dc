"""Times as the API writes them: RFC 3339 in UTC with nanoseconds, and seconds with a fraction in queries."""

from __future__ import annotations

import calendar
import re
import time

from oci_tools.engine.api.answers import Refused

ZERO = "0001-01-01T00:00:00Z"  # Go's time that is none
SECOND = 1_000_000_000


def now() -> int:
    """Nanoseconds since 1970."""
    return time.time_ns()


def written(nanoseconds: int) -> str:
    """2026-01-02T03:04:05.6Z: zeros at the end are left out, as Go's RFC3339Nano does."""
    return exact(nanoseconds) if nanoseconds else ZERO


def exact(nanoseconds: int) -> str:
    """The same where 1970 is a time like others, such as a file's."""
    seconds, rest = divmod(nanoseconds, SECOND)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"


_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|([+-])(\d\d):(\d\d))?", re.ASCII)


def read(text: object) -> int | None:
    """Nanoseconds since 1970 of an RFC 3339 time, of UTC if it does not say where; None of what is none."""
    found = _STAMP.fullmatch(str(text))
    if found is None:
        return None
    whole, fraction, _, sign, hours, minutes = found.groups()
    try:
        seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None
    if sign:
        seconds -= int(f"{sign}1") * (int(hours) * 3600 + int(minutes) * 60)
    return seconds * SECOND + int((fraction or "")[:9].ljust(9, "0"))


def again(text: object) -> str:
    """An RFC 3339 time as Go's RFC3339Nano writes what it has read: in its own zone; "" of what is none."""
    found = _STAMP.fullmatch(str(text))
    if found is None or read(text) is None:
        return ""
    whole, fraction, zone, *_ = found.groups()
    rest = f".{(fraction or '')[:9]}".rstrip("0").rstrip(".")
    return f"{whole}{rest}{'Z' if zone in (None, '+00:00', '-00:00') else zone}"


def asked(text: str) -> int | None:
    """A time of a query in nanoseconds: `1795467600`, `1795467600.500000000`, or RFC 3339; None where none is said."""
    if text in ("", "0"):
        return None
    seconds, _, rest = text.partition(".")
    if seconds.lstrip("-").isdigit() and (not rest or rest.isdigit()):
        return int(seconds) * SECOND + int(rest[:9].ljust(9, "0") or 0)
    found = read(text)
    if found is None:
        raise Refused(400, f'invalid time "{text}"')
    return found


_UNITS = {"h": 3600 * SECOND, "m": 60 * SECOND, "s": SECOND, "ms": 1_000_000, "us": 1000, "ns": 1}
_PART = re.compile(r"(\d+(?:\.\d*)?)(h|ms|us|ns|m|s)")


def until(wanted: dict[str, list[str]]) -> int | None:
    """The time of a prune's filter `until`, in nanoseconds: as `asked`, or how long ago (10m, 1h30m)."""
    said = wanted.get("until")
    if not said:
        return None
    if len(said) > 1:
        raise Refused(500, "more than one until filter specified")
    parts = _PART.findall(said[0])
    if parts and "".join(number + unit for number, unit in parts) == said[0]:
        return now() - sum(int(float(number) * _UNITS[unit]) for number, unit in parts)
    try:
        return asked(said[0])
    except Refused:
        raise Refused(500, f'failed to parse value as time or duration: "{said[0]}"') from None


def ago(nanoseconds: int) -> str:
    """How long that is, as `docker ps` says it: "2 minutes"."""
    seconds = nanoseconds / SECOND
    minutes, hours = int(seconds / 60), int(seconds / 3600 + 0.5)
    if seconds < 1:
        return "Less than a second"
    if seconds < 2:
        return "1 second"
    if seconds < 60:
        return f"{int(seconds)} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"
