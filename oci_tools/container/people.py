"""What else the runtime's verbs do where the container is one of people's; for those of engines nothing is loaded."""

from __future__ import annotations

import os

from oci_tools import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.cli import Args

    Action = Callable[[Args, str], Any]


def more(container: str | None, action: Action) -> Action:
    """The verb as it is done to this container (None: to all)."""
    if container is not None and not os.path.exists(f"{fs.root()}/containers/{container}/policy.json"):
        return action
    from oci_tools.container import changing

    return changing.more(action)
