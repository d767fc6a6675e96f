"""What browsers send: paths, searches, moments and sizes in words, and plots."""

import math

import pytest
from drift_ui.plots import drawing_of
from drift_ui.querying import BadQuery, Query, read_query
from drift_ui.routing import Routes, filled, local_path, path_of
from drift_ui.site import HostOf
from drift_ui.terms import grams_of, likeness, terms_of
from drift_ui.wording import ago_text, bytes_text, count_text, exact_text

from drift_core.api import pages


async def nothing(_: pages.Asked) -> list[pages.Block]:
    return []


FORMS = ("/", "/repositories", "/repositories/{name*}", "/repositories/{name*}/-/manifests/{reference}", "/a/{one}/b")


@pytest.mark.parametrize(
    ("path", "form", "parts"),
    [
        ("/", "/", {}),
        ("/repositories", "/repositories", {}),
        ("/repositories/", "/repositories", {}),
        ("/repositories/app", "/repositories/{name*}", {"name": "app"}),
        ("/repositories/team/app", "/repositories/{name*}", {"name": "team/app"}),
        ("/repositories/team%2Fapp", "/repositories/{name*}", {"name": "team/app"}),
        (
            "/repositories/team/app/-/manifests/sha256:ab",
            "/repositories/{name*}/-/manifests/{reference}",
            {"name": "team/app", "reference": "sha256:ab"},
        ),
        ("/a/x%2Fy/b", "/a/{one}/b", {"one": "x/y"}),
    ],
)
def test_a_path_has_one_page(path: str, form: str, parts: dict[str, str]) -> None:
    found = Routes([pages.Page(one, one, nothing) for one in FORMS]).find(path)
    assert found is not None
    assert (found.page.path, found.parts) == (form, parts)
    assert Routes([found.page]).find(filled(form, parts)) == found


@pytest.mark.parametrize("path", ["/nope", "/a//b", "/a/x", "/a/x/c", "/a/%00/b", "/a/x%0a/b", "/" + "a" * 5000])
def test_other_paths_have_none(path: str) -> None:
    assert Routes([pages.Page(one, one, nothing) for one in FORMS]).find(path) is None


@pytest.mark.parametrize(
    "path",
    [None, "", "x", "//evil", "http://evil", "/\\evil", "/a b", "/a\tb", "javascript:alert(1)", "/é", "/" + "a" * 5000],
)
def test_nobody_is_sent_elsewhere(path: str | None) -> None:
    assert local_path(path) is None


def test_a_path_of_this_site_stays() -> None:
    assert local_path("/repositories/a?b=c") == "/repositories/a?b=c"
    assert path_of("repositories", 'a"<b>') == "/repositories/a%22%3Cb%3E"


def test_every_filter_is_read() -> None:
    query = read_query(
        'Web app repo:team/* tag:v1* digest:abc label:"a=b c" signed:yes size>1.5GB size<10 pushed<7d pushed>2w',
        now=10_000_000.0,
    )
    assert query == Query(
        ["web", "app"],
        "team/",
        "v1",
        "sha256:abc",
        ("a", "b c"),
        True,
        1.5 * (1 << 30),
        10.0,
        10_000_000.0 - 7 * 86400,
        10_000_000.0 - 14 * 86400,
    )
    assert read_query("layer:ABC") == Query([], layer="sha256:abc")
    assert read_query("layer:abc").asks_images
    assert read_query("").is_empty
    assert read_query("app").asks_images is False


@pytest.mark.parametrize(
    "text", ["size>big", "pushed<soon", "signed:maybe", "colour:red", "a" * 501, "a " * 9, "a" * 65]
)
def test_what_is_no_search_says_so(text: str) -> None:
    with pytest.raises(BadQuery):
        read_query(text)


def test_names_have_terms_that_are_like_each_other() -> None:
    assert terms_of("team/web-app") == ["team/web-app", "team", "web-app", "web", "app"]
    assert grams_of("ab") == {" ab", "ab "}
    assert likeness("postgres", "postgers") > likeness("postgres", "redis")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 << 10, "1.5 MiB"),
        (200 << 30, "200 GiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_sizes_in_words(size: int, text: str) -> None:
    assert bytes_text(size) == text


def test_moments_in_words() -> None:
    assert ago_text(1000.0, 1000.0) == "just now"
    assert ago_text(0.0, 3700.0) == "1 hour ago"
    assert ago_text(86400.0 * 3, 0.0) == "in 3 days"
    assert ago_text(0.0, 86400.0 * 100) == "1970-01-01"
    assert exact_text(1e300) == "9999-12-31 23:59:59 UTC"
    assert count_text(1234567) == "1,234,567"


def test_a_plot_has_its_largest_value_below_its_top() -> None:
    drawing = drawing_of(pages.Plot("Pulls", "pulls", (pages.Series("a", [(0.0, 1.0), (86400.0, 7.0)]),)))
    assert drawing is not None
    assert drawing.lines[0].points == "64.0,141.4 632.0,53.8"
    assert [mark.text for mark in drawing.across] == ["0", "2.50", "5", "7.50", "10"]
    assert drawing.rows == [["1970-01-01", "1"], ["1970-01-02", "7"]]


def test_what_cannot_be_drawn_is_not() -> None:
    assert drawing_of(pages.Plot("Pulls", "pulls", ())) is None
    assert drawing_of(pages.Plot("Pulls", "pulls", (pages.Series("a", [(0.0, math.nan)]),))) is None
    assert drawing_of(pages.Plot("Pulls", "pulls", (pages.Series("a", [(0.0, 0.0)]),))) is not None


def test_the_registry_is_at_its_own_port() -> None:
    host = HostOf("127.0.0.1:5000", None)
    assert host("registry.example.org:5001") == "registry.example.org:5000"
    assert host("registry.example.org") == "registry.example.org:5000"
    assert host("[::1]:5001") == "[::1]:5000"
    assert HostOf("127.0.0.1:5000", "r.example.org")("evil") == "r.example.org"
