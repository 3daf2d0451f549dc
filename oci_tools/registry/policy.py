"""Which images may be pulled: containers-policy.json(5).

    {"default": [REQUIREMENT...], "transports": {"docker": {SCOPE: [REQUIREMENT...]}}}

    {"type": "insecureAcceptAnything"}      {"type": "reject"}
    {"type": "sigstoreSigned", "keyPath", "keyPaths", "keyData", "keyDatas", "signedIdentity"}

The longest scope that fits decides: a reference, a repository, what it lies under, its host, "*.DOMAIN",
"" for all of the transport; then the default.  Every requirement of a list must hold.  What is not
understood lets nothing through: other types, or `fulcio`, `pki`, `rekorPublicKey*` beside a key.
"""

from __future__ import annotations

import os

from oci_tools import document
from oci_tools.errors import Error
from oci_tools.image import manifest as manifests
from oci_tools.image.ref import Ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oci_tools.registry.copy import Remote

    Requirement = dict[str, Any]

KEYS = frozenset(("type", "keyPath", "keyPaths", "keyData", "keyDatas", "signedIdentity"))
SYSTEM = "/etc/containers/policy.json"


class Policy:
    """What --verify-key and policy.json ask for."""

    def __init__(self, path: str | None = None, verify_keys: list[str] | tuple[str, ...] = ()) -> None:
        """path: of a policy, not the user's or the system's; verify_keys: public keys, any of which will do."""
        self._verify_keys = list(verify_keys)
        self._path = path
        self._found: dict[str, Any] | None = None

    def requirements(self, transport: str, scopes_of: list[str]) -> list[Requirement]:
        """What must hold for an image, by where it comes from: the scopes it lies in, the closest first."""
        found = self._document()
        tables = found.get("transports", {})
        scopes = tables.get(transport, {}) if isinstance(tables, dict) else None
        if not isinstance(scopes, dict):
            raise self._invalid(f"transports.{transport} is not an object")
        chosen = next((scopes[name] for name in scopes_of if name in scopes), found.get("default"))
        if not isinstance(chosen, list) or not chosen or not all(isinstance(one, dict) for one in chosen):
            raise self._invalid("a list of requirements is none, or empty")
        more = [{"type": "sigstoreSigned", "keyPaths": self._verify_keys, "signedIdentity": None}]
        return [*chosen, *(more if self._verify_keys else [])]

    def asks(self, ref: Ref) -> bool:
        """Whether anything must hold for images of a reference."""
        return any(one.get("type") != "insecureAcceptAnything" for one in self.requirements("docker", _scopes(ref)))

    def check(self, remote: Remote, digests: list[list[str]]) -> None:
        """Raise Error unless an image of a registry may be pulled.

        digests: lists, in one of which all must be signed: the index that it came from, or what was
        chosen of it.
        """
        for one in self.requirements("docker", _scopes(remote.ref)):
            if one.get("type") == "sigstoreSigned":
                self._signed(remote, digests, one)
            else:
                self._other(one, remote.ref)

    def check_local(self, transport: str, subject: object, path: str = "", name: str | None = None) -> None:
        """The same for an image in a layout or an archive, which no signatures go with."""
        for one in self.requirements(transport, _scopes_of_path(path, name)):
            if one.get("type") == "sigstoreSigned":
                raise Error("image is not signed", subject, "signatures are looked for in registries only")
            self._other(one, subject)

    def _other(self, requirement: Requirement, subject: object) -> None:
        kind = requirement.get("type")
        if kind == "reject":
            raise Error("image is rejected", subject, f"by '{self._name()}'")
        if kind != "insecureAcceptAnything":
            raise Error("cannot verify", subject, f"'{self._name()}' asks for '{kind}', which is not understood here")

    def _signed(self, remote: Remote, digests: list[list[str]], requirement: Requirement) -> None:
        from oci_tools.registry import signature

        trusted, match = self._keys(requirement), self._identity(requirement, remote.ref)

        def signed(digest: str) -> bool:
            return any(match(name) for name in signature.identities(remote, digest, trusted))

        if not any(wanted and all(map(signed, wanted)) for wanted in digests):
            why = "no signature by a key that is trusted for it"
            raise Error("image is not signed", remote.ref, why)

    def _keys(self, requirement: Requirement) -> list[Any]:
        from binascii import a2b_base64

        from oci_tools.registry import keys, signature

        strange = set(requirement) - KEYS
        if strange:
            raise self._invalid(f"'{min(strange)}' is not understood here")
        if len(requirement.keys() & {"keyPath", "keyPaths", "keyData", "keyDatas"}) > 1:
            raise self._invalid("keys are said in more than one way")
        paths, data = requirement.get("keyPaths", []), requirement.get("keyDatas", [])
        paths = [requirement["keyPath"]] if "keyPath" in requirement else paths
        data = [requirement["keyData"]] if "keyData" in requirement else data
        try:
            found = [keys.public(signature.read_key(path), path) for path in paths]
            found += [keys.public(a2b_base64(text), "keyData") for text in data]
        except (TypeError, ValueError):
            raise self._invalid("a key is none") from None
        if not found:
            raise self._invalid("sigstoreSigned without a key")
        return found

    def _identity(self, requirement: Requirement, ref: Ref) -> Any:
        """Whether a name in a signature is that of the image."""
        said = requirement.get("signedIdentity", {"type": "matchRepoDigestOrExact"})
        if said is None:  # --verify-key: as cosign, which leaves it to the key
            return lambda name: True
        kind = said.get("type") if isinstance(said, dict) else None
        if kind == "remapIdentity":
            ref, kind = self._remapped(said, ref), "matchRepoDigestOrExact"
        if kind == "matchRepository" or (kind == "matchRepoDigestOrExact" and ref.digest and not ref.tag):
            return lambda name: _repository(name) == ref.name
        if kind in ("matchExact", "matchRepoDigestOrExact"):
            return lambda name: _exact(name) == str(ref)
        if kind in ("exactRepository", "exactReference"):
            read = _repository if kind == "exactRepository" else _exact
            wanted = read(said.get("dockerRepository" if kind == "exactRepository" else "dockerReference"))
            if wanted is None:
                raise self._invalid(f"signedIdentity '{kind}' without what it is to be")
            return lambda name: read(name) == wanted
        raise self._invalid(f"signedIdentity '{kind}' is not understood here")

    def _remapped(self, said: dict[str, Any], ref: Ref) -> Ref:
        """The reference as whoever signed it called it: of an image that lies in a mirror."""
        prefix, new = said.get("prefix"), said.get("signedPrefix")
        if not isinstance(prefix, str) or not isinstance(new, str) or not prefix or not new:
            raise self._invalid("signedIdentity 'remapIdentity' without prefix and signedPrefix")
        text = str(ref)
        if text != prefix and not (text.startswith(prefix) and text[len(prefix)] in "/:@"):
            return ref
        return Ref.parse(new + text[len(prefix) :])

    # -- the file -----------------------------------------------------------------------

    def _name(self) -> str:
        if self._path:
            return self._path
        user = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        return next((path for path in (f"{user}/containers/policy.json",) if os.path.exists(path)), SYSTEM)

    def _document(self) -> dict[str, Any]:
        if self._found is None:
            path = self._name()
            if self._path is None and not os.path.exists(path):
                self._found = {"default": [{"type": "insecureAcceptAnything"}]}
            else:
                found = self._read(path)
                self._found = found
        return self._found

    def _read(self, path: str) -> dict[str, Any]:
        """A policy, of which readers cannot think differently."""
        try:
            with open(path, "rb") as file:
                found = document.loads(file.read(), path, scan=manifests.STRICT)
        except OSError as error:
            raise Error("cannot read", path, error) from None
        if not isinstance(found, dict):
            raise self._invalid("not an object")
        strange = set(found) - {"default", "transports"}
        if strange:
            raise self._invalid(f"'{min(strange)}' is not understood here")
        if not isinstance(found.get("default"), list) or not found["default"]:
            raise self._invalid("its default is none")
        return found

    def _invalid(self, why: str) -> Error:
        return Error("invalid policy", self._name(), why)


def _scopes_of_path(path: str, name: str | None) -> list[str]:
    """The scopes that a layout or an archive lies in: PATH:NAME, PATH, what it lies under, all of the transport."""
    path = os.path.realpath(path) if path else ""
    found = [f"{path}:{name}"] if path and name else []
    while path not in ("", "/"):
        found.append(path)
        path = os.path.dirname(path)
    return [*found, ""]


def _scopes(ref: Ref) -> list[str]:
    """The scopes that a reference lies in, the closest first."""
    found = [str(ref)]
    parts = ref.name.split("/")
    found += ["/".join(parts[:end]) for end in range(len(parts), 0, -1)]
    labels = ref.host.split(".")
    return [*found, *(f"*.{'.'.join(labels[at:])}" for at in range(1, len(labels))), ""]


def _repository(name: object) -> str | None:
    try:
        return Ref.parse(str(name)).name
    except Error:
        return None


def _exact(name: object) -> str | None:
    """A reference in full, if it says a tag or a digest itself."""
    text = str(name)
    if "@" not in text and ":" not in text.rpartition("/")[2]:
        return None
    try:
        return str(Ref.parse(text))
    except Error:
        return None
