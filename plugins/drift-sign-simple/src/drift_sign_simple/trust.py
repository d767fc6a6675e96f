"""Who is trusted, and whether one of them has made a signature."""

from collections.abc import Sequence

from msgspec import Struct

from drift_core.api import Judgement, KeyInfo
from drift_sign_simple.message import SignedMessage
from drift_sign_simple.openpgp import Certificate, Key, Mark, algorithm_of, made_by, read_mark
from drift_sign_simple.refusal import Refused

SKEW = 60.0
"""Seconds that the clock of a signer may be ahead."""


class Trust(Struct, frozen=True):
    """The certificates of which the operator says whether they are trusted."""

    certificates: tuple[Certificate, ...] = ()

    def infos(self) -> Sequence[KeyInfo]:
        """Returns the keys that are trusted."""
        return [
            KeyInfo(name=one.key_id, kind="verification key", fingerprint=one.fingerprint, expires_at=one.expires_at)
            for one in self.certificates
            if one.trusted
        ]

    def prove(self, message: SignedMessage, now: float) -> Judgement:
        """Returns who has signed a message, whatever it says; ``now`` is in seconds since the epoch.

        Blocks for about 1 ms.

        Raises:
            Refused: nobody who is trusted has, or the certificate, the signature or the algorithm is not good.
        """
        mark = read_mark(message.signature)
        certificate, key = self._claimed(mark)
        # For what is expired or revoked the library says no more than that it is not valid.
        if certificate.cert.is_revoked or key.revoked:
            raise Refused(f"the key {certificate.key_id} is revoked")
        if key.expires_at is not None and key.expires_at <= now:
            raise Refused(f"the key {certificate.key_id} has expired")
        if mark.expires_at is not None and mark.expires_at <= now:
            raise Refused("the signature has expired")
        if mark.created > now + SKEW:
            raise Refused("the signature was made in the future", until=mark.created)
        algorithm = algorithm_of(key.kind, mark.hash_name)
        if made_by(certificate, mark, message) != key.fingerprint:
            raise Refused("the signature names another key than it is by")
        ends = [moment for moment in (key.expires_at, mark.expires_at) if moment is not None]
        return Judgement(
            good=True,
            signer=f"openpgp {certificate.fingerprint}",
            key_id=certificate.key_id,
            algorithm=algorithm,
            # That of the primary key, so that who signs by two subkeys is one signer.
            fingerprint=certificate.fingerprint,
            signed_at=mark.created,
            valid_until=min(ends, default=None),
        )

    def _claimed(self, mark: Mark) -> tuple[Certificate, Key]:
        """Returns the key that a signature claims to be by. Raises `Refused`."""
        if not self.certificates:
            raise Refused("no key is trusted")
        for certificate in self.certificates:
            for key in certificate.keys:
                if mark.is_by(key):
                    if not certificate.trusted:
                        raise Refused(f"the key {certificate.key_id} is not trusted")
                    return certificate, key
        raise Refused("no trusted key has made the signature")
