"""Keys that sign and verify: PEM files, as openssl and cosign write them.

Signatures are over SHA-256, as cosign makes them with a key pair: ECDSA in DER, RSA with PKCS #1 v1.5;
Ed25519 signs the message itself.  Only this module imports `cryptography`.
"""

from __future__ import annotations

from oci_tools.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_KEY = 1 << 16  # bytes of a file
PASSWORD = "COSIGN_PASSWORD"  # in the environment, where cosign looks for it


def public(data: bytes, name: object) -> Any:
    """A public key from PEM; one for several is an Error."""
    from cryptography.hazmat.primitives import serialization

    try:
        found = serialization.load_pem_public_key(data)
    except Exception as error:  # ValueError, UnsupportedAlgorithm, and what else its parsers say
        raise Error("cannot use key", name, _why(error)) from None
    return _known(found, name)


def of_certificate(data: bytes, name: object) -> Any:
    """The public key in a certificate (PEM); who signed that does not matter."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(data).public_key()
    except Exception as error:  # ValueError, and what else its parsers say
        raise Error("cannot use certificate", name, _why(error)) from None
    return _known(found, name)


def of_jwk(found: dict[str, Any]) -> tuple[Any, str] | None:
    """The public key in a JWK (RFC 7517), and the algorithm that it is for, "" for any; None if we know no such key."""
    from base64 import urlsafe_b64decode

    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    def number(name: str) -> bytes:
        text = str(found[name])
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))

    kind, curve = found.get("kty"), found.get("crv")
    curves: dict[object, Any] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
    key: Any = None
    try:
        if kind == "EC" and curve in curves:
            x, y = int.from_bytes(number("x")), int.from_bytes(number("y"))
            key = ec.EllipticCurvePublicNumbers(x, y, curves[curve]()).public_key()
        elif (kind, curve) == ("OKP", "Ed25519"):
            key = ed25519.Ed25519PublicKey.from_public_bytes(number("x"))
        elif kind == "RSA":
            key = rsa.RSAPublicNumbers(int.from_bytes(number("e")), int.from_bytes(number("n"))).public_key()
    except (KeyError, ValueError):
        return None  # of a provider with several, one that is broken
    name = found.get("alg") or ""
    if key is None or found.get("use", "sig") != "sig" or (name and _jws(key, str(name)) is None):
        return None
    return key, str(name)


# -- signatures of JWTs (RFC 7518, 3.1; RFC 8037) -----------------------------------------------


def good_jws(key: Any, algorithm: str, signature: bytes, message: bytes) -> bool:
    """Whether a public key made a JWT's signature, in the way that the JWT names: of those that are for such a key."""
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    scheme = _jws(key, algorithm)
    if scheme is None:
        return False
    if isinstance(key, ec.EllipticCurvePublicKey):  # both numbers side by side (RFC 7518, 3.4)
        half = -(-key.key_size // 8)
        if len(signature) != 2 * half:
            return False
        numbers = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
        signature = utils.encode_dss_signature(*numbers)
    return _verified(key, signature, message, scheme)


def _jws(key: Any, algorithm: str) -> list[Any] | None:
    """How a key of this kind signs by an algorithm; None if it does not."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    if isinstance(key, ed25519.Ed25519PublicKey):
        return [] if algorithm in ("EdDSA", "Ed25519") else None
    kind, size = algorithm[:2], algorithm[2:]
    hashing: Any = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}.get(size)
    if hashing is None:
        return None
    if isinstance(key, ec.EllipticCurvePublicKey):
        curve = {"256": "secp256r1", "384": "secp384r1", "512": "secp521r1"}[size]
        return [ec.ECDSA(hashing())] if kind == "ES" and key.curve.name == curve else None
    if not isinstance(key, rsa.RSAPublicKey) or kind not in ("RS", "PS"):
        return None
    if kind == "RS":
        return [padding.PKCS1v15(), hashing()]
    return [padding.PSS(padding.MGF1(hashing()), hashing.digest_size), hashing()]


def private(data: bytes, name: object, password: bytes | None) -> Any:
    """A private key from PEM: plain, or encrypted as openssl (PKCS #8) or as cosign does (secretbox.py)."""
    from cryptography.hazmat.primitives import serialization

    from oci_tools.registry import secretbox

    locked = b"ENCRYPTED" in data
    if locked and password is None:
        raise Error("cannot use key", name, "it is encrypted", f"{PASSWORD} in the environment is its password")
    try:
        if secretbox.is_locked(data):
            der = secretbox.unlock(data, name, password or b"", _tagged)
            found = serialization.load_der_private_key(der, None)
        else:
            found = serialization.load_pem_private_key(data, password if locked else None)
    except Error:
        raise
    except Exception as error:
        raise Error("cannot use key", name, _why(error)) from None
    return _known(found, name)


def _tagged(key: bytes, message: bytes, tag: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    try:
        Poly1305.verify_tag(key, message, tag)
    except (InvalidSignature, ValueError):
        return False
    return True


def _known(key: Any, name: object) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    kinds = (
        ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey, rsa.RSAPrivateKey, rsa.RSAPublicKey,
        ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey,
    )  # fmt: skip
    if not isinstance(key, kinds):
        raise Error("cannot use key", name, "it is neither ECDSA, RSA nor Ed25519")
    return key


def _why(error: Exception) -> str:
    text = str(error).partition(".")[0].partition("(")[0].strip()
    return (text[:1].lower() + text[1:]) or "it is no key in PEM"


def sign(key: Any, message: bytes) -> bytes:
    made: bytes = key.sign(message, *_scheme(key))
    return made


def good(key: Any, signature: bytes, message: bytes) -> bool:
    """Whether a public key made this signature of a message."""
    return _verified(key, signature, message, _scheme(key))


def _verified(key: Any, signature: bytes, message: bytes, scheme: list[Any]) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, message, *scheme)
    except (InvalidSignature, ValueError):
        return False
    return True


def _scheme(key: Any) -> list[Any]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    if isinstance(key, (rsa.RSAPrivateKey, rsa.RSAPublicKey)):
        return [padding.PKCS1v15(), hashes.SHA256()]
    if isinstance(key, (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)):
        return [ec.ECDSA(hashes.SHA256())]
    return []
