"""oci-registry with tokens that somebody else issues: a token service, or an identity provider."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from oci_tools.registry import keys
from oci_tools.registry.issuer import Issuer
from tests.peers import Answer, Asked, Fake, certificate
from tests.registry.test_operate import start
from tests.registry.test_server import Client

KEYS = {"RS": ("RSA", "rsa_keygen_bits:2048"), "ES": ("EC", "ec_paramgen_curve:P-"), "Ed": ("ED25519", "")}
CURVES = {"256": "256", "384": "384", "512": "521"}
KINDS = ["RS256", "ES256", "EdDSA"]  # all that there are in test_every_algorithm


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Service:
    """Signs tokens with a key that openssl made."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.kind, self.key, self.public = kind, directory / f"{kind}.key", directory / f"{kind}.pub"
        name, option = KEYS[kind[:2].replace("PS", "RS")]
        option += CURVES[kind[2:]] if kind.startswith("ES") else ""
        words = ["openssl", "genpkey", "-algorithm", name, "-out", self.key, *(["-pkeyopt", option] if option else [])]
        subprocess.run(words, check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", self.key, "-pubout", "-out", self.public], check=True, capture_output=True)

    def token(self, **claims: Any) -> str:
        found = {"iss": "me", "sub": "alice", "aud": "store", "exp": time.time() + 300, **claims}
        found = {key: value for key, value in found.items() if value != "-"}
        head = f"{encode(json.dumps({'alg': self.kind, 'typ': 'JWT'}).encode())}.{encode(json.dumps(found).encode())}"
        return f"{head}.{encode(self.sign(head.encode()))}"

    def sign(self, message: bytes, kind: str = "") -> bytes:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

        kind = kind or self.kind
        key: Any = serialization.load_pem_private_key(self.key.read_bytes(), None)
        if kind == "EdDSA":
            return bytes(key.sign(message))
        hashing: Any = getattr(hashes, f"SHA{kind[2:]}")
        if kind.startswith("ES"):
            numbers = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashing())))
            return b"".join(one.to_bytes(-(-key.key_size // 8)) for one in numbers)
        filled: Any = padding.PKCS1v15() if kind[0] == "R" else padding.PSS(padding.MGF1(hashing()), hashing.digest_size)
        return bytes(key.sign(message, filled, hashing()))


def access(name: str, *actions: str) -> list[dict[str, Any]]:
    return [{"type": "repository", "name": name, "actions": list(actions)}]


def words(service: Service, realm: str = "https://tokens.invalid/t") -> list[Any]:
    return ["--token-realm", realm, "--token-service", "store", "--token-issuer", "me", "--token-trust", service.public]


@pytest.fixture(params=KINDS)
def service(request: Any, tmp_path: Path) -> Service:
    return Service(tmp_path, request.param)


def test_what_a_token_grants(oci: Any, service: Service, tmp_path: Path) -> None:
    ask = Client(start(oci, tmp_path, *words(service)).host)
    answer = ask("GET", "/v2/a/tags/list")
    said = answer.headers["WWW-Authenticate"]
    assert answer.status == 401 and said == 'Bearer realm="https://tokens.invalid/t",service="store",scope="repository:a:pull"'
    assert ask("GET", "/v2/").status == 401 and ask("GET", "/token").status == 404

    def may(token: str, method: str = "POST", path: str = "/v2/a/blobs/uploads/") -> int:
        return int(ask(method, path, b"" if method == "POST" else None, Authorization=f"Bearer {token}").status)

    push, pull = service.token(access=access("a", "pull", "push")), service.token(access=access("a", "pull"))
    assert may(push) == 202 and may(pull) == 401 == may(push, path="/v2/b/blobs/uploads/")
    assert may(pull, "GET", "/v2/a/tags/list") == 200 and may(pull, "GET", "/v2/") == 200
    assert may(service.token(access=access("a", "*"), sub="-")) == 202  # nobody in particular
    assert may(service.token()) == 202  # an identity: what it may is said by rules, of which there are none
    assert may(service.token(aud=["other", "store"])) == 202
    for wrong in (
        {"aud": "other"}, {"aud": "-"}, {"iss": "you"}, {"exp": time.time() - 90}, {"exp": "-"}, {"exp": "soon"},
        {"nbf": time.time() + 90}, {"sub": 5}, {"exp": float("nan")},
    ):  # fmt: skip
        assert may(service.token(**wrong)) == 401, wrong
    for access_ in ([], "all", [5], [{"type": "repository", "name": "a"}], access("a", "push ")):
        assert may(service.token(access=access_)) == 401, access_


ALL = [f"{kind}{size}" for kind in ("RS", "PS", "ES") for size in ("256", "384", "512")] + ["EdDSA"]


@pytest.mark.parametrize("kind", ALL)
def test_every_algorithm(tmp_path: Path, kind: str) -> None:
    """And with another one's name, or that of one that needs no key, no signature is good."""
    service = Service(tmp_path, kind)
    one = Issuer("https://x", "store", "me", [str(service.public)])
    found = one.claims(service.token())
    assert found and found["sub"] == "alice"
    body = service.token().split(".")[1]
    for other in [*ALL, "none", "HS256", "HS512", "", None, 5, "ES256K", "RS", "XS256"]:
        head = encode(json.dumps({"alg": other}).encode())
        token = f"{head}.{body}.{encode(service.sign(f'{head}.{body}'.encode(), kind))}"
        assert (one.claims(token) is not None) == (other == kind), other
    head = encode(json.dumps({"alg": kind, "crit": ["exp"]}).encode())
    assert one.claims(f"{head}.{body}.{encode(service.sign(f'{head}.{body}'.encode()))}") is None


def test_keys_of_providers() -> None:
    """RFC 7517: which keys are taken, and what for."""
    from cryptography.hazmat.primitives.asymmetric import ec

    for curve, name, kind in ((ec.SECP256R1(), "P-256", "ES256"), (ec.SECP384R1(), "P-384", "ES384"), (ec.SECP521R1(), "P-521", "ES512")):
        numbers = ec.generate_private_key(curve).public_key().public_numbers()
        size = -(-curve.key_size // 8)
        said = {"kty": "EC", "crv": name, "x": encode(numbers.x.to_bytes(size)), "y": encode(numbers.y.to_bytes(size))}
        for alg, taken in (({}, ""), ({"alg": kind}, kind)):
            found = keys.of_jwk({**said, **alg})
            assert found and found[1] == taken and found[0].public_numbers() == numbers
        for wrong in ({"alg": "RS256"}, {"use": "enc"}, {"crv": "P-1"}, {"kty": "RSA"}, {"x": "AA"}, {"alg": 5}, {"kty": "oct"}):
            assert keys.of_jwk({**said, **wrong}) is None, wrong


def test_tokens_of_others(oci: Any, service: Service, tmp_path: Path) -> None:
    ask = Client(start(oci, tmp_path, *words(service)).host)
    (tmp_path / "other").mkdir()
    head, _, signature = service.token().rpartition(".")
    body = head.partition(".")[2]
    none, symmetric = (encode(json.dumps({"alg": name}).encode()) for name in ("none", "HS256"))
    for token in (
        Service(tmp_path / "other", service.kind).token(), f"{none}.{body}.", f"{head}.", f"{head}.{signature[:-8]}", head, "", ".", "..",
        f"{head}x.{signature}", "\x80.a.b", "a" * 10_000, f"{head}.{encode(b'0' * 64)}", f"{head}.{'=' * 9}",
    ):  # fmt: skip
        answer = ask("GET", "/v2/", Authorization=f"Bearer {token}")
        assert answer.status == 401, token
    # the public key as the secret of HS256: the token does not choose how it is checked
    import hmac

    sealed = f"{symmetric}.{body}"
    made = hmac.digest(service.public.read_bytes(), sealed.encode(), "sha256")
    assert ask("GET", "/v2/", Authorization=f"Bearer {sealed}.{encode(made)}").status == 401


def test_rules_and_clients(oci: Any, tmp_path: Path) -> None:
    """Rules are obeyed beside; a client gets its token where it is sent, and anonymous reading goes on."""
    service = Service(tmp_path, "ES256")
    with Fake() as tokens:

        def give(asked: Asked) -> Answer:
            query = parse_qs(urlsplit(asked.path).query)
            entries = [access(scope.split(":")[1], *scope.split(":")[2].split(","))[0] for scope in query.get("scope", [])]
            basic = base64.b64decode(asked.headers.get("Authorization", "").removeprefix("Basic ")).decode()
            made = service.token(sub=basic.partition(":")[0] or "-", access=entries)
            return Answer(200, {}, json.dumps({"token": made}).encode())

        tokens.guard = give
        (tmp_path / "rules").write_text("alice a/** *\n* public/** pull\n")
        server = start(oci, tmp_path, *words(service, f"{tokens.url}/token"), "--rules", tmp_path / "rules")
        from tests.registry.test_push import Layout

        Layout(tmp_path / "img").image("v1", b"layer")
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {server.host: {"auth": base64.b64encode(b"alice:x").decode()}}}))
        alice = ("--authfile", tmp_path / "auth.json")
        oci("push", *alice, "./img:v1", f"{server.host}/a/app:v1")
        oci("pull", *alice, f"{server.host}/a/app:v1", "./out")
        oci("push", *alice, "./img:v1", f"{server.host}/b/app:v1", code=1)
        oci("pull", f"{server.host}/a/app:v1", "./none", code=1)


def test_a_certificate_and_several_keys(oci: Any, tmp_path: Path) -> None:
    service, (cert, key) = Service(tmp_path, "RS256"), certificate(tmp_path)
    other = Service(tmp_path, "ES256")
    (tmp_path / "both.pem").write_bytes(cert.read_bytes() + service.public.read_bytes())
    server = start(oci, tmp_path, *words(service)[:-1], tmp_path / "both.pem")
    other.key.write_bytes(key.read_bytes())  # the certificate's is an ECDSA key
    for one in (service, other):
        assert Client(server.host)("GET", "/v2/", Authorization=f"Bearer {one.token()}").status == 200


@pytest.mark.parametrize(
    "given, said",
    [
        (["--token-realm", "https://x"], "need --token-realm"),
        (["--token-realm", "x", "--token-service", "s", "--token-trust", "key"], "not a URL"),
        (["--token-realm", "https://x", "--token-service", "s", "--token-trust", "none"], "no such file"),
        (["--token-realm", "https://x", "--token-service", "s", "--token-trust", "key"], "no key in PEM"),
        (["--token-realm", "https://x", "--token-service", "s", "--token-trust", "bad"], "cannot use"),
    ],
)
def test_words_that_make_no_sense(oci: Any, tmp_path: Path, given: list[str], said: str) -> None:
    (tmp_path / "key").write_text("no key")
    (tmp_path / "bad").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    done = oci("registry", "serve", *given, tmp_path / "store", code=None)
    assert done.returncode in (1, 2) and said in done.stderr and done.stderr.count("\n") == 1
