"""PyPI's `docker` and `testcontainers` as clients of `ocid`: what their own test suites and users do."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.daemon import Engine

docker = pytest.importorskip("docker")
pytestmark = [pytest.mark.root, pytest.mark.needs("docker")]
NONE = {"network_mode": "none"}


@pytest.fixture
def client(engine: Engine) -> Iterator[Any]:
    made = docker.DockerClient(base_url=f"unix://{engine.path}", timeout=60)
    yield made
    made.close()


def test_who_is_there(client: Any) -> None:
    assert client.ping()
    assert client.version()["ApiVersion"] == "1.45" and "GoVersion" in client.version()
    assert client.info()["Images"] == len(client.images.list(all=True))


def test_run_gives_the_output_of_both_streams(client: Any) -> None:
    assert client.containers.run("bb", "echo hello", remove=True, **NONE) == b"hello\n"
    script = ["sh", "-c", "echo out; echo err >&2"]
    assert client.containers.run("bb", script, remove=True, stderr=True, stdout=False, **NONE) == b"err\n"
    with pytest.raises(docker.errors.ContainerError) as caught:
        client.containers.run("bb", ["sh", "-c", "echo bad >&2; exit 4"], remove=True, **NONE)
    assert caught.value.exit_status == 4 and b"bad" in caught.value.stderr
    with pytest.raises(docker.errors.ImageNotFound):
        client.api.create_container("missing", "x")
    with pytest.raises(docker.errors.APIError) as refused:
        client.containers.run("bb", "nope", remove=True, **NONE)
    assert "executable file not found in $PATH" in str(refused.value)


def test_life_of_a_container(client: Any) -> None:
    made = client.containers.run("bb", "sleep 1000", detach=True, name="py", labels={"a": "b"}, environment={"X": "y"}, **NONE)
    assert [each.id for each in client.containers.list(filters={"label": ["a=b"]})] == [made.id]
    assert [each.id for each in client.containers.list(filters={"label": "a=c"})] == []
    made.pause()
    made.reload()
    assert made.status == "paused"
    made.unpause()
    code, output = made.exec_run(["sh", "-c", "echo $X; exit 3"])
    assert (code, output) == (3, b"y\n")
    code, (out, err) = made.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True)
    assert (code, out, err) == (0, b"o\n", b"e\n")
    assert b"".join(made.exec_run("echo streamed", stream=True).output) == b"streamed\n"
    assert made.exec_run("id -u", user="7").output == b"7\n"
    assert made.top()["Titles"][0] == "UID"
    assert made.stats(stream=False)["memory_stats"]["usage"] > 0
    made.rename("py2")
    made.kill()
    assert client.api.inspect_container("py2")["State"]["Running"] is False
    made.start()
    made.restart(timeout=0)
    made.stop(timeout=0)
    assert made.wait()["StatusCode"] == 137
    assert made.diff() is None or isinstance(made.diff(), list)
    made.remove(v=True)
    with pytest.raises(docker.errors.NotFound):
        made.reload()


def test_an_exec_in_a_terminal_and_a_socket(client: Any) -> None:
    made = client.containers.run("bb", "sleep 1000", detach=True, **NONE)
    exec_id = client.api.exec_create(made.id, "cat", stdin=True, tty=True)["Id"]
    sock = client.api.exec_start(exec_id, tty=True, socket=True)
    client.api.exec_resize(exec_id, height=20, width=60)
    sock._sock.sendall(b"typed\n")
    seen = b""
    while seen.count(b"typed") < 2:
        seen += sock._sock.recv(4096)
    sock._sock.sendall(b"\x04")
    while sock._sock.recv(4096):
        pass
    assert client.api.exec_inspect(exec_id)["ExitCode"] == 0


def test_attach_and_logs(client: Any) -> None:
    made = client.containers.create("bb", ["sh", "-c", "read x; echo got $x"], stdin_open=True, **NONE)
    sock = made.attach_socket(params={"stdin": 1, "stream": 1})
    made.start()
    sock._sock.sendall(b"this\n")
    assert made.wait()["StatusCode"] == 0
    assert made.logs() == b"got this\n"
    assert b"".join(made.logs(stream=True, follow=True)) == b"got this\n"
    assert made.logs(since=int(time.time()) + 100) == b""
    assert made.logs(tail=1, timestamps=True).endswith(b"Z got this\n")
    assert made.attach(stream=False, logs=True) == b"got this\n"


@pytest.mark.parametrize(
    ("time", "said"),
    [("1700000000.123456789", "2023-11-14T22:13:20.123456789Z"), ("0", "1970-01-01T00:00:00Z")],
)
def test_a_file_s_time_is_told_to_the_nanosecond(client: Any, time: str, said: str) -> None:
    made = client.containers.create("bb", ["true"])
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("file")
        info.pax_headers = {"mtime": time}
        tar.addfile(info)
    assert made.put_archive("/tmp", data.getvalue())
    assert made.get_archive("/tmp/file")[1]["mtime"] == said


def test_archives(client: Any) -> None:
    made = client.containers.run("bb", "sleep 1000", detach=True, **NONE)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"text"))
    assert made.put_archive("/tmp", data.getvalue())
    stream, stat = made.get_archive("/tmp/file")
    assert (stat["name"], stat["size"]) == ("file", 4)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        assert tar.extractfile("file").read() == b"text"  # type: ignore[union-attr]
    with pytest.raises(docker.errors.NotFound):
        made.get_archive("/nope")


def test_images(client: Any, engine: Engine) -> None:
    context = io.BytesIO(b"FROM bb\nRUN echo 1 > /f\nCMD cat /f\n")
    image, log = client.images.build(fileobj=context, tag="pybuilt", rm=True)
    assert any("Successfully tagged pybuilt:latest" in each.get("stream", "") for each in log)
    assert client.containers.run("pybuilt", remove=True, **NONE) == b"1\n"
    assert client.images.get("pybuilt").id == image.id == client.images.get(image.short_id).id
    assert image.tag("other", "tag") and "other:tag" in client.images.get(image.id).tags
    saved = b"".join(image.save(named=True))
    client.images.remove("pybuilt")
    client.images.remove("other:tag")
    loaded = client.images.load(saved)
    assert [each.id for each in loaded] == [image.id]
    with pytest.raises(docker.errors.BuildError):
        client.images.build(fileobj=io.BytesIO(b"FROM bb\nRUN false\n"))
    client.images.remove(image.id, force=True)
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("pybuilt")
    client.images.prune()


def test_volumes_and_networks(client: Any) -> None:
    volume = client.volumes.create("pyvol", labels={"k": "v"})
    assert client.volumes.get("pyvol").attrs["Labels"] == {"k": "v"}
    assert client.containers.run("bb", "sh -c 'echo kept > /v/f'", volumes={"pyvol": {"bind": "/v", "mode": "rw"}}, remove=True, **NONE) == b""
    assert client.containers.run("bb", "cat /v/f", volumes=["pyvol:/v"], remove=True, **NONE) == b"kept\n"
    assert [each.name for each in client.volumes.list(filters={"label": "k=v"})] == ["pyvol"]
    volume.remove()
    network = client.networks.create("pynet", driver="bridge", labels={"n": "1"})
    assert client.networks.get(network.id).name == "pynet"
    with pytest.raises(docker.errors.APIError) as again:
        client.networks.create("pynet")
    assert again.value.status_code == 409
    network.remove()
    with pytest.raises(docker.errors.NotFound):
        client.networks.get("pynet")
    assert client.swarm.leave(force=True)  # 503, which it forgives


def test_events(client: Any) -> None:
    begun = time.time() - 1
    made = client.containers.create("bb", "true", labels={"e": "f"}, **NONE)
    seen = list(client.events(since=begun, until=time.time(), decode=True, filters={"container": made.id}))
    assert seen[0]["Action"] == "create" and seen[0]["Actor"]["Attributes"]["e"] == "f"


def test_testcontainers(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"DOCKER_HOST": engine.env["DOCKER_HOST"], "TESTCONTAINERS_RYUK_DISABLED": "true", "HOME": engine.env["HOME"]}.items():
        monkeypatch.setenv(key, value)
    core = pytest.importorskip("testcontainers.core.container")
    with core.DockerContainer("bb", network_mode="none").with_command("sh -c 'echo ready; sleep 1000'") as container:
        for _ in range(200):
            if b"ready" in container.get_logs()[0]:
                break
            time.sleep(0.02)
        assert container.exec("echo in it").output == b"in it\n"
    assert os.environ["TESTCONTAINERS_RYUK_DISABLED"] == "true"


# -- what docker-py's own suite asks for ---------------------------------------------------------------


def test_a_line_of_a_log_is_a_chunk(client: Any) -> None:
    told = client.containers.run("bb", ["sh", "-c", "echo hello; echo world"], stream=True, **NONE)
    assert list(told) == [b"hello\n", b"world\n"]


def test_how_an_exec_is_started_says_how_its_stream_is(client: Any) -> None:
    """Its terminal is made with it; Tty of the start asks for a stream without frames."""
    made = client.containers.run("bb", "sleep 1000", detach=True, **NONE)
    exec_id = client.api.exec_create(made.id, ["sh", "-c", "test -t 1 && echo tty"], tty=True)
    assert client.api.exec_start(exec_id, demux=True) == (b"tty\r\n", None)
    exec_id = client.api.exec_create(made.id, ["sh", "-c", "test -t 1 && echo tty"], tty=True)
    assert client.api.exec_start(exec_id, tty=True) == b"tty\r\n"


def test_what_an_archive_holds_is_loaded_and_nothing_else_told(client: Any) -> None:
    image = client.images.get("bb")
    image.tag("other")
    try:
        (loaded,) = client.images.load(b"".join(client.images.get("other").save(named="other:latest")))
        assert loaded.id == image.id
        with pytest.raises(docker.errors.ImageLoadError):
            client.images.load(b"abc")
    finally:
        client.images.remove("other")


def test_a_build_without_a_step_and_one_with_hosts_and_a_network(client: Any) -> None:
    made, _ = client.images.build(fileobj=io.BytesIO(b"FROM bb\n"), labels={"test": "ok"})
    assert made.attrs["Config"]["Labels"] == {"test": "ok"}
    script = io.BytesIO(b"FROM bb\nRUN grep -q 192.0.2.1.*one.test /etc/hosts && grep -q 192.0.2.2.*two.test /etc/hosts\n")
    hosts = {"one.test": "192.0.2.1", "two.test": "192.0.2.2"}
    client.images.build(fileobj=script, extra_hosts=hosts, network_mode="none", nocache=True)
    network = client.networks.create("builds", internal=True, ipam=docker.types.IPAMConfig(
        pool_configs=[docker.types.IPAMPool(subnet="10.213.7.0/24")]))  # fmt: skip
    try:
        script = io.BytesIO(b"FROM bb\nRUN ip -4 addr | grep -q 10.213.7.\n")
        client.images.build(fileobj=script, network_mode=network.id, nocache=True)
        with pytest.raises(docker.errors.APIError, match="network nowhere not found"):
            client.images.build(fileobj=io.BytesIO(b"FROM bb\n"), network_mode="nowhere")
    finally:
        network.remove()


def test_settings_that_are_told_as_they_were_asked_for(client: Any) -> None:
    made = client.containers.create("bb", "true", environment={"Foo": None, "Other": "one"}, **NONE)
    assert {"Foo", "Other=one"} < set(made.attrs["Config"]["Env"])
    made.update(cpu_shares=3)
    made.reload()
    assert made.attrs["HostConfig"]["CpuShares"] == 3
    placed = client.containers.run("bb", "sleep 1000", detach=True, mac_address="02:42:ac:11:00:0a")
    placed.reload()
    assert placed.attrs["NetworkSettings"]["MacAddress"] == "02:42:ac:11:00:0a"
    refused = 'error looking up logging plugin asdf: plugin "asdf" not found'
    with pytest.raises(docker.errors.APIError, match=refused):
        client.containers.create("bb", "true", log_config=docker.types.LogConfig(type="asdf"), **NONE)
    for _ in range(5):  # whether it has ended by then or not
        client.containers.run("bb", "true", detach=True, **NONE).commit()
