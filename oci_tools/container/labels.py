"""Labels of a container: those of its image, and over them what --label-file and --label say.

They are in policy.json, for people and `ocid` to find containers by; never annotations, which steer runtimes
(CVE-2026-53488).
"""

from __future__ import annotations

from oci_tools.container import process
from oci_tools.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.container.host import Host


def said(args: Args, host: Host) -> dict[str, str]:
    """What the options say."""
    words = [(line, f"in {where}") for path in args.label_file for where, line in process.lines(path, host)]
    found = {}
    for word, where in (*words, *((word, None) for word in args.label)):
        name, _, value = word.partition("=")
        if not name or name != name.strip():
            raise Usage("invalid label", word, where, "NAME=VALUE")
        found[name] = value
    return found


def of_image(config: dict[str, Any]) -> dict[str, str]:
    """The labels of an image's configuration, which is a stranger's."""
    known = (config.get("config") or {}).get("Labels") or {}
    if not isinstance(known, dict):
        return {}
    return {name: value for name, value in known.items() if isinstance(value, str)}
