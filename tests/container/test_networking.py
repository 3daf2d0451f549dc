"""--network, --publish and their kin: words to data, without any privilege."""

from __future__ import annotations

from typing import Any

import pytest

from oci_tools import cli
from oci_tools.container import networking, options
from oci_tools.errors import Error

COMMAND = cli.Command("x", "x", "IMAGE [CMD...]", options.OPTIONS, stop=True)


def said(*words: str) -> Any:
    values = cli.read(COMMAND, [*words, "image"])
    assert values is not None
    return cli.Args(values)


def attachments(*words: str) -> list[dict[str, Any]]:
    """What differs from an attachment without options."""
    plain = {"addresses": [], "mac": None, "aliases": [], "ports": [], "priority": 0, "interface": None}
    made = networking.attachments(said(*words))
    return [{name: value for name, value in one.items() if plain.get(name, one) != value} for one in made]


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["--network", "web"], [{"network": "web"}]),
        (["--network", "web:ip=10.1.2.3,mac=02:00:00:00:00:01,alias=a,alias=b"],
         [{"network": "web", "addresses": ["10.1.2.3"], "mac": "02:00:00:00:00:01", "aliases": ["a", "b"]}]),
        (["--network", "name=web,ip6=fd00::9,gw-priority=7,driver-opt=x"],
         [{"network": "web", "addresses": ["fd00::9"], "priority": 7}]),
        (["--network", "web", "--network", "db:interface_name=lan", "--ip", "10.1.2.3", "--network-alias", "x"],
         [{"network": "web", "addresses": ["10.1.2.3"], "aliases": ["x"]},
          {"network": "db", "interface": "lan", "aliases": ["x"]}]),
        (["--network", "none"], []),
        (["--network", "container:x"], []),
    ],
)  # fmt: skip
def test_words_are_attachments(words: list[str], made: list[dict[str, Any]]) -> None:
    assert attachments(*words) == made


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--network", "web:ip"], "invalid value for --network 'web:ip' (NETWORK[:OPTION=VALUE,...])"),
        (["--network", "web:what=x"], "invalid value for --network 'web:what=x': unknown option what"),
        (["--network", "web:link-local-ip=169.254.1.2"],
         "invalid value for --network 'web:link-local-ip=169.254.1.2': link-local addresses are not given (the kernel makes IPv6's)"),
        (["--network", "web:priority=x"], "invalid value for --network 'web:priority=x': priority is no number"),
        (["--network", "ip=10.1.2.3"], "invalid value for --network 'ip=10.1.2.3' (it names no network)"),
        (["--network", "web", "--network", "web"], "network is named twice 'web'"),
        (["--network", "none", "--ip", "10.1.2.3"], "--ip needs a network (--network none has none of its own)"),
        (["--network", "none", "-p", "80"], "--publish excludes --network none"),
        (["--network", "none", "--network", "web"], "--network none excludes other networks"),
        (["--network", "web", "-p", "70000"], "invalid port '70000' "
         "([ADDRESS:][HOST-PORT[-LAST]:]PORT[-LAST][/tcp|udp|sctp])"),
    ],
)  # fmt: skip
def test_words_that_are_none(words: list[str], text: str) -> None:
    with pytest.raises(Error) as caught:
        networking.attachments(said(*words))
    assert str(caught.value) == text


def test_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCI_NETWORK", "web")
    assert networking.default() == "web"
