"""A file of Kubernetes' objects: pods, and what pods take from ConfigMaps, Secrets, claims and Services.

A Deployment, DaemonSet, StatefulSet, ReplicaSet or Job is one pod NAME-pod of its template, however many it asks for.
"""

from __future__ import annotations

import sys
from binascii import Error as NoBase64
from binascii import a2b_base64

from oci_tools import document, yaml
from oci_tools.errors import Error
from oci_tools.kube import fields
from oci_tools.runtime import check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

WORKLOADS = ("Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "Job")
_KINDS = {"Pod": fields.POD, "ConfigMap": fields.DATA, "Secret": fields.DATA, "Service": fields.SERVICE,
          "PersistentVolumeClaim": fields.CLAIM, **dict.fromkeys(WORKLOADS, fields.WORKLOAD)}  # fmt: skip
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


def read(file: str, more: Sequence[str] = ()) -> Objects:
    """What a file holds (`-`: standard input), and what the ConfigMaps and Secrets of others give to it."""
    known = Objects()
    for path in more:
        known.add(*_bytes(path))
    known.pods.clear()
    known.claims.clear()
    known.services.clear()
    known.add(*_bytes(file))
    return known


def _bytes(path: str) -> tuple[bytes, str]:
    """What a file holds, and what to call it."""
    try:
        if path == "-":
            return sys.stdin.buffer.read(yaml.MAX_BYTES + 1), "standard input"
        with open(path, "rb") as opened:
            return opened.read(yaml.MAX_BYTES + 1), path
    except OSError as error:
        raise Error("cannot read", path, error) from None


class Objects:
    """What a file holds.

    pods      as kind Pod has them, in the order of the file
    data      (kind, name) -> key -> bytes, of ConfigMaps and Secrets
    claims    name -> annotations, of PersistentVolumeClaims
    services  name -> selector
    ignored   what people should know of: a sentence each
    """

    def __init__(self) -> None:
        self.pods: list[dict[str, Any]] = []
        self.data: dict[tuple[str, str], dict[str, bytes]] = {}
        self.claims: dict[str, dict[str, str]] = {}
        self.services: dict[str, dict[str, str]] = {}
        self.ignored: list[str] = []

    def names_of(self, pod: dict[str, Any]) -> list[str]:
        """The Services that mean a pod: names by which others find it."""
        labels = (pod["metadata"].get("labels") or {}).items()
        return [name for name, wanted in self.services.items() if wanted and wanted.items() <= labels]

    def add(self, data: bytes, subject: str) -> None:
        """What a YAML (or JSON) text holds, after what is there; an Error names `subject` and the member."""
        for found in yaml.documents(data, subject):
            for value in _items(found, subject):
                self._add(value, subject)

    def _add(self, value: dict[str, Any], subject: str) -> None:
        kind = value["kind"]
        if kind not in _KINDS:
            self.ignored.append(f"{subject}: kind {kind} is ignored")
            return
        check.fields(value, _KINDS[kind], f"{subject}: {kind}")
        name = value["metadata"]["name"]
        where = f"{subject}: {kind} {name}"
        check_name(name, f"{subject}: {kind}", "metadata.name", 253)
        if kind in ("ConfigMap", "Secret"):
            self.data[kind, name] = _data(value, kind, where)
        elif kind == "PersistentVolumeClaim":
            self.claims[name] = value["metadata"].get("annotations") or {}
        elif kind == "Service":
            self.services[name] = value["spec"].get("selector") or {}
        else:
            pod = value if kind == "Pod" else self._pod_of(value, where)
            if any(each["metadata"]["name"] == pod["metadata"]["name"] for each in self.pods):
                raise document.wrong(where, "metadata.name", "another pod has this name")
            self.pods.append(pod)

    def _pod_of(self, workload: dict[str, Any], where: str) -> dict[str, Any]:
        spec, name = workload["spec"], workload["metadata"]["name"]
        if spec.get("replicas", 1) > 1:
            self.ignored.append(f"{where}: one pod and not {spec['replicas']} of it")
        meta = spec["template"].get("metadata") or {}
        return {"metadata": {**meta, "name": f"{name}-pod"}, "spec": spec["template"]["spec"]}


def check_name(name: str, subject: str, path: str, most: int) -> None:
    """A name as Kubernetes has them (RFC 1123): it becomes one of a container, a volume, a host."""
    good = _LETTERS | {"-", "."} if most > 63 else _LETTERS | {"-"}
    if not (0 < len(name) <= most and good.issuperset(name) and name[0] in _LETTERS and name[-1] in _LETTERS):
        raise document.wrong(subject, path, f"invalid name {document.shown(name)}")


def _items(found: Any, subject: str) -> list[dict[str, Any]]:
    """An object, or those of a List; what is null is not there."""
    found = _without_null(found)
    check.fields(found, {"": ("kind",), "apiVersion": "text", "kind": "text"}, subject)
    if found["kind"] != "List":
        return [found]
    check.fields(found, {"": ("items",), "items": [{}]}, f"{subject}: List")
    return [each for item in found["items"] for each in _items(item, subject)]


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(each) for key, each in value.items() if each is not None}
    return [_without_null(each) for each in value] if isinstance(value, list) else value


def _data(value: dict[str, Any], kind: str, where: str) -> dict[str, bytes]:
    """Key -> bytes: a ConfigMap's data is text, a Secret's base64; stringData is the stronger."""
    coded = dict(value.get("data" if kind == "Secret" else "binaryData") or {})
    plain = value.get("stringData" if kind == "Secret" else "data") or {}
    found = {}
    for key, text in coded.items():
        try:
            found[key] = a2b_base64("".join(text.split()).encode(), strict_mode=True)
        except (NoBase64, ValueError):
            member = "data" if kind == "Secret" else "binaryData"
            raise document.wrong(where, f"{member}{document.step(key)}", "not valid base64") from None
    for key, text in plain.items():
        found[key] = text.encode("utf-8", "surrogateescape")
    for key in found:
        if key in ("", ".", "..") or "/" in key:  # it becomes the name of a file
            raise document.wrong(where, "data", f"invalid key {document.shown(key)}")
    return found
