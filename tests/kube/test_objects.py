"""Kubernetes' objects as data: what is read of them, what their containers become, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oci_tools.errors import Error
from oci_tools.kube import generate, limits, pod, variables
from oci_tools.kube.objects import Objects
from oci_tools.kube.pod import Pod

FACTS = {"status.podIP": "10.0.0.2", "spec.nodeName": "node"}


def one(**container: Any) -> dict[str, Any]:
    return {"name": "c", "image": "bb", **container}


def file(*containers: dict[str, Any], meta: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"kind": "Pod", "metadata": {"name": "p", **(meta or {})}, "spec": {"containers": list(containers) or [one()], **spec}}


def known(*values: Any) -> Objects:
    made = Objects()
    made.add("\n---\n".join(json.dumps(value) for value in values).encode(), "f.yaml")
    return made


def bodies(*values: Any) -> list[dict[str, Any]]:
    objects = known(*values)
    made = Pod(objects.pods[0], objects)
    made.read_volumes(FACTS)
    return [pod.container(made, each, FACTS, "infra") for each in made.containers]


def refused(*values: Any) -> str:
    with pytest.raises(Error) as error:
        bodies(*values)
    return str(error.value)


MAP = {"kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1", "b": "two"}}
SECRET = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"pw": "c2VjcmV0"}, "stringData": {"x": "y"}}


# -- objects ----------------------------------------------------------------------------------------


def test_workloads_are_one_pod_each() -> None:
    for kind in ("Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "Job"):
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [one()]}}
        found = known({"kind": kind, "metadata": {"name": "web"}, "spec": {"replicas": 3, "template": template}})
        assert [each["metadata"] for each in found.pods] == [{"labels": {"a": "b"}, "name": "web-pod"}]
        assert found.ignored == [f"f.yaml: {kind} web: one pod and not 3 of it"]
    found = known({"kind": "List", "items": [file(), {**MAP, "binaryData": {"bin": "AAE="}}, {"kind": "Ingress"}]})
    assert len(found.pods) == 1 and found.data["ConfigMap", "m"] == {"a": b"1", "b": b"two", "bin": b"\0\1"}
    assert found.ignored == ["f.yaml: kind Ingress is ignored"]
    assert known(SECRET).data["Secret", "s"] == {"pw": b"secret", "x": b"y"}


def test_services_give_names_to_the_pods_that_they_mean() -> None:
    service = {"kind": "Service", "metadata": {"name": "svc"}, "spec": {"selector": {"a": "b"}}}
    found = known(file(meta={"labels": {"a": "b", "c": "d"}}), service, {**service, "metadata": {"name": "other"}, "spec": {}})
    assert found.names_of(found.pods[0]) == ["svc"]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([{"kind": "Pod", "metadata": {"name": "p"}}], "f.yaml: Pod: spec: missing"),
        ([{"metadata": {}}], "f.yaml: kind: missing"),
        (["x"], "f.yaml: expected an object"),
        ([file(one(command="x"))], 'f.yaml: Pod: spec.containers[0].command: expected an array, got "x"'),
        ([file(one(env=[{"name": "A", "value": 1}]))], "env[0].value: expected a string, got 1"),
        ([file(one(), one())], 'pod p: containers: a second container "c"'),
        ([file(one(name="../x"))], "invalid name"),
        ([file(meta={"name": "a/b"})], "invalid name"),
        ([file(), file()], "another pod has this name"),
        ([file(hostUsers=False)], "pod p: spec.hostUsers: false cannot be had here"),
        ([file(one(volumeMounts=[{"name": "v", "mountPath": "/v"}]))], 'no volume "v" in the pod'),
        ([file(one(volumeMounts=[{"name": "v", "mountPath": "v"}]), volumes=[{"name": "v", "emptyDir": {}}])], "absolute path"),
        ([file(one(volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "../x"}]), volumes=[{"name": "v", "emptyDir": {}}])],
         "expected a path beneath the volume"),
        ([file(volumes=[{"name": "v", "nfs": {"server": "x"}}])], 'a volume of kind "nfs" cannot be had here'),
        ([file(volumes=[{"name": "v"}])], "expected one kind of volume, got 0"),
        ([file(volumes=[{"name": "v", "configMap": {"name": "m"}}])], 'no ConfigMap "m" in this file'),
        ([MAP, file(volumes=[{"name": "v", "configMap": {"name": "m", "items": [{"key": "a", "path": "../a"}]}}])], "beneath the volume"),
        ([MAP, file(volumes=[{"name": "v", "configMap": {"name": "m", "items": [{"key": "z", "path": "a"}]}}])], 'no key "z" in it'),
        ([file(one(envFrom=[{"secretRef": {"name": "s"}}]))], 'no Secret "s" in this file'),
        ([file(one(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]))], "no such field"),
        ([file(one(env=[{"name": "A=", "value": ""}]))], "invalid name of a variable"),
        ([file(one(securityContext={"runAsNonRoot": True, "runAsUser": 0}))], "runAsNonRoot excludes runAsUser 0"),
        ([file(one(resources={"limits": {"memory": "1Qi"}}))], 'resources.limits.memory: expected a quantity, got "1Qi"'),
        ([file(one(livenessProbe={"httpGet": {"port": "web"}}))], 'no such port "web"'),
        ([file(one(livenessProbe={}))], "expected exec, httpGet or tcpSocket"),
        ([{**MAP, "data": {"../x": ""}}], 'invalid key "../x"'),
        ([{**SECRET, "data": {"a": "%"}}], "Secret s: data.a: not valid base64"),
        ([file(volumes=[{"name": "v", "hostPath": {"path": "x"}}])], "expected an absolute path"),
    ],
)  # fmt: skip
def test_what_is_refused(values: list[Any], why: str) -> None:
    assert why in refused(*values)


# -- a container -----------------------------------------------------------------------------------


def test_words_and_variables() -> None:
    env = [{"name": "A", "value": "x"}, {"name": "B", "value": "$(A)$(NONE)$$(A)"}, {"name": "A", "value": "y$(A)"},
           {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['l']"}}},
           {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
           {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}},
           {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}}},
           {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}}]  # fmt: skip
    container = one(
        command=["sh", "-c", "$(A)"], args=["$$(A)", "$(B)"], env=env, envFrom=[{"prefix": "M_", "configMapRef": {"name": "m"}}],
        workingDir="/w", tty=True, resources={"limits": {"memory": "1500Ki", "cpu": 0.5}, "requests": {"cpu": "100m", "memory": "1e6"}},
    )
    (made,) = bodies(MAP, SECRET, file(container, meta={"labels": {"l": "v"}}))
    assert made["Env"] == ["M_a=1", "M_b=two", "B=x$(NONE)$(A)", "A=yx", "N=v", "IP=10.0.0.2", "P=secret", "M=2"]
    assert (made["Entrypoint"], made["Cmd"]) == (["sh", "-c", "yx"], ["$(A)", "x$(NONE)$(A)"])
    host = made["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["CpuShares"], host["MemoryReservation"]) == (1536000, 500_000_000, 102, 10**6)
    assert (made["WorkingDir"], made["Tty"], host["NetworkMode"], host["UTSMode"]) == ("/w", True, "container:infra", "container:infra")


@pytest.mark.parametrize(
    ("said", "value"),
    [("a$$b", "a$b"), ("$(A", "$(A"), ("$A", "$A"), ("$", "$"), ("$$$(A)", "$1"), ("$()", "$()"), ("$(A)$(A)", "11"), ("$$$$", "$$")],
)
def test_expansion_is_the_kubelets(said: str, value: str) -> None:
    assert variables.expand(said, {"A": "1"}) == value


@pytest.mark.parametrize(
    ("said", "value"), [("1Gi", 1 << 30), ("1k", 1000), ("1.5G", 1_500_000_000), (3, 3), ("2e3", 2000), ("1E", 10**18), ("100m", 0.1)]
)
def test_quantities(said: Any, value: float) -> None:
    assert float(limits.quantity(said, "x")) == value
    for wrong in ("", "x", "1 G", "1K", "-1", "1/2", "1_0", True, [], "1e99999999", "9" * 50):
        with pytest.raises(Error):
            limits.quantity(wrong, "x")


def test_security_of_pod_and_container() -> None:
    context = {"runAsUser": 1, "runAsGroup": 2, "supplementalGroups": [3], "fsGroup": 4, "seccompProfile": {"type": "Unconfined"}}
    own = {"runAsUser": 5, "privileged": True, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False,
           "capabilities": {"add": ["NET_ADMIN"], "drop": ["all"]}, "procMount": "Unmasked", "seLinuxOptions": {"type": "t"}}  # fmt: skip
    first, second = bodies(file(one(securityContext=own), one(name="d"), securityContext=context))
    host = first["HostConfig"]
    assert (first["User"], second["User"], host["GroupAdd"], host["CapAdd"], host["CapDrop"]) == (
        "5:2", "1:2", ["3", "4"], ["NET_ADMIN"], ["ALL"],
    )  # fmt: skip
    assert host["SecurityOpt"] == ["no-new-privileges", "seccomp=unconfined", "systempaths=unconfined", "label=type:t"]
    assert host["Privileged"] and host["ReadonlyRootfs"] and second["HostConfig"]["SecurityOpt"] == ["seccomp=unconfined"]


def test_probes() -> None:
    ports = [{"name": "web", "containerPort": 8080}]
    (made,) = bodies(file(one(ports=ports, livenessProbe={"httpGet": {"port": "web", "path": "/a b"}, "initialDelaySeconds": 3},
                              startupProbe={"tcpSocket": {"port": "81"}, "failureThreshold": 9, "successThreshold": 2})))  # fmt: skip
    assert "curl -fsSk -o /dev/null 'http://127.0.0.1:8080/a b'" in made["Healthcheck"]["Test"][1]
    assert (made["Healthcheck"]["Interval"], made["Healthcheck"]["Retries"], made["Healthcheck"]["StartPeriod"]) == (10**10, 3, 3 * 10**9)
    assert (made["StartupHealthCheck"]["Test"][1], made["StartupHealthCheck"]["Successes"]) == ("nc -z 127.0.0.1 81", 2)
    assert made["HealthcheckOnFailureAction"] == "restart"
    (made,) = bodies(file(one(livenessProbe={"exec": {"command": ["a"]}}), restartPolicy="Never"))
    assert (made["Healthcheck"]["Test"], made["HealthcheckOnFailureAction"]) == (["CMD", "a"], "kill")


def test_volumes() -> None:
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("e", "c", "p", "h", "d", "dev")]
    mounts += [{"name": "e", "mountPath": "/sub", "subPathExpr": "$(A)/x", "readOnly": True}, {"name": "h", "mountPath": "/hs", "subPath": "y"}]
    sources = [{"secret": {"name": "s"}}, {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}]
    volumes = [{"name": "e", "emptyDir": {}}, {"name": "c", "projected": {"sources": sources}}, {"name": "h", "hostPath": {"path": "/h"}},
               {"name": "p", "persistentVolumeClaim": {"claimName": "claim", "readOnly": True}},
               {"name": "d", "hostPath": {"path": "/new", "type": "DirectoryOrCreate"}},
               {"name": "dev", "hostPath": {"path": "/dev/fuse", "type": "CharDevice"}}]  # fmt: skip
    objects = known(SECRET, file(one(volumeMounts=mounts, env=[{"name": "A", "value": "v"}]), volumes=volumes))
    made = Pod(objects.pods[0], objects)
    made.read_volumes(FACTS)
    host = pod.container(made, made.containers[0], FACTS, "i")["HostConfig"]
    said = {each["Target"]: (each["Type"], each["Source"], each["ReadOnly"], each.get("VolumeOptions", {}).get("Subpath")) for each in host["Mounts"]}
    assert said == {
        "/e": ("volume", "p_e", False, "data"), "/c": ("volume", "p_c", True, None), "/p": ("volume", "claim", True, None),
        "/h": ("bind", "/h", False, None), "/sub": ("volume", "p_e", True, "data/v/x"), "/hs": ("bind", "/h/y", False, None),
    }  # fmt: skip
    assert host["Binds"] == ["/new:/d"] and host["Devices"][0]["PathOnHost"] == "/dev/fuse"
    assert made.volumes["c"].files == {"pw": (b"secret", 0o644), "x": (b"y", 0o644), "n": (b"p", 0o644)}
    assert made.volumes["e"].files == {"data/": (b"", 0o777), "data/v/x/": (b"", 0o777)}


def test_the_infra_container_has_what_is_the_pods() -> None:
    ports = [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "127.0.0.1"}]
    objects = known(file(one(ports=ports), hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}], hostIPC=True,
                         dnsConfig={"nameservers": ["9.9.9.9"], "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]}))  # fmt: skip
    said = pod.infra(Pod(objects.pods[0], objects), "pause", "net", ["p"], {})
    host = said["HostConfig"]
    assert host["PortBindings"]["53/udp"] == [{"HostIp": "127.0.0.1", "HostPort": "53"}]
    assert (host["ExtraHosts"], host["Dns"], host["DnsOptions"]) == (["a:1.2.3.4", "b:1.2.3.4"], ["9.9.9.9"], ["ndots:2", "rotate"])
    assert (said["Hostname"], host["IpcMode"], host["RestartPolicy"]) == ("p", "host", {"Name": "always"})
    objects = known(file(hostNetwork=True, restartPolicy="Never"))
    host = pod.infra(Pod(objects.pods[0], objects), "pause", "net", ["p"], {})["HostConfig"]
    assert (host["NetworkMode"], host["RestartPolicy"], "PortBindings" in host) == ("host", {"Name": "no"}, False)


# -- back -------------------------------------------------------------------------------------------


def test_a_container_becomes_a_pod_again() -> None:
    (made,) = bodies(file(one(command=["a"], args=["b"], env=[{"name": "A", "value": "$$(x)"}], workingDir="/w",
                              resources={"limits": {"memory": "64Mi"}}, securityContext={"runAsUser": 3, "capabilities": {"drop": ["ALL"]}},
                              livenessProbe={"exec": {"command": ["c"]}, "periodSeconds": 7})))  # fmt: skip
    seen = {"Id": "x", "Name": "/p-c", "Image": "i", "Config": {key: value for key, value in made.items() if key != "HostConfig"},
            "HostConfig": made["HostConfig"]}  # fmt: skip
    (document,) = generate.documents(generate.Seen(None, [seen]), "p", "pod")
    (again,) = bodies(document)
    for member in ("Env", "Entrypoint", "Cmd", "WorkingDir", "User", "Healthcheck"):
        assert again[member] == made[member], member
    assert again["HostConfig"]["Memory"] == 64 << 20 and again["HostConfig"]["CapDrop"] == ["ALL"]
