"""How to build: what the command line says, understood."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oci_tools.build.attest import Wanted
    from oci_tools.build.calling import Call
    from oci_tools.build.exchange import Where


class Options:
    """The options of one build; `cmd/build.py` fills them in."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.context = "."
        self.file: str | None = None
        self.script: str | None = None
        self.arguments: dict[str, str] = {}
        self.target: str | None = None
        self.platforms: list[str] = []
        self.named: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.annotations: list[str] = []
        self.pull = False
        self.alone = False  # no registry is asked
        self.refuse: set[str] = set()  # stages that do not look into the cache, "*" for all
        self.cache_from: list[Where] = []
        self.cache_to: list[Where] = []
        self.isolation = "auto"  # "oci", "chroot"
        self.network = "default"
        self.allow: set[str] = set()
        self.hosts: list[str] = []
        self.secrets: dict[str, Callable[[], bytes]] = {}
        self.agents: dict[str, list[str]] = {}
        self.shm_size: int | None = None
        self.limits: list[dict[str, object]] = []
        self.cgroup: str | None = None
        self.confined: list[str] = []  # of `oci-spec set`: limits, capabilities
        self.volumes: list[dict[str, Any]] = []  # of the host's directories, as config.json has them
        self.dns: dict[str, list[str]] = {}  # keyword of resolv.conf -> values
        self.start: str | None = None  # what the first FROM is about
        self.ignorefile: str | None = None
        self.env: dict[str, str] = {}  # of a stage, before what it says
        self.unset: set[str] = set()  # variables that the image has not in the end
        self.unlabeled: set[str] = set()  # labels that no base image gives
        self.history = True
        self.epoch: int | None = None
        self.exactly = False  # whether all times are the epoch
        self.compression = "gzip"
        self.level: int | None = None
        self.inline: Callable[[list[str]], dict[str, Any]] | None = None  # the cache in an image, by diff ids
        self.squash = False
        self.squash_all = False  # the base's layers too
        self.attest: list[Wanted] = []
        self.why = False
        self.depfile = False  # whether somebody wants to know which files were used
        self.workers = 0  # stages at once, 0: as there are processors

    def says(self, name: str) -> bool:
        """Whether a build argument that steers BuildKit is true."""
        return self.arguments.get(name, "") in ("1", "t", "T", "true", "TRUE", "True")
