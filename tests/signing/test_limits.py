"""Whatever somebody pushes as a signature costs a bounded time and memory to judge, and counts for nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.oci.client import Registry
from tests.oci.content import EMPTY_CONFIG, Blob, Document, image, unique_index
from tests.signing.place import Place, push_image, sign, verify

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MIB = 1 << 20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Place(tmp_path_factory.mktemp("limits")) as place:
        yield place


@pytest.fixture(scope="module")
def root(place: Place) -> Iterator[Registry]:
    with place.client("root") as client:
        client.push_blob("team/app", EMPTY_CONFIG)
        yield client


def by_cosign(root: Registry, reference: str) -> list[Any]:
    """Returns what the format cosign says of signatures; what nobody can read others refuse as well."""
    return [one for one in verify(root, "team/app", reference)["signatures"] if one["format"] == "cosign"]


def most_memory(place: Place) -> int:
    """Returns the most bytes that any worker has had so far."""
    found = []
    for worker in place.server.workers():
        status = Path(f"/proc/{worker}/status").read_text()
        found.append(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
    return max(found)


def bundle(subject: Document, layer: Blob, media_type: str = BUNDLE) -> Document:
    made = image(EMPTY_CONFIG, layer, config_type="application/vnd.oci.empty.v1+json", subject=subject)
    fields = json.loads(made.content) | {"artifactType": media_type}
    fields["layers"][0]["mediaType"] = media_type
    return Document(json.dumps(fields).encode(), made.media_type)


def test_an_artifact_of_100_megabytes(place: Place, root: Registry) -> None:
    manifest = push_image(root, "team/app", "large")
    verify(root, "team/app", "large")
    large = root.push_blob("team/app", Blob(bytes(100 * MIB)))
    before = most_memory(place)
    root.push("team/app", bundle(manifest, large))
    root.push("team/app", image(EMPTY_CONFIG, large), f"{manifest.digest.replace(':', '-')}.sig")
    assert not verify(root, "team/app", "large")["verified"]
    assert [one["valid"] for one in by_cosign(root, "large")] == [False]
    assert most_memory(place) - before < 40 * MIB


def test_many_referrers(root: Registry) -> None:
    manifest = push_image(root, "team/app", "many")
    sign(root, "team/app", "many")
    for number in range(120):
        content = root.push_blob("team/app", Blob(b"%d" % number))
        root.push("team/app", bundle(manifest, content))
    # What is good is found however many there are beside it, and of these not all are looked at.
    assert verify(root, "team/app", "many")["verified"]
    found = by_cosign(root, "many")
    assert (len([one for one in found if one["valid"]]), len(found)) == (2, 101)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"mediaType": 1}', b"[" * 100_000, b'{"a":1,"a":2}'],
    ids=lambda content: repr(content[:20]),
)
def test_what_is_no_bundle(root: Registry, content: bytes) -> None:
    subject = root.push("team/app", unique_index())
    layer = root.push_blob("team/app", Blob(content))
    root.push("team/app", bundle(subject, layer))
    (said,) = by_cosign(root, subject.digest)
    assert (said["valid"], bool(said["errors"][0])) == (False, True)


def test_a_referrer_of_no_format_is_not_read(root: Registry) -> None:
    subject = root.push("team/app", unique_index())
    layer = root.push_blob("team/app", Blob(b"a bill of materials"))
    root.push("team/app", bundle(subject, layer, "application/spdx+json"))
    assert verify(root, "team/app", subject.digest)["signatures"] == []
