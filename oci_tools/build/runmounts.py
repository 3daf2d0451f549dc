"""The mounts of one RUN: what each shows, where it lies on the host meanwhile, and what of it is in the key.

    bind    a context, a stage or an image; what is written in it is lost
    cache   a directory that stays from build to build; of sharing "locked" for one step at a time, of "private"
            another one for each step at the same time; where one of the two has it, "shared" gets another one too
    tmpfs   an empty directory in memory
    secret  a file in memory, or a variable; nothing of it is in any key
    ssh     the socket of an agent
"""

from __future__ import annotations

import os
import posixpath

from oci_tools import compress, document, fs
from oci_tools.build import copying, hashes, picking, remote
from oci_tools.build.adding import origin_of
from oci_tools.build.listing import Listing
from oci_tools.errors import Busy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from oci_tools.build.instructions import Instruction
    from oci_tools.build.mounts import Mount
    from oci_tools.build.picking import Origin
    from oci_tools.build.stages import Building
    from oci_tools.bundle.step import Root


class Mounting:
    """The mounts of one step, for a `with` block.

    env  variables that come with them
    """

    def __init__(self, stage: Building, one: Instruction, wanted: list[Mount]) -> None:
        self._stage = stage
        self._one = one
        self._locks: list[fs.Lock] = []
        self._made: list[str] = []
        self._caches = [mount for mount in wanted if mount.kind == "cache"]
        self._held: dict[str, str] = {}  # the directories of caches by the names of these
        self._agents: list[Any] = []
        self._secret_env = any(mount.kind == "secret" and mount.env is not None for mount in wanted)
        self.env: dict[str, str] = {}

    def __enter__(self) -> Mounting:
        """All steps take caches in one order, for none to wait for another one that waits for it."""
        asked: dict[str, set[str]] = {}
        for mount in self._caches:
            asked.setdefault(self._name(mount), set()).add(mount.sharing or "shared")
        try:
            for name in sorted(asked):
                self._held[name] = self._hold(name, asked[name])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for agent in self._agents:
            agent.__exit__()
        for lock in self._locks:
            lock.__exit__()
        for path in self._made:
            fs.remove_tree(path)
        self._locks, self._made, self._agents = [], [], []

    # -- the key ------------------------------------------------------------------------------

    def said(self, mount: Mount) -> tuple[object, ...]:
        """What a key has of a mount."""
        return (
            mount.kind, mount.origin, mount.source, mount.target, mount.readonly, mount.id, mount.sharing, mount.mode,
            mount.uid, mount.gid, mount.env, mount.size, mount.required,
        )  # fmt: skip

    def content(self, mount: Mount, files: Listing) -> str:
        """What a key has of what a mount shows: only of files that come from elsewhere."""
        identity = self.known(mount)
        if identity is not None and (not identity or posixpath.normpath(f"/{mount.source}").strip("/") == ""):
            return identity  # all of a root is seldom the same where its layers are not
        origin, _ = self._origin(mount)
        picks = picking.pick(origin, mount.source or "/")
        return picking.digest(origin, picks, None, self._stage.shared.teller(origin, files))

    def quick(self, mounts: Sequence[Mount]) -> dict[str, Any] | None:
        """Where trees of stages and images are mounted: those by their layers, and only the context by its files."""
        known = [self.known(mount) for mount in mounts]
        if not any(known):
            return None
        files = Listing(self._stage.shared.place.fresh("files"))
        pairs = zip(mounts, known, strict=True)
        found = tuple(self.content(mount, files) if said is None else said for mount, said in pairs)
        files.close()
        return {"mounted": found}

    def known(self, mount: Mount) -> str | None:
        """What stands for the content without a look at it: "" where there is none, None where nobody knows."""
        if mount.kind not in ("bind", "cache") or (mount.kind == "cache" and not mount.origin):
            return ""
        return self._origin(mount)[1]

    def _origin(self, mount: Mount) -> tuple[Origin, str | None]:
        if not mount.origin:
            return self._stage.shared.contexts.origin(), None
        return origin_of(self._stage, self._one, mount.origin)

    # -- the mounts ---------------------------------------------------------------------------

    def make(self, mount: Mount, root: Root) -> dict[str, Any] | None:
        """The entry of config.json; None where there is nothing to mount."""
        kind = mount.kind
        if kind == "tmpfs":
            options = ["nosuid", *([f"size={mount.size}"] if mount.size else []), *(["ro"] if mount.readonly else [])]
            return {"destination": self._target(mount), "type": "tmpfs", "source": "tmpfs", "options": options}
        if kind == "bind":
            return self._bind(self._shown(mount), self._target(mount), mount.readonly)
        if kind == "cache":
            return self._bind(self._cache(mount, root), self._target(mount), mount.readonly)
        return self._secret(mount, root) if kind == "secret" else self._ssh(mount, root)

    def _target(self, mount: Mount) -> str:
        """Where it goes, from the working directory."""
        path = posixpath.normpath(posixpath.join("/", self._stage.result.settings.workdir, mount.target))
        path = "/" + path.lstrip("/")
        if path == "/":
            raise self._one.wrong('invalid mount target "/"', mount.target)
        return path

    def _bind(self, source: str, target: str, readonly: bool) -> dict[str, Any]:
        options = ["rbind", "rprivate", *(["ro"] if readonly else [])]
        return {"destination": target, "type": "bind", "source": source, "options": options}

    def _shown(self, mount: Mount) -> str:
        """A path of the host that shows what a bind mount is of."""
        origin, identity = self._origin(mount)
        chrooted = self._stage.shared.place.chrooted  # then it will be moved into the root
        if chrooted or not mount.readonly or (identity is None and origin.ignored is not None):
            return self._copied(origin, mount, (0, 0) if identity is None else None)
        pick = picking.pick(origin, mount.source or "/")[0]
        if identity is None:
            return f"{os.readlink(f'/proc/self/fd/{origin.fd}')}/{pick.path}".rstrip("/")
        where = f"{self._stage.shared.place.fresh('shown')}"
        root = self._stage.shared.place.attached(origin.fd, where)
        return f"{root}/{pick.path}".rstrip("/")

    def _copied(self, origin: Origin, mount: Mount, owner: tuple[int, int] | None) -> str:
        """A copy of what is not left out, for what is written in it to be lost; files of a context are root's."""
        path = self._stage.shared.place.fresh("copy")
        os.mkdir(path, 0o755)
        self._made.append(path)
        pick = picking.pick(origin, mount.source or "/")[0]
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            into = copying.Target(fd, owner, single=self._stage.single())
            copying.copy(origin, [pick], "/" if pick.is_directory() else f"/{pick.name}", into)
        finally:
            os.close(fd)
        return path if pick.is_directory() else f"{path}/{pick.name}"

    def _cache(self, mount: Mount, root: Root) -> str:
        path = self._held[self._name(mount)]
        if not os.path.isdir(path):
            self._new_cache(path, mount)
        about_it = {"id": mount.id or self._target(mount), "target": self._target(mount)}
        fs.write(f"{path}.json", document.dumps(about_it), 0o600, sync=False)  # its time: when it was used last
        self._stage.shared.cache.mounts[os.path.basename(path)] = about_it
        inside = mount.source if not mount.origin else ""
        if inside.strip("/"):
            path = os.path.normpath(f"{path}/{os.path.normpath('/' + inside)}")
            os.makedirs(path, exist_ok=True)
        return path

    def _name(self, mount: Mount) -> str:
        about = (mount.id or self._target(mount), mount.origin, mount.source if mount.origin else "")
        if space := self._stage.options.arguments.get("BUILDKIT_CACHE_MOUNT_NS"):
            about = (f"{space}/{about[0]}", *about[1:])
        return hashes.digest_of(about)[:32]

    def _hold(self, name: str, sharing: set[str]) -> str:
        """The directory of a cache, for as long as the step takes."""
        place = self._stage.shared.place
        path = numbered = f"{fs.make_private(f'{place.path}/mounts')}/{name}"
        waiting = "locked" in sharing or place.chrooted  # in a chroot it is in one root only
        number = 0
        while not self._lock(f"{numbered}.lock", 1 if waiting else 0, sharing == {"shared"} and not waiting):
            self._stage.shared.check()
            if not waiting:
                number += 1
                numbered = f"{path}-{number}"
        return numbered

    def _lock(self, path: str, timeout: float, shared: bool) -> bool:
        lock = fs.Lock(path, shared, timeout)
        try:
            lock.__enter__()
        except Busy:
            return False
        self._locks.append(lock)
        return True

    def _new_cache(self, path: str, mount: Mount) -> None:
        beside = f"{path}.{os.urandom(4).hex()}.new"
        sent = self._stage.shared.cache.mount(os.path.basename(path))
        if sent is not None:
            with sent.layout.blob(sent.descriptor) as file:
                remote.unpack(compress.read_pieces(file), beside, self._stage.shared.place.owner, path)
            return self._have(beside, path)
        os.mkdir(beside, 0o755)
        os.chmod(beside, 0o755 if mount.mode is None else mount.mode)
        if not self._stage.single():
            os.chown(beside, mount.uid or 0, mount.gid or 0)
        if mount.origin:
            origin, _ = self._origin(mount)
            pick = picking.pick(origin, mount.source or "/")[0]
            fd = os.open(beside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                copying.copy(origin, [pick], "/", copying.Target(fd, None, single=self._stage.single()))
            finally:
                os.close(fd)
        self._have(beside, path)

    def _have(self, beside: str, path: str) -> None:
        try:
            os.rename(beside, path)
        except OSError:  # another step has made it meanwhile
            fs.remove_tree(beside)

    # -- in memory -------------------------------------------------------------------------------

    def hidden(self, name: str) -> str | None:
        """Where a file that would tell a secret goes: in memory; None: nothing of the kind is in it."""
        return f"{self._memory()}/{os.urandom(8).hex()}-{name}" if self._secret_env else None

    def _memory(self) -> str:
        return self._stage.shared.place.memory()

    def _secret(self, mount: Mount, root: Root) -> dict[str, Any] | None:
        name = mount.id or mount.source or posixpath.basename(mount.target)
        load = self._stage.options.secrets.get(name)
        if load is None:
            if mount.required:
                raise self._one.wrong(f"secret {name}: not found", name, f"--secret id={name},src=FILE")
            return None
        data = load()
        if mount.env is not None:
            self.env[mount.env or name] = data.decode("utf-8", "surrogateescape")
            if not mount.target:
                return None
        path = self._write(data, 0o400 if mount.mode is None else mount.mode, mount)
        target = mount.target or f"/run/secrets/{posixpath.basename(name)}"
        return self._bind(path, self._absolute(target), False)

    def _absolute(self, path: str) -> str:
        return "/" + posixpath.normpath(posixpath.join("/", self._stage.result.settings.workdir, path)).lstrip("/")

    def _write(self, data: bytes, mode: int, mount: Mount) -> str:
        path = f"{self._memory()}/{os.urandom(8).hex()}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fs.write_all(fd, data)
            if not self._stage.single():
                os.fchown(fd, mount.uid or 0, mount.gid or 0)
            os.fchmod(fd, mode)
        finally:
            os.close(fd)
        self._made.append(path)
        return path

    def script(self, name: str, text: str, directory: str) -> dict[str, Any]:
        """A here-document that is a program of its own."""
        path = f"{self._stage.shared.place.fresh('pipes')}"
        os.mkdir(path, 0o755)
        os.chmod(path, 0o755)
        self._made.append(path)
        with open(f"{path}/{name}", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.chmod(f"{path}/{name}", 0o755)
        return self._bind(path, directory, True)

    def _ssh(self, mount: Mount, root: Root) -> dict[str, Any] | None:
        from oci_tools.build.agent import Agent

        name = mount.id or "default"
        keys = self._stage.options.agents.get(name)
        if keys is None:
            if mount.required:
                raise self._one.wrong(f"unset ssh forward key {name}", name, f"--ssh {name}")
            return None
        target = mount.target or f"/run/buildkit/ssh_agent.{len(self._agents)}"
        path = f"{self._memory()}/{os.urandom(8).hex()}"
        agent = Agent(path, keys, (mount.uid or 0, mount.gid or 0), 0o600 if mount.mode is None else mount.mode)
        agent.__enter__()
        self._agents.append(agent)
        self.env["SSH_AUTH_SOCK"] = target
        return self._bind(path, self._absolute(target), False)


