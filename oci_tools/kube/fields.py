"""The members of Kubernetes' objects that are read here, with their types: in the form of runtime/fields.py.

Others are left alone, as podman does; those of a pod that change what a container may do are refused in pod.py.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TEXTS: Any = ["text"]
MAP: Any = {"*": "text"}
_ID = (0, (1 << 32) - 2)
_INT32 = (0, (1 << 31) - 1)
_PORT = (1, 65535)
_MODE = (0, 0o777)

META: Any = {"": ("name",), "name": "text", "labels": MAP, "annotations": MAP}
_KEY: Any = {"": ("key",), "name": "text", "key": "text", "optional": "bool"}
_FIELD: Any = {"": ("fieldPath",), "fieldPath": "text"}
_RESOURCE: Any = {"": ("resource",), "containerName": "text", "resource": "text"}
_SOURCE: Any = {"name": "text", "optional": "bool"}
_ENV: Any = [{
    "": ("name",), "name": "text", "value": "text",
    "valueFrom": {
        "configMapKeyRef": _KEY, "secretKeyRef": _KEY, "fieldRef": _FIELD, "resourceFieldRef": _RESOURCE,
    },
}]  # fmt: skip
_PROBE: Any = {
    "exec": {"command": _TEXTS},
    "httpGet": {"": ("port",), "path": "text", "host": "text", "scheme": frozenset(("HTTP", "HTTPS"))},
    "tcpSocket": {"": ("port",), "host": "text"},
    "initialDelaySeconds": _INT32, "periodSeconds": _INT32, "timeoutSeconds": _INT32, "successThreshold": _INT32,
    "failureThreshold": _INT32,
}  # fmt: skip
_SECURITY: Any = {
    "runAsUser": _ID, "runAsGroup": _ID, "runAsNonRoot": "bool", "privileged": "bool",
    "readOnlyRootFilesystem": "bool", "allowPrivilegeEscalation": "bool", "procMount": "text",
    "capabilities": {"add": _TEXTS, "drop": _TEXTS}, "supplementalGroups": [_ID], "fsGroup": _ID,
    "seccompProfile": {"": ("type",), "type": frozenset(("RuntimeDefault", "Unconfined", "Localhost")),
                       "localhostProfile": "text"},
    "appArmorProfile": {"": ("type",), "type": frozenset(("RuntimeDefault", "Unconfined", "Localhost")),
                        "localhostProfile": "text"},
    "seLinuxOptions": MAP, "sysctls": [{"": ("name", "value"), "name": "text", "value": "text"}],
}  # fmt: skip
CONTAINER: Any = {
    "": ("name", "image"), "name": "text", "image": "text", "command": _TEXTS, "args": _TEXTS, "workingDir": "text",
    "imagePullPolicy": frozenset(("Always", "IfNotPresent", "Never")), "env": _ENV,
    "envFrom": [{"prefix": "text", "configMapRef": _SOURCE, "secretRef": _SOURCE}],
    "ports": [{"": ("containerPort",), "name": "text", "containerPort": _PORT, "hostPort": (0, 65535),
               "hostIP": "text", "protocol": frozenset(("TCP", "UDP", "SCTP"))}],
    "volumeMounts": [{"": ("name", "mountPath"), "name": "text", "mountPath": "text", "subPath": "text",
                      "subPathExpr": "text", "readOnly": "bool",
                      "mountPropagation": frozenset(("None", "HostToContainer", "Bidirectional"))}],
    "resources": {"limits": {}, "requests": {}}, "securityContext": _SECURITY, "livenessProbe": _PROBE,
    "startupProbe": _PROBE, "readinessProbe": _PROBE, "restartPolicy": frozenset(("Always", "Never", "OnFailure")),
    "tty": "bool", "stdin": "bool", "stdinOnce": "bool",
}  # fmt: skip
_ITEMS: Any = [{"": ("key", "path"), "key": "text", "path": "text", "mode": _MODE}]
_CONFIG_MAP: Any = {"name": "text", "items": _ITEMS, "defaultMode": _MODE, "optional": "bool"}
_SECRET: Any = {"secretName": "text", "name": "text", "items": _ITEMS, "defaultMode": _MODE, "optional": "bool"}
_DOWNWARD: Any = {
    "defaultMode": _MODE,
    "items": [{"": ("path",), "path": "text", "mode": _MODE, "fieldRef": _FIELD, "resourceFieldRef": _RESOURCE}],
}
VOLUME: Any = {
    "": ("name",), "name": "text", "emptyDir": {"medium": "text"},
    "hostPath": {"": ("path",), "path": "text", "type": "text"},
    "configMap": _CONFIG_MAP, "secret": _SECRET, "downwardAPI": _DOWNWARD,
    "persistentVolumeClaim": {"": ("claimName",), "claimName": "text", "readOnly": "bool"},
    "projected": {
        "defaultMode": _MODE, "sources": [{"configMap": _CONFIG_MAP, "secret": _SECRET, "downwardAPI": _DOWNWARD}],
    },
}  # fmt: skip
SPEC: Any = {
    "": ("containers",), "containers": [CONTAINER, 1], "initContainers": [CONTAINER], "volumes": [VOLUME],
    "restartPolicy": frozenset(("Always", "Never", "OnFailure")), "hostname": "text", "subdomain": "text",
    "hostNetwork": "bool", "hostPID": "bool", "hostIPC": "bool", "hostUsers": "bool", "shareProcessNamespace": "bool",
    "hostAliases": [{"": ("ip",), "ip": "text", "hostnames": _TEXTS}], "dnsPolicy": "text",
    "dnsConfig": {"nameservers": _TEXTS, "searches": _TEXTS,
                  "options": [{"": ("name",), "name": "text", "value": "text"}]},
    "securityContext": _SECURITY, "terminationGracePeriodSeconds": _INT32,
}  # fmt: skip
POD: Any = {"": ("metadata", "spec"), "metadata": META, "spec": SPEC}
WORKLOAD: Any = {
    "": ("metadata", "spec"), "metadata": META,
    "spec": {"": ("template",), "replicas": _INT32, "template": {
        "": ("spec",), "metadata": {"labels": MAP, "annotations": MAP}, "spec": SPEC,
    }},
}  # fmt: skip
DATA: Any = {"": ("metadata",), "metadata": META, "data": MAP, "stringData": MAP, "binaryData": MAP}
CLAIM: Any = {"": ("metadata",), "metadata": META}
SERVICE: Any = {"": ("metadata", "spec"), "metadata": META, "spec": {"selector": MAP}}
