"""Compare-and-swap of tags: If-Match and If-None-Match on PUT and DELETE of manifests."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from tests.oci.client import Registry, refused
from tests.oci.content import Document, index, unique_index, unknown_digest
from tests.server import Server


def etag(manifest: Document | str) -> str:
    return f'"{manifest if isinstance(manifest, str) else manifest.digest}"'


def tagged(registry: Registry, repository: str, tag: str = "latest") -> str:
    """Returns the digest that a tag names now."""
    return registry.head(f"/v2/{repository}/manifests/{tag}").headers["docker-content-digest"]


def test_extension_is_advertised(registry: Registry, repository: str) -> None:
    for path in ("/v2/_oci/ext/discover", f"/v2/{repository}/_oci/ext/discover"):
        answer = registry.get(path)
        assert answer.status_code == 200
        (extension,) = answer.json()["extensions"]
        assert extension["name"].startswith("_")
        assert "If-Match" in extension["description"]
        assert extension["endpoints"]


def test_create_only_if_new(registry: Registry, repository: str) -> None:
    first, second = unique_index(), unique_index()
    assert registry.put_manifest(repository, first, "latest", if_none_match="*").status_code == 201
    answer = registry.put_manifest(repository, second, "latest", if_none_match="*")
    assert refused(answer, 412, "DENIED") == {"reference": "latest", "current": first.digest}
    assert tagged(registry, repository) == first.digest
    assert registry.head(f"/v2/{repository}/manifests/{second.digest}").status_code == 404


def test_move_only_from_the_expected(registry: Registry, repository: str) -> None:
    first, second, third = unique_index(), unique_index(), unique_index()
    registry.push(repository, first, "latest")
    assert registry.put_manifest(repository, second, "latest", if_match=etag(first)).status_code == 201
    answer = registry.put_manifest(repository, third, "latest", if_match=etag(first))
    assert refused(answer, 412, "DENIED")["current"] == second.digest
    assert tagged(registry, repository) == second.digest


def test_the_etag_of_an_answer_is_the_condition_of_the_next(registry: Registry, repository: str) -> None:
    tag = registry.put_manifest(repository, unique_index(), "latest", if_none_match="*").headers["etag"]
    assert registry.get(f"/v2/{repository}/manifests/latest").headers["etag"] == tag
    moved = registry.put_manifest(repository, unique_index(), "latest", if_match=tag)
    assert moved.status_code == 201
    assert registry.delete(f"/v2/{repository}/manifests/latest", if_match=tag).status_code == 412
    assert registry.delete(f"/v2/{repository}/manifests/latest", if_match=moved.headers["etag"]).status_code == 202


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("if_match", "*", 201),
        ("if_match", "{}", 201),
        ("if_match", '"sha256:0", {}', 201),
        ("if_match", '"sha256:0"', 412),
        ("if_match", "W/{}", 412),
        ("if_match", '"*"', 412),
        ("if_match", "", 412),
        ("if_none_match", "*", 412),
        ("if_none_match", "{}", 412),
        ("if_none_match", "W/{}", 412),
        ("if_none_match", '"sha256:0",{}', 412),
        ("if_none_match", '"sha256:0"', 201),
    ],
)
def test_forms_of_a_condition(registry: Registry, repository: str, header: str, value: str, status: int) -> None:
    """RFC 9110 section 13.1: If-Match compares strongly, If-None-Match weakly; ``{}`` stands for the tag's own."""
    first = registry.push(repository, unique_index(), "latest")
    second = unique_index()
    answer = registry.put_manifest(repository, second, "latest", **{header: value.format(etag(first))})
    assert answer.status_code == status
    assert tagged(registry, repository) == (second.digest if status == 201 else first.digest)


def test_condition_on_a_tag_that_is_not_there(registry: Registry, repository: str) -> None:
    manifest = unique_index()
    for value in ("*", etag(manifest)):
        answer = registry.put_manifest(repository, manifest, "latest", if_match=value)
        assert refused(answer, 412, "DENIED") == {"reference": "latest", "current": None}
    refused(registry.get(f"/v2/{repository}/tags/list"), 404, "NAME_UNKNOWN")
    registry.push(repository, manifest)
    answer = registry.put_manifest(repository, manifest, "latest", if_match=etag(manifest))
    assert answer.status_code == 412
    assert registry.put_manifest(repository, manifest, "latest", if_none_match=etag(manifest)).status_code == 201


def test_both_conditions(registry: Registry, repository: str) -> None:
    first = registry.push(repository, unique_index(), "latest")
    answer = registry.put_manifest(
        repository, unique_index(), "latest", if_match=etag(first), if_none_match=etag(first)
    )
    assert answer.status_code == 412
    answer = registry.put_manifest(
        repository, unique_index(), "latest", if_match=etag(first), if_none_match=etag(unknown_digest())
    )
    assert answer.status_code == 201


def test_condition_holds_for_every_tag_or_for_none(registry: Registry, repository: str) -> None:
    registry.push(repository, unique_index(), "taken")
    manifest = unique_index()
    answer = registry.put_manifest(repository, manifest, None, {"tag": ["free", "taken"]}, if_none_match="*")
    assert refused(answer, 412, "DENIED")["reference"] == "taken"
    assert registry.tags(repository) == ["taken"]
    assert registry.head(f"/v2/{repository}/manifests/{manifest.digest}").status_code == 404


def test_delete_tag_only_if_expected(registry: Registry, repository: str) -> None:
    manifest = registry.push(repository, unique_index(), "latest")
    path = f"/v2/{repository}/manifests/latest"
    assert refused(registry.delete(path, if_match=etag(unknown_digest())), 412, "DENIED")["current"] == manifest.digest
    refused(registry.delete(path, if_none_match="*"), 412, "DENIED")
    assert tagged(registry, repository) == manifest.digest
    assert registry.delete(path, if_match=etag(manifest)).status_code == 202
    assert registry.delete(path, if_match="*").status_code in {404, 412}


def test_delete_manifest_only_if_expected(registry: Registry, repository: str) -> None:
    """RFC 9110 section 13.1.1: the method must not be performed where the condition is false."""
    manifest = registry.push(repository, unique_index(), "latest")
    path = f"/v2/{repository}/manifests/{manifest.digest}"
    refused(registry.delete(path, if_match=etag(unknown_digest())), 412, "DENIED")
    assert registry.get(path).content == manifest.content
    assert registry.delete(path, if_match=etag(manifest)).status_code == 202


def test_push_by_digest_only_if_new(registry: Registry, repository: str) -> None:
    manifest = unique_index()
    assert registry.put_manifest(repository, manifest, if_none_match="*").status_code == 201
    assert registry.put_manifest(repository, manifest, if_none_match="*").status_code == 412


def test_one_of_many_creates_the_tag(anywhere: Registry, repository: str) -> None:
    manifests = [unique_index() for _ in range(12)]
    barrier = Barrier(len(manifests))

    def create(manifest: Document) -> int:
        barrier.wait()
        return anywhere.put_manifest(repository, manifest, "latest", if_none_match="*").status_code

    with ThreadPoolExecutor(len(manifests)) as pool:
        statuses = list(pool.map(create, manifests))
    assert sorted(statuses) == [201] + [412] * 11
    assert tagged(anywhere, repository) == manifests[statuses.index(201)].digest


def test_concurrent_writers_lose_no_update(server: Server, registry: Registry, repository: str) -> None:
    """Twenty clients each add three to one counter that all of them read, change and swap."""
    clients, additions = 20, 3
    registry.push(repository, index(annotations={"counter": "0"}), "counter")
    barrier = Barrier(clients)

    def add(_: int) -> int:
        """Returns how often a swap failed because somebody else was faster."""
        lost = 0
        with Registry(server.url, fresh=True) as client:
            barrier.wait()
            for _ in range(additions):
                while True:
                    current = client.get(f"/v2/{repository}/manifests/counter")
                    count = int(json.loads(current.content)["annotations"]["counter"])
                    following = index(annotations={"counter": str(count + 1)})
                    answer = client.put_manifest(repository, following, "counter", if_match=current.headers["etag"])
                    if answer.status_code == 201:
                        break
                    refused(answer, 412, "DENIED")
                    lost += 1
        return lost

    with ThreadPoolExecutor(clients) as pool:
        lost = sum(pool.map(add, range(clients)))
    final = json.loads(registry.get(f"/v2/{repository}/manifests/counter").content)
    assert int(final["annotations"]["counter"]) == clients * additions
    assert lost, "nobody ever met another client: the test shows nothing"
