"""One build for one platform: its stages, several at once where they do not need each other."""

from __future__ import annotations

import os
import re
import time

from oci_tools.build.graph import Graph
from oci_tools.build.position import Wrong, meant
from oci_tools.build.scope import Scope
from oci_tools.errors import Error
from oci_tools.image import config as configs
from oci_tools.image import manifest as manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oci_tools.build.cache import Cache
    from oci_tools.build.contexts import Contexts
    from oci_tools.build.dockerfile import Dockerfile, Stage
    from oci_tools.build.instructions import Instruction
    from oci_tools.build.listing import Listing
    from oci_tools.build.options import Options
    from oci_tools.build.picking import Origin, Tell
    from oci_tools.build.place import Place
    from oci_tools.build.progress import Progress
    from oci_tools.build.running import Runner
    from oci_tools.build.stages import Result


_STANDING_BY = 32  # threads more than may work, in place of those that wait for a stage


class Canceled(Error):
    """Another stage failed, or somebody wants no more."""

    def __init__(self) -> None:
        super().__init__("canceled")


class Building:
    """What the stages of a build share.

    result   of a stage, built if it is not yet
    """

    def __init__(
        self, dockerfile: Dockerfile, options: Options, platform: str | None, place: Place, contexts: Contexts,
        cache: Cache, progress: Progress, runner: Runner,
    ) -> None:  # fmt: skip
        import threading

        self.dockerfile = dockerfile
        self.options = options
        self.place = place
        self.contexts = contexts
        self.cache = cache
        self.progress = progress
        self.runner = runner
        host = manifests.normal(manifests.host_platform())
        self.platform = manifests.normal(manifests.parse_platform(platform)) if platform else host
        self.platform_name = manifests.whole_name(self.platform)
        self.many = len(options.platforms) > 1
        self.scope = Scope(dockerfile, options.arguments, self.platform, options.target, host)
        self.graph = Graph(dockerfile, options.target, self._base, lambda name: name.lower() in contexts.named)
        self.created = configs.timestamp(options.epoch if options.epoch is not None else time.time())
        self.dockerfile_key = f"{os.path.abspath(contexts.word)} {dockerfile.file}"
        self.files: set[str] = set()  # of the host, that were used: for --depfile
        self._locks = {stage.number: threading.RLock() for stage in dockerfile.stages}
        self._results: dict[int, Result] = {}
        self._failed: BaseException | None = None
        self._condition = threading.Condition()
        self._waiting: list[Stage] = []  # that nobody builds yet
        self._threads: list[threading.Thread] = []
        self._workers = options.workers or len(os.sched_getaffinity(0))
        self._may_work = threading.Semaphore(self._workers)

    def teller(self, origin: Origin, listing: Listing) -> Tell:
        """What hears of the files of a tree that a step takes: for the step, and for --depfile those of the host."""
        if not (origin.place and self.options.depfile):
            return listing.add

        def tell(path: bytes, digest: str) -> None:
            listing.add(path, digest)
            self.files.add(f"{origin.place}/{os.fsdecode(path)}".rstrip("/"))

        return tell

    def _base(self, stage: Stage) -> str:
        name = self.scope.expand(stage.start, stage.start.base, self.scope.globals)
        if not name:
            raise stage.start.wrong(f"base name ({stage.start.base}) should not be blank", stage.start.base)
        if stage.start.platform:
            self.platform_of(stage.start)
        return name

    def platform_of(self, start: Instruction) -> manifests.Platform:
        """The platform that a FROM says."""
        written = start.platform
        platform = self.scope.expand(start, written, self.scope.globals)
        hint = next((hint for name in self.scope.missing(start, written)
                     if (hint := meant(name, self.scope.globals))), None)  # fmt: skip
        if not platform:
            raise start.wrong(f"empty platform value from expression {written}", written, hint)
        for part in platform.split("/"):
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", part.partition("(")[0]):
                what = f'"{part}" is an invalid component of "{platform}"'
                raise start.wrong(f"failed to parse platform {written}: {what}", written, hint)
        try:
            return manifests.parse_platform(platform)
        except Error as error:
            raise start.wrong(f"failed to parse platform {written}: {error.what} '{platform}'", written, hint) from None

    # -- stages ---------------------------------------------------------------------------------

    def run(self) -> Result:
        """Build the target."""
        needed = self.graph.needed
        self.progress.instructions = sum(1 + len(stage.instructions) for stage in needed)
        if len(needed) == 1 or self._workers == 1:
            return self.result(self.graph.target)
        self._waiting = list(needed)
        for _ in range(min(self._workers, len(needed))):
            self._start()
        try:
            for thread in self._threads:  # which may become more
                while thread.is_alive():
                    thread.join(3600)
        except BaseException as error:
            self.cancel(error)
            for thread in self._threads:
                thread.join()
            raise
        if self._failed is not None:
            raise self._failed
        return self.result(self.graph.target)

    def _start(self) -> None:
        """One more thread, if there are stages for it."""
        import threading

        with self._condition:
            if self._waiting and len(self._threads) < self._workers + _STANDING_BY:
                self._threads.append(threading.Thread(target=self._work, daemon=True))
                self._threads[-1].start()

    def _work(self) -> None:
        while (stage := self._next()) is not None:
            with self._may_work:
                try:
                    self.result(stage)
                except BaseException as error:
                    self.cancel(error)

    def _next(self) -> Stage | None:
        """The first stage that nobody builds and whose base is there; None: there will be no more."""
        with self._condition:
            while self._waiting and self._failed is None:
                for at, stage in enumerate(self._waiting):
                    below = self.graph.base(stage)
                    if below is None or below.number in self._results:
                        return self._waiting.pop(at)
                self._condition.wait()
        return None

    def result(self, stage: Stage) -> Result:
        """What a stage becomes."""
        from oci_tools.build.stages import Building as One

        lock = self._locks[stage.number]
        if not lock.acquire(blocking=False):  # somebody builds it, and another stage can be built meanwhile
            self._may_work.release()
            self._start()
            lock.acquire()
            self._may_work.acquire()
        try:
            if stage.number not in self._results:
                self.check()
                try:
                    made = One(self, stage).run()
                except Wrong as error:
                    raise self.dockerfile.place(error) from None
                with self._condition:
                    self._results[stage.number] = made
                    self._condition.notify_all()
            return self._results[stage.number]
        finally:
            lock.release()

    def cancel(self, error: BaseException) -> None:
        """The first failure counts; all others end what they do."""
        with self._condition:
            if self._failed is None or (isinstance(self._failed, Canceled) and not isinstance(error, Canceled)):
                self._failed = error
            self._condition.notify_all()
        self.runner.end_all()

    def check(self) -> None:
        """Go no further where another stage has failed."""
        if self._failed is not None:
            raise Canceled
