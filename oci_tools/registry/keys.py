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


def of_jwk(found: dict[str, Any]) -> Any:
    """The public key in a JWK (RFC 7517) that can have signed what `good` checks; None if it is another."""
    from base64 import urlsafe_b64decode

    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    def number(name: str) -> bytes:
        text = str(found[name])
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))

    if found.get("use", "sig") != "sig" or found.get("alg", "RS256") not in ("RS256", "ES256", "EdDSA", "Ed25519"):
        return None
    kind = found.get("kty"), found.get("crv")
    try:
        if kind == ("EC", "P-256"):
            x, y = int.from_bytes(number("x")), int.from_bytes(number("y"))
            return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        if kind == ("OKP", "Ed25519"):
            return ed25519.Ed25519PublicKey.from_public_bytes(number("x"))
        if kind == ("RSA", None):
            return rsa.RSAPublicNumbers(int.from_bytes(number("e")), int.from_bytes(number("n"))).public_key()
    except (KeyError, ValueError):
        pass  # of a provider with several, one that is broken
    return None


def der(key: Any, signature: bytes) -> bytes:
    """A signature of a JWT as the others are: of ECDSA it has both numbers side by side (RFC 7518, 3.4)."""
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    if not isinstance(key, ec.EllipticCurvePublicKey):
        return signature
    half = len(signature) // 2
    return utils.encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))


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
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, message, *_scheme(key))
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
