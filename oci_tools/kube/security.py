"""securityContext of a container and of its pod -> members of Docker's API, and back."""

from __future__ import annotations

from oci_tools import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SHARED = ("runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile", "appArmorProfile", "seLinuxOptions")


def security(container: dict[str, Any], pod: dict[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Config's and HostConfig's members; what a container does not say, its pod says."""
    whole, own = pod["spec"].get("securityContext") or {}, container.get("securityContext") or {}
    said = {**{name: whole[name] for name in _SHARED if name in whole}, **own}
    host: dict[str, Any] = {}
    for name, member in (("privileged", "Privileged"), ("readOnlyRootFilesystem", "ReadonlyRootfs")):
        if said.get(name):
            host[member] = True
    for name, member in (("add", "CapAdd"), ("drop", "CapDrop")):
        if (said.get("capabilities") or {}).get(name):
            host[member] = [each.upper().removeprefix("CAP_") for each in said["capabilities"][name]]
    groups = [*(whole.get("supplementalGroups") or ()), *([whole["fsGroup"]] if "fsGroup" in whole else ())]
    if groups:
        host["GroupAdd"] = [str(each) for each in groups]
    options = _options(said, where)
    if options:
        host["SecurityOpt"] = options
    return _user(said, where), host


def _user(said: dict[str, Any], where: str) -> dict[str, Any]:
    user, group = said.get("runAsUser"), said.get("runAsGroup")
    if said.get("runAsNonRoot") and user == 0:
        raise document.wrong(where, "securityContext", "runAsNonRoot excludes runAsUser 0")
    if user is None and group is None:
        return {}
    return {"User": f"{user or 0}" + (f":{group}" if group is not None else "")}


def must_not_be_root(container: dict[str, Any], pod: dict[str, Any]) -> bool:
    """Whether it depends on the user of the image that a container may run."""
    both = {**(pod["spec"].get("securityContext") or {}), **(container.get("securityContext") or {})}
    return bool(both.get("runAsNonRoot")) and "runAsUser" not in both


def _options(said: dict[str, Any], where: str) -> list[str]:
    made = []
    if said.get("allowPrivilegeEscalation") is False:
        made.append("no-new-privileges")
    for name, option in (("seccompProfile", "seccomp"), ("appArmorProfile", "apparmor")):
        profile = said.get(name) or {}
        if profile.get("type") == "Unconfined":
            made.append(f"{option}=unconfined")
        elif profile.get("type") == "Localhost":
            if not profile.get("localhostProfile"):
                raise document.wrong(where, f"securityContext.{name}.localhostProfile", "missing")
            made.append(f"{option}={profile['localhostProfile']}")
    if said.get("procMount") == "Unmasked":
        made.append("systempaths=unconfined")
    made += [f"label={name}:{value}" for name, value in sorted((said.get("seLinuxOptions") or {}).items())]
    return made


def context(config: dict[str, Any], host: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """The same back, of a container as it is; `image` is what its image says of itself."""
    made: dict[str, Any] = {}
    user, _, group = (config.get("User") or "").partition(":")
    if user.isdecimal() and config["User"] != image.get("User"):
        made["runAsUser"] = int(user)
        if group.isdecimal():
            made["runAsGroup"] = int(group)
    for name, member in (("privileged", "Privileged"), ("readOnlyRootFilesystem", "ReadonlyRootfs")):
        if host.get(member):
            made[name] = True
    for name, member in (("add", "CapAdd"), ("drop", "CapDrop")):
        if host.get(member):
            names = [each.upper().removeprefix("CAP_") for each in host[member]]
            made.setdefault("capabilities", {})[name] = names
    for option in host.get("SecurityOpt") or ():
        _back(option, made)
    return made


def _back(option: str, made: dict[str, Any]) -> None:
    name, _, value = option.replace(":", "=", 1).partition("=")
    profiles = {"seccomp": "seccompProfile", "apparmor": "appArmorProfile"}
    if name == "no-new-privileges" and value in ("", "true"):
        made["allowPrivilegeEscalation"] = False
    elif name in profiles and value == "unconfined":
        made[profiles[name]] = {"type": "Unconfined"}
    elif name in profiles and not value.startswith("{"):
        made[profiles[name]] = {"type": "Localhost", "localhostProfile": value}
    elif option == "systempaths=unconfined":
        made["procMount"] = "Unmasked"
    elif name == "label" and ":" in value:
        key, _, what = value.partition(":")
        made.setdefault("seLinuxOptions", {})[key] = what
