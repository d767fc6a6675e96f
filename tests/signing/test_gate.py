"""What a policy wants signed is given to nobody who may only pull before it is; everything else is as ever."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from drift_core.signing.gate import stands_beside
from tests.faults.inspection import eventually
from tests.oci.client import Registry, refused
from tests.oci.content import EMPTY_CONFIG, OCI_MANIFEST, Document, image, index, unique_blob
from tests.signing.place import ENFORCED, Place, always, pulled, push_image, sign, verify

POLICY = {
    **ENFORCED,
    "repositories": [
        {"match": "free/*", "require_signatures": False},
        {"match": "warned/*", "enforcement": "warn"},
        {"match": "twice/*", "required_signatures_count": 2},
        {"match": "alone/*", "cover_children": False},
        {"match": "all/*", "exempt_pushers": False},
    ],
}
SBOM = "application/spdx+json"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("gate"), POLICY) as place:
        yield place


@pytest.fixture(scope="module")
def root(place: Place) -> Iterator[Registry]:
    with place.client("root") as client:
        yield client


@pytest.fixture(scope="module")
def ann(place: Place) -> Iterator[Registry]:
    with place.client("ann") as client:
        yield client


@pytest.fixture(scope="module")
def bob(place: Place) -> Iterator[Registry]:
    with place.client("bob") as client:
        yield client


def about(manifest: Document, end: str = ".sig") -> str:
    return manifest.digest.replace(":", "-") + end


def test_unsigned_is_refused_and_signed_is_given(root: Registry, ann: Registry, bob: Registry) -> None:
    manifest = push_image(ann, "team/app", "one")
    detail = refused(bob.get("/v2/team/app/manifests/one"), 403, "DENIED")
    assert detail["reason"].endswith("it has no signature")
    assert (detail["digest"], detail["plugin"]) == (manifest.digest, "signing")
    assert (pulled(bob, "team/app", "one"), pulled(bob, "team/app", manifest.digest)) == (403, 403)
    sign(root, "team/app", manifest.digest)
    assert (pulled(bob, "team/app", "one"), pulled(bob, "team/app", manifest.digest)) == (200, 200)


def test_whoever_may_push_may_pull_what_is_to_be_signed(ann: Registry, bob: Registry) -> None:
    push_image(ann, "team/app", "two")
    assert (pulled(ann, "team/app", "two"), pulled(bob, "team/app", "two")) == (200, 403)
    push_image(ann, "all/app", "two")
    assert pulled(ann, "all/app", "two") == 403


def test_signatures_and_referrers_are_given(root: Registry, ann: Registry, bob: Registry) -> None:
    manifest = push_image(ann, "beside/app", "one")
    sign(root, "beside/app", "one", key_id="other")
    bill = ann.push_blob("beside/app", unique_blob())
    ann.push_blob("beside/app", EMPTY_CONFIG)
    sbom = ann.push(
        "beside/app",
        image(
            EMPTY_CONFIG, bill, config_type="application/vnd.oci.empty.v1+json", subject=manifest, artifact_type=SBOM
        ),
    )
    # Its layer is none of an image, whatever its type says by default.
    assert pulled(bob, "beside/app", sbom.digest) == 403
    fields = json.loads(sbom.content)
    fields["layers"][0]["mediaType"] = SBOM
    sbom = ann.push("beside/app", Document(json.dumps(fields).encode(), sbom.media_type))
    found = {one["digest"]: one for one in bob.referrers("beside/app", manifest.digest)}
    (bundle,) = (digest for digest, one in found.items() if "sigstore" in one["artifactType"])
    for digest in (bundle, sbom.digest):
        assert pulled(bob, "beside/app", digest) == 200
        (layer,) = bob.get(f"/v2/beside/app/manifests/{digest}").json()["layers"]
        assert bob.get(f"/v2/beside/app/blobs/{layer['digest']}").status_code == 200
    assert pulled(bob, "beside/app", about(manifest)) == 200
    digest = bob.head(f"/v2/beside/app/manifests/{about(manifest)}").headers["docker-content-digest"]
    assert pulled(bob, "beside/app", digest) == 200


def test_what_only_says_that_it_is_a_referrer(root: Registry, ann: Registry, bob: Registry) -> None:
    """Whoever could set a subject, or a layer's type, would otherwise have anything pulled by its tag or digest."""
    signed = push_image(ann, "cheat/app", "signed")
    sign(root, "cheat/app", "signed")
    disguised = push_image(ann, "cheat/app", "latest", subject=signed)
    assert (pulled(bob, "cheat/app", "latest"), pulled(bob, "cheat/app", disguised.digest)) == (403, 403)
    listing = ann.push("cheat/app", index(disguised, subject=signed), "index")
    assert (pulled(bob, "cheat/app", "index"), pulled(bob, "cheat/app", listing.digest)) == (403, 403)
    fields = json.loads(disguised.content)
    layer = {**fields["layers"][0], "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json"}
    fields["layers"].append(layer)
    both = ann.push("cheat/app", Document(json.dumps(fields).encode(), disguised.media_type), "both")
    assert (pulled(bob, "cheat/app", "both"), pulled(bob, "cheat/app", both.digest)) == (403, 403)
    assert pulled(bob, "cheat/app", "signed") == 200


EMPTY = "application/vnd.oci.empty.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"mediaType": "application/octet-stream"}},
        {"layers": {"mediaType": "application/vnd.OCI.image.layer.v1.tar"}},
        {"config": {"mediaType": EMPTY}},
        {"config": {"mediaType": EMPTY}, "artifactType": BUNDLE},
        {"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json"}, "artifactType": BUNDLE},
        {"config": {"mediaType": EMPTY}, "layers": {"mediaType": BUNDLE, "MediaType": "application/x-tar"}},
        {"config": {"mediaType": EMPTY, "mediatype": "x"}, "layers": {"mediaType": BUNDLE}},
        {"config": {"mediaType": EMPTY}, "layers": {"mediaType": BUNDLE}, "Layers": []},
        {"config": {"mediaType": EMPTY}, "layers": {"mediaType": BUNDLE}, "CONFIG": {}},
    ],
    ids=repr,
)
def test_what_clients_would_run_all_the_same(ann: Registry, bob: Registry, change: dict[str, Any]) -> None:
    """Clients read members but for their case, and take any layer for one of an image."""
    signed = push_image(ann, "disguise/app", "signed")
    fields = json.loads(push_image(ann, "disguise/app", subject=signed).content)
    for name, value in change.items():
        if name == "layers":
            fields["layers"][0] |= value
        elif name == "config":
            fields["config"] |= value
        else:
            fields[name] = value
    pushed = ann.push("disguise/app", Document(json.dumps(fields).encode(), signed.media_type))
    assert pulled(bob, "disguise/app", pushed.digest) == 403


def test_a_format_says_what_its_signatures_look_like() -> None:
    """Also one that the core has never heard of."""
    layer = unique_blob()
    fields = json.loads(image(EMPTY_CONFIG, layer, config_type=EMPTY).content)
    fields["layers"][0]["mediaType"] = "application/vnd.acme.signature"
    content = json.dumps(fields).encode()
    assert stands_beside(OCI_MANIFEST, content, ["application/vnd.acme.signature"])
    assert not stands_beside(OCI_MANIFEST, content, ["application/vnd.other.signature"])
    fields["layers"].append({**fields["layers"][0], "mediaType": "application/x-tar"})
    assert not stands_beside(OCI_MANIFEST, json.dumps(fields).encode(), ["application/vnd.acme.signature"])


def test_a_tag_that_only_looks_like_one_of_signatures(ann: Registry, bob: Registry) -> None:
    tag = f"sha256-{'c' * 64}.sig"
    image = push_image(ann, "named/app", tag)
    assert (pulled(bob, "named/app", tag), pulled(bob, "named/app", image.digest)) == (403, 403)
    listing = ann.push("named/app", index(image), f"sha256-{'c' * 64}")
    # The list of referrers is read by clients; what it lists is asked for by itself.
    assert (pulled(bob, "named/app", f"sha256-{'c' * 64}"), pulled(bob, "named/app", listing.digest)) == (200, 403)
    assert pulled(bob, "named/app", image.digest) == 403


def test_a_signature_among_many_referrers(root: Registry, ann: Registry, bob: Registry) -> None:
    manifest = push_image(ann, "many/referrers", "one")
    made = sign(root, "many/referrers", "one")
    # Without the tag that is found whatever there is.
    (tagged,) = (one["digest"] for one in made if one["tag"] is not None)
    assert root.delete(f"/v2/many/referrers/manifests/{tagged}").status_code == 202
    ann.push_blob("many/referrers", EMPTY_CONFIG)
    for number in range(130):
        fields = json.loads(image(EMPTY_CONFIG, config_type=EMPTY, subject=manifest).content)
        fields |= {"artifactType": SBOM, "annotations": {"number": str(number)}}
        ann.push("many/referrers", Document(json.dumps(fields).encode(), manifest.media_type))
    assert pulled(bob, "many/referrers", "one") == 200
    assert len(verify(root, "many/referrers", "one")["signatures"]) == 1


def test_newer_indexes_take_nothing_away(root: Registry, ann: Registry, bob: Registry) -> None:
    child = push_image(ann, "nightly/app")
    ann.push("nightly/app", index(child), "latest")
    sign(root, "nightly/app", "latest")
    for number in range(12):
        ann.push("nightly/app", index(child, annotations={"night": str(number)}), f"night-{number}")
    assert (pulled(bob, "nightly/app", "latest"), pulled(bob, "nightly/app", child.digest)) == (200, 200)


def test_an_index_covers_what_it_lists(root: Registry, ann: Registry, bob: Registry) -> None:
    for repository, child in (("many/app", 200), ("alone/app", 403)):
        one, two = push_image(ann, repository), push_image(ann, repository)
        ann.push(repository, index(one, two), "latest")
        assert pulled(bob, repository, one.digest) == 403
        sign(root, repository, "latest")
        assert pulled(bob, repository, "latest") == 200
        assert (pulled(bob, repository, one.digest), pulled(bob, repository, two.digest)) == (child, child)
        # It is the index that is signed, all the same.
        assert not verify(root, repository, one.digest)["verified"]


def test_policies_of_repositories(root: Registry, ann: Registry, bob: Registry, place: Place) -> None:
    for repository, status in (("free/app", 200), ("warned/app", 200), ("twice/app", 403)):
        push_image(ann, repository, "one")
        assert pulled(bob, repository, "one") == status
    assert "is not signed as it should be" in place.server.log.read_text()
    sign(root, "twice/app", "one")
    assert pulled(bob, "twice/app", "one") == 403
    sign(root, "twice/app", "one", key_id="other")
    assert pulled(bob, "twice/app", "one") == 200


def test_a_signature_that_is_deleted_counts_no_more(root: Registry, ann: Registry, bob: Registry) -> None:
    manifest = push_image(ann, "gone/app", "one")
    made = sign(root, "gone/app", "one")
    assert pulled(bob, "gone/app", "one") == 200
    for one in made:
        assert root.delete(f"/v2/gone/app/manifests/{one['digest']}").status_code == 202
    assert pulled(bob, "gone/app", "one") == 403
    assert verify(root, "gone/app", manifest.digest)["signatures"] == []


def test_a_signature_of_another_repository_or_image(root: Registry, ann: Registry, bob: Registry) -> None:
    """A signature is good for the image that it is about, where that was signed."""
    manifest = push_image(ann, "from/app", "one")
    (legacy, bundle) = sign(root, "from/app", "one")
    for repository in ("to/app", "from/app"):
        other = push_image(ann, repository, "other")
        for reference, tag in ((legacy["digest"], about(other)), (bundle["digest"], None)):
            signature = root.get(f"/v2/from/app/manifests/{reference}")
            for layer in (signature.json()["config"], *signature.json()["layers"]):
                ann.post(f"/v2/{repository}/blobs/uploads/?mount={layer['digest']}&from=from/app")
            content = Document(signature.content, signature.headers["content-type"])
            assert ann.put_manifest(repository, content, tag).status_code == 201
        assert pulled(bob, repository, "other") == 403
    assert pulled(bob, "from/app", manifest.digest) == 200
    reasons = {one["errors"][0] for one in verify(root, "from/app", "other")["signatures"]}
    assert reasons == {"another digest was signed"}


def test_trust_is_taken_away_and_given_back(root: Registry, ann: Registry, bob: Registry, place: Place) -> None:
    push_image(ann, "rotated/app", "one")
    sign(root, "rotated/app", "one")
    assert pulled(bob, "rotated/app", "one") == 200
    place.trust("default", "stranger")
    try:
        eventually(lambda: always(bob, "rotated/app", "one", 403), "a pull that answers 403")
        reasons = {one["errors"][0] for one in verify(root, "rotated/app", "one")["signatures"]}
        assert reasons == {"no trusted key has made the signature"}

        def signed() -> bool:
            sign(root, "rotated/app", "one")
            return always(bob, "rotated/app", "one", 200)

        # The key that signs is the new one, too, as soon as the worker has looked at it.
        eventually(signed, "a signature by the new key")
        public = place.folder / "default.pub"
        whole = public.read_bytes()
        public.write_bytes(whole[:40])
        with httpx.Client(base_url=place.server.url, auth=("bob", "bob-password")) as plain:
            path, close = "/v2/rotated/app/manifests/one", {"connection": "close"}

            def statuses() -> set[int]:
                return {plain.get(path, headers=close).status_code for _ in range(16)}

            eventually(lambda: statuses() == {503}, "pulls that answer 503")
            error = plain.get(path).json()["errors"][0]
            assert (error["code"], str(public) in error["detail"]["reason"]) == ("UNAVAILABLE", True)
            assert pulled(ann, "free/app", "one") == 200
            public.write_bytes(whole)
            eventually(lambda: statuses() == {200}, "pulls that answer 200")
    finally:
        place.trust("default", "default")
    eventually(lambda: verify(root, "rotated/app", "one")["signers"] != [], "that it is trusted again")


def test_it_becomes_too_old(tmp_path: Path) -> None:
    policy = {**ENFORCED, "max_signature_age_hours": 4 / 3600}
    with Place(tmp_path, policy) as place, place.client("root") as root, place.client("bob") as bob:
        push_image(root, "team/app", "one")
        sign(root, "team/app", "one")
        assert pulled(bob, "team/app", "one") == 200
        eventually(lambda: always(bob, "team/app", "one", 403), "a pull that answers 403")
        assert [one["already"] for one in sign(root, "team/app", "one")] == [False, False]
        assert pulled(bob, "team/app", "one") == 200


def test_what_was_judged_is_shared_and_kept(tmp_path: Path) -> None:
    with Place(tmp_path, ENFORCED) as place:
        with place.client("root") as root, place.client("bob") as bob:
            manifest = push_image(root, "team/app", "one")
            sign(root, "team/app", "one")
            for _ in range(5):
                assert pulled(bob, "team/app", "one") == 200
        with sqlite3.connect(tmp_path / "data/drift.db") as database:
            rows = database.execute("SELECT subject, trust, found FROM judgements").fetchall()
        assert [subject for subject, _, _ in rows] == [manifest.digest] * 2
        assert all(b'"good":true' in content for _, _, content in rows)
        place.server.stop()
        # Nobody looks at a signature again that was judged while the same was trusted.
        with sqlite3.connect(tmp_path / "data/drift.db") as database:
            database.execute("UPDATE judgements SET found = replace(found, '\"good\":true', '\"good\":false')")
        place.server.start()
        with place.client("bob") as bob:
            assert pulled(bob, "team/app", "one") == 403
        place.trust("other", "stranger")
        with place.client("bob") as bob:
            eventually(lambda: always(bob, "team/app", "one", 200), "a pull that answers 200")


@pytest.mark.parametrize(
    ("policy", "tables", "path"),
    [
        ({"require_signatures": True}, {"signing": {"enabled": False}}, "require_signatures"),
        ({"require_signatures": True}, {"auth": {"mode": "none"}, "rbac": {}}, "exempt_pushers"),
        ({"require_signatures": "yes"}, {}, "require_signatures"),
        ({"allowed_algorithms": ["md5"]}, {}, "allowed_algorithms"),
        ({"require_signatures": True, "allowed_signature_formats": ["cosing"]}, {}, "allowed_signature_formats"),
        ({"require_signatures": True, "allowed_signature_formats": []}, {}, "allowed_signature_formats"),
        ({"require_signatures": True, "trust_stores": ["typo"]}, {}, "trust_stores"),
        ({"require_signatures": True}, {"signing": {"signature_formats": []}}, "allowed_signature_formats"),
    ],
)
def test_a_policy_that_refuses_nothing_is_no_policy(
    tmp_path: Path, policy: dict[str, object], tables: dict[str, object], path: str
) -> None:
    place = Place(tmp_path, policy, **tables)
    with pytest.raises(RuntimeError, match=f"signing.verification_policy.{path}"):
        place.start()
