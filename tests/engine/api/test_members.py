"""Documents of requests are read as dockerd reads them: whatever is wrong with one, both answer with the same status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from oci_tools.engine.api import members
from oci_tools.engine.api.answers import Refused
from tests.daemon import Engine

pytestmark = [pytest.mark.root, pytest.mark.needs("docker", "dockerd", "skopeo")]
VALUES: list[Any] = [
    None, True, 5, -1, 10**30, 1.5, "x", "", "\ud800", [], [5], [None], ["x"], [{}], [[]], {}, {"a": None}, {"a": 5}, {"a": "b"}, {"a": {}},
    {"a": []},
]  # fmt: skip
OURS = {"HealthcheckOnFailureAction", "StartupHealthCheck", "GwPriority", "EnableIPv4"}  # dockerd 26 has none of them
# What else may be wrong with these is told with another status, or sooner or later than that there is no such image.
OTHERWISE = {"BlkioWeight", "UsernsMode", "IOMaximumIOps", "IOMaximumBandwidth", "Binds", "VolumesFrom", "StorageOpt"}
# Most end in another refusal, a 404, where nothing is wrong with its document: nothing is made.
BODIES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("/containers/create", members.CREATE, {"Image": "nope:x", "HostConfig": {"NetworkMode": "none"}}),
    ("/containers/nope/update", members.UPDATE, {}),
    ("/containers/nope/exec", members.EXEC, {"Cmd": ["x"]}),
    ("/exec/nope/start", members.EXEC_START, {}),
    ("/networks/create", members.NETWORK, {"Name": "bridge"}),  # a 403
    ("/networks/nope/connect", members.CONNECT, {"Container": "nope"}),
    ("/networks/nope/disconnect", members.DISCONNECT, {"Container": "nope"}),
    ("/volumes/create", members.VOLUME, {"Name": "made"}),  # a 201, of one volume
    ("/commit?container=nope", members.CONFIG, {}),
]


def places(shape: Any, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The ways to all that a document may have: names, and 0 for the first of an array."""
    if way:
        yield way
    if isinstance(shape, list):
        yield from places(shape[0], (*way, 0))
    elif isinstance(shape, dict):
        for name, kind in shape.items():
            if name not in OURS:
                yield from places(kind, (*way, "a" if name == "*" else name))


def placed(base: dict[str, Any], way: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    for step in reversed(way):
        value = [value] if step == 0 else {step: value}
    return merged(base, value)


def merged(base: Any, more: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(more, dict)):
        return more
    return {**base, **{key: merged(base.get(key), value) for key, value in more.items()}}


@pytest.mark.parametrize(("path", "shape", "base"), BODIES, ids=[path for path, _, _ in BODIES])
def test_types_are_checked_as_by_dockerd(pair: tuple[Engine, Engine], path: str, shape: dict[str, Any], base: dict[str, Any]) -> None:
    wrong, refused = [], 0
    for way in places(shape):
        if OTHERWISE & set(way) or way == ("Name",):
            continue
        for value in VALUES:
            body = placed(base, way, value)
            theirs, ours = (engine.request("POST", path, body) for engine in pair)
            refused += theirs[0] == 400
            if theirs[0] != ours[0]:
                wrong.append(f"{json.dumps(body)[:150]}\n   dockerd {theirs}\n   ocid    {ours}")
    for engine in pair:
        engine.docker("volume", "prune", "-af")
    assert refused
    assert not wrong, "\n".join(wrong)


def test_every_member_of_dockerds_is_known(pair: tuple[Engine, Engine]) -> None:
    """As it tells them itself, of a container that asked for nothing."""
    theirs, _ = pair
    made = theirs.request("POST", "/containers/create", {"Image": "bb", "HostConfig": {"NetworkMode": "none"}}, code=201)[1]["Id"]
    told = theirs.request("GET", f"/containers/{made}/json", code=200)[1]
    theirs.request("DELETE", f"/containers/{made}", code=204)
    assert set(told["Config"]) <= set(members.CONFIG)
    assert set(told["HostConfig"]) <= set(members.CREATE["HostConfig"])


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"image": "x", "HOSTCONFIG": {"memory": 5}}, {"Image": "x", "HostConfig": {"Memory": 5}}),
        ({"Image": "x", "Bogus": {"Image": 5}}, {"Image": "x"}),
        ({"Cmd": "x", "Shell": "y", "Env": [None]}, {"Cmd": ["x"], "Shell": ["y"], "Env": [""]}),
        ({"Labels": {"a": None}, "Volumes": {"/a": None}}, {"Labels": {"a": ""}, "Volumes": {"/a": {}}}),
        ({"HostConfig": {"ConsoleSize": [1]}}, {"HostConfig": {"ConsoleSize": [1, 0]}}),
        ({"HostConfig": {"ConsoleSize": [1, 2, "x"]}}, {"HostConfig": {"ConsoleSize": [1, 2]}}),
        ({"HostConfig": {"Devices": [None]}}, {"HostConfig": {"Devices": [{}]}}),
        ({"Cmd": ["\ud800x\U0001f600\udc00"]}, {"Cmd": ["\ufffdx\U0001f600\ufffd"]}),
        ({"StopTimeout": (1 << 63) - 1}, {"StopTimeout": (1 << 63) - 1}),
    ],
)
def test_what_is_read(said: dict[str, Any], found: dict[str, Any]) -> None:
    assert members.read(said, members.CREATE) == found


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([], "invalid JSON: it is no object"),
        ({"StopTimeout": 1 << 63}, "invalid JSON: StopTimeout: expected a whole number of 64 bits"),
        ({"HostConfig": {"BlkioWeight": -1}}, "invalid JSON: HostConfig.BlkioWeight: expected a whole number of 16 bits"),
        ({"HostConfig": {"Ulimits": [{"Soft": True}]}}, "invalid JSON: HostConfig.Ulimits.Soft: expected a whole number of 64 bits"),
        ({"Labels": {"a": 5}}, "invalid JSON: Labels.a: expected a string"),
    ],
)
def test_what_is_refused(said: Any, text: str) -> None:
    with pytest.raises(Refused, match=text) as caught:
        members.read(said, members.CREATE)
    assert caught.value.status == 400


def test_a_login_is_read_before_anybody_is_asked(engine: Engine) -> None:
    for name in members.AUTH:
        for value in (5, True, [], {}, 1.5):
            engine.request("POST", "/auth", {name: value}, code=400)
