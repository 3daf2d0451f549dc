"""A pod -> the documents that create its containers (POST /containers/create of Docker's API).

The infra container has the pod's network, ipc and uts namespaces, its ports, names and volumes; each other joins it.
Nothing is asked here: what is known only once the infra container runs (its id, its address) comes as `facts`.
"""

from __future__ import annotations

from oci_tools import document
from oci_tools.kube import limits, probes, security, variables, volumes
from oci_tools.kube.objects import check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from oci_tools.kube.objects import Objects
    from oci_tools.kube.volumes import Volume

# The kubelet's names for the labels of a pod's containers.
POD, NAMESPACE, CONTAINER = "io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.container.name"
TYPE, SANDBOX, ONE = "io.kubernetes.docker.type", "podsandbox", "container"
INIT, UID = "io.kubernetes.container.init", "io.kubernetes.pod.uid"
PLACE = "/volumes"  # where the infra container sees the volumes that files are put in
_RESTART = {"Always": "always", "OnFailure": "on-failure", "Never": "no"}
_UNABLE = {"hostUsers": False}  # what would make a container less confined than its pod says, were it ignored


class Pod:
    """One pod, read: its volumes are known once `facts` are."""

    def __init__(self, pod: dict[str, Any], known: Objects) -> None:
        self.pod = pod
        self.spec = pod["spec"]
        self.name = str(pod["metadata"]["name"])
        self.where = f"pod {self.name}"
        self.known = known
        self.volumes: dict[str, Volume] = {}
        self.grace = self.spec.get("terminationGracePeriodSeconds")
        _check(self)

    @property
    def init(self) -> list[dict[str, Any]]:
        return list(self.spec.get("initContainers") or ())

    @property
    def containers(self) -> list[dict[str, Any]]:
        return list(self.spec["containers"])

    def labels(self, kind: str, container: str) -> dict[str, str]:
        meta = self.pod["metadata"]
        own = {POD: self.name, NAMESPACE: meta.get("namespace") or "default", CONTAINER: container, TYPE: kind}
        return {**(meta.get("labels") or {}), **own}

    def read_volumes(self, facts: dict[str, str]) -> None:
        """Fill `volumes`, with the files that ConfigMaps and subPaths of the containers put in them."""
        self.volumes = volumes.volumes(self.pod, self.known, facts, self.where)
        for each in [*self.init, *self.containers]:
            made = variables.environment(each, self.pod, self.known, facts, self.said(each))
            for _ in volumes.mounts(each, self.volumes, made, self.said(each)):
                pass  # subPaths are noted

    def said(self, container: dict[str, Any]) -> str:
        """What an error names."""
        return f"{self.where}: container {container['name']}"


def _check(pod: Pod) -> None:
    """What types do not say; before anything is made."""
    names: set[str] = set()
    for each in [*pod.init, *pod.containers]:
        check_name(each["name"], pod.where, "containers.name", 63)
        if each["name"] in names or each["name"] == "infra":
            raise document.wrong(pod.where, "containers", f"a second container {document.shown(each['name'])}")
        names.add(each["name"])
    for name, value in _UNABLE.items():
        if pod.spec.get(name) is value:
            raise document.wrong(pod.where, f"spec.{name}", f"{document.shown(value)} cannot be had here")
    if pod.spec.get("hostname"):
        check_name(pod.spec["hostname"], pod.where, "spec.hostname", 63)


# -- the infra container ---------------------------------------------------------------------------


def infra(pod: Pod, image: str, network: str, aliases: list[str], ports: dict[str, Any]) -> dict[str, Any]:
    """What creates it; `ports` are PortBindings that are said besides those of the containers."""
    spec = pod.spec
    bindings = {**_ports(pod), **ports}
    host: dict[str, Any] = {
        "NetworkMode": "host" if spec.get("hostNetwork") else network,
        "IpcMode": "host" if spec.get("hostIPC") else "shareable",
        "PidMode": "host" if spec.get("hostPID") else "",
        "RestartPolicy": {"Name": "always" if restart_of(pod) == "always" else "no"},
        "Mounts": [_prepared(each) for each in pod.volumes.values() if needs_files(each)],
        "Annotations": pod.pod["metadata"].get("annotations") or {},
        **_names(pod),
    }  # fmt: skip
    sysctls = (spec.get("securityContext") or {}).get("sysctls")
    if sysctls:
        host["Sysctls"] = {each["name"]: each["value"] for each in sysctls}
    made: dict[str, Any] = {
        "Image": image, "Labels": pod.labels(SANDBOX, "POD"), "StopSignal": "SIGKILL", "HostConfig": host,
    }  # fmt: skip
    if not spec.get("hostNetwork"):
        made["Hostname"] = spec.get("hostname") or pod.name[:63].rstrip("-.")
        host["PortBindings"] = bindings
        made["ExposedPorts"] = {port: {} for port in bindings}
        if network not in ("none", "default") and not network.startswith("container:"):
            made["NetworkingConfig"] = {"EndpointsConfig": {network: {"Aliases": aliases}}}
    return made


def _ports(pod: Pod) -> dict[str, list[dict[str, str]]]:
    """PortBindings of all containers: what hostPort says, or the port itself in the host's own network."""
    made: dict[str, list[dict[str, str]]] = {}
    for each in pod.containers:
        for port in each.get("ports") or ():
            if port.get("hostPort"):
                binding = {"HostIp": port.get("hostIP", ""), "HostPort": str(port["hostPort"])}
                made.setdefault(_key(port), []).append(binding)
    return made


def _key(port: dict[str, Any]) -> str:
    return f"{port['containerPort']}/{port.get('protocol', 'TCP').lower()}"


def _names(pod: Pod) -> dict[str, Any]:
    """hostAliases and dnsConfig."""
    made: dict[str, Any] = {}
    aliases = pod.spec.get("hostAliases") or ()
    hosts = [f"{name}:{each['ip']}" for each in aliases for name in each.get("hostnames") or ()]
    dns = pod.spec.get("dnsConfig") or {}
    options = [each["name"] + (f":{each['value']}" if each.get("value") else "") for each in dns.get("options") or ()]
    for member, said in (("ExtraHosts", hosts), ("Dns", dns.get("nameservers")), ("DnsSearch", dns.get("searches")),
                         ("DnsOptions", options)):  # fmt: skip
        if said:
            made[member] = list(said)
    return made


def needs_files(volume: Volume) -> bool:
    """Whether something is put in it before it is used."""
    return bool(volume.name and volume.files)


def _prepared(volume: Volume) -> dict[str, Any]:
    target = f"{PLACE}/{volume.name}"
    return {"Type": "volume", "Source": volume.name, "Target": target, "VolumeOptions": {"NoCopy": True}}


# -- the others --------------------------------------------------------------------------------------


def restart_of(pod: Pod) -> str:
    return _RESTART[pod.spec.get("restartPolicy", "Always")]


def container(
    pod: Pod, said: dict[str, Any], facts: dict[str, str], infra_id: str, first: bool = False
) -> dict[str, Any]:
    """What creates one container that joins `infra_id` ("": it is alone); `first`: one of initContainers."""
    where = pod.said(said)
    env = variables.environment(said, pod.pod, pod.known, facts, where)
    mounts = list(volumes.mounts(said, pod.volumes, env, where))
    config, host = security.security(said, pod.pod, where)
    restart = restart_of(pod)
    if first:
        restart = "always" if said.get("restartPolicy") == "Always" else "no"
    host.update(limits.limits(said.get("resources") or {}, f"{where}: resources"))
    host.update(
        RestartPolicy={"Name": restart}, Binds=[*_binds(mounts)],
        Mounts=[mount for volume, mount in mounts if not volumes.is_device(volume) and not volumes.is_made(volume)],
        Devices=[*_devices(mounts)], Annotations=pod.pod["metadata"].get("annotations") or {},
        **_spaces(pod, infra_id),
    )  # fmt: skip
    made = {
        "Image": said["image"], "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": {**pod.labels(ONE, said["name"]), **({INIT: "true"} if first else {})},
        "Tty": said.get("tty", False), "OpenStdin": said.get("stdin", False), "StdinOnce": said.get("stdinOnce", False),
        **config, **({} if first else probes.checks(said, restart, where)), "HostConfig": host,
    }  # fmt: skip
    for member, name in (("Entrypoint", "command"), ("Cmd", "args")):
        if said.get(name):
            made[member] = [variables.expand(word, env) for word in said[name]]
    if said.get("workingDir"):
        made["WorkingDir"] = said["workingDir"]
    if pod.grace is not None:
        made["StopTimeout"] = pod.grace
    exposed: dict[str, Any] = {_key(port): {} for port in said.get("ports") or ()}
    if exposed:
        made["ExposedPorts"] = exposed
    return made


def _spaces(pod: Pod, infra_id: str) -> dict[str, Any]:
    if not infra_id:
        return {}
    join = f"container:{infra_id}"
    made = {"NetworkMode": join, "IpcMode": join, "UTSMode": join}
    if pod.spec.get("hostPID"):
        made["PidMode"] = "host"
    elif pod.spec.get("shareProcessNamespace"):
        made["PidMode"] = join
    return made


def _binds(mounts: list[tuple[Volume, dict[str, Any]]]) -> Iterator[str]:
    """Directories of the host that are made where they are missing: docker's older form says that."""
    for volume, mount in mounts:
        if volumes.is_made(volume):
            options = ["ro"] if mount["ReadOnly"] else []
            options += [mount["BindOptions"]["Propagation"]] if "BindOptions" in mount else []
            yield ":".join([mount["Source"], mount["Target"], *([",".join(options)] if options else [])])


def _devices(mounts: list[tuple[Volume, dict[str, Any]]]) -> Iterator[dict[str, str]]:
    for volume, mount in mounts:
        if volumes.is_device(volume):
            access = "r" if mount["ReadOnly"] else "rwm"
            yield {"PathOnHost": mount["Source"], "PathInContainer": mount["Target"], "CgroupPermissions": access}
