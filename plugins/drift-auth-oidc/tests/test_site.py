"""Cookies are protected wherever the server stands, and logins are refused where they would not be."""

from typing import Any

import pytest
from drift_auth_oidc.site import SESSION, Csrf, Site, local_path

from drift_core.api import Credentials, Denied


def asked(
    scheme: str = "https", host: str = "registry.example.org", address: str = "192.0.2.1", **more: str
) -> Credentials:
    headers = [("host", host), *((name.replace("_", "-"), value) for name, value in more.items())]
    return Credentials(None, headers, address, "GET", "/", scheme)


@pytest.mark.parametrize(
    ("site", "credentials", "base"),
    [
        (Site(None), asked(), "https://registry.example.org"),
        (Site(None), asked("http", "127.0.0.1:5000", "127.0.0.1"), "http://127.0.0.1:5000"),
        (Site(None), asked("http", "[::1]:5000", "::1"), "http://[::1]:5000"),
        (Site("https://r.example.org/"), asked("http", "10.0.0.1", "10.0.0.2"), "https://r.example.org"),
    ],
)
def test_where_the_browser_is(site: Site, credentials: Credentials, base: str) -> None:
    assert site.base(credentials) == base


@pytest.mark.parametrize(
    "credentials",
    [
        asked("http"),
        asked("http", "localhost:5000"),
        asked("http", "registry.example.org", "127.0.0.1"),
        asked(host=""),
        asked(host="a b"),
        asked(host="a/b"),
        asked(host="a@b"),
        asked(host='a"b'),
    ],
)
def test_where_no_login_is_possible(credentials: Credentials) -> None:
    with pytest.raises(Denied):
        Site(None).base(credentials)
    with pytest.raises(Denied):
        Site(None).set_cookie(SESSION, "s", 60, credentials)


def test_over_https_a_cookie_is_only_this_host_s() -> None:
    header = Site(None).set_cookie(SESSION, "secret", 60, asked()).to_header(header="")
    assert header.startswith("__Host-drift-session=secret; ")
    assert {part.strip().lower() for part in header.split(";")[1:]} == {
        "secure",
        "httponly",
        "samesite=lax",
        "path=/",
        "max-age=60",
    }


@pytest.mark.parametrize(
    ("credentials", "value"),
    [
        (asked(cookie="a=b; __Host-drift-session=s; c=d"), "s"),
        (asked(cookie="drift-session=s"), None),
        (asked(cookie="__host-drift-session=s"), None),
        (asked("http", "127.0.0.1", "127.0.0.1", cookie="drift-session=s"), "s"),
        (asked("http", "127.0.0.1", "127.0.0.1", cookie="__Host-drift-session=s"), None),
        (asked("http", cookie="drift-session=s"), None),
        (asked(), None),
    ],
)
def test_which_cookie_counts(credentials: Credentials, value: str | None) -> None:
    assert Site(None).cookie(SESSION, credentials) == value


@pytest.mark.parametrize(
    "more",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://registry.example.org"},
        {"origin": "https://registry.example.org.evil.example"},
        {"origin": "https://registry.example.org:444"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
    ],
)
def test_whoever_comes_from_elsewhere_is_refused(more: dict[str, Any]) -> None:
    site = Site(None)
    site.check_origin(asked())
    site.check_origin(asked(origin="https://registry.example.org", sec_fetch_site="same-origin"))
    with pytest.raises(Denied):
        site.check_origin(asked(**more))


def test_the_csrf_token_is_of_one_session() -> None:
    token = Csrf("one").token
    Csrf("one").check(token)
    assert "one" not in token
    for shown in (None, "", token[:-1], Csrf("two").token, "é"):
        with pytest.raises(Denied):
            Csrf("one").check(shown)


@pytest.mark.parametrize("path", ["/", "/auth/device?user_code=A", "/a//b", "/a:b"])
def test_paths_of_this_site(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        None,
        "",
        "//e",
        "///e",
        "/\\e",
        "\\/e",
        "https://e",
        "https:e",
        "e",
        "/\te",
        "/\r\ne",
        " /e",
        "/a b",
        "/é",
        "/" * 3000,
    ],
)
def test_paths_of_others(path: str | None) -> None:
    assert local_path(path) is None
