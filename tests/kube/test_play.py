"""kube play, down and generate on a real `ocid`: what runs is what the file says, there and back; oci-spec from-kube."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.conftest import BIN, PATH
from tests.daemon import Engine, started

pytestmark = [pytest.mark.root, pytest.mark.needs("nft")]
POD = """
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {name: value, file.txt: "hello\\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: sec}
stringData: {pw: s3cret}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata: {labels: {app: web}, annotations: {note: here}}
    spec:
      hostAliases: [{ip: 1.2.3.4, hostnames: [other]}]
      securityContext: {fsGroup: 123}
      terminationGracePeriodSeconds: 0
      initContainers:
      - {name: first, image: bb, command: [sh, -c, 'echo made > /w/init'], volumeMounts: [{name: work, mountPath: /w}]}
      containers:
      - name: one
        image: bb
        command: [sh, -c, 'while :; do echo -e "HTTP/1.0 200 OK\\\\n\\\\nfine" | nc -l -p 80 >/dev/null; done']
        env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}, {name: PW, valueFrom: {secretKeyRef: {name: sec, key: pw}}}]
        envFrom: [{configMapRef: {name: conf}, prefix: C_}]
        ports: [{containerPort: 80, hostPort: 8080}]
        volumeMounts: [{name: work, mountPath: /w}, {name: conf, mountPath: /c}, {name: sec, mountPath: /s}, {name: kept, mountPath: /k},
                       {name: conf, mountPath: /single, subPath: file.txt}, {name: mem, mountPath: /m}]
        resources: {limits: {memory: 64Mi}, requests: {cpu: 100m}}
      - name: two
        image: bb
        args: [sleep, "1000"]
        securityContext: {runAsUser: 7, runAsGroup: 8, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}, allowPrivilegeEscalation: false}
        volumeMounts: [{name: work, mountPath: /w, subPath: sub}, {name: mem, mountPath: /m}]
      volumes:
      - {name: work, emptyDir: {}}
      - {name: conf, configMap: {name: conf, defaultMode: 0444}}
      - {name: sec, secret: {secretName: sec, items: [{key: pw, path: a/pw, mode: 0400}]}}
      - {name: kept, persistentVolumeClaim: {claimName: kept}}
      - {name: mem, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: service}
spec: {selector: {app: web}}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    yield from started(tmp_path_factory.mktemp("k") / "a")


@pytest.fixture
def engine(daemon: Engine) -> Iterator[Engine]:
    yield daemon
    daemon.clean()
    for volume in daemon.out("volume", "ls", "-q").split():
        daemon.docker("volume", "rm", volume)


@pytest.fixture
def ctl(engine: Engine) -> Any:
    def run(*words: str, code: int = 0, **more: Any) -> Any:
        more = {"stdin": subprocess.DEVNULL, **more} if "input" not in more else more
        env = {**engine.env, "DOCKER_HOST": f"unix://{engine.path}"}
        done = subprocess.run([f"{BIN}/oci-ctl", *words], env=env, capture_output=True, text=True, **more)
        assert done.returncode == code, f"{words}: {done.returncode}, not {code}\n{done.stdout}{done.stderr}"
        return done

    return run


def names(engine: Engine) -> list[str]:
    return sorted(engine.out("ps", "-a", "--format", "{{.Names}}").split())


def test_a_deployment_is_played_and_taken_down(ctl: Any, engine: Engine) -> None:
    assert ctl("kube", "play", "-", input=POD).stdout == "web-pod\n"
    assert names(engine) == ["web-pod-infra", "web-pod-one", "web-pod-two"]
    said = ctl(
        "exec", "web-pod-one", "sh", "-c",
        "hostname; cat /w/init /single /s/a/pw; echo; echo $C_name $PW $HOSTNAME; stat -c '%a %g' /w /w/sub /s/a/pw; grep -c other /etc/hosts; "
        "df -k /m | tail -1 | awk '{print $2}'; ip -o -4 addr show eth0 | grep -c \" $IP/\"; touch /c/x || echo read-only").stdout  # fmt: skip
    assert said.splitlines() == ["web-pod", "made", "hello", "s3cret", "value s3cret web-pod", "2777 123", "2777 123", "440 123", "1",
                                 "1024", "1", "read-only"]  # fmt: skip
    script = "id -u; id -g; hostname; touch /x || echo ro; grep NoNewPrivs /proc/self/status; echo seen > /m/f; echo mine > /w/f; wget -qO- service:80"
    said = ctl("exec", "web-pod-two", "sh", "-c", script).stdout.splitlines()
    assert said == ["7", "8", "web-pod", "ro", "NoNewPrivs:\t1", "fine"]
    assert ctl("exec", "web-pod-one", "cat", "/m/f", "/w/sub/f").stdout == "seen\nmine\n"
    assert "there is one of this name" in ctl("kube", "play", "-", input=POD, code=1).stderr
    ctl("kube", "play", "--replace", "-", input=POD)
    assert ctl("kube", "down", "-", input=POD).stdout == "web-pod\n"
    assert (names(engine), engine.out("volume", "ls", "-q")) == ([], "kept")
    assert ctl("kube", "play", "--down", "--force", "-", input=POD).stdout == ""
    assert engine.out("volume", "ls", "-q") == ""


def test_there_and_back(ctl: Any, engine: Engine, tmp_path: Path) -> None:
    ctl("kube", "play", "-", input=POD)
    ctl("kube", "generate", "-f", str(tmp_path / "p.yaml"), "-s", "web-pod")
    before = [engine.request("GET", f"/containers/web-pod-{name}/json")[1] for name in ("infra", "one", "two")]
    ctl("kube", "down", "-", input=POD)
    assert ctl("kube", "play", str(tmp_path / "p.yaml")).stdout == "web-pod\n"
    after = [engine.request("GET", f"/containers/web-pod-{name}/json")[1] for name in ("infra", "one", "two")]
    address = before[0]["NetworkSettings"]["Networks"]["oci-kube"]["IPAddress"]
    for one, other in zip(before, after, strict=True):
        for said in one, other:
            for key in ("io.kubernetes.pod.uid", "app"):
                said["Config"]["Labels"].pop(key, None)
            text = json.dumps([said["Config"], said["HostConfig"]]).replace(before[0]["Id"], "INFRA").replace(after[0]["Id"], "INFRA")
            said["said"] = json.loads(text)
        assert other["said"] == one["said"]
    assert f"IP={address}" in before[1]["Config"]["Env"]
    again = ctl("kube", "generate", "-s", "web-pod").stdout
    assert again == (tmp_path / "p.yaml").read_text()
    assert "file exists" in ctl("kube", "generate", "-f", str(tmp_path / "p.yaml"), "web-pod", code=1).stderr


def test_containers_and_volumes_become_objects(ctl: Any, engine: Engine) -> None:
    engine.docker("volume", "create", "data")
    engine.docker("run", "-d", "--name", "single", "-e", "A=$(x)", "-p", "81:80", "-v", "data:/d", "-v", "/tmp:/t:ro", "--restart", "on-failure",
                  "--read-only", "--cap-drop", "ALL", "-u", "3", "-w", "/d", "-m", "32m", "bb", "sleep", "1000")  # fmt: skip
    made = ctl("kube", "generate", "-t", "deployment", "-s", "single", "data").stdout
    engine.docker("rm", "-f", "single")
    assert ctl("kube", "play", "-", input=made).stdout == "single-pod-pod\n"
    said = engine.request("GET", "/containers/single-pod-pod-single/json")[1]
    assert said["Config"]["Cmd"] == ["sleep", "1000"] and "A=$(x)" in said["Config"]["Env"] and said["Config"]["User"] == "3"
    assert {each["Destination"]: each["Type"] for each in said["Mounts"]} == {"/d": "volume", "/t": "bind"}
    assert (said["HostConfig"]["Memory"], said["HostConfig"]["RestartPolicy"]["Name"], said["State"]["Running"]) == (32 << 20, "on-failure", True)
    assert "there is no pod" in ctl("kube", "generate", "nothing", code=1).stderr


def test_what_fails_leaves_nothing(ctl: Any, engine: Engine) -> None:
    said = ctl("kube", "play", "-", input=POD.replace("echo made > /w/init", "echo why >&2; exit 3"), code=1)
    assert said.stderr == "why\noci-ctl: pod web-pod: container first: it ended with code 3\n"
    for text, why in ((POD.replace("image: bb\n        args", "image: none:1\n        imagePullPolicy: Never\n        args"), "none:1"), (POD.replace("[sleep,", "[nope,"), "nope"),
                      (POD.replace("runAsUser: 7, runAsGroup: 8", "runAsNonRoot: true"), "must not run as root"),
                      (POD.replace("name: kept, mountPath", "name: gone, mountPath"), 'no volume "gone"')):  # fmt: skip
        assert why in ctl("kube", "play", "-", input=text, code=1 if why != "nope" else 127).stderr
        assert names(engine) == []
        assert engine.out("volume", "ls", "-q") in ("", "kept")
    assert "there is no pod in it" in ctl("kube", "play", "-", input="kind: Ingress\n", code=1).stderr
    assert "cannot read 'none.yaml'" in ctl("kube", "play", "none.yaml", code=1).stderr


def test_made_and_not_started_waits(ctl: Any, engine: Engine) -> None:
    ctl("kube", "play", "--start=false", "--annotation", "a=b", "-", input=POD.replace("initContainers", "x"))
    assert engine.out("ps", "-q") == ""
    engine.docker("start", "web-pod-infra", "web-pod-two")
    assert ctl("exec", "web-pod-two", "hostname").stdout == "web-pod\n"


def test_waiting_gives_the_code_and_clears_up(ctl: Any, engine: Engine) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "job"}, "spec": {"restartPolicy": "Never", "containers": [
        {"name": "a", "image": "bb", "command": ["true"]}, {"name": "b", "image": "bb", "command": ["sh", "-c", "exit 4"]}]}}  # fmt: skip
    assert ctl("kube", "play", "--wait", "-", input=json.dumps(pod), code=4).stdout == "job\n"
    assert names(engine) == []


def test_a_pod_survives_the_restart_of_all_its_containers(ctl: Any, engine: Engine) -> None:
    """Namespaces are those of the infra container as it is now: its first process is another."""
    ctl("kube", "play", "-", input=POD)
    engine.docker("stop", "-t", "0", "web-pod-one", "web-pod-two", "web-pod-infra")
    engine.docker("start", "web-pod-infra", "web-pod-one", "web-pod-two")
    assert ctl("exec", "web-pod-two", "wget", "-qO-", "127.0.0.1:80").stdout == "fine\n"


@pytest.mark.needs("podman", "skopeo")
def test_podmans_own_pod_is_played(ctl: Any, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    archive = f"{tmp_path}/bb.tar"
    subprocess.run(["skopeo", "copy", "-q", "--policy", tmp_path / "policy.json", f"oci:{images.image('busybox')}:latest",
                    f"docker-archive:{archive}:docker.io/library/bb:latest"], check=True)  # fmt: skip
    base = ["podman", "--root", f"{tmp_path}/storage", "--runroot", f"{tmp_path}/state", "--tmpdir", f"{tmp_path}/tmp", "--runtime", "runc",
            "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs", "--events-backend", "none"]  # fmt: skip
    env = {"PATH": PATH, "HOME": str(tmp_path), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}

    def podman(*words: str) -> str:
        return subprocess.run([*base, *words], env=env, capture_output=True, text=True, check=True).stdout

    podman("load", "--signature-policy", f"{tmp_path}/policy.json", "-q", "-i", archive)
    podman("create", "--name", "theirs", "-e", "A=b $(c)", "--cap-drop", "CHOWN", "-w", "/tmp", "-u", "5:6", "-p", "82:80", "-v", "/var:/v:ro",
           "-m", "64m", "--restart", "always", "--read-only", "bb", "sleep", "1000")  # fmt: skip
    (tmp_path / "theirs.yaml").write_text(podman("generate", "kube", "theirs"))
    assert ctl("kube", "play", str(tmp_path / "theirs.yaml")).stdout == "theirs-pod\n"
    said = ctl("exec", "theirs-pod-theirs", "sh", "-c", "id -u; id -g; pwd; echo $A; touch /v/x || echo ro; ls -d /v/lib").stdout
    assert said.splitlines() == ["5", "6", "/tmp", "b $(c)", "ro", "/v/lib"]
    host = engine.request("GET", "/containers/theirs-pod-theirs/json")[1]["HostConfig"]
    assert (host["Memory"], host["CapDrop"], host["ReadonlyRootfs"], host["RestartPolicy"]["Name"]) == (
        64 << 20, ["CHOWN"], True, "always",
    )  # fmt: skip


# -- oci-spec from-kube -------------------------------------------------------------------------------


def test_from_kube_prints_what_runs(engine: Engine, tmp_path: Path) -> None:
    def oci(name: str, *words: str, code: int = 0, **more: Any) -> Any:
        done = subprocess.run([f"{BIN}/oci-{name}", *words], env=engine.oci_env, capture_output=True, text=True, cwd=tmp_path, **more)
        assert done.returncode == code, done.stderr
        return done

    (tmp_path / "p.yaml").write_text(POD)
    assert "--volumes DIR" in oci("spec", "from-kube", "p.yaml", code=2).stderr
    both = [json.loads(line) for line in oci("spec", "from-kube", "--volumes", "v", "-", input=POD).stdout.splitlines()]
    assert [each["annotations"]["io.kubernetes.container.name"] for each in both] == ["one", "two"]
    oci("unpack", "bb", "b")
    spec = oci("spec", "from-kube", "--volumes", "v", "p.yaml", "two").stdout
    assert oci("spec", "check", input=spec).stdout == spec
    (tmp_path / "b/config.json").write_text(spec)
    said = oci("run", "./b", "sh", "-c", "id -u; hostname; touch /x || echo ro; echo here > /w/f; grep NoNewPrivs /proc/self/status").stdout
    assert said.splitlines() == ["7", "web-pod", "ro", "NoNewPrivs:\t1"]
    assert (tmp_path / "v/web-pod_work/data/sub/f").read_text() == "here\n"
    assert (tmp_path / "v/web-pod_sec/a/pw").read_text() == "s3cret"
    assert "web-pod has first, one, two" in oci("spec", "from-kube", "--volumes", "v", "p.yaml", "three", code=1).stderr
    assert "it has 0 pods" in oci("spec", "from-kube", "-", input="kind: Ingress\n", code=1).stderr


def test_from_kube_joins_a_running_container(engine: Engine, tmp_path: Path) -> None:
    engine.docker("run", "-d", "--name", "holder", "-h", "held", "--ipc", "shareable", "bb", "sleep", "1000")
    (tmp_path / "p.yaml").write_text("kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: bb, command: [hostname]}]}\n")
    argv = [f"{BIN}/oci-spec", "from-kube", "--pod", "holder", str(tmp_path / "p.yaml")]
    spec = json.loads(subprocess.run(argv, env=engine.oci_env, capture_output=True, check=True).stdout)
    joined = {each["type"] for each in spec["linux"]["namespaces"] if each.get("path")}
    assert joined == {"network", "ipc", "uts"}
