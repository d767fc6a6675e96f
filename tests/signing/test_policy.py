"""What a policy says of signatures: each reason for which one does not count, and how many signers there are."""

from typing import Any

import pytest

from drift_core.errors import ConfigError
from drift_core.model import Judgement
from drift_core.signing.policy import HOUR, Decision, Found, Policies, decide
from drift_core.signing_tables import SigningPolicy, VerificationPolicy

NOW = 1_800_000_000.0
GOOD = {"good": True, "signer": "key 1", "key_id": "release", "algorithm": "ecdsa-p256-sha256"}
CERTIFIED = {"signer": "identity ci", "key_id": None, "trust_stores": ("default",)}


def found(pushed_at: float = NOW, form: str = "cosign", **said: Any) -> Found:
    return Found(format=form, artifact="sha256:0", pushed_at=pushed_at, judgement=Judgement(**{**GOOD, **said}))


def decided(*every: Found, now: float = NOW, **policy: Any) -> Decision:
    return decide(SigningPolicy(**policy), every, now)


def test_one_good_signature_is_enough() -> None:
    decision = decided(found())
    assert (decision.enough, decision.reason, decision.refusals) == (True, "", (None,))


def test_none_is_not_enough() -> None:
    decision = decided()
    assert (decision.enough, decision.reason) == (False, "it has no signature")


@pytest.mark.parametrize(
    ("signature", "policy", "reason"),
    [
        (found(good=False, reason="the key is another"), {}, "the key is another"),
        (found(good=False), {}, "it is not good"),
        (found(signer=None), {}, "it is not known who has signed"),
        (found(form="in-toto"), {}, "the format in-toto is not allowed"),
        (found(algorithm="rsa-pkcs1-sha256"), {}, "the algorithm rsa-pkcs1-sha256 is not allowed"),
        (found(algorithm=None), {}, "the algorithm None is not allowed"),
        (
            found(),
            {"require_certificate_chain": True},
            "a certificate is required, and it is signed by a bare key",
        ),
        (
            found(**{**CERTIFIED, "trust_stores": ("acme", "other")}),
            {},
            "the trust store acme, other is not one of this policy",
        ),
        (found(**CERTIFIED, self_signed=True), {"allow_self_signed": False}, "the certificate is self-signed"),
        (found(), {"signers": ["nightly", "ci-*"]}, "release is not one of the signers of this policy"),
        (found(NOW - 721 * HOUR), {}, "it is too old, or not good any more"),
        (found(signed_at=NOW - 721 * HOUR), {}, "it is too old, or not good any more"),
        (found(valid_until=NOW), {"max_signature_age_hours": 0}, "it is too old, or not good any more"),
    ],
)
def test_what_does_not_count(signature: Found, policy: dict[str, Any], reason: str) -> None:
    decision = decided(signature, **policy)
    assert (decision.enough, decision.refusals) == (False, (reason,))
    assert decision.reason == f"0 of 1 required signers; {signature.format}: {reason}"


@pytest.mark.parametrize(
    ("signature", "policy"),
    [
        (found(**CERTIFIED), {"require_certificate_chain": True}),
        (found(**CERTIFIED, self_signed=True), {}),
        (found(**{**CERTIFIED, "trust_stores": ("acme", "prod")}), {"trust_stores": ["prod"]}),
        (found(), {"signers": ["rel*"]}),
        (found(**CERTIFIED), {"signers": ["identity *"]}),
        (found(NOW - 721 * HOUR), {"max_signature_age_hours": 0}),
        # What it says itself counts, not when somebody copied it here.
        (found(NOW - 721 * HOUR, signed_at=NOW - HOUR), {}),
    ],
)
def test_what_counts(signature: Found, policy: dict[str, Any]) -> None:
    assert decided(signature, **policy).enough


def test_signers_are_counted_not_signatures() -> None:
    twice = (found(), found(), found(form="notary-v2"))
    assert not decided(*twice, required_signatures_count=2).enough
    assert decided(*twice, found(signer="key 2"), required_signatures_count=2).enough
    assert not decided(*twice, found(signer="key 2", good=False), required_signatures_count=2).enough


def test_one_key_is_one_signer_by_whatever_name() -> None:
    bare, certified, renewed = (
        found(signer="key 1", fingerprint="f1"),
        found(**{**CERTIFIED, "fingerprint": "f1"}),
        found(**{**CERTIFIED, "fingerprint": "f2"}),
    )
    assert decided(bare, certified).signers == ("key 1",)
    # A person with another key is the same person, and thereby who has the first key.
    assert len(decided(bare, renewed).signers) == 2
    for every in ((bare, certified, renewed), (bare, renewed, certified)):
        assert len(decided(*every).signers) == 1
    assert len(decided(found(signer="key 3", fingerprint="f3"), bare, certified).signers) == 2


def test_it_ends_with_the_first_that_counts() -> None:
    every = (found(valid_until=NOW + 60), found(valid_until=NOW + 5, good=False), found(NOW - 719 * HOUR))
    assert decided(*every).until == NOW + 60
    assert decided(found(), max_signature_age_hours=0).until is None


def test_repositories_have_their_own() -> None:
    table = VerificationPolicy(
        required_signatures_count=2,
        repositories=(
            {"match": "prod/*", "require_signatures": True},
            {"match": "*", "enforcement": "warn", "required_signatures_count": 3},
        ),
    )
    policies = Policies(table)
    assert policies.ask
    prod, others = policies.of("prod/app"), policies.of("team/app")
    assert (prod.require_signatures, prod.required_signatures_count, prod.enforcement) == (True, 2, "enforce")
    assert (others.require_signatures, others.required_signatures_count, others.enforcement) == (False, 3, "warn")


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({}, "signing.verification_policy.repositories[0].match"),
        ({"match": 1}, "signing.verification_policy.repositories[0].match"),
        ({"match": "*", "require_signature": True}, "signing.verification_policy.repositories[0]"),
        ({"match": "*", "required_signatures_count": 0}, "signing.verification_policy.repositories[0]"),
        ({"match": "*", "repositories": []}, "signing.verification_policy.repositories[0]"),
    ],
)
def test_an_entry_that_cannot_be_read(entry: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Policies(VerificationPolicy(repositories=(entry,)))
    assert str(refused.value).startswith(path)
