"""Reads certificates and signatures by pysequoia, of which nothing else is believed than what it has verified.

Source: RFC 9580, sections 5.2, 5.5 and 9.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from msgspec import Struct
from pysequoia import Cert, Sig, verify

# It is within the library's binary, where pyright finds no source.
from pysequoia.packet import (  # pyright: ignore[reportMissingModuleSource]
    Packet,
    PacketPile,
    PublicKeyAlgorithm,
    SignatureType,
    Tag,
)

from drift_sign_simple.message import SignedMessage
from drift_sign_simple.refusal import Refused

T = TypeVar("T")

RSA = "rsa-pkcs1"
ED25519 = "ed25519"
HASHES = ("sha256", "sha384", "sha512")
ALGORITHMS = (
    "ecdsa-p256-sha256",
    "ecdsa-p384-sha384",
    "ecdsa-p521-sha512",
    ED25519,
    *(f"{RSA}-{name}" for name in HASHES),
)
"""By the names of policies."""

CURVES = {
    "2a8648ce3d030107": "ecdsa-p256",
    "2b81040022": "ecdsa-p384",
    "2b81040023": "ecdsa-p521",
    "2b06010401da470f01": ED25519,
}
"""The object identifiers of section 9.2."""

VERSION_6 = 6


class Key(Struct, frozen=True):
    """A primary key or a subkey.

    ``kind`` is the name of its algorithm without the hash. It ends at ``expires_at``, in seconds since the epoch.
    """

    fingerprint: str
    kind: str
    expires_at: float | None
    revoked: bool


class Certificate(Struct, frozen=True):
    """A certificate of which the operator says whether what its ``keys`` sign counts, the primary key first."""

    key_id: str
    cert: Cert
    keys: tuple[Key, ...]
    trusted: bool = True

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the primary key, in lower-case hex."""
        return self.keys[0].fingerprint

    @property
    def expires_at(self) -> float | None:
        """When it ends, in seconds since the epoch, or None."""
        return self.keys[0].expires_at


class Mark(Struct, frozen=True):
    """What a signature says of itself; moments are in seconds since the epoch.

    ``issuer`` is the fingerprint of a key, or where that is missing its short id, in lower-case hex.
    """

    signature: Sig
    issuer: str
    hash_name: str
    created: float
    expires_at: float | None

    def is_by(self, key: Key) -> bool:
        """Says whether the signature claims to be by a key."""
        return self.issuer in (key.fingerprint, key.fingerprint[-16:])


def guarded(call: Callable[[], T], reason: str) -> T:
    """Returns what ``call`` does. Raises `Refused` with the reason for whatever pysequoia raises."""
    try:
        return call()
    except Refused:
        raise
    # What Rust panics about is no Exception; this runs in a thread of its own, where nobody interrupts.
    except BaseException:  # noqa: BLE001
        # Its messages have the stack of the library, and texts of the file.
        raise Refused(reason) from None


def read_certificate(cert: Cert, key_id: str, *, trusted: bool = True) -> Certificate:
    """Returns a certificate, without the secret keys that may be in it.

    Raises:
        Refused: it has no valid self-signature, or a key by which nobody should sign any more.
    """
    return guarded(
        lambda: _read_certificate(Cert.from_bytes(bytes(cert)), key_id, trusted=trusted),
        "a certificate has no valid self-signature, or a key that is too weak",
    )


def read_mark(packet: bytes) -> Mark:
    """Returns what a signature packet says. Raises `Refused`."""
    return guarded(lambda: _read_mark(Sig.from_bytes(packet)), "the signature is malformed, or of an unknown kind")


def made_by(certificate: Certificate, mark: Mark, message: SignedMessage) -> str:
    """Returns the fingerprint of the key that has made a signature, of those of a certificate.

    It was valid when it signed, by the time that it has signed itself.

    Raises:
        Refused: none of them has.
    """

    def store(_: object) -> Sequence[Cert]:
        return [certificate.cert]

    def signing_key() -> str:
        # As a detached signature, so that what is verified is the payload that was found, and no second one.
        verified = verify(bytes=message.payload, signature=mark.signature, store=store)
        return str(verified.valid_sigs[0].signing_key)

    return guarded(signing_key, f"the signature is not a valid one of the key {certificate.key_id}")


def algorithm_of(kind: str, hash_name: str) -> str:
    """Returns the name that policies have for an algorithm. Raises `Refused`, which names it."""
    name = kind if kind == ED25519 and hash_name in HASHES else f"{kind}-{hash_name}"
    if name not in ALGORITHMS:
        raise Refused(f"the algorithm {name} is not taken")
    return name


def _read_certificate(cert: Cert, key_id: str, *, trusted: bool) -> Certificate:
    expires_at = _moment(cert.expiration)
    keys: list[Key] = []
    for packet, signatures in _keys(cert):
        ends = _earliest(expires_at, _end_of(packet, signatures))
        revoked = any(one.signature_type == SignatureType.SubkeyRevocation for one in signatures)
        keys.append(Key(str(packet.fingerprint), _kind(packet), ends, revoked))
    return Certificate(key_id, cert, tuple(keys), trusted)


def _keys(cert: Cert) -> list[tuple[Packet, list[Packet]]]:
    """Returns the packets of keys, each with those of the signatures that follow it."""
    found: list[tuple[Packet, list[Packet]]] = []
    for packet in PacketPile.from_bytes(bytes(cert)):
        if packet.tag in (Tag.PublicKey, Tag.PublicSubkey):
            found.append((packet, []))
        elif packet.tag == Tag.Signature:
            found[-1][1].append(packet)
    return found


def _end_of(key: Packet, signatures: Sequence[Packet]) -> float | None:
    """Returns when a subkey ends by the latest of its bindings, which is the one that counts."""
    bindings = [one for one in signatures if one.signature_type == SignatureType.SubkeyBinding]
    latest = max(bindings, key=lambda one: _moment(one.signature_created) or 0.0, default=None)
    if latest is None or latest.key_validity_period is None or key.key_created is None:
        return None
    return _moment(key.key_created + latest.key_validity_period)


def _kind(packet: Packet) -> str:
    algorithm = packet.key_algorithm
    if algorithm in (PublicKeyAlgorithm.RSAEncryptSign, PublicKeyAlgorithm.RSASign):
        return RSA
    if algorithm == PublicKeyAlgorithm.Ed25519:
        return ED25519
    name = str(algorithm).rpartition(".")[2].lower()
    if algorithm not in (PublicKeyAlgorithm.ECDSA, PublicKeyAlgorithm.EdDSA):
        return name
    body = packet.body
    # Version, time and algorithm come before the curve, and the length of the key in the newer version: section 5.5.2.
    start = 10 if body[0] == VERSION_6 else 6
    curve = body[start + 1 : start + 1 + body[start]].hex()
    return CURVES.get(curve, f"{name}-{curve}")


def _read_mark(signature: Sig) -> Mark:
    if signature.signature_type != SignatureType.Binary:
        raise Refused("the signature is not one of binary data")
    created = _moment(signature.created)
    issuer = signature.issuer_fingerprint or signature.issuer_key_id
    if created is None or issuer is None:
        raise Refused("the signature does not say when or by whom")
    hash_name = str(signature.hash_algorithm).rpartition(".")[2].lower()
    return Mark(signature, issuer, hash_name, created, _moment(signature.expiration))


def _moment(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _earliest(*moments: float | None) -> float | None:
    return min((moment for moment in moments if moment is not None), default=None)
