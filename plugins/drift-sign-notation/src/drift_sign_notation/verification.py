"""Judges one signature, in the order of the specification's "Signature Verification Details"."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from drift_core.api import Descriptor, Judgement, Signature, Struct
from drift_sign_notation import cose, jws, manifest, payload
from drift_sign_notation.algorithms import algorithm_of, verify
from drift_sign_notation.certificates import check_chain, check_path, public_key, subject_of, thumbprint, validity
from drift_sign_notation.checks import CHECKS, Case
from drift_sign_notation.envelope import Envelope
from drift_sign_notation.policies import Policies, Policy
from drift_sign_notation.refusal import Refused
from drift_sign_notation.revocation import Revoked
from drift_sign_notation.trust import vouching

READERS: Final[dict[str, Callable[[bytes], Envelope]]] = {
    jws.MEDIA_TYPE: jws.read,
    cose.MEDIA_TYPE: cose.read,
}

DIGITS: Final = 16
"""Of a thumbprint, so that authorities with one name are told apart: nobody finds another with the same ones."""


class Judge(Struct, frozen=True):
    """Judges signatures by trust policies; ``clock`` tells seconds since the epoch. Blocks while it works."""

    policies: Policies
    revoked: Revoked
    clock: Callable[[], float]

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
            proven = _proven(envelope, policy)
        except Refused as refusal:
            return [Judgement(good=False, reason=str(refusal))]
        return [_by_policy(Case(envelope, policy, self.revoked, now), proven)]


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


def _proven(envelope: Envelope, policy: Policy) -> Judgement:
    leaf = envelope.chain[0]
    store, authority = vouching(envelope.chain, policy.stores)
    # A bare semicolon is in no name of RFC 4514. What is trusted comes behind it, not the root: above a certificate
    # that is trusted a signer can put roots of its own, and would count as often as it liked.
    signer = f"certificate {subject_of(leaf).rfc4514_string()}; authority {thumbprint(authority)[:DIGITS]}"
    return Judgement(
        good=True,
        signer=signer,
        algorithm=algorithm_of(public_key(leaf)).name,
        trust_store=store,
        self_signed=len(envelope.chain) == 1,
        signed_at=envelope.attributes.signed_at,
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
                return replace(proven, good=False, reason=str(refusal), valid_until=refusal.until)
            warnings.append(str(refusal))
        else:
            until += [] if ends is None else [ends]
    return replace(proven, valid_until=min(until, default=None), warnings=tuple(warnings))
