"""Whether the signatures of a manifest are enough: the policy of its repository, and what it says of each."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from drift_core.errors import ConfigError
from drift_core.model import Judgement
from drift_core.signing_tables import SigningPolicy, VerificationPolicy

HOUR = 3600.0
PATH = "signing.verification_policy"

CACHED = 4096
"""Repositories of which a worker remembers the policy."""


class Found(Struct, frozen=True, kw_only=True):
    """A signature that was found: in which artifact, of which format, and what its verifier says.

    ``pushed_at``, of the artifact, is in seconds since the epoch.
    """

    format: str
    artifact: str
    pushed_at: float
    judgement: Judgement


class Decision(Struct, frozen=True):
    """What a policy says of all signatures of a manifest.

    ``refusals`` has why each of ``found`` does not count, or None where it does. After ``until`` the decision may be
    another, in seconds since the epoch; None is never.
    """

    policy: SigningPolicy
    found: tuple[Found, ...]
    refusals: tuple[str | None, ...]
    signers: tuple[str, ...]
    until: float | None

    @property
    def enough(self) -> bool:
        """Says whether as many signers as the policy requires have signed."""
        return len(self.signers) >= self.policy.required_signatures_count

    @property
    def reason(self) -> str:
        """Why it is not enough, in one line; empty where it is."""
        if self.enough:
            return ""
        if not self.found:
            return "it has no signature"
        said = sorted({f"{one.format}: {why}" for one, why in zip(self.found, self.refusals, strict=True) if why})
        count = f"{len(self.signers)} of {self.policy.required_signatures_count} required signers"
        return f"{count}; {'; '.join(said[:SHOWN])}" if said else count


SHOWN = 5
"""Reasons that one line has."""


class Policies:
    """The policy of every repository. Raises `ConfigError` where one of ``[signing]`` cannot be read."""

    def __init__(self, table: VerificationPolicy) -> None:
        general = msgspec.to_builtins(table)
        del general["repositories"]
        self._general = msgspec.convert(general, SigningPolicy)
        self._own = [_own(number, general, entry) for number, entry in enumerate(table.repositories)]
        self.of = lru_cache(CACHED)(self._of)

    @property
    def ask(self) -> bool:
        """Says whether any repository requires signatures."""
        return bool(self.required())

    def required(self) -> list[SigningPolicy]:
        """Returns the policies by which signatures are required."""
        every = (self._general, *(policy for _, policy in self._own))
        return [policy for policy in every if policy.require_signatures]

    @property
    def exempt(self) -> bool:
        """Says whether any repository refuses pulls, but not to those who may push."""
        return any(policy.enforcement == "enforce" and policy.exempt_pushers for policy in self.required())

    def _of(self, repository: str) -> SigningPolicy:
        """Returns the policy of a repository."""
        return next((policy for match, policy in self._own if fnmatchcase(repository, match)), self._general)


def _own(number: int, general: Mapping[str, Any], entry: Mapping[str, Any]) -> tuple[str, SigningPolicy]:
    path = f"{PATH}.repositories[{number}]"
    match = entry.get("match")
    if not isinstance(match, str) or not match:
        raise ConfigError(f"{path}.match", "has to be a glob of repository names")
    said = {key: value for key, value in entry.items() if key != "match"}
    try:
        return match, msgspec.convert({**general, **said}, SigningPolicy)
    except msgspec.ValidationError as error:
        raise ConfigError(path, str(error)) from error


def decide(policy: SigningPolicy, found: Sequence[Found], now: float) -> Decision:
    """Returns what a policy says of signatures at ``now``, in seconds since the epoch."""
    refusals: list[str | None] = []
    counted: list[Judgement] = []
    until: list[float] = []
    for one in found:
        ends = _ends(policy, one)
        refusal = _refusal(policy, one, now, ends)
        refusals.append(refusal)
        if refusal is None:
            counted.append(one.judgement)
            until += [] if ends is None else [ends]
    return Decision(policy, tuple(found), tuple(refusals), _signers(counted), min(until, default=None))


def _signers(counted: Sequence[Judgement]) -> tuple[str, ...]:
    """Returns a name for each signer: signatures by one key, or of one name, are by one."""
    groups: list[set[str]] = []
    for said in counted:
        names = {f"signer {said.signer}", *([] if said.fingerprint is None else [f"key {said.fingerprint}"])}
        same = [group for group in groups if not group.isdisjoint(names)]
        groups = [group for group in groups if group.isdisjoint(names)] + [names.union(*same)]
    # Of the names of a group that is a signer sorts behind the key.
    return tuple(sorted(max(group).removeprefix("signer ") for group in groups))


def _ends(policy: SigningPolicy, one: Found) -> float | None:
    """Returns until when a signature counts: as long as it is good, and not too old."""
    hours = policy.max_signature_age_hours
    signed_at = one.pushed_at if one.judgement.signed_at is None else one.judgement.signed_at
    ends = (one.judgement.valid_until, None if hours == 0 else signed_at + hours * HOUR)
    return min((moment for moment in ends if moment is not None), default=None)


def _refusal(policy: SigningPolicy, one: Found, now: float, ends: float | None) -> str | None:  # noqa: PLR0911
    """Returns why a signature does not count."""
    said = one.judgement
    if not said.good:
        return said.reason or "it is not good"
    if said.signer is None:
        return "it is not known who has signed"
    if one.format not in policy.allowed_signature_formats:
        return f"the format {one.format} is not allowed"
    if said.algorithm not in policy.allowed_algorithms:
        return f"the algorithm {said.algorithm} is not allowed"
    if not said.trust_stores and policy.require_certificate_chain:
        return "a certificate is required, and it is signed by a bare key"
    if said.trust_stores and not set(said.trust_stores) & set(policy.trust_stores):
        return f"the trust store {', '.join(said.trust_stores)} is not one of this policy"
    if said.self_signed and not policy.allow_self_signed:
        return "the certificate is self-signed"
    names = [name for name in (said.key_id, said.signer) if name is not None]
    if policy.signers and not any(fnmatchcase(name, glob) for glob in policy.signers for name in names):
        return f"{names[0]} is not one of the signers of this policy"
    if ends is not None and ends <= now:
        return "it is too old, or not good any more"
    return None
