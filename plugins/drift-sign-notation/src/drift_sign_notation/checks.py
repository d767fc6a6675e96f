"""What a policy may enforce, log or skip: each check of a signature that is whole, but perhaps not to be believed."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from drift_core.api import Struct
from drift_sign_notation.certificates import subject_of, validity
from drift_sign_notation.envelope import Envelope
from drift_sign_notation.policies import Check, Policy
from drift_sign_notation.refusal import Refused
from drift_sign_notation.revocation import Revoked, check_revocation
from drift_sign_notation.trust import vouching


class Case(Struct, frozen=True):
    """What the checks are made of."""

    envelope: Envelope
    policy: Policy
    revoked: Revoked
    now: datetime


def _authenticity(case: Case) -> None:
    names, _ = vouching(case.envelope.chain, case.policy.stores)
    if not names:
        raise Refused("no certificate of the chain is trusted")
    if case.policy.identities is not None:
        case.policy.identities.check(subject_of(case.envelope.chain[0]))


def _expiry(case: Case) -> float | None:
    expires_at = case.envelope.attributes.expires_at
    if expires_at is not None and case.now.timestamp() >= expires_at:
        raise Refused("the signature has expired")
    return expires_at


def _authentic_timestamp(case: Case) -> float:
    # Without a countersignature of an authority nothing proves that a certificate was valid when it signed.
    begins, ends = validity(case.envelope.chain)
    if case.now < begins:
        raise Refused("a certificate of the chain is not valid yet", begins.timestamp())
    if case.now > ends:
        raise Refused("a certificate of the chain has expired")
    return ends.timestamp()


def _revocation(case: Case) -> float | None:
    lists = [one for store in case.policy.stores for one in store.lists]
    next_update = check_revocation(case.envelope.chain, case.revoked, lists, case.now)
    return None if next_update is None else next_update.timestamp()


CHECKS: Final[Mapping[Check, Callable[[Case], float | None]]] = {
    "authenticity": _authenticity,
    "expiry": _expiry,
    "authenticTimestamp": _authentic_timestamp,
    "revocation": _revocation,
}
"""The checks in the order of the specification.

Each raises `Refused`, or returns until when it would not, in seconds since the epoch, None for ever.
"""
