"""More that is fuzzed: texts and messages of others, each read by what reads it first; refusing with an Error is no bug.

    reference, manifest, config, conflist, dockerfile, kube    documents and words
    dns, http                          messages to the resolver of a network, requests to our servers
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from oci_tools import document
from oci_tools.build.dockerfile import Dockerfile
from oci_tools.errors import Error
from oci_tools.http import Request, Response, Server
from oci_tools.http.connection import Connection
from oci_tools.image import manifest as manifests
from oci_tools.image.ref import Ref
from oci_tools.kube.objects import Objects
from oci_tools.kube.pod import Pod, container
from oci_tools.net import answers, conflist
from oci_tools.runtime import check


def _refusing(read: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        try:
            read(data)
        except Error:
            pass

    return target


def _reference(data: bytes) -> None:
    found = Ref.parse(data.decode("utf-8", "surrogateescape"))
    assert str(Ref.parse(str(found))) == str(found), "what is printed is read the same"


def _manifest(data: bytes) -> None:
    for kind in ("manifest", "index"):
        descriptor = {"mediaType": f"application/vnd.oci.image.{kind}.v1+json", "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
                      "size": len(data)}  # fmt: skip
        manifests.children(manifests.parse(data, descriptor))


def _config(data: bytes) -> None:
    check.check(document.loads(data, "config.json"))


def _conflist(data: bytes) -> None:
    conflist.Network(document.loads(data, "x.conflist"), "x.conflist")


def _dockerfile(data: bytes) -> None:
    Dockerfile(data, "Dockerfile")


def _kube(data: bytes) -> None:
    known = Objects()
    known.add(data, "pod.yaml")
    for each in known.pods:
        one = Pod(each, known)
        one.read_volumes({"status.podIP": ""})
        for said in one.containers:
            container(one, said, {"status.podIP": ""}, "infra")


@cache
def _names() -> answers.Names:
    """A network with two names on it."""
    place = tempfile.mkdtemp(prefix="oci-fuzz-")
    atexit.register(shutil.rmtree, place)
    os.environ["OCI_RUN"] = place
    top = Path(place) / "net/on"
    (top / "web").mkdir(parents=True)
    (top / "web/hosts").write_text(f"10.9.0.2\tapp www\t{'a' * 64}\n10.9.0.3\tdb\t{'b' * 64}\n")
    plugin: dict[str, Any] = {"type": "oci-net", "bridge": "br-web", "ipam": {"ranges": [[{"subnet": "10.9.0.0/24"}]]}}
    network = conflist.Network({"cniVersion": "1.0.0", "name": "web", "plugins": [plugin]}, "web.conflist")
    made = answers.Names(os.open(top, os.O_RDONLY | os.O_DIRECTORY), network)
    asked = bytes.fromhex("000701000001000000000000") + b"\3app\0\0\1\0\1"
    assert (made.answer(asked, "10.9.0.2", False) or b"").endswith(bytes((10, 9, 0, 2))), "there are names to be found"
    return made


def _dns(data: bytes) -> None:
    if len(data) < 12:  # the server drops these itself
        return
    for tcp in (False, True):
        said = _names().answer(data, "10.9.0.2", tcp)
        assert said is None or not said or said[:2] == data[:2], "an answer has the id of its question"
        assert not said or tcp or len(said) <= 4096
    assert answers.truncated(data)[:2] == data[:2]
    answers.question(data)


@cache
def _server() -> tuple[Server, list[BaseException | None]]:
    """A server whose handler reads each body and has no fault of its own, and the faults that there were."""
    faults: list[BaseException | None] = []

    def handler(request: Request) -> Response:
        read = 0
        while piece := request.read():
            read += len(piece)
        return Response(200, [("Content-Type", "text/plain")], b"%d" % read)

    return Server(handler, body_timeout=1.0, broken=lambda _: faults.append(sys.exc_info()[1])), faults


def _http(data: bytes) -> None:
    """Requests on a connection, one behind the other."""
    server, faults = _server()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data[:60_000])
        theirs.shutdown(socket.SHUT_WR)
        connection = Connection(server, ours, "peer")
        whole = None
        while whole is None:
            whole = connection.receive_head()
        if whole:
            connection.answer()
        connection.abort()
        said = b""
        while piece := theirs.recv(65536):
            said += piece
    assert not faults, faults
    assert not said or said.startswith(b"HTTP/1.1 "), said


TARGETS: dict[str, Callable[[bytes], None]] = {
    name: _refusing(read)
    for name, read in (("reference", _reference), ("manifest", _manifest), ("config", _config), ("conflist", _conflist),
                       ("dockerfile", _dockerfile), ("kube", _kube), ("dns", _dns), ("http", _http))
}  # fmt: skip
