"""Trust policies are read as the notation client reads them, and what it refuses is refused at the start."""

import json
from pathlib import Path
from typing import Any

import pytest
from drift_sign_notation.config import NotationConfig, SigningConfig
from msgspec.structs import replace

from drift_core.api import Judgement, StartError, TrustStore, VerificationKey

from .artifacts import judged, jws_of
from .authorities import DAY, NOW, Certified

ROOT = Certified.root()
SIGNER = ROOT.signer()
STRICT = {"level": "strict"}


def statement(**changes: Any) -> dict[str, Any]:
    return {
        "name": "one",
        "registryScopes": ["*"],
        "signatureVerification": STRICT,
        "trustStores": ["ca:default"],
        "trustedIdentities": ["*"],
    } | changes


class Site:
    """A configuration in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.roots = (ROOT.write_chain(folder / "root.pem"),)
        self.stranger = Certified.root().write_chain(folder / "stranger.pem")

    async def judge(self, *statements: dict[str, Any], repository: str = "team/app", **keys: Any) -> Judgement:
        content = json.dumps({"version": "1.0", "trustPolicies": statements})
        return await self.judge_by(content, repository, **keys)

    async def judge_by(self, content: str, repository: str = "team/app", **keys: Any) -> Judgement:
        path = self.folder / "trustpolicy.json"
        path.write_text(content)
        usual: dict[str, Any] = {
            "trust_stores": (TrustStore(name="default", root_certificate_paths=self.roots),),
            "registry_name": "registry.example:5000",
            "trust_policy": str(path),
        } | keys
        config = SigningConfig(notation=NotationConfig(trust_policy=usual.pop("trust_policy")), **usual)
        return await judged(config, jws_of(SIGNER), repository=repository)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_scopes(site: Site) -> None:
    exact = statement(name="exact", registryScopes=["registry.example:5000/team/app"])
    every = statement(name="every", signatureVerification={"level": "skip"}, trustStores=[], trustedIdentities=[])
    assert (await site.judge(exact, every)).good
    assert (await site.judge(every, exact)).good
    assert "skips" in (await site.judge(exact, every, repository="team/app2")).reason
    for other in ("team", "team/app/x", "app", "registry.example:5000/team/app", "*"):
        nobodys = await site.judge(exact, repository=other)
        assert (nobodys.good, nobodys.reason) == (False, "no trust policy is about this repository")


async def test_levels(site: Site) -> None:
    for level in ("strict", "permissive", "audit"):
        assert (await site.judge(statement(signatureVerification={"level": level}))).good
    foreign = (TrustStore(name="default", root_certificate_paths=(site.stranger,)),)
    for level, good in (("strict", False), ("permissive", False), ("audit", True)):
        found = await site.judge(statement(signatureVerification={"level": level}), trust_stores=foreign)
        assert found.good is good
        assert "no certificate of the chain is trusted" in (found.reason, *found.warnings)
    skipped = await site.judge(statement(signatureVerification={"level": "skip"}, trustStores=[], trustedIdentities=[]))
    assert (skipped.good, skipped.reason) == (False, "the trust policy skips verification")


async def test_overrides(site: Site) -> None:
    old = site.folder / "old.crl"
    old.write_bytes(ROOT.crl(ends=NOW))
    stale = TrustStore(name="default", root_certificate_paths=site.roots, crl_urls=(old.as_uri(),))
    for level, override, good, warnings in (
        ("strict", {}, False, 0),
        ("strict", {"revocation": "log"}, True, 1),
        ("strict", {"revocation": "skip"}, True, 0),
        ("permissive", {}, True, 1),
        ("permissive", {"revocation": "enforce"}, False, 0),
    ):
        verification = {"level": level, "override": override}
        judgement = await site.judge(statement(signatureVerification=verification), trust_stores=(stale,))
        assert (judgement.good, len(judgement.warnings)) == (good, warnings)


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        ([], "length >= 1"),
        ([statement(name="")], "length >= 1"),
        ([statement(), statement(registryScopes=["x/y"])], "two statements have the name"),
        ([statement(), statement(name="two")], "two statements are about"),
        ([statement(registryScopes=["a/b", "a/b"])], "two statements are about"),
        ([statement(registryScopes=[])], "length >= 1"),
        ([statement(registryScopes=["*", "a/b"])], "stands alone"),
        ([statement(signatureVerification={"level": "lax"})], "level"),
        ([statement(signatureVerification={})], "level"),
        ([statement(signatureVerification={"level": "skip"})], "level skip goes with no"),
        ([statement(signatureVerification=STRICT | {"override": {"integrity": "log"}})], "integrity"),
        ([statement(signatureVerification=STRICT | {"override": {"expiry": "skip"}})], "revocation alone"),
        ([statement(signatureVerification=STRICT | {"verifyTimestamp": "always"})], "verifyTimestamp"),
        ([statement(trustStores=[])], "no trust stores"),
        ([statement(trustStores=["default"])], "there is no trust store default"),
        ([statement(trustStores=["ca:other"])], "there is no trust store ca:other"),
        ([statement(trustStores=["signingAuthority:default"])], "there is no trust store signingAuthority:default"),
        ([statement(trustedIdentities=[])], "no trusted identities"),
        ([statement(trustedIdentities=["*", "x509.subject:C=US,ST=WA,O=a"])], "stands alone"),
        ([statement(trustedIdentities=["C=US,ST=WA,O=a"])], "begins with"),
        ([statement(trustedIdentities=["x509.subject:C=US,O=a"])], "C, ST and O at least"),
        ([statement(trustedIdentities=["x509.subject:C=US,ST=WA,O="])], "no empty attribute"),
        ([statement(trustedIdentities=["x509.subject:C=US,ST=WA,O=a,O=b"])], "an attribute twice"),
        ([statement(trustedIdentities=["x509.subject:C=US,ST=WA+L=x,O=a"])], "several at one place"),
        ([statement(trustedIdentities=["x509.subject:C=US,,ST=WA,O=a"])], "malformed"),
        ([statement(trustedIdentities=["x509.subject:C=US,ST=WA,O=a,"])], "malformed"),
        ([statement(trustedIdentities=["x509.subject:C=US,ST=WA,O=a,X=b"])], "unknown attribute"),
        ([statement(extra=1)], "extra"),
    ],
)
async def test_policies_that_are_wrong(site: Site, statements: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(StartError, match=r"/trustpolicy\.json: ") as wrong:
        await site.judge(*statements)
    assert reason in str(wrong.value)


async def test_files_that_are_wrong(site: Site) -> None:
    good = json.dumps({"version": "1.0", "trustPolicies": [statement()]})
    assert (await site.judge_by(good)).good
    for content in ("", "[]", good.replace("1.0", "1.1"), good[:-1], good.replace("{", '{"version":"1.0",', 1)):
        with pytest.raises(StartError, match=r"/trustpolicy\.json: "):
            await site.judge_by(content)
    with pytest.raises(StartError, match="nowhere"):
        await site.judge_by(good, trust_policy="/nowhere")


async def test_a_scope_needs_the_name_of_the_registry(site: Site) -> None:
    with pytest.raises(StartError, match="registry_name"):
        await site.judge(statement(registryScopes=["registry.example:5000/team/app"]), registry_name=None)
    assert (await site.judge(statement(), registry_name=None)).good


async def test_a_verification_key_is_a_trust_store(site: Site, tmp_path: Path) -> None:
    leaf = tmp_path / "leaf.pem"
    SIGNER.write_chain(leaf)
    key = VerificationKey(key_id="ci", public_key_path="/nowhere", certificate_path=str(leaf))
    by_key = statement(trustStores=["ca:ci"])
    for fit in (key, replace(key, algorithm="ecdsa-p256-sha256")):
        judgement = await site.judge(by_key, verification_keys=(fit,))
        assert (judgement.good, judgement.trust_stores) == (True, ("ci",))
    for other in (
        replace(key, trusted=False, public_key_path=str(leaf)),
        replace(key, certificate_path=None),
        replace(key, algorithm="ed25519"),
    ):
        with pytest.raises(StartError, match="there is no trust store ca:ci"):
            await site.judge(by_key, verification_keys=(other,))
    # It is that signer who is trusted, not whoever has a certificate of the same authority.
    ROOT.signer("other").write_chain(leaf)
    assert (await site.judge(by_key, verification_keys=(key,))).reason == "no certificate of the chain is trusted"


async def test_trust_stores_that_are_wrong(site: Site, tmp_path: Path) -> None:
    named = VerificationKey(key_id="default", public_key_path="/nowhere", certificate_path=site.stranger)
    with pytest.raises(StartError, match="two trust stores 'default'"):
        await site.judge(statement(), verification_keys=(named,))
    wrong_algorithm = replace(named, key_id="ci", algorithm="ecdsa-p384-sha384")
    with pytest.raises(StartError, match=f"^{site.stranger}: the key of the certificate is not for ecdsa-p384-sha384"):
        await site.judge(statement(), verification_keys=(wrong_algorithm,))
    leaf = SIGNER.write_chain(tmp_path / "leaf.pem")
    broken = tmp_path / "broken.pem"
    broken.write_text("x")
    for stores, reason in (
        (
            [TrustStore(name="default", root_certificate_paths=(leaf,))],
            f"{leaf}: a certificate is neither an authority's nor self-signed",
        ),
        ([TrustStore(name="default", root_certificate_paths=(str(broken),))], f"{broken}: a certificate is malformed"),
        ([TrustStore(name="default", root_certificate_paths=("/nowhere",))], "/nowhere: No such file"),
        ([TrustStore(name="default", root_certificate_paths=site.roots)] * 2, "two trust stores"),
    ):
        with pytest.raises(StartError) as wrong:
            await site.judge(statement(), trust_stores=tuple(stores))
        assert reason in str(wrong.value)


async def test_without_a_policy_every_store_is_trusted_strictly(site: Site) -> None:
    judgement = await site.judge_by("", trust_policy=None)
    assert (judgement.good, judgement.trust_stores) == (True, ("default",))
    assert (await site.judge_by("", trust_policy=None, trust_stores=())).good is False


async def test_a_root_that_has_expired_is_no_trust(tmp_path: Path) -> None:
    root = Certified.root(begins=NOW - 2 * DAY, ends=NOW - DAY)
    store = TrustStore(name="default", root_certificate_paths=(root.write_chain(tmp_path / "old.pem"),))
    judgement = await judged(SigningConfig(trust_stores=(store,)), jws_of(root.signer(begins=NOW - 2 * DAY)))
    assert (judgement.good, judgement.reason) == (False, "a certificate of the chain has expired")
