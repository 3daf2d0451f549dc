"""Rules that moby's own integration tests hold dockerd to."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Engine

pytestmark = [pytest.mark.root, pytest.mark.needs("docker")]
CREATE = {"Image": "bb", "HostConfig": {"NetworkMode": "none"}}


def create(engine: Engine, query: str = "", code: int = 201, **more: Any) -> Any:
    host = {"NetworkMode": "none", **more.pop("HostConfig", {})}
    asked = {"Image": "bb", "Cmd": ["sleep", "1000"], "HostConfig": host, **more}
    return engine.request("POST", f"/containers/create{query}", asked, code=code)[1]


def inspect(engine: Engine, one: str) -> Any:
    return engine.request("GET", f"/containers/{one}/json", code=200)[1]


@pytest.mark.parametrize("path", ["/commit", "/containers/create", "/containers/no/exec", "/containers/no/update", "/exec/no/start"])
def test_a_body_is_looked_at_first(engine: Engine, path: str) -> None:
    said = [
        (b"{}", "text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'"),
        (b"{invalid json", "application/json", "invalid JSON: invalid character 'i' looking for beginning of object key string"),
        (b"{} trailing content", "application/json", "unexpected content after JSON"),
        (b'{"a":', "application/json", "invalid JSON: unexpected EOF"),
        (b'{"a" 1}', "application/json", "invalid JSON: invalid character '1' after object key"),
    ]
    for body, kind, text in said:
        _, answer = engine.request("POST", path, body=body, headers={"Content-Type": kind}, code=400)
        assert text in answer["message"]


def names(engine: Engine, one: str, path: str) -> list[str]:
    _, data = engine.request("GET", f"/containers/{one}/archive?path={path}", code=200)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [each.name + "/" * each.isdir() for each in tar]


def test_how_the_files_of_an_archive_are_called(engine: Engine) -> None:
    one = create(engine)["Id"]
    for path in ("/", ""):
        found = names(engine, one, path or "/")
        assert found[0] in ("/", "//") and all(each.startswith("/") for each in found) and "/bin/busybox" in found
    for path in (".", "/.", "./", "/./"):
        found = names(engine, one, path)
        assert found[0] == "./" and "./bin/busybox" in found
    assert names(engine, one, "bin/.")[0] == "./" and "./busybox" in names(engine, one, "/bin/.")
    for path in ("bin", "bin/", "/etc/../bin"):
        assert names(engine, one, path)[0] == "bin/" and "bin/busybox" in names(engine, one, path)
    _, said = engine.request("GET", f"/containers/{one}/archive?path=/bin/busybox/", code=400)
    assert "not a directory" in said["message"]
    _, said = engine.request("PUT", f"/containers/{one}/archive?path=/bin/busybox/", body=b"", code=400)
    assert "not a directory" in said["message"]


def test_masked_and_read_only_paths_are_those_that_are_said(engine: Engine) -> None:
    for key in ("MaskedPaths", "ReadonlyPaths"):
        for said in ([], ["/proc/asound", "/proc/bus"]):
            one = create(engine, HostConfig={key: said})["Id"]
            assert inspect(engine, one)["HostConfig"][key] == said
        one = create(engine)["Id"]
        assert "/proc/bus" in inspect(engine, one)["HostConfig"][key] or "/proc/kcore" in inspect(engine, one)["HostConfig"][key]
    script = "head -c 5 /proc/timer_list; grep -c ' /proc/' /proc/self/mounts"
    free = {"MaskedPaths": [], "ReadonlyPaths": []}
    one = create(engine, Cmd=["sh", "-c", script], HostConfig=free)["Id"]
    engine.request("POST", f"/containers/{one}/start", code=204)
    engine.request("POST", f"/containers/{one}/wait", code=200)
    assert engine.out("logs", one) == "Timer0"  # nothing is mounted over anything there


def test_a_tmpfs_takes_the_place_of_an_unnamed_volume_and_is_no_mount(engine: Engine) -> None:
    one = create(engine, Volumes={"/foo": {}}, HostConfig={"Tmpfs": {"/foo": "size=999k"}})["Id"]
    assert inspect(engine, one)["Mounts"] == []


def test_what_is_refused_at_create(engine: Engine) -> None:
    ends = {"EndpointsConfig": {"one": {}, "two": {}}}
    _, said = engine.request("POST", "/v1.43/containers/create", {**CREATE, "NetworkingConfig": ends}, code=400)
    assert "Container cannot be created with multiple network endpoints" in said["message"]
    for host, text in (
        ({"Tmpfs": {"//": ""}}, "destination can't be '/'"),
        ({"Annotations": {"": "a"}}, "invalid Annotations: the empty string is not permitted as an annotation key"),
        ({"PidMode": "container:nosuch"}, "No such container: nosuch"),
        ({"Mounts": [{"Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": {"Subpath": "a/../../b"}}]},
         "subpath must be a relative path within the volume"),
    ):  # fmt: skip
        assert text in create(engine, code=400, HostConfig=host)["message"]


def test_the_store_is_bound_as_a_slave(engine: Engine) -> None:
    root = engine.request("GET", "/info", code=200)[1]["DockerRootDir"]
    for source in (root, f"{root}/containers"):
        for said, wanted in (("", "rslave"), ("rslave", "rslave"), ("rshared", "rshared"), ("private", ""), ("slave", "")):
            for host in (
                {"Binds": [f"{source}:/foo:{said}" if said else f"{source}:/foo"]},
                {"Mounts": [{"Type": "bind", "Source": source, "Target": "/foo", "BindOptions": {"Propagation": said}}]},
            ):
                made = create(engine, code=201 if wanted else 400, HostConfig=host)
                if wanted:
                    assert inspect(engine, made["Id"])["Mounts"][0]["Propagation"] == wanted
                else:
                    assert "when mount source is within the daemon root" in made["message"]


def test_a_namespace_of_one_that_does_not_run(engine: Engine) -> None:
    other = create(engine, "?name=other")["Id"]
    one = create(engine, HostConfig={"PidMode": "container:other"})["Id"]
    assert inspect(engine, one)["HostConfig"]["PidMode"] == f"container:{other}"
    _, said = engine.request("POST", f"/containers/{one}/start", code=500)
    assert said["message"] == f"failed to join PID namespace: container {other} is not running"


def test_a_part_of_a_volume(engine: Engine) -> None:
    setup = "mkdir /v/sub /v/bin /v/hack; echo x > /v/sub/f; ln -s / /v/hack/root; ln -s ../sub /v/hack/good; ln -s root /v/hack/bad"
    engine.out("run", "--rm", "--network", "none", "-v", "parts:/v", "bb", "sh", "-c", setup)

    def started(part: str, code: int, place: str = "/v", *cmd: str) -> tuple[str, Any]:
        mount = {"Type": "volume", "Source": "parts", "Target": place, "VolumeOptions": {"Subpath": part}}
        one = create(engine, Cmd=list(cmd), HostConfig={"Mounts": [mount]})["Id"]
        said = engine.request("POST", f"/containers/{one}/start", code=code)[1]
        engine.request("POST", f"/containers/{one}/wait", code=200)
        return engine.out("logs", one), said

    assert started("sub", 204, "/v", "ls", "/v")[0] == "f"
    assert started("hack/good", 204, "/v", "ls", "/v")[0] == "f"
    assert started("bin", 204, "/bin", "ls", "/bin/busybox")[0] == "/bin/busybox"  # empty, so it has what the image has
    for part in ("hack/root", "hack/bad", "hack/root/etc"):
        assert "path concatenation escapes the base directory" in started(part, 500, "/v", "ls")[1]["message"]
    assert "cannot access path " in started("nothing", 500, "/v", "ls")[1]["message"]


def test_a_linked_container_has_another_name(engine: Engine) -> None:
    one = create(engine, "?name=db", HostConfig={"NetworkMode": "bridge"})["Id"]
    engine.request("POST", f"/containers/{one}/start", code=204)
    create(engine, "?name=app1", HostConfig={"NetworkMode": "bridge", "Links": ["db:/mysql"]})
    engine.request("POST", "/containers/app1/rename?name=app2", code=204)
    assert inspect(engine, "app2/mysql")["Id"] == one
    engine.request("GET", "/containers/app2/db/json", code=404)  # that is no name that it has for it


def test_updates(engine: Engine) -> None:
    for said, kept, version in ((16, 16, "1.45"), (None, 32, "1.45"), (0, 0, "1.45"), (-2, 0, "1.45"), (16, 32, "1.39")):
        one = create(engine, HostConfig={"PidsLimit": 32})["Id"]
        engine.request("POST", f"/containers/{one}/start", code=204)
        engine.request("POST", f"/v{version}/containers/{one}/update", {"PidsLimit": said}, code=200)
        assert inspect(engine, one)["HostConfig"]["PidsLimit"] == kept
    one = create(engine, HostConfig={"AutoRemove": True}, WorkingDir="/tmp/../tmp//")["Id"]
    assert inspect(engine, one)["Config"]["WorkingDir"] == "/tmp"
    _, said = engine.request("POST", f"/containers/{one}/update", {"RestartPolicy": {"Name": "always"}}, code=409)
    assert "Restart policy cannot be updated because AutoRemove is enabled for the container" in said["message"]


def test_a_network_whose_name_is_anothers_id(engine: Engine) -> None:
    first = engine.request("POST", "/networks/create", {"Name": "first"}, code=201)[1]["Id"]
    second = engine.request("POST", "/networks/create", {"Name": first}, code=201)[1]["Id"]
    engine.request("DELETE", f"/networks/{first}", code=204)
    found = [each["Id"] for each in engine.request("GET", "/networks/", code=200)[1]]
    assert second in found and first not in found
    engine.request("DELETE", f"/networks/{second}", code=204)


def test_commit_with_variables_and_import_for_a_platform(engine: Engine, tmp_path: Path) -> None:
    one = create(engine, Env=["PATH=/bin", "A=it"])["Id"]
    changes = "ENV PATH=/usr/bin:$PATH B=${A}s\nLABEL l='$A' m=${NONE:-none}"
    from urllib.parse import quote

    _, made = engine.request("POST", f"/commit?container={one}&repo=made&changes={quote(changes)}", code=201)
    config = engine.request("GET", f"/images/{made['Id']}/json", code=200)[1]["Config"]
    assert {"PATH=/usr/bin:/bin", "B=its"} <= set(config["Env"]) and config["Labels"] == {"l": "$A", "m": "none"}
    empty = bytes(10240)
    engine.request("POST", "/images/create?fromSrc=-&repo=sparc&platform=linux/sparc64", body=empty, code=200)
    assert engine.request("GET", "/images/sparc/json", code=200)[1]["Architecture"] == "sparc64"
    for said, text in (("%20%20", "is an invalid component"), ("/", "is an invalid component"),
                       ("macos/arm64", "operating system is not supported"),
                       ("nintendo64", "unknown operating system or architecture")):  # fmt: skip
        _, answer = engine.request("POST", f"/images/create?fromSrc=-&repo=x&platform={said}", body=empty, code=400)
        assert text in answer["message"]
    _, old = engine.request("GET", "/v1.24/info", code=200)
    assert old["ExecutionDriver"] == "<not supported>" and json.dumps(old["SecurityOptions"]) == '["seccomp"]'


def test_images_that_are_asked_for(engine: Engine) -> None:
    """Patterns of names are path.Match's, in which * is no slash; of several times the first counts."""
    from urllib.parse import quote

    for name in ("utest:tag1", "utest/docker:tag2", "utest:5000/docker:tag3"):
        repository, _, tag = name.rpartition(":")
        engine.request("POST", f"/images/bb/tag?repo={repository}&tag={tag}", code=201)

    def found(**wanted: list[str]) -> list[list[str]]:
        _, said = engine.request("GET", f"/images/json?filters={quote(json.dumps(wanted))}", code=200)
        return [sorted(each["RepoTags"]) for each in said]

    assert found(reference=["utest*/*"]) == [["utest/docker:tag2", "utest:5000/docker:tag3"]]
    assert found(reference=["utest*"]) == found(reference=["utest"]) == [["utest:tag1"]]
    assert found(reference=["*5000*/*"]) == [["utest:5000/docker:tag3"]]
    assert found(reference=["utest*"], until=["1h", "2200-01-01T00:00:00Z"]) == found(reference=["utest*"], until=["1h"])
    made = [engine.request("POST", f"/commit?container={create(engine)['Id']}&repo=made&tag={n}", code=201)[1]["Id"] for n in range(2)]
    assert made[0] != made[1]
    _, digest = engine.request("GET", "/images/utest:tag1/json", code=200)
    engine.request("DELETE", f"/images/utest@{digest['RepoDigests'][0].partition('@')[2]}?force=1", code=200)
    assert engine.request("GET", "/images/bb/json", code=200)[1]["Id"] == digest["Id"]
    for name in ("utest:tag1", "utest/docker:tag2", "utest:5000/docker:tag3", "made:0", "made:1"):
        engine.request("DELETE", f"/images/{name}?force=1", code=200)
    assert engine.request("GET", "/images/bb/json", code=200)[1]["RepoTags"] == ["bb:latest"]


def test_what_is_mounted_in_what_is_read_only(engine: Engine, tmp_path: Path) -> None:
    """It is read-only too; before API 1.44, and if it is said so, not."""
    asked = "grep -E ' /m/(shm|pts) ' /proc/self/mountinfo"

    def modes(version: str, **host: Any) -> set[str]:
        body = {"Image": "bb", "Cmd": ["sh", "-c", asked], "HostConfig": {"NetworkMode": "none", **host}}
        one = engine.request("POST", f"/v{version}/containers/create", body, code=201)[1]["Id"]
        engine.request("POST", f"/containers/{one}/start", code=204)
        engine.request("POST", f"/containers/{one}/wait", code=200)
        return {line.split(" ")[5].split(",")[0] for line in engine.out("logs", one).splitlines()}

    mount = {"Type": "bind", "Source": "/dev", "Target": "/m", "ReadOnly": True}
    for host in ({"Binds": ["/dev:/m:ro"]}, {"Mounts": [mount]}):
        assert modes("1.45", **host) == {"ro"} and modes("1.43", **host) == {"rw"}
    assert modes("1.45", Mounts=[{**mount, "BindOptions": {"ReadOnlyNonRecursive": True}}]) == {"rw"}
    assert modes("1.43", Mounts=[{**mount, "BindOptions": {"ReadOnlyForceRecursive": True}}]) == {"ro"}


def test_ipc_of_another(engine: Engine) -> None:
    for mode, code in (("private", 500), ("shareable", 204)):
        donor = create(engine, HostConfig={"IpcMode": mode})["Id"]
        engine.request("POST", f"/containers/{donor}/start", code=204)
        one = create(engine, HostConfig={"IpcMode": f"container:{donor}"})["Id"]
        _, said = engine.request("POST", f"/containers/{one}/start", code=code)
        assert code == 204 or f"{donor}: non-shareable IPC" in said["message"]


def test_names_of_links_are_listed(engine: Engine) -> None:
    one = create(engine, "?name=first", HostConfig={"NetworkMode": "bridge"})["Id"]
    engine.request("POST", f"/containers/{one}/start", code=204)
    create(engine, "?name=second", HostConfig={"NetworkMode": "bridge", "Links": ["first:alias"]})
    for query in ("", "&size=1"):
        _, found = engine.request("GET", f"/containers/json?all=1{query}", code=200)
        assert [each["Names"] for each in found if each["Id"] == one] == [["/first", "/second/alias"]]
