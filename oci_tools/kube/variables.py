"""The environment of a container: env, envFrom and valueFrom, and $(NAME) in what is said of it.

As the kubelet has it (third_party/forked/golang/expansion): $(NAME) is the value of a variable that stands before,
and stays as it is where there is none; $$ is a dollar sign.
"""

from __future__ import annotations

from oci_tools import document
from oci_tools.kube import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.kube.objects import Objects

_QUOTED = ("metadata.labels['", "metadata.annotations['")


def environment(
    container: dict[str, Any], pod: dict[str, Any], known: Objects, facts: dict[str, str], where: str
) -> dict[str, str]:
    """NAME -> value, in the order in which they are set; `facts` are status.podIP and the like."""
    made: dict[str, str] = {}
    for at, each in enumerate(container.get("envFrom") or ()):
        for kind, member in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            if member in each:
                path = f"envFrom[{at}].{member}"
                data = data_of(known, kind, each[member].get("name", ""), each[member], where, path) or {}
                made.update({f"{each.get('prefix', '')}{key}": text(data[key], where, path) for key in sorted(data)})
    for at, each in enumerate(container.get("env") or ()):
        name, path = each["name"], f"env[{at}]"
        if not name or "=" in name:
            raise document.wrong(where, f"{path}.name", f"invalid name of a variable {document.shown(name)}")
        if "valueFrom" in each:
            value = _value_from(each["valueFrom"], container, pod, known, facts, where, f"{path}.valueFrom")
            if value is None:
                continue
        else:
            value = expand(each.get("value", ""), made)
        made.pop(name, None)
        made[name] = value
    return made


def expand(said: str, variables: dict[str, str]) -> str:
    """A text with the values of variables in it."""
    made, at = [], 0
    while (dollar := said.find("$", at)) >= 0 and dollar + 1 < len(said):
        made.append(said[at:dollar])
        following = said[dollar + 1]
        end = said.find(")", dollar + 2)
        if following == "$":
            made.append("$")
            at = dollar + 2
        elif following == "(" and end >= 0:
            whole = said[dollar : end + 1]
            made.append(variables.get(whole[2:-1], whole))
            at = end + 1
        else:
            made.append(said[dollar : dollar + 2])
            at = dollar + 2
    return "".join([*made, said[at:]])


def data_of(
    known: Objects, kind: str, name: str, said: dict[str, Any], where: str, path: str
) -> dict[str, bytes] | None:
    """The data of a ConfigMap or Secret; None if there is none, and it is optional."""
    found = known.data.get((kind, name))
    if found is None and not said.get("optional"):
        raise document.wrong(where, path, f"no {kind} {document.shown(name)} in this file (--configmap FILE adds some)")
    return found


def text(data: bytes, where: str, path: str) -> str:
    """Bytes as the value of a variable."""
    if b"\0" in data:
        raise document.wrong(where, path, "a value with NUL cannot be a variable")
    return data.decode("utf-8", "surrogateescape")


def _value_from(
    said: dict[str, Any], container: dict[str, Any], pod: dict[str, Any], known: Objects, facts: dict[str, str],
    where: str, path: str,
) -> str | None:  # fmt: skip
    for kind, member in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
        if member in said:
            ref = said[member]
            data = data_of(known, kind, ref.get("name", ""), ref, where, f"{path}.{member}")
            if data is not None and ref["key"] in data:
                return text(data[ref["key"]], where, f"{path}.{member}")
            if ref.get("optional"):
                return None
            raise document.wrong(where, f"{path}.{member}", f"no key {document.shown(ref['key'])} in it")
    return downward(said, container, pod, facts, where, path)


def downward(
    said: dict[str, Any], container: dict[str, Any], pod: dict[str, Any], facts: dict[str, str], where: str, path: str
) -> str:
    """What fieldRef or resourceFieldRef names of the pod itself."""
    if "fieldRef" in said:
        return _field(said["fieldRef"]["fieldPath"], pod, facts, where, f"{path}.fieldRef.fieldPath")
    if "resourceFieldRef" in said:
        ref, path = said["resourceFieldRef"], f"{path}.resourceFieldRef"
        kind, _, resource = ref["resource"].partition(".")
        found = (container.get("resources") or {}).get(kind, {}).get(resource)
        if kind not in ("limits", "requests") or found is None:
            raise document.wrong(where, path, f"the container says nothing of {ref['resource']}")
        value = limits.quantity(found, f"{where}: {path}")
        by = limits.quantity(ref.get("divisor") or 1, f"{where}: {path}.divisor") or 1
        return str(-(-value // by))  # rounded up, as the kubelet does
    raise document.wrong(where, path, "expected configMapKeyRef, secretKeyRef, fieldRef or resourceFieldRef")


def _field(name: str, pod: dict[str, Any], facts: dict[str, str], where: str, path: str) -> str:
    meta = pod["metadata"]
    if name in ("metadata.labels", "metadata.annotations"):
        members = (meta.get(name.partition(".")[2]) or {}).items()
        return "".join(f"{key}={document.dumps(value).decode()}\n" for key, value in sorted(members))
    for start in _QUOTED:
        if name.startswith(start) and name.endswith("']"):
            member = start.partition(".")[2].rstrip("['")
            return str((meta.get(member) or {}).get(name[len(start) : -2], ""))
    plain = {"metadata.name": meta["name"], "metadata.namespace": meta.get("namespace") or "default", **facts}
    if name not in plain:
        raise document.wrong(where, path, f"no such field, or not known here: {document.shown(name)}")
    return str(plain[name])
