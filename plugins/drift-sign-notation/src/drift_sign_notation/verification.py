"""Judges one signature, in the order of the specification's "Signature Verification Details"."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from drift_core.api import Descriptor, Judgement, Signature, Struct
from drift_sign_notation import cose, jws, manifest, payload
from drift_sign_notation.algorithms import algorithm_of, fingerprint, verify
from drift_sign_notation.certificates import check_chain, check_path, public_key, subject_of, thumbprint, validity
from drift_sign_notation.checks import CHECKS, Case
from drift_sign_notation.envelope import Envelope
from drift_sign_notation.policies import Policies, Policy
from drift_sign_notation.refusal import Refused
from drift_sign_notation.revocation import Revoked
from drift_sign_notation.trust import NOBODY, vouching

READERS: Final[dict[str, Callable[[bytes], Envelope]]] = {
    jws.MEDIA_TYPE: jws.read,
    cose.MEDIA_TYPE: cose.read,
}

DIGITS: Final = 16
"""Of a thumbprint, so that authorities with one name are told apart: nobody finds another with the same ones."""


class Judge(Struct, frozen=True):
    """Judges signatures by trust policies; ``clock`` tells seconds since the epoch. Blocks while it works.

    ``distrusted`` are the names of keys by their fingerprints: at no level is what they have signed good.
    """

    policies: Policies
    revoked: Revoked
    clock: Callable[[], float]
    distrusted: Mapping[str, str] = {}

    def judge(self, repository: str, subject: Descriptor, signature: Signature) -> Sequence[Judgement]:
        """See `Verifier.judge`; an artifact of this format has one signature. Media type and size count, too."""
        if not manifest.is_signature(signature.media_type, signature.manifest):
            return []
        policy = self.policies.find(repository)
        if policy is None:
            return [Judgement(good=False, reason="no trust policy is about this repository")]
        if policy.identities is None:
            return [Judgement(good=False, reason="the trust policy skips verification")]
        now = datetime.fromtimestamp(self.clock(), UTC)
        try:
            media_type, content = manifest.read(signature, subject)
            envelope = READERS[media_type](content)
            _check_integrity(envelope, subject, now)
            key = fingerprint(public_key(envelope.chain[0]))
            self._check_trusted(key)
            proven = _proven(envelope, policy, key)
        except Refused as refusal:
            return [Judgement(good=False, reason=refusal.reason)]
        return [_by_policy(Case(envelope, policy, self.revoked, now), proven)]

    def _check_trusted(self, key: str) -> None:
        if key in self.distrusted:
            raise Refused(f"the key {self.distrusted[key]} is not trusted")


def _check_integrity(envelope: Envelope, subject: Descriptor, now: datetime) -> None:
    check_chain(envelope.chain)
    begins, ends = validity(envelope.chain)
    if begins > ends:
        raise Refused("the certificates of the chain are never valid at the same time")
    # Whether they are valid now is another question, which some policies do not ask.
    check_path(envelope.chain, min(max(now, begins), ends))
    key = public_key(envelope.chain[0])
    algorithm = algorithm_of(key)
    # Of one format alone: no number is a name, and True is no algorithm.
    if envelope.algorithm != (algorithm.jws if envelope.format == "jws" else algorithm.cose):
        raise Refused("the algorithm is not the one that goes with the key of the certificate")
    verify(key, envelope.signature, envelope.signed)
    payload.check(envelope.payload, subject)


def _proven(envelope: Envelope, policy: Policy, key: str) -> Judgement:
    leaf = envelope.chain[0]
    algorithm, signed_at = algorithm_of(public_key(leaf)).name, envelope.attributes.signed_at
    stores, authority = vouching(envelope.chain, policy.stores)
    if authority is None:
        # Anybody can make such a certificate, with any subject of any length.
        return Judgement(good=True, algorithm=algorithm, signed_at=signed_at)
    # A bare semicolon is in no name of RFC 4514. What is trusted comes behind it, not the root: above a certificate
    # that is trusted a signer can put roots of its own, and would count as often as it liked.
    signer = f"certificate {subject_of(leaf).rfc4514_string()}; authority {thumbprint(authority)[:DIGITS]}"
    return Judgement(
        good=True,
        signer=signer,
        algorithm=algorithm,
        fingerprint=key,
        trust_stores=stores,
        self_signed=len(envelope.chain) == 1,
        signed_at=signed_at,
    )


def _by_policy(case: Case, proven: Judgement) -> Judgement:
    until: list[float] = []
    warnings: list[str] = []
    for name, check in CHECKS.items():
        action = case.policy.actions[name]
        if action == "skip":
            continue
        try:
            ends = check(case)
        except Refused as refusal:
            if action == "enforce":
                return replace(proven, good=False, reason=refusal.reason, valid_until=refusal.until)
            warnings.append(refusal.reason)
        else:
            until += [] if ends is None else [ends]
    # Not to be taken for a bare key, which has no trust stores and needs none.
    stores = proven.trust_stores or NOBODY
    return replace(proven, trust_stores=stores, valid_until=min(until, default=None), warnings=tuple(warnings))
