"""Tags and the catalogue: order, pages, Link followed to the end, names of any depth."""

from itertools import pairwise

import pytest

from tests.oci.client import Query, Registry, refused
from tests.oci.content import unique_blob, unique_index

TAGS = ["0", "10", "9", "A", "B.1", "Z", "_x", "a", "a-", "a.", "a0", "aA", "aa", "b", "z"]
"""In the order of their bytes, which is neither that of numbers nor that of a dictionary."""


@pytest.fixture
def tagged(registry: Registry, repository: str) -> str:
    """The path of the list of `TAGS`, which were pushed in another order."""
    registry.push(repository, unique_index(), None, {"tag": TAGS[::2][::-1]})
    registry.push(repository, unique_index(), None, {"tag": TAGS[1::2]})
    return f"/v2/{repository}/tags/list"


def tags(registry: Registry, path: str, query: Query | None = None) -> list[list[str]]:
    """Returns the tags of each page."""
    return [answer.json()["tags"] for answer in registry.pages(path, query)]


def test_tags_are_in_the_order_of_their_bytes(registry: Registry, repository: str, tagged: str) -> None:
    assert sorted(TAGS) == TAGS
    answer = registry.get(tagged)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"name": repository, "tags": TAGS}
    assert "link" not in answer.headers


@pytest.mark.parametrize("n", [1, 2, 4, 7, 14, 15, 16, 1000, 10**30])
def test_pages_of_tags(registry: Registry, tagged: str, n: int) -> None:
    pages = tags(registry, tagged, {"n": n})
    assert [tag for page in pages for tag in page] == TAGS
    assert {len(page) for page in pages[:-1]} <= {n}
    assert 0 < len(pages[-1]) <= n


@pytest.mark.parametrize("last", ["0", "A", "Aa", "_", "a", "a-", "y", "z", "zz"])
@pytest.mark.parametrize("n", [None, 1, 3])
def test_tags_after_last(registry: Registry, tagged: str, last: str, n: int | None) -> None:
    """``last`` need not be a tag that exists."""
    query: Query = {"last": last} | ({} if n is None else {"n": n})
    after = [tag for tag in TAGS if tag > last]
    answer = registry.get(tagged, query)
    assert answer.json()["tags"] == after[:n]
    assert ("next" in answer.links) == (n is not None and len(after) > n)
    assert [tag for page in tags(registry, tagged, query) for tag in page] == after


def test_no_tags_wanted(registry: Registry, tagged: str) -> None:
    """Distribution specification, "Listing Tags": an empty list and no Link."""
    queries: list[Query] = [{"n": 0}, {"n": 0, "last": "A"}]
    for query in queries:
        answer = registry.get(tagged, query)
        assert answer.json()["tags"] == []
        assert "link" not in answer.headers


@pytest.mark.parametrize("n", ["-1", "x", "", "1.5", "0x10", "1e3", " 1", "\u0663", "\xb2"])
def test_n_that_is_no_number(registry: Registry, repository: str, tagged: str, n: str) -> None:
    for path in (tagged, "/v2/_catalog", f"/v2/{repository}/referrers/sha256:{'0' * 64}"):
        assert refused(registry.get(path, {"n": n}), 400, "UNSUPPORTED")["parameter"] == "n"


def test_parameter_given_twice(registry: Registry, tagged: str) -> None:
    assert refused(registry.get(tagged, {"n": ["1", "2"]}), 400, "UNSUPPORTED")["parameter"] == "n"
    assert refused(registry.get(tagged, {"last": ["a", "b"]}), 400, "UNSUPPORTED")["parameter"] == "last"


def test_last_that_is_no_tag(registry: Registry, tagged: str) -> None:
    refused(registry.get(tagged, {"last": "a/b"}), 400, "MANIFEST_INVALID")


def test_unknown_parameters_are_ignored(registry: Registry, tagged: str) -> None:
    assert registry.get(tagged, {"ns": "docker.io", "x": ""}).json()["tags"] == TAGS


def test_tags_of_an_unknown_repository(registry: Registry, repository: str) -> None:
    assert refused(registry.get(f"/v2/{repository}/tags/list"), 404, "NAME_UNKNOWN") == {"name": repository}
    assert registry.head(f"/v2/{repository}/tags/list").status_code == 404


def test_tags_of_a_parent_are_not_the_childs(registry: Registry, repository: str) -> None:
    registry.push(f"{repository}/child", unique_index(), "latest")
    refused(registry.get(f"/v2/{repository}/tags/list"), 404, "NAME_UNKNOWN")


def test_no_tags_are_left_after_deletion(registry: Registry, repository: str, tagged: str) -> None:
    for tag in TAGS:
        registry.delete(f"/v2/{repository}/manifests/{tag}")
    answer = registry.get(tagged)
    assert (answer.status_code, answer.json()) == (200, {"name": repository, "tags": []})
    assert "link" not in answer.headers


def test_tags_without_a_tag(registry: Registry, repository: str) -> None:
    registry.push_blob(repository, unique_blob())
    assert registry.get(f"/v2/{repository}/tags/list").json() == {"name": repository, "tags": []}


def test_head_of_the_list(registry: Registry, tagged: str) -> None:
    head = registry.head(tagged, {"n": 2})
    assert (head.status_code, head.content) == (200, b"")
    assert head.links["next"]


@pytest.mark.parametrize("n", [None, 999, 1250, 100])
def test_very_many_tags(registry: Registry, many_tags: tuple[str, list[str]], n: int | None) -> None:
    path, expected = many_tags
    pages = tags(registry, path, None if n is None else {"n": n})
    assert [tag for page in pages for tag in page] == expected
    assert len(pages) > 2 or n == 1250


@pytest.fixture(scope="module")
def many_tags(registry: Registry) -> tuple[str, list[str]]:
    """The path of a list of 2,500 tags, and the tags."""
    names = sorted(f"{number}.{number % 7}" for number in range(2500))
    manifest = unique_index()
    for start in range(0, len(names), 50):
        registry.push("many/tags", manifest, None, {"tag": names[start : start + 50]})
    return "/v2/many/tags/tags/list", names


NAMES = ["0", "a", "a-b", "a.b", "a/b", "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p", "a0", "a__b", "a_b", "b/tags", "z"]
"""Last parts of names of repositories, in the order of their bytes."""


@pytest.fixture
def named(registry: Registry, repository: str) -> list[str]:
    """Repositories that sort next to each other."""
    names = [f"{repository}/{name}" for name in NAMES]
    for name in reversed(names):
        registry.push_blob(name, unique_blob())
    return names


def repositories(registry: Registry, query: Query | None = None) -> list[list[str]]:
    """Returns the names on each page of the catalogue."""
    return [answer.json()["repositories"] for answer in registry.pages("/v2/_catalog", query)]


@pytest.mark.parametrize("n", [None, 1, 3, 10, 1000])
def test_pages_of_the_catalogue(registry: Registry, named: list[str], n: int | None) -> None:
    """Whatever the size of a page, the pages together are the whole catalogue, in order and once."""
    whole = [name for page in repositories(registry) for name in page]
    assert all(one < next_one for one, next_one in pairwise(whole))
    assert [name for name in whole if name in named] == named
    pages = repositories(registry, None if n is None else {"n": n})
    assert [name for page in pages for name in page] == whole
    if n is not None:
        assert {len(page) for page in pages[:-1]} <= {n}


def test_catalogue_after_last(registry: Registry, repository: str, named: list[str]) -> None:
    answer = registry.get("/v2/_catalog", {"n": 4, "last": named[2]})
    assert answer.json() == {"repositories": named[3:7]}
    assert answer.links["next"]["rel"] == "next"
    assert registry.get(answer.links["next"]["url"]).json()["repositories"] == named[7:11]
    assert registry.get("/v2/_catalog", {"n": 11, "last": repository}).json()["repositories"] == named


def test_catalogue_of_nothing(registry: Registry, named: list[str]) -> None:
    answer = registry.get("/v2/_catalog", {"n": 0})
    assert answer.json() == {"repositories": []}
    assert "link" not in answer.headers
    assert registry.get("/v2/_catalog", {"last": "~"}).json() == {"repositories": []}
    assert len(named) == len(NAMES)


def test_refused_push_is_not_in_the_catalogue(registry: Registry, repository: str) -> None:
    registry.begin(repository)
    registry.put(f"/v2/{repository}/manifests/latest", None, b"{}")
    assert repository not in [name for page in repositories(registry) for name in page]


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "0",
        "a/b",
        "/".join("abcdefghijklmnopqrstuvwxyz"),
        "/".join(["x"] * 128),
        "x" * 255,
        "a__b",
        "a---b.c_d",
        "tags",
        "manifests",
        "tags/list",
        "blobs/uploads",
        "x/blobs/uploads",
        "x/manifests/latest",
        "x/referrers",
        "v2",
        "v2/x",
        "library/ubuntu",
    ],
)
def test_names_of_any_form_and_depth(registry: Registry, name: str) -> None:
    """Also those whose parts are the words of an endpoint."""
    blob = registry.push_blob(name, unique_blob())
    assert registry.get(f"/v2/{name}/blobs/{blob.digest}").content == blob.content
    location = registry.begin(name)
    assert registry.put(location, {"digest": blob.digest}, blob.content).status_code == 201
    manifest = registry.push(name, unique_index(), "list")
    assert registry.get(f"/v2/{name}/manifests/list").content == manifest.content
    answer = registry.get(f"/v2/{name}/tags/list").json()
    assert answer == {"name": name, "tags": ["list"]}
    assert registry.referrers(name, manifest.digest) == []
    assert name in [found for page in repositories(registry) for found in page]
