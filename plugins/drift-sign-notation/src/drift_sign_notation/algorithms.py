"""The algorithms of the format, each of which follows from a key: specification, "Signature Algorithm Requirements"."""

from collections.abc import Callable
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from drift_core.api import Struct
from drift_sign_notation.refusal import Refused

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey
PublicKey = RSAPublicKey | EllipticCurvePublicKey


class Algorithm(Struct, frozen=True):
    """One algorithm: its name in a policy, its names in both envelopes, and the only key that it goes with.

    ``curve`` is empty for RSA; ``bits`` are those of the modulus or of the field.
    """

    name: str
    jws: str
    cose: int
    curve: str
    bits: int
    digest: Callable[[], HashAlgorithm]


ALGORITHMS: Final = (
    Algorithm("rsa-pss-sha256", "PS256", -37, "", 2048, SHA256),
    Algorithm("rsa-pss-sha384", "PS384", -38, "", 3072, SHA384),
    Algorithm("rsa-pss-sha512", "PS512", -39, "", 4096, SHA512),
    Algorithm("ecdsa-p256-sha256", "ES256", -7, "secp256r1", 256, SHA256),
    Algorithm("ecdsa-p384-sha384", "ES384", -35, "secp384r1", 384, SHA384),
    Algorithm("ecdsa-p521-sha512", "ES512", -36, "secp521r1", 521, SHA512),
)
NAMES: Final = frozenset(algorithm.name for algorithm in ALGORITHMS)


def algorithm_of(key: object) -> Algorithm:
    """Returns the algorithm that goes with a private or public key. Raises `Refused` where there is none."""
    curve, bits = "", 0
    if isinstance(key, RSAPrivateKey | RSAPublicKey):
        bits = key.key_size
    elif isinstance(key, EllipticCurvePrivateKey | EllipticCurvePublicKey):
        curve, bits = key.curve.name, key.curve.key_size
    for algorithm in ALGORITHMS:
        if (algorithm.curve, algorithm.bits) == (curve, bits):
            return algorithm
    raise Refused("the key is neither RSA of 2048, 3072 or 4096 bits nor on P-256, P-384 or P-521")


def fingerprint(key: PublicKeyTypes) -> str:
    """Returns the SHA-256 of a key's SubjectPublicKeyInfo in DER, in lower-case hex."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def sign(key: PrivateKey, message: bytes) -> bytes:
    """Returns a signature by the algorithm of the key, as both envelopes have it. Raises `Refused`, see above."""
    algorithm = algorithm_of(key)
    if isinstance(key, RSAPrivateKey):
        return key.sign(message, _padding(algorithm), algorithm.digest())
    r, s = decode_dss_signature(key.sign(message, ECDSA(algorithm.digest())))
    length = _length(algorithm)
    return r.to_bytes(length) + s.to_bytes(length)


def verify(key: PublicKey, signature: bytes, message: bytes) -> None:
    """Raises `Refused` unless the signature is by this key and by its algorithm."""
    algorithm = algorithm_of(key)
    try:
        if isinstance(key, RSAPublicKey):
            key.verify(signature, message, _padding(algorithm), algorithm.digest())
        else:
            key.verify(_der(signature, _length(algorithm)), message, ECDSA(algorithm.digest()))
    except InvalidSignature:
        raise Refused("the signature is not by the key of the certificate") from None


def _padding(algorithm: Algorithm) -> PSS:
    # DIGEST_LENGTH also while verifying: AUTO would take any salt, which RFC 7518 section 3.5 does not.
    return PSS(MGF1(algorithm.digest()), PSS.DIGEST_LENGTH)


def _length(algorithm: Algorithm) -> int:
    return (algorithm.bits + 7) // 8


def _der(signature: bytes, length: int) -> bytes:
    if len(signature) != 2 * length:
        raise Refused("the signature has the wrong length")
    return encode_dss_signature(int.from_bytes(signature[:length]), int.from_bytes(signature[length:]))
