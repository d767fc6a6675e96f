"""Referrers: what they list of which manifest, filters, pages, and the older scheme of a tag."""

from typing import Any

import pytest

from tests.oci.client import Query, Registry, refused
from tests.oci.content import (
    DOCKER_MANIFEST,
    EMPTY_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Document,
    image,
    index,
    unique_blob,
    unique_index,
    unknown_digest,
)

SBOM = "application/vnd.example.sbom.v1+json"
SIGNATURE = "application/vnd.example.signature"


@pytest.fixture
def subject(registry: Registry, repository: str) -> Document:
    """A manifest to refer to; `EMPTY_CONFIG` is in the repository."""
    registry.push_blob(repository, EMPTY_CONFIG)
    return registry.push(repository, unique_index())


def referrer(number: int, subject: Document | str, artifact_type: str | None = SBOM) -> Document:
    """Returns an image that refers to the subject and differs from those with other numbers."""
    return image(EMPTY_CONFIG, subject=subject, artifact_type=artifact_type, annotations={"number": str(number)})


def digests(descriptors: list[dict[str, Any]]) -> list[str]:
    return [descriptor["digest"] for descriptor in descriptors]


def test_nothing_refers(registry: Registry, repository: str, subject: Document) -> None:
    for name, digest in (
        (repository, subject.digest),
        (repository, unknown_digest()),
        (repository, unknown_digest("sha512")),
        (f"{repository}/never/pushed", unknown_digest()),
    ):
        answer = registry.get(f"/v2/{name}/referrers/{digest}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == OCI_INDEX
        assert answer.json() == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        assert "oci-filters-applied" not in answer.headers
        assert "link" not in answer.headers


@pytest.mark.parametrize(
    ("artifact_type", "config_type", "expected"),
    [(SBOM, SIGNATURE, SBOM), (None, SIGNATURE, SIGNATURE), ("", SIGNATURE, SIGNATURE)],
    ids=["artifactType", "config", "empty artifactType"],
)
def test_artifact_type_of_an_image(
    registry: Registry, repository: str, subject: Document, artifact_type: str | None, config_type: str, expected: str
) -> None:
    manifest = image(EMPTY_CONFIG, config_type=config_type, subject=subject, artifact_type=artifact_type)
    registry.push(repository, manifest)
    assert registry.referrers(repository, subject.digest) == [manifest.descriptor(artifactType=expected)]


def test_artifact_type_of_an_index(registry: Registry, repository: str, subject: Document) -> None:
    typed, untyped = index(subject=subject, artifact_type=SBOM), index(subject=subject)
    registry.push(repository, typed)
    registry.push(repository, untyped)
    expected = [typed.descriptor(artifactType=SBOM), untyped.descriptor()]
    found = registry.referrers(repository, subject.digest)
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_docker_image_with_subject(registry: Registry, repository: str, subject: Document) -> None:
    manifest = registry.push(repository, image(EMPTY_CONFIG, media_type=DOCKER_MANIFEST, subject=subject))
    (found,) = registry.referrers(repository, subject.digest)
    assert (found["digest"], found["mediaType"]) == (manifest.digest, DOCKER_MANIFEST)


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, OCI_INDEX])
def test_annotations(registry: Registry, repository: str, subject: Document, media_type: str) -> None:
    annotations = {"org.example.a": "1", "b": "\u00e4\u20ac", "": ""}
    if media_type == OCI_INDEX:
        manifest = index(subject=subject, annotations=annotations)
    else:
        manifest = image(EMPTY_CONFIG, subject=subject, annotations=annotations)
    registry.push(repository, manifest)
    (found,) = registry.referrers(repository, subject.digest)
    assert found["annotations"] == annotations
    assert found["mediaType"] == media_type
    assert found["size"] == manifest.size


def test_filter(registry: Registry, repository: str, subject: Document) -> None:
    sboms = sorted(registry.push(repository, referrer(number, subject, SBOM)).digest for number in range(3))
    signature = registry.push(repository, referrer(0, subject, SIGNATURE))
    registry.push(repository, index(subject=subject))
    for kind, expected in ((SBOM, sboms), (SIGNATURE, [signature.digest]), ("text/plain", []), (SBOM.upper(), [])):
        answer = registry.get(f"/v2/{repository}/referrers/{subject.digest}", {"artifactType": kind})
        assert answer.status_code == 200
        assert answer.headers["oci-filters-applied"] == "artifactType"
        assert digests(answer.json()["manifests"]) == expected
    assert len(registry.referrers(repository, subject.digest)) == 5


@pytest.mark.parametrize("kind", ["a/b+c", "a b", "a&n=1", "a%2Fb", "a/\u00e4", "'; DROP TABLE tags; --"])
def test_filter_by_odd_types(registry: Registry, repository: str, subject: Document, kind: str) -> None:
    manifest = registry.push(repository, referrer(0, subject, kind))
    registry.push(repository, referrer(1, subject, SBOM))
    assert digests(registry.referrers(repository, subject.digest, artifactType=kind)) == [manifest.digest]


@pytest.mark.parametrize("n", [1, 2, 7, 11, 12, 1000])
@pytest.mark.parametrize("kind", [None, SBOM])
def test_pages(registry: Registry, repository: str, subject: Document, n: int, kind: str | None) -> None:
    """Link leads through all of them, once each, and keeps the filter."""
    expected = [registry.push(repository, referrer(number, subject, SBOM)).digest for number in range(12)]
    signatures = [registry.push(repository, referrer(number, subject, SIGNATURE)).digest for number in range(4)]
    if kind is None:
        expected += signatures
    query: Query = {"n": n} | ({} if kind is None else {"artifactType": kind})
    pages = list(registry.pages(f"/v2/{repository}/referrers/{subject.digest}", query))
    found = [digests(page.json()["manifests"]) for page in pages]
    assert sorted(expected) == [digest for page in found for digest in page]
    assert {len(page) for page in found[:-1]} <= {n}
    for page in pages:
        assert page.headers["content-type"] == OCI_INDEX
        assert page.headers.get("oci-filters-applied") == (None if kind is None else "artifactType")


def test_page_is_no_larger_than_a_manifest_may_be(registry: Registry, repository: str, subject: Document) -> None:
    """The list is an index, of which a client reads as much as of any manifest; more needs a Link."""
    expected = [
        registry.push(repository, index(subject=subject, annotations={"n": str(number), "x": "x" * 1_000_000})).digest
        for number in range(6)
    ]
    pages = list(registry.pages(f"/v2/{repository}/referrers/{subject.digest}"))
    assert [digest for page in pages for digest in digests(page.json()["manifests"])] == sorted(expected)
    assert max(len(page.content) for page in pages) <= 4 << 20


def test_no_referrers_wanted(registry: Registry, repository: str, subject: Document) -> None:
    registry.push(repository, referrer(0, subject))
    answer = registry.get(f"/v2/{repository}/referrers/{subject.digest}", {"n": 0})
    assert answer.json()["manifests"] == []
    assert "link" not in answer.headers


def test_bad_last(registry: Registry, repository: str, subject: Document) -> None:
    path = f"/v2/{repository}/referrers/{subject.digest}"
    refused(registry.get(path, {"last": "x"}), 400, "DIGEST_INVALID")


@pytest.mark.parametrize(
    "digest", ["latest", "sha256:", "sha256:abc", "md5:" + "0" * 32, "sha256:" + "G" * 64, ":" + "0" * 64, "%00"]
)
def test_bad_digest(registry: Registry, repository: str, subject: Document, digest: str) -> None:
    refused(registry.get(f"/v2/{repository}/referrers/{digest}"), 400, "DIGEST_INVALID")
    refused(registry.get(f"/v2/{repository}/never/referrers/{digest}"), 400, "DIGEST_INVALID")
    assert registry.referrers(repository, subject.digest) == []


def test_subject_after_its_referrer(registry: Registry, repository: str) -> None:
    registry.push_blob(repository, EMPTY_CONFIG)
    late = unique_index()
    manifest = registry.push(repository, referrer(0, late))
    assert digests(registry.referrers(repository, late.digest)) == [manifest.digest]
    registry.push(repository, late)
    assert digests(registry.referrers(repository, late.digest)) == [manifest.digest]


def test_referrer_of_a_referrer(registry: Registry, repository: str, subject: Document) -> None:
    first = registry.push(repository, referrer(1, subject))
    second = registry.push(repository, referrer(2, first))
    assert digests(registry.referrers(repository, subject.digest)) == [first.digest]
    assert digests(registry.referrers(repository, first.digest)) == [second.digest]


def test_referrers_by_another_algorithm(registry: Registry, repository: str, subject: Document) -> None:
    """A subject is what it is called: by sha512 it is another one than by sha256."""
    long = unknown_digest("sha512")
    manifest = registry.push(repository, referrer(0, long))
    assert digests(registry.referrers(repository, long)) == [manifest.digest]
    assert registry.referrers(repository, subject.digest) == []


def test_tags_do_not_change_the_list(registry: Registry, repository: str, subject: Document) -> None:
    manifest = referrer(0, subject)
    registry.push(repository, manifest, "one", {"tag": ["two"]})
    registry.push(repository, manifest)
    assert digests(registry.referrers(repository, subject.digest)) == [manifest.digest]
    registry.delete(f"/v2/{repository}/manifests/one")
    assert digests(registry.referrers(repository, subject.digest)) == [manifest.digest]


def test_deleted_referrer_disappears(anywhere: Registry, repository: str, subject: Document) -> None:
    gone, kept = (anywhere.push(repository, referrer(number, subject)) for number in range(2))
    assert len(anywhere.referrers(repository, subject.digest)) == 2
    assert anywhere.delete(f"/v2/{repository}/manifests/{gone.digest}").status_code == 202
    for _ in range(4):
        assert digests(anywhere.referrers(repository, subject.digest)) == [kept.digest]


def test_deleted_subject_keeps_its_referrers(registry: Registry, repository: str, subject: Document) -> None:
    manifest = registry.push(repository, referrer(0, subject))
    assert registry.delete(f"/v2/{repository}/manifests/{subject.digest}").status_code == 202
    assert digests(registry.referrers(repository, subject.digest)) == [manifest.digest]


def test_referrers_of_another_repository_are_not_listed(
    registry: Registry, repository: str, subject: Document, other: str
) -> None:
    registry.push_blob(other, EMPTY_CONFIG)
    registry.push(other, referrer(0, subject))
    assert registry.referrers(repository, subject.digest) == []
    assert len(registry.referrers(other, subject.digest)) == 1


def test_children_listed_by_the_tag_scheme(registry: Registry, repository: str, subject: Document) -> None:
    """An older client keeps its own list under a tag; whatever it lists and has the subject is a referrer here."""
    children = [registry.push(repository, referrer(number, subject, SIGNATURE)) for number in range(3)]
    stranger = registry.push(repository, unique_index())
    tag = subject.digest.replace(":", "-")
    listing = index(*children, stranger)
    answer = registry.put_manifest(repository, listing, tag)
    assert answer.status_code == 201
    assert "oci-subject" not in answer.headers
    found = registry.referrers(repository, subject.digest)
    assert digests(found) == sorted(child.digest for child in children)
    assert {descriptor["artifactType"] for descriptor in found} == {SIGNATURE}
    assert registry.get(f"/v2/{repository}/manifests/{tag}").content == listing.content
    assert registry.delete(f"/v2/{repository}/manifests/{tag}").status_code == 202
    assert digests(registry.referrers(repository, subject.digest)) == sorted(child.digest for child in children)


def test_layer_named_as_subject(registry: Registry, repository: str) -> None:
    """A subject may be any digest."""
    registry.push_blob(repository, EMPTY_CONFIG)
    layer = registry.push_blob(repository, unique_blob())
    manifest = registry.push(repository, referrer(0, layer.digest))
    assert digests(registry.referrers(repository, layer.digest)) == [manifest.digest]
