"""Signs and checks by a key, where the key alone says how: no field of an artifact chooses an algorithm."""

from hashlib import sha256
from typing import Literal, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from drift_sign_cosign.optional import optional
from drift_sign_cosign.refusal import Refused

Algorithm = Literal["ecdsa-p256-sha256", "ecdsa-p384-sha384", "rsa-pkcs1-sha256", "ed25519"]
"""What a key does, by the names of ``[signing]``."""

Used = Literal[Algorithm, "ed25519ph"]
"""What a signature was made by; cosign signs by Ed25519ph where the key is one for Ed25519."""

PrivateKey: TypeAlias = EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey
PublicKey: TypeAlias = EllipticCurvePublicKey | RSAPublicKey | Ed25519PublicKey

CURVES: dict[str, tuple[Algorithm, hashes.HashAlgorithm]] = {
    "secp256r1": ("ecdsa-p256-sha256", hashes.SHA256()),
    "secp384r1": ("ecdsa-p384-sha384", hashes.SHA384()),
}
"""The algorithm of each accepted curve, with its hash (FIPS 186-5)."""

RSA_BITS = range(2048, 4097)
"""Bits of a modulus: fewer are weak, and more are slow to check."""

LEAST_EXPONENT = 65537
"""The least public exponent of RSA: FIPS 186-5 section 5.1."""

SMALL_ORDER = frozenset(
    int(encoded, 16)
    for encoded in (
        "00",
        "01",
        "05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826",
        "7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7",
        "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffec",
        "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed",
        "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffee",
    )
)
"""Ordinates of the points of Ed25519 with an order of at most 8, by which anybody can sign (RFC 8032 section 5.1)."""


def algorithm_of(key: object) -> Algorithm:
    """Returns what a public or a private key does.

    Raises:
        Refused: it is a key for something else, or a weak one.
    """
    public = key.public_key() if isinstance(key, PrivateKey) else key
    if isinstance(public, EllipticCurvePublicKey):
        if public.curve.name not in CURVES:
            raise Refused("the curve is neither P-256 nor P-384")
        return CURVES[public.curve.name][0]
    if isinstance(public, RSAPublicKey):
        if public.key_size not in RSA_BITS:
            raise Refused(f"an RSA key has {RSA_BITS.start} to {RSA_BITS.stop - 1} bits, not {public.key_size}")
        if public.public_numbers().e < LEAST_EXPONENT:
            raise Refused(f"the public exponent is less than {LEAST_EXPONENT}")
        return "rsa-pkcs1-sha256"
    if isinstance(public, Ed25519PublicKey):
        # The highest bit is the sign of the abscissa, and says nothing about the order.
        if int.from_bytes(public.public_bytes_raw(), "little") & ~(1 << 255) in SMALL_ORDER:
            raise Refused("an Ed25519 key of small order, by which anybody can sign")
        return "ed25519"
    raise Refused("neither an ECDSA, an RSA nor an Ed25519 key")


def fingerprint(key: PublicKeyTypes) -> bytes:
    """Returns the SHA-256 of a key's SubjectPublicKeyInfo in DER, which cosign has as the hint of a key, too."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def sign(key: PrivateKey, message: bytes) -> bytes:
    """Returns a signature: DER for ECDSA, as cosign takes it. Raises `Refused` for a key that `algorithm_of` does."""
    algorithm_of(key)
    if isinstance(key, EllipticCurvePrivateKey):
        return key.sign(message, ECDSA(CURVES[key.curve.name][1]))
    if isinstance(key, RSAPrivateKey):
        return key.sign(message, PKCS1v15(), hashes.SHA256())
    return key.sign(message)


def check(key: object, signature: bytes, message: bytes) -> Used | None:
    """Returns the algorithm by which ``key`` has signed ``message``, or None where it has not.

    Raises:
        Refused: a key that `algorithm_of` refuses.
    """
    algorithm = algorithm_of(key)
    try:
        if isinstance(key, EllipticCurvePublicKey):
            key.verify(signature, message, ECDSA(CURVES[key.curve.name][1]))
        elif isinstance(key, RSAPublicKey):
            key.verify(signature, message, PKCS1v15(), hashes.SHA256())
        elif isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
    except InvalidSignature:
        if isinstance(key, Ed25519PublicKey) and _prehashed(key, signature, message):
            return "ed25519ph"
        return None
    return algorithm


def _prehashed(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    """Says whether it is a signature by Ed25519ph without a context (RFC 8032 section 5.1); False without PyNaCl."""
    bindings = optional("nacl.bindings")
    if bindings is None:
        return False
    state = bindings.crypto_sign_ed25519ph_state()
    bindings.crypto_sign_ed25519ph_update(state, message)
    try:
        return bool(bindings.crypto_sign_ed25519ph_final_verify(state, signature, key.public_bytes_raw()))
    # PyNaCl's errors are Exceptions of its own, one of which is for a signature of another length.
    except Exception:  # noqa: BLE001
        return False
