"""Manifests: what is accepted and comes back byte for byte, what is refused and why, tags, deletion, immutability."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from tests.oci.client import Query, Registry, location_of, refused
from tests.oci.conftest import MAX_MANIFEST
from tests.oci.content import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    EMPTY_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Blob,
    Document,
    digest_of,
    document,
    image,
    image_fields,
    index,
    unique_blob,
    unique_index,
    unknown_digest,
)
from tests.oci.wire import Wire, is_over
from tests.server import Server

Fields = dict[str, Any]

IMAGE_OR_INDEX = [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST]


@pytest.fixture
def layer(registry: Registry, repository: str) -> Blob:
    """A layer that is in the repository; so is `EMPTY_CONFIG`."""
    registry.push_blob(repository, EMPTY_CONFIG)
    return registry.push_blob(repository, unique_blob())


def of_type(registry: Registry, repository: str, layer: Blob, media_type: str) -> Document:
    """Returns a manifest of a media type whose content is in the repository."""
    if media_type in {OCI_MANIFEST, DOCKER_MANIFEST}:
        return image(EMPTY_CONFIG, layer, media_type=media_type)
    child = OCI_MANIFEST if media_type == OCI_INDEX else DOCKER_MANIFEST
    return index(registry.push(repository, image(EMPTY_CONFIG, layer, media_type=child)), media_type=media_type)


def is_absent(registry: Registry, repository: str, *references: str) -> None:
    """Asserts that none of the references names a manifest."""
    for reference in references:
        assert registry.head(f"/v2/{repository}/manifests/{reference}").status_code == 404
        refused(registry.get(f"/v2/{repository}/manifests/{reference}"), 404, "MANIFEST_UNKNOWN")


# What is accepted.


@pytest.mark.parametrize("media_type", IMAGE_OR_INDEX)
def test_push_by_tag(registry: Registry, repository: str, layer: Blob, media_type: str) -> None:
    manifest = of_type(registry, repository, layer, media_type)
    answer = registry.put_manifest(repository, manifest, "latest")
    assert answer.status_code == 201
    assert answer.headers["docker-content-digest"] == manifest.digest
    assert answer.headers["etag"] == f'"{manifest.digest}"'
    assert "oci-tag" not in answer.headers
    assert "oci-subject" not in answer.headers
    for path in (
        location_of(answer),
        f"/v2/{repository}/manifests/latest",
        f"/v2/{repository}/manifests/{manifest.digest}",
    ):
        pulled = registry.get(path)
        assert pulled.content == manifest.content
        assert pulled.headers["content-type"] == media_type
        assert pulled.headers["content-length"] == str(manifest.size)
        assert pulled.headers["docker-content-digest"] == manifest.digest
        head = registry.head(path)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-type", "content-length", "docker-content-digest", "etag"):
            assert head.headers[name] == pulled.headers[name]


@pytest.mark.parametrize("media_type", IMAGE_OR_INDEX)
@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_push_by_digest(registry: Registry, repository: str, layer: Blob, media_type: str, algorithm: str) -> None:
    manifest = of_type(registry, repository, layer, media_type)
    digest = digest_of(manifest.content, algorithm)
    answer = registry.put_manifest(repository, manifest, digest)
    assert answer.status_code == 201
    assert answer.headers["docker-content-digest"] == digest
    assert location_of(answer) == f"/v2/{repository}/manifests/{digest}"
    pulled = registry.get(f"/v2/{repository}/manifests/{digest}")
    assert pulled.content == manifest.content
    assert pulled.headers["docker-content-digest"] == digest
    assert registry.tags(repository) == []


def test_two_digests_of_one_content_are_two_manifests(registry: Registry, repository: str) -> None:
    manifest = unique_index()
    long = digest_of(manifest.content, "sha512")
    registry.push(repository, manifest, long)
    is_absent(registry, repository, manifest.digest)
    registry.push(repository, manifest)
    assert registry.delete(f"/v2/{repository}/manifests/{long}").status_code == 202
    is_absent(registry, repository, long)
    assert registry.get(f"/v2/{repository}/manifests/{manifest.digest}").status_code == 200


def test_tag_with_a_digest_parameter(registry: Registry, repository: str) -> None:
    """The parameter says by which algorithm the manifest behind the tag is known."""
    manifest = unique_index()
    digest = digest_of(manifest.content, "sha512")
    answer = registry.put_manifest(repository, manifest, "latest", {"digest": digest})
    assert answer.status_code == 201
    assert answer.headers["docker-content-digest"] == digest
    assert registry.head(f"/v2/{repository}/manifests/latest").headers["docker-content-digest"] == digest
    assert registry.get(f"/v2/{repository}/manifests/{digest}").content == manifest.content


def test_digest_parameter_that_is_wrong(registry: Registry, repository: str) -> None:
    manifest, wrong = unique_index(), unknown_digest()
    detail = refused(registry.put_manifest(repository, manifest, "latest", {"digest": wrong}), 400, "DIGEST_INVALID")
    assert detail == {"digest": wrong, "computed": manifest.digest}
    refused(registry.put_manifest(repository, manifest, "latest", {"digest": "sha256:x"}), 400, "DIGEST_INVALID")
    answer = registry.put_manifest(repository, manifest, manifest.digest, {"digest": wrong})
    assert refused(answer, 400, "DIGEST_INVALID") == {"path": manifest.digest, "parameter": wrong}
    is_absent(registry, repository, "latest", manifest.digest, wrong)


def test_digest_in_the_path_that_is_wrong(registry: Registry, repository: str) -> None:
    manifest, wrong = unique_index(), unknown_digest("sha512")
    detail = refused(registry.put_manifest(repository, manifest, wrong), 400, "DIGEST_INVALID")
    assert detail == {"digest": wrong, "computed": digest_of(manifest.content, "sha512")}
    is_absent(registry, repository, manifest.digest, wrong)


@pytest.mark.parametrize("by_tag", [True, False], ids=["with a tag", "with a digest"])
@pytest.mark.parametrize("count", [1, 10, 50])
def test_tag_parameters(registry: Registry, repository: str, count: int, by_tag: bool) -> None:
    manifest = unique_index()
    more = [f"{number}.0" for number in range(count - by_tag)]
    tags = ["in-path", *more] if by_tag else more
    answer = registry.put_manifest(repository, manifest, "in-path" if by_tag else None, {"tag": more})
    assert answer.status_code == 201
    if more:
        assert answer.headers["oci-tag"].split(", ") == tags
    assert registry.tags(repository) == sorted(tags)
    for tag in tags:
        assert registry.head(f"/v2/{repository}/manifests/{tag}").headers["docker-content-digest"] == manifest.digest


def test_tags_of_the_longest_form(registry: Registry, repository: str) -> None:
    manifest = unique_index()
    tags = [f"{number:02}" + "x" * 126 for number in range(50)]
    answer = registry.put_manifest(repository, manifest, None, {"tag": tags})
    assert answer.status_code == 201
    assert answer.headers["oci-tag"].split(", ") == tags
    assert registry.tags(repository) == tags


def test_same_tag_twice_in_one_push(registry: Registry, repository: str) -> None:
    answer = registry.put_manifest(repository, unique_index(), "a", {"tag": ["a", "b", "b"]})
    assert answer.status_code == 201
    assert registry.tags(repository) == ["a", "b"]


@pytest.mark.parametrize("count", [51, 101, 250, 1500])
def test_too_many_tags(registry: Registry, repository: str, count: int) -> None:
    manifest = unique_index()
    query: Query = {"tag": [f"t{number}" for number in range(count)]}
    refused(registry.put_manifest(repository, manifest, None, query), 414, "UNSUPPORTED")
    is_absent(registry, repository, manifest.digest, "t0")


def test_bad_tag_parameter_stores_nothing(registry: Registry, repository: str) -> None:
    manifest = unique_index()
    for bad in ("", "-a", "a/b", "ä", "x" * 129):
        answer = registry.put_manifest(repository, manifest, None, {"tag": ["good", bad]})
        assert refused(answer, 400, "MANIFEST_INVALID")["tag"] == bad
    is_absent(registry, repository, manifest.digest, "good")


@pytest.mark.parametrize("tag", ["a", "A", "_", "0", "v1.2.3-rc_1", "x" * 128, "latest.", "list", "uploads"])
def test_tag_of_any_allowed_form(registry: Registry, repository: str, tag: str) -> None:
    manifest = registry.push(repository, unique_index(), tag)
    assert registry.get(f"/v2/{repository}/manifests/{tag}").content == manifest.content


def test_tags_differ_by_case(registry: Registry, repository: str) -> None:
    lower, upper = unique_index(), unique_index()
    registry.push(repository, lower, "tag")
    registry.push(repository, upper, "TAG")
    assert registry.get(f"/v2/{repository}/manifests/tag").content == lower.content
    assert registry.get(f"/v2/{repository}/manifests/TAG").content == upper.content


def test_subject_is_answered(registry: Registry, repository: str, layer: Blob) -> None:
    subject = registry.push(repository, image(EMPTY_CONFIG, layer))
    for referrer in (image(EMPTY_CONFIG, subject=subject), index(subject=subject)):
        for reference in (None, "by-tag"):
            answer = registry.put_manifest(repository, referrer, reference)
            assert (answer.status_code, answer.headers["oci-subject"]) == (201, subject.digest)


def test_subject_may_be_missing(registry: Registry, repository: str, layer: Blob) -> None:
    missing = unknown_digest("sha512")
    answer = registry.put_manifest(repository, image(EMPTY_CONFIG, layer, subject=missing))
    assert (answer.status_code, answer.headers["oci-subject"]) == (201, missing)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_not_modified(registry: Registry, repository: str, method: str) -> None:
    manifest = registry.push(repository, unique_index(), "latest")
    for reference in ("latest", manifest.digest):
        path = f"/v2/{repository}/manifests/{reference}"
        for tags in (f'"{manifest.digest}"', f'W/"{manifest.digest}"', "*", f'"x", "{manifest.digest}"'):
            answer = registry.request(method, path, if_none_match=tags)
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == f'"{manifest.digest}"'
            assert answer.headers["docker-content-digest"] == manifest.digest
            assert answer.headers.get("content-length", str(manifest.size)) == str(manifest.size)
        assert registry.request(method, path, if_none_match=f'"{unknown_digest()}"').status_code == 200
    assert registry.request(method, f"/v2/{repository}/manifests/other", if_none_match="*").status_code == 404


def test_content_type_with_parameters(registry: Registry, repository: str) -> None:
    manifest = unique_index()
    registry.put_manifest(repository, manifest, "latest", content_type=f"{OCI_INDEX}; charset=utf-8")
    assert registry.get(f"/v2/{repository}/manifests/latest").headers["content-type"] == OCI_INDEX


def test_media_type_from_the_document_alone(registry: Registry, repository: str) -> None:
    manifest = unique_index()
    assert registry.put(f"/v2/{repository}/manifests/latest", None, manifest.content).status_code == 201
    assert registry.get(f"/v2/{repository}/manifests/latest").headers["content-type"] == OCI_INDEX


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, OCI_INDEX])
def test_media_type_from_the_header_alone(registry: Registry, repository: str, layer: Blob, media_type: str) -> None:
    whole = of_type(registry, repository, layer, media_type)
    fields = json.loads(whole.content)
    del fields["mediaType"]
    manifest = document(fields, media_type)
    registry.push(repository, manifest, "latest")
    pulled = registry.get(f"/v2/{repository}/manifests/latest")
    assert (pulled.headers["content-type"], pulled.content) == (media_type, manifest.content)


def test_unknown_fields_are_kept(registry: Registry, repository: str, layer: Blob) -> None:
    fields = image_fields(EMPTY_CONFIG, layer)
    fields["layers"][0] |= {"urls": ["https://example.invalid/x"], "data": "aGk=", "x": [None, 1.5, {"y": True}]}
    fields |= {"org.example": {"deep": [[[{}]]]}, "reserved": 12345678901234567890}
    manifest = registry.push(repository, document(fields, OCI_MANIFEST, indent=3))
    assert registry.get(f"/v2/{repository}/manifests/{manifest.digest}").content == manifest.content


def test_image_without_layers(registry: Registry, repository: str) -> None:
    registry.push_blob(repository, EMPTY_CONFIG)
    manifest = registry.push(repository, image(EMPTY_CONFIG, artifact_type="application/vnd.example"), "latest")
    assert registry.get(f"/v2/{repository}/manifests/latest").content == manifest.content


def test_index_of_indexes(registry: Registry, repository: str) -> None:
    inner = registry.push(repository, unique_index())
    outer = registry.push(repository, index(inner, inner), "latest")
    assert registry.get(f"/v2/{repository}/manifests/latest").content == outer.content


def test_child_may_be_deleted(registry: Registry, repository: str) -> None:
    child = registry.push(repository, unique_index())
    parent = registry.push(repository, index(child), "latest")
    assert registry.delete(f"/v2/{repository}/manifests/{child.digest}").status_code == 202
    assert registry.get(f"/v2/{repository}/manifests/latest").content == parent.content


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ],
)
def test_layer_that_lies_elsewhere(registry: Registry, repository: str, layer: Blob, media_type: str) -> None:
    fields = image_fields(EMPTY_CONFIG, layer)
    fields["layers"].append(unique_blob().descriptor(media_type, urls=["https://example.invalid/layer"]))
    manifest = registry.push(repository, document(fields, OCI_MANIFEST), "latest")
    assert registry.get(f"/v2/{repository}/manifests/latest").content == manifest.content


@pytest.mark.parametrize("kind", ["nondistributable", "foreign"])
def test_only_a_layer_may_lie_elsewhere(registry: Registry, repository: str, kind: str) -> None:
    """A child is looked for in the repository whatever its media type says."""
    child = unique_blob().descriptor(f"application/vnd.{kind}.thing")
    fields = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}
    answer = registry.put_manifest(repository, document(fields, OCI_INDEX), "latest")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert answer.json()["errors"][0]["detail"]["manifests"] == [child["digest"]]


def test_three_hundred_layers(registry: Registry, repository: str) -> None:
    layers = [registry.push_blob(repository, unique_blob(10)) for _ in range(300)]
    registry.push_blob(repository, EMPTY_CONFIG)
    manifest = registry.push(repository, image(EMPTY_CONFIG, *layers), "latest")
    assert registry.get(f"/v2/{repository}/manifests/latest").content == manifest.content


# Which version is seen.


def test_every_worker_sees_a_moved_tag(anywhere: Registry, repository: str) -> None:
    """A cache of one worker must not survive what another one did."""
    for _ in range(10):
        manifest = anywhere.push(repository, unique_index(), "latest")
        digests = {
            anywhere.head(f"/v2/{repository}/manifests/latest").headers["docker-content-digest"] for _ in range(6)
        }
        assert digests == {manifest.digest}


def test_every_worker_sees_a_deletion(anywhere: Registry, repository: str) -> None:
    manifest = anywhere.push(repository, unique_index(), "latest")
    for _ in range(6):
        assert anywhere.get(f"/v2/{repository}/manifests/latest").status_code == 200
        assert anywhere.get(f"/v2/{repository}/manifests/{manifest.digest}").status_code == 200
    assert anywhere.delete(f"/v2/{repository}/manifests/{manifest.digest}").status_code == 202
    for _ in range(6):
        is_absent(anywhere, repository, "latest", manifest.digest)


def test_moved_tag_leaves_its_manifest(registry: Registry, repository: str) -> None:
    old = registry.push(repository, unique_index(), "latest")
    new = registry.push(repository, unique_index(), "latest")
    assert registry.get(f"/v2/{repository}/manifests/latest").content == new.content
    assert registry.get(f"/v2/{repository}/manifests/{old.digest}").content == old.content
    assert registry.tags(repository) == ["latest"]


def test_manifest_is_no_blob_and_belongs_to_one_repository(registry: Registry, repository: str, other: str) -> None:
    manifest = registry.push(repository, unique_index(), "latest")
    registry.push(other, unique_index())
    refused(registry.get(f"/v2/{repository}/blobs/{manifest.digest}"), 404, "BLOB_UNKNOWN")
    is_absent(registry, other, "latest", manifest.digest)


# Deleting.


def test_blob_is_deleted_or_used_but_not_both(anywhere: Registry, repository: str) -> None:
    """A push and a deletion that meet: whoever comes second is refused."""
    anywhere.push_blob(repository, EMPTY_CONFIG)
    for _ in range(20):
        layer = anywhere.push_blob(repository, unique_blob())
        manifest = image(EMPTY_CONFIG, layer)
        with ThreadPoolExecutor(2) as pool:
            pushing = pool.submit(anywhere.put_manifest, repository, manifest)
            deleting = pool.submit(anywhere.delete, f"/v2/{repository}/blobs/{layer.digest}")
        outcome = (pushing.result().status_code, deleting.result().status_code)
        assert outcome in {(201, 405), (400, 202)}
        held = anywhere.head(f"/v2/{repository}/blobs/{layer.digest}").status_code
        stored = anywhere.head(f"/v2/{repository}/manifests/{manifest.digest}").status_code
        assert (stored, held) == ((200, 200) if outcome[0] == 201 else (404, 404))


def test_delete_tag_keeps_the_manifest(registry: Registry, repository: str) -> None:
    manifest = unique_index()
    registry.push(repository, manifest, "one", {"tag": ["two"]})
    assert registry.delete(f"/v2/{repository}/manifests/one").status_code == 202
    is_absent(registry, repository, "one")
    refused(registry.delete(f"/v2/{repository}/manifests/one"), 404, "MANIFEST_UNKNOWN")
    assert registry.tags(repository) == ["two"]
    for reference in ("two", manifest.digest):
        assert registry.get(f"/v2/{repository}/manifests/{reference}").content == manifest.content


def test_delete_manifest_takes_its_tags(registry: Registry, repository: str) -> None:
    manifest, kept = unique_index(), unique_index()
    registry.push(repository, manifest, None, {"tag": ["one", "two"]})
    registry.push(repository, kept, "kept")
    assert registry.delete(f"/v2/{repository}/manifests/{manifest.digest}").status_code == 202
    is_absent(registry, repository, "one", "two", manifest.digest)
    refused(registry.delete(f"/v2/{repository}/manifests/{manifest.digest}"), 404, "MANIFEST_UNKNOWN")
    assert registry.tags(repository) == ["kept"]
    registry.push(repository, manifest, "one")
    assert registry.tags(repository) == ["kept", "one"]


def test_delete_of_what_is_unknown(registry: Registry, repository: str) -> None:
    for reference in ("latest", unknown_digest()):
        refused(registry.delete(f"/v2/{repository}/manifests/{reference}"), 404, "NAME_UNKNOWN")
    registry.push(repository, unique_index())
    for reference in ("latest", unknown_digest()):
        refused(registry.delete(f"/v2/{repository}/manifests/{reference}"), 404, "MANIFEST_UNKNOWN")


# What is refused: names of things that are missing.


def test_missing_blobs_are_named(registry: Registry, repository: str, layer: Blob, other: str) -> None:
    """A blob that only another repository holds is missing too."""
    elsewhere = registry.push_blob(other, unique_blob())
    missing = [unique_blob(), unique_blob(), elsewhere]
    manifest = image(missing[0], layer, *missing[1:])
    answer = registry.put_manifest(repository, manifest, "latest")
    detail = refused(answer, 400, "MANIFEST_BLOB_UNKNOWN")
    assert detail == {"blobs": sorted(blob.digest for blob in missing), "manifests": []}
    is_absent(registry, repository, "latest", manifest.digest)


def test_missing_children_are_named(registry: Registry, repository: str, other: str) -> None:
    here = registry.push(repository, unique_index())
    missing = [registry.push(other, unique_index()), unique_index()]
    manifest = index(here, *missing)
    detail = refused(registry.put_manifest(repository, manifest, "latest"), 400, "MANIFEST_BLOB_UNKNOWN")
    assert detail == {"blobs": [], "manifests": sorted(child.digest for child in missing)}
    is_absent(registry, repository, "latest", manifest.digest)


def test_blob_is_no_child_and_manifest_is_no_layer(registry: Registry, repository: str, layer: Blob) -> None:
    child = registry.push(repository, unique_index())
    detail = refused(
        registry.put_manifest(repository, image(EMPTY_CONFIG, Blob(child.content))), 400, "MANIFEST_BLOB_UNKNOWN"
    )
    assert detail["blobs"] == [child.digest]
    detail = refused(
        registry.put_manifest(repository, index(Document(layer.content, OCI_MANIFEST))), 400, "MANIFEST_BLOB_UNKNOWN"
    )
    assert detail["manifests"] == [layer.digest]


def test_refused_manifest_makes_no_repository(registry: Registry, repository: str) -> None:
    refused(registry.put_manifest(repository, index(unique_index()), "latest"), 400, "MANIFEST_BLOB_UNKNOWN")
    refused(registry.get(f"/v2/{repository}/tags/list"), 404, "NAME_UNKNOWN")


@pytest.mark.parametrize("place", ["config", "layers"])
def test_size_that_is_not_the_blobs(registry: Registry, repository: str, layer: Blob, place: str) -> None:
    fields = image_fields(EMPTY_CONFIG, layer)
    descriptor = fields["config"] if place == "config" else fields["layers"][0]
    right = descriptor["size"]
    descriptor["size"] = right + 1
    detail = refused(registry.put_manifest(repository, document(fields, OCI_MANIFEST)), 400, "MANIFEST_INVALID")
    assert detail == {"digest": descriptor["digest"], "stated": right + 1, "size": right}


@pytest.mark.parametrize("wrong", [0, 1])
def test_size_that_is_wrong_once(registry: Registry, repository: str, layer: Blob, wrong: int) -> None:
    """A digest that is listed twice has one size, at each place."""
    fields = image_fields(EMPTY_CONFIG, layer, layer)
    fields["layers"][wrong]["size"] += 1
    refused(registry.put_manifest(repository, document(fields, OCI_MANIFEST)), 400, "MANIFEST_INVALID")


def test_size_that_is_not_the_childs(registry: Registry, repository: str) -> None:
    """Clients check the size of what they pull: such an index could be pushed and not pulled."""
    child = registry.push(repository, unique_index())
    fields = json.loads(index(child).content)
    fields["manifests"][0]["size"] += 1
    refused(registry.put_manifest(repository, document(fields, OCI_INDEX)), 400, "MANIFEST_INVALID")


def test_sparse_manifests_where_the_switch_is_on(narrow: Registry, repository: str) -> None:
    for manifest in (image(unique_blob(), unique_blob()), index(unique_index())):
        narrow.push(repository, manifest, "latest")
        assert narrow.get(f"/v2/{repository}/manifests/latest").content == manifest.content


# What is refused: media types.


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_MANIFEST])
def test_media_types_that_differ(registry: Registry, repository: str, layer: Blob, media_type: str) -> None:
    manifest = image(EMPTY_CONFIG, layer)
    answer = registry.put_manifest(repository, manifest, content_type=media_type)
    detail = refused(answer, 400, "MANIFEST_INVALID")
    assert detail == {"path": "mediaType", "mediaType": OCI_MANIFEST, "contentType": media_type}
    is_absent(registry, repository, manifest.digest)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "text/plain",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.oci.artifact.manifest.v1+json",
        "x" * 3000,
        "\xff",
    ],
)
def test_media_type_that_is_not_supported(registry: Registry, repository: str, media_type: str) -> None:
    manifest = unique_index()
    path = f"/v2/{repository}/manifests/{manifest.digest}"
    lines = [(b"content-type", media_type.encode("latin-1"))]
    detail = refused(registry.http.put(path, content=manifest.content, headers=lines), 400, "MANIFEST_INVALID")
    assert detail["supported"] == sorted(IMAGE_OR_INDEX)
    is_absent(registry, repository, manifest.digest)


def test_no_media_type_at_all(registry: Registry, repository: str) -> None:
    content = b'{"schemaVersion": 2, "manifests": []}'
    refused(registry.put(f"/v2/{repository}/manifests/latest", None, content), 400, "MANIFEST_INVALID")


# What is refused: documents.

EMPTY = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],%s}'


def nested(opening: bytes, closing: bytes, depth: int = 10_000) -> bytes:
    return opening * depth + b"1" + closing * depth


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"null",
        b"true",
        b"1",
        b'"text"',
        b"[]",
        b"[{}]",
        b"{",
        b"{}",
        b"{'schemaVersion': 2}",
        EMPTY % b'"x":1' + b"{}",
        EMPTY % b'"x":1' + b"\x00",
        b"\xef\xbb\xbf" + EMPTY % b'"x":1',
        (EMPTY % b'"x":1').decode().encode("utf-16"),
        EMPTY % b'"x":1,',
        EMPTY % b'"x":01',
        EMPTY % b'"x":1 // comment',
        EMPTY % b'"x":NaN',
        EMPTY % b'"x":Infinity',
        EMPTY % b'"x":-Infinity',
        EMPTY % b'"x":"\x01"',
        EMPTY % b'"annotations":{"a":"\n"}',
    ],
    ids=repr,
)
def test_not_a_json_object(registry: Registry, repository: str, content: bytes) -> None:
    manifest = Document(content, OCI_INDEX)
    refused(registry.put_manifest(repository, manifest), 400, "MANIFEST_INVALID")
    is_absent(registry, repository, manifest.digest)


@pytest.mark.parametrize(
    "content",
    [
        EMPTY % b'"x":1,"x":2',
        EMPTY % b'"x":1,"x":1',
        EMPTY % b'"schemaVersion":2',
        EMPTY % b'"manifests":[]',
        EMPTY % b'"x":{"a":1,"b":2,"a":3}',
        EMPTY % b'"x":[[{"a":1,"a":2}]]',
        EMPTY % b'"annotations":{"a":"1","a":"2"}',
        EMPTY % b'"x":1,"\\u0078":2',
        EMPTY % b'"":1,"":2',
    ],
    ids=repr,
)
def test_duplicate_keys(registry: Registry, repository: str, content: bytes) -> None:
    """Two readers of such a document may see two different images."""
    answer = registry.put_manifest(repository, Document(content, OCI_INDEX))
    refused(answer, 400, "MANIFEST_INVALID")
    assert "duplicate key" in answer.json()["errors"][0]["message"]


def test_duplicate_key_after_very_many(tmp_path_factory: pytest.TempPathFactory, repository: str) -> None:
    """To find it must not cost the square of the keys: the worker would answer nobody for an hour."""
    keys = b",".join(b'"k%06d":0' % number for number in range(300_000))
    manifest = Document(EMPTY % (keys + b',"k299999":1'), OCI_INDEX)
    with Server(tmp_path_factory.mktemp("keys"), workers=1) as server:
        try:
            with Registry(server.url) as registry:
                refused(registry.put_manifest(repository, manifest), 400, "MANIFEST_INVALID")
        except BaseException:
            server.kill()
            raise


@pytest.mark.parametrize(
    "content",
    [
        nested(b"[", b"]"),
        nested(b'{"a":', b"}"),
        EMPTY % (b'"x":' + nested(b"[", b"]")),
        EMPTY % (b'"x":' + nested(b'{"a":', b"}")),
        EMPTY % (b'"x":' + nested(b"[", b"]", 1_000_000)),
        EMPTY % (b'"annotations":{"a":' + nested(b"[", b"]") + b"}"),
        EMPTY % (b'"manifests":[{"mediaType":"a/b","size":1,"platform":' + nested(b"[", b"]") + b"}]"),
        EMPTY % (b'"x":' + b"[" * 10_000),
    ],
    ids=["arrays", "objects", "in a field", "objects in a field", "a million", "annotation", "platform", "unclosed"],
)
def test_nested_too_deeply(registry: Registry, repository: str, content: bytes) -> None:
    refused(registry.put_manifest(repository, Document(content, OCI_INDEX), "latest"), 400, "MANIFEST_INVALID")
    assert registry.get("/v2/").status_code == 200


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"], ids=repr)
@pytest.mark.parametrize(
    "place",
    [b'"x":"%s"', b'"%s":1', b'"annotations":{"a":"%s"}', b'"annotations":{"%s":"a"}', b'"x":[{"a":"%s"}]'],
    ids=repr,
)
def test_invalid_utf8(registry: Registry, repository: str, place: bytes, bad: bytes) -> None:
    manifest = Document(EMPTY % (place % bad), OCI_INDEX)
    refused(registry.put_manifest(repository, manifest), 400, "MANIFEST_INVALID")
    is_absent(registry, repository, manifest.digest)


@pytest.mark.parametrize("bad", [rb"\ud800", rb"\udc00", rb"\ud800\u0041", rb"\udc00\ud800"], ids=repr)
@pytest.mark.parametrize(
    "place", [b'"x":"%s"', b'"%s":1', b'"annotations":{"a":"%s"}', b'"annotations":{"%s":"a"}'], ids=repr
)
def test_lone_surrogate(registry: Registry, repository: str, place: bytes, bad: bytes) -> None:
    manifest = Document(EMPTY % (place % bad), OCI_INDEX)
    refused(registry.put_manifest(repository, manifest), 400, "MANIFEST_INVALID")


def test_any_valid_text_is_kept(registry: Registry, repository: str) -> None:
    subject = unknown_digest()
    annotations = {"": "", "emoji": "\U0001f433", "nul": "\x00", "quote": '"\\', "line": "\u2028", "rtl": "\u202e"}
    manifest = registry.push(repository, index(subject=subject, annotations=annotations), "latest")
    assert registry.get(f"/v2/{repository}/manifests/latest").content == manifest.content
    assert registry.referrers(repository, subject)[0]["annotations"] == annotations


def put(path: str, value: Any) -> Callable[[Fields], None]:
    """Returns a change that sets one field, such as ``layers.0.size``."""

    def change(fields: Fields) -> None:
        *parents, last = path.split(".")
        target: Any = fields
        for parent in parents:
            target = target[int(parent) if parent.isdecimal() else parent]
        target[int(last) if last.isdecimal() else last] = value

    return change


def drop(path: str) -> Callable[[Fields], None]:
    """Returns a change that removes one field."""

    def change(fields: Fields) -> None:
        *parents, last = path.split(".")
        target: Any = fields
        for parent in parents:
            target = target[int(parent) if parent.isdecimal() else parent]
        del target[last]

    return change


BAD_IMAGES = [
    (put("schemaVersion", 1), "schemaVersion"),
    (put("schemaVersion", 3), "schemaVersion"),
    (put("schemaVersion", "2"), "schemaVersion"),
    (put("schemaVersion", True), "schemaVersion"),
    (put("schemaVersion", None), "schemaVersion"),
    (put("mediaType", 1), "mediaType"),
    (put("config", []), "config"),
    (put("config", "sha256:" + "0" * 64), "config"),
    (put("config", None), "config"),
    (drop("config"), "config"),
    (drop("config.mediaType"), "config"),
    (drop("config.digest"), "config"),
    (drop("config.size"), "config"),
    (put("config.size", "2"), "config.size"),
    (put("config.size", 2.5), "config.size"),
    (put("config.size", -1), "config.size"),
    (put("config.mediaType", ""), "config.mediaType"),
    (put("config.mediaType", "a/" + "b" * 254), "config.mediaType"),
    (put("layers", {}), "layers"),
    (put("layers", None), "layers"),
    (drop("layers"), "layers"),
    (put("layers.0", 7), "layers[0]"),
    (put("layers.0.digest", 7), "layers[0].digest"),
    (put("layers.0.digest", ""), "layers[0].digest"),
    (put("layers.0.digest", "sha256:abc"), "layers[0].digest"),
    (put("layers.0.digest", "md5:" + "0" * 32), "layers[0].digest"),
    (put("layers.0.digest", "sha256:" + "A" * 64), "layers[0].digest"),
    (put("layers.0.digest", "sha256:" + "0" * 64 + "\n"), "layers[0].digest"),
    (put("layers.0.mediaType", None), "layers[0].mediaType"),
    (put("layers.0.annotations", []), "layers[0].annotations"),
    (put("manifests", []), "manifests"),
    (put("subject", "x"), "subject"),
    (put("subject", {"mediaType": "a/b", "digest": "x", "size": 1}), "subject.digest"),
    (put("subject", {"mediaType": "a/b", "digest": "sha256:" + "0" * 64, "size": -1}), "subject.size"),
    (put("annotations", ["a"]), "annotations"),
    (put("annotations", {"a": 1}), "annotations[...]"),
    (put("artifactType", 1), "artifactType"),
    (put("artifactType", "a/" + "b" * 254), "artifactType"),
]


@pytest.mark.parametrize(("change", "path"), BAD_IMAGES, ids=[str(place) for place in range(len(BAD_IMAGES))])
def test_image_with_one_wrong_field(
    registry: Registry, repository: str, layer: Blob, change: Callable[[Fields], None], path: str
) -> None:
    fields = image_fields(EMPTY_CONFIG, layer)
    change(fields)
    manifest = document(fields, OCI_MANIFEST)
    detail = refused(registry.put_manifest(repository, manifest), 400, "MANIFEST_INVALID")
    assert detail["path"] == path
    is_absent(registry, repository, manifest.digest)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (put("schemaVersion", 1), "schemaVersion"),
        (put("manifests", {}), "manifests"),
        (drop("manifests"), "manifests"),
        (put("manifests.0", []), "manifests[0]"),
        (put("manifests.0.size", None), "manifests[0].size"),
        (put("manifests.0.digest", "sha512:00"), "manifests[0].digest"),
        (put("layers", []), "layers"),
        (put("config", EMPTY_CONFIG.descriptor()), "config"),
    ],
)
def test_index_with_one_wrong_field(
    registry: Registry, repository: str, change: Callable[[Fields], None], path: str
) -> None:
    fields = json.loads(index(registry.push(repository, unique_index())).content)
    change(fields)
    detail = refused(registry.put_manifest(repository, document(fields, OCI_INDEX)), 400, "MANIFEST_INVALID")
    assert detail["path"] == path


def test_schema_version_is_required(registry: Registry, repository: str) -> None:
    answer = registry.put_manifest(repository, Document(b'{"manifests": []}', OCI_INDEX))
    refused(answer, 400, "MANIFEST_INVALID")
    assert "schemaVersion" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, OCI_INDEX])
def test_image_and_index_at_once(registry: Registry, repository: str, layer: Blob, media_type: str) -> None:
    """One digest that is an image to one client and an index to another: CVE-2021-41190."""
    child = registry.push(repository, image(EMPTY_CONFIG, layer))
    fields = image_fields(EMPTY_CONFIG, layer, media_type=media_type) | {"manifests": [child.descriptor()]}
    manifest = document(fields, media_type)
    refused(registry.put_manifest(repository, manifest), 400, "MANIFEST_INVALID")
    is_absent(registry, repository, manifest.digest)


def test_more_descriptors_than_allowed(registry: Registry, repository: str) -> None:
    fields = image_fields(EMPTY_CONFIG) | {"layers": [EMPTY_CONFIG.descriptor(OCI_LAYER)] * 10_001}
    manifest = document(fields, OCI_MANIFEST, indent=None)
    refused(registry.put_manifest(repository, manifest), 400, "MANIFEST_INVALID")


# Sizes.


def index_of_size(size: int) -> Document:
    """Returns a valid index of exactly this many bytes."""
    content = unique_index().content
    return Document(content + b" " * (size - len(content)), OCI_INDEX)


def test_manifest_of_four_megabytes(registry: Registry, repository: str) -> None:
    """Distribution specification, "Pushing Manifests": at least this size should be supported."""
    manifest = registry.push(repository, index_of_size(4_000_000), "latest")
    assert registry.get(f"/v2/{repository}/manifests/latest").content == manifest.content


def test_manifest_of_exactly_the_limit(narrow: Registry, repository: str) -> None:
    manifest = narrow.push(repository, index_of_size(MAX_MANIFEST), "latest")
    assert narrow.get(f"/v2/{repository}/manifests/latest").content == manifest.content


def test_manifest_one_byte_beyond_the_limit(narrow: Registry, repository: str) -> None:
    manifest = index_of_size(MAX_MANIFEST + 1)
    assert refused(narrow.put_manifest(repository, manifest), 413, "MANIFEST_INVALID") == {"max_bytes": MAX_MANIFEST}
    is_absent(narrow, repository, manifest.digest)


def test_huge_manifest_is_refused_before_it_is_read(server: Server, registry: Registry, repository: str) -> None:
    """Only the headers are sent; whoever waits for the body would wait for ever."""
    with Wire(server) as wire:
        wire.begin("PUT", f"/v2/{repository}/manifests/latest", content_length=100 << 20, content_type=OCI_INDEX)
        answer = wire.answer("PUT")
    assert answer.status == 413
    assert answer.json()["errors"][0]["code"] == "MANIFEST_INVALID"
    is_absent(registry, repository, "latest")


def test_huge_manifest_is_refused_before_it_is_invited(server: Server, repository: str) -> None:
    """Whoever asks first whether to send a body of 100 MB is not told to go on."""
    with Wire(server) as wire:
        target = f"/v2/{repository}/manifests/latest"
        wire.begin("PUT", target, content_length=100 << 20, content_type=OCI_INDEX, expect="100-continue")
        assert wire.socket.recv(12) == b"HTTP/1.1 413"


def test_chunked_manifest_beyond_the_limit(narrow_server: Server, narrow: Registry, repository: str) -> None:
    """The body does not end: the answer comes as soon as it is too large."""
    with Wire(narrow_server) as wire:
        target = f"/v2/{repository}/manifests/latest"
        wire.begin("PUT", target, transfer_encoding="chunked", content_type=OCI_INDEX)
        for _ in range(MAX_MANIFEST >> 13):
            wire.send_chunk(b" " * (1 << 13))
        wire.send_chunk(b" ")
        answer = wire.answer("PUT")
    assert answer.status == 413
    assert answer.json()["errors"][0]["code"] == "MANIFEST_INVALID"
    is_absent(narrow, repository, "latest")


def test_chunked_manifest(registry: Registry, repository: str) -> None:
    manifest = unique_index()
    parts = (manifest.content[start : start + 10] for start in range(0, manifest.size, 10))
    path = f"/v2/{repository}/manifests/{manifest.digest}"
    assert registry.request("PUT", path, None, parts, content_type=OCI_INDEX).status_code == 201
    assert registry.get(path).content == manifest.content


def test_cut_manifest_is_not_stored(server: Server, registry: Registry, repository: str) -> None:
    """Not even where what arrived is itself a whole manifest."""
    manifest, request_id = unique_index(), uuid4().hex
    with Wire(server) as wire:
        target = f"/v2/{repository}/manifests/latest"
        length = manifest.size + 10
        wire.begin("PUT", target, content_length=length, content_type=OCI_INDEX, x_request_id=request_id)
        wire.send(manifest.content)
    is_over(server, request_id)
    is_absent(registry, repository, "latest", manifest.digest)


# Immutable tags: "v*" and "release-?" on the server with narrow limits.


@pytest.mark.parametrize("tag", ["v", "v1.2.3", "release-1"])
def test_immutable_tag(narrow: Registry, repository: str, tag: str) -> None:
    first, second = unique_index(), unique_index()
    narrow.push(repository, first, tag)
    narrow.push(repository, first, tag)
    path = f"/v2/{repository}/manifests/{tag}"
    detail = refused(narrow.put_manifest(repository, second, tag), 403, "DENIED")
    assert detail["tag"] == tag
    refused(narrow.put_manifest(repository, second, None, {"tag": ["other", tag]}), 403, "DENIED")
    is_absent(narrow, repository, second.digest, "other")
    refused(narrow.delete(path), 403, "DENIED")
    refused(narrow.delete(f"/v2/{repository}/manifests/{first.digest}"), 403, "DENIED")
    assert narrow.get(path).content == first.content
    assert narrow.tags(repository) == [tag]


@pytest.mark.parametrize("tag", ["latest", "V1", "release-10", "release-", "xv1"])
def test_other_tags_stay_mutable(narrow: Registry, repository: str, tag: str) -> None:
    narrow.push(repository, unique_index(), tag)
    second = narrow.push(repository, unique_index(), tag)
    assert narrow.get(f"/v2/{repository}/manifests/{tag}").content == second.content
    assert narrow.delete(f"/v2/{repository}/manifests/{tag}").status_code == 202
    assert narrow.delete(f"/v2/{repository}/manifests/{second.digest}").status_code == 202


def test_immutable_tag_that_is_not_there_is_unknown(narrow: Registry, repository: str) -> None:
    narrow.push(repository, unique_index(), "latest")
    refused(narrow.delete(f"/v2/{repository}/manifests/v1"), 404, "MANIFEST_UNKNOWN")
