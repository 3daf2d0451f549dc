"""kube play: the pods of a YAML file of Kubernetes on an engine.

What a pod is made of is said in `oci_tools/kube`; here it is made, in this order: volumes, the infra container with
the files that ConfigMaps put in them, initContainers to their ends, the others.  What has failed leaves nothing.
"""

from __future__ import annotations

import os
import sys
import uuid

from oci_tools import cli, document
from oci_tools.cmd.ctl import kube_making, kube_removing, running, wording
from oci_tools.cmd.ctl.engine import Engine, part
from oci_tools.errors import Error, Usage
from oci_tools.kube import objects, pod, security, volumes
from oci_tools.kube.objects import Objects
from oci_tools.kube.pod import Pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.cli import Args
    from oci_tools.kube.volumes import Volume

Engines = list[Engine]
_PULL = {"Always": "always", "IfNotPresent": "missing", "Never": "never"}


# -- play ------------------------------------------------------------------------------------------


def play(args: Args, engines: Engines) -> int:
    engine, known = running.one(engines), objects.read(args.file, args.configmap)
    for line in known.ignored:
        cli.say("oci-ctl", f"warning: {line}")
    if args.down:
        return kube_removing.remove_all(engine, known, args)
    if not known.pods and not known.claims:
        raise Error("cannot play", args.file, "there is no pod in it")
    if args.replace:
        kube_removing.remove(engine, known, claims=False)
    for name, notes in known.claims.items():
        kube_making.volume(engine, name, volumes.claim_options(notes), {})
    made: list[_Playing] = []
    try:
        for each in known.pods:
            made.append(_Playing(engine, Pod(each, known), args))
            made[-1].make()
            print(made[-1].pod.name, flush=True)
    except BaseException:
        for one in made:
            one.undo()
        raise
    return _stay(engine, known, made) if args.wait and args.start else 0


class _Playing:
    """One pod that is being made on an engine; `undo` takes away what there is of it."""

    def __init__(self, engine: Engine, one: Pod, args: Args) -> None:
        self.engine = engine
        self.pod = one
        self.args = args
        self.made: list[str] = []  # ids of containers, the infra first
        self.named: list[str] = []  # volumes that go with the pod
        uid = str(uuid.UUID(bytes=os.urandom(16), version=4))
        self.facts = {"status.podIP": "", "status.podIPs": "", "status.hostIP": "", "metadata.uid": uid}

    def make(self) -> None:
        one = self.pod
        if kube_removing.of_pod(self.engine, one.name):
            raise Error("cannot play pod", one.name, "there is one of this name", "--replace")
        said = self.engine.get("/info")
        self.facts["spec.nodeName"] = str(said.get("Name") or "")
        one.read_volumes(self.facts)
        self._check_images()
        for volume in one.volumes.values():
            self._make_volume(volume)
        self._make_infra("name=rootless" in (said.get("SecurityOptions") or ()))
        for each in one.init:
            self._begin(each, first=True)
        for each in one.containers:
            self._make(each)
        if not self.args.start:
            self.engine.post(f"/containers/{self.made[0]}/stop", {"t": 0})
            return
        for container in self.made[-len(one.containers) :]:
            running.start_one(self.engine, container)

    def _check_images(self) -> None:
        """Images that are there: whether who they run as is allowed."""
        for each in [*self.pod.init, *self.pod.containers]:
            if not security.must_not_be_root(each, self.pod.pod):
                continue
            if each.get("imagePullPolicy") != "Never" and not kube_making.image(self.engine, each["image"]):
                from oci_tools.cmd.ctl import images

                images.pull_one(self.engine, each["image"], "", self.args.quiet)
            user = (kube_making.image(self.engine, each["image"]).get("User") or "0").partition(":")[0]
            if not user.isdecimal() or int(user) == 0:
                why = f"it must not run as root, and its image runs as {document.shown(user)}"
                raise Error("cannot play", self.pod.said(each), why, "securityContext.runAsUser")

    def _make_volume(self, volume: Volume) -> None:
        if volume.kind == "hostPath" and volume.said.get("type") == "FileOrCreate":
            kube_making.touch(self.engine, volume.path)
        if volume.name:
            labels = {pod.POD: self.pod.name, volumes.LABEL: kube_making.kind_of(volume)} if volume.own else {}
            if kube_making.volume(self.engine, volume.name, volume.options, labels) and volume.own:
                self.named.append(volume.name)

    def _make_infra(self, rootless: bool) -> None:
        one, args = self.pod, self.args
        network = args.network or ("default" if rootless else kube_making.NETWORK)
        if network == kube_making.NETWORK and not one.spec.get("hostNetwork"):
            kube_making.network(self.engine)
        image = kube_making.pause(self.engine)
        aliases = [one.name, *one.known.names_of(one.pod)]
        said = pod.infra(one, image, network, aliases, wording.bindings(args.publish))
        self._address(said, network)
        self.made.append(self._create(said, f"{one.name}-infra", "never"))
        running.start_one(self.engine, self.made[0])
        group = (one.spec.get("securityContext") or {}).get("fsGroup")
        tar = kube_making.archive((each for each in one.volumes.values() if pod.needs_files(each)), group)
        query, headers = {"path": pod.PLACE, "copyUIDGID": "true"}, [("Content-Type", "application/x-tar")]
        self.engine.ask("PUT", f"/containers/{self.made[0]}/archive", query, tar, headers).read()
        for end in (self.engine.get(f"/containers/{self.made[0]}/json")["NetworkSettings"]["Networks"] or {}).values():
            if end.get("IPAddress"):
                self.facts["status.podIP"] = self.facts["status.podIPs"] = end["IPAddress"]
                self.facts["status.hostIP"] = end.get("Gateway") or ""

    def _address(self, said: dict[str, Any], network: str) -> None:
        """--ip and --mac-address are of the pod's end on its network."""
        config = {"IPv4Address": self.args.ip} if self.args.ip else {}
        mac = {"MacAddress": self.args.mac_address} if self.args.mac_address else {}
        if not config and not mac:
            return
        if len(self.pod.known.pods) > 1:
            raise Usage("--ip and --mac-address are for a file of one pod")
        ends = said.setdefault("NetworkingConfig", {}).setdefault("EndpointsConfig", {})
        ends.setdefault(network, {}).update(mac, **({"IPAMConfig": config} if config else {}))

    def _begin(self, said: dict[str, Any], first: bool) -> None:
        """One of initContainers, to its end; one that is to run always is left running."""
        container = self._make(said, first)
        if not self.args.start:
            return
        running.start_one(self.engine, container)
        if said.get("restartPolicy") == "Always":
            return
        code = self.engine.post(f"/containers/{container}/wait")["StatusCode"]
        if code:
            self._show(container)
            raise Error(f"{self.pod.said(said)}: it ended with code {code}")
        self.engine.delete(f"/containers/{container}", {"v": True})
        self.made.remove(container)

    def _show(self, container: str) -> None:
        """The end of what somebody wrote who is about to be removed."""
        answer = self.engine.ask("GET", f"/containers/{container}/logs", {"stdout": True, "stderr": True, "tail": 20})
        data = answer.read()
        while data:
            size = int.from_bytes(data[4:8], "big")
            sys.stderr.write(data[8 : 8 + size].decode("utf-8", "replace"))
            data = data[8 + size :]
        sys.stderr.flush()

    def _make(self, said: dict[str, Any], first: bool = False) -> str:
        made = pod.container(self.pod, said, self.facts, self.made[0], first)
        if not self._is_ours():
            made["HostConfig"].pop("UTSMode")  # dockerd has the name of who it joins anyway
        options = made["HostConfig"].get("SecurityOpt")
        if options:
            made["HostConfig"]["SecurityOpt"] = [wording.security(each) for each in options]
        pull = _PULL[said.get("imagePullPolicy", "IfNotPresent")]
        container = self._create(made, f"{self.pod.name}-{said['name']}", pull)
        self.made.append(container)
        return container

    def _is_ours(self) -> bool:
        said = self.engine.get("/version").get("Components") or ()
        return any(each.get("Name") == "ocid" for each in said)

    def _create(self, said: dict[str, Any], name: str, pull: str) -> str:
        args = self.args
        said["Labels"][pod.UID] = self.facts["metadata.uid"]
        said["HostConfig"]["LogConfig"] = {"Type": args.log_driver, "Config": cli.pairs(args.log_opt, "--log-opt")}
        annotations = cli.pairs(args.annotation, "--annotation")
        said["HostConfig"]["Annotations"] = {**said["HostConfig"]["Annotations"], **annotations}
        return running.make(self.engine, {"name": name}, said, pull)

    def undo(self) -> None:
        """Remove what was made; what fails at that is said, and the rest removed all the same."""
        for container in reversed(self.made):
            kube_removing.gone(self.engine, f"/containers/{container}", {"force": True, "v": True})
        for name in self.named:
            kube_removing.gone(self.engine, f"/volumes/{part(name)}")


def _stay(engine: Engine, known: Objects, made: list[_Playing]) -> int:
    """Until every container has ended, or somebody interrupts; then nothing of the pods is left."""
    code = 0
    try:
        for one in made:
            for container in one.made[-len(one.pod.containers) :]:
                code = engine.post(f"/containers/{container}/wait")["StatusCode"] or code
    except KeyboardInterrupt:
        code = 130
    finally:
        kube_removing.remove(engine, known, claims=False)
    return code
