"""Where a request comes from: what proxies say is believed of those that the operator trusts, and of nobody else."""

from typing import Any

import pytest

from drift_core.http.client import Clients

PROXIES = ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32")


def scope(peer: str, *headers: tuple[str, str], scheme: str = "http") -> dict[str, Any]:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return {"method": "GET", "path": "/v2/", "headers": raw, "client": (peer, 1), "scheme": scheme}


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.1.1.1", ["198.51.100.4"], "198.51.100.4"),
        ("198.51.100.9", ["198.51.100.4"], "198.51.100.9"),
        ("192.0.2.8", ["198.51.100.4"], "192.0.2.8"),
        ("10.1.1.1", [], "10.1.1.1"),
        # What stands left of the first who is not trusted is that client's own invention.
        ("10.1.1.1", ["203.0.113.1, 198.51.100.4"], "198.51.100.4"),
        ("10.1.1.1", ["203.0.113.1, 198.51.100.4, 10.2.2.2"], "198.51.100.4"),
        ("10.1.1.1", ["203.0.113.1", "198.51.100.4", "10.2.2.2"], "198.51.100.4"),
        ("10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("10.1.1.1", ["198.51.100.4, evil\xff"], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.4, "], "10.1.1.1"),
        ("2001:db8::1", ["2001:DB9:0::4"], "2001:db9::4"),
        # A socket of IPv6 that takes IPv4, too.
        ("::ffff:10.1.1.1", ["::ffff:198.51.100.4, ::ffff:10.2.2.2"], "198.51.100.4"),
        ("", ["198.51.100.4"], ""),
    ],
)
def test_the_address_of_the_client(peer: str, forwarded: list[str], address: str) -> None:
    asked = scope(peer, *(("x-forwarded-for", value) for value in forwarded))
    assert Clients(PROXIES).credentials(asked).client_address == address
    assert Clients(()).credentials(asked).client_address == peer.removeprefix("::ffff:")


@pytest.mark.parametrize(
    ("peer", "said", "scheme"),
    [("10.1.1.1", "https", "https"), ("198.51.100.9", "https", "http"), ("10.1.1.1", "javascript", "http")],
)
def test_the_scheme_that_the_client_sees(peer: str, said: str, scheme: str) -> None:
    assert Clients(PROXIES).credentials(scope(peer, ("x-forwarded-proto", said))).scheme == scheme


def test_what_a_request_says_shows_no_header() -> None:
    credentials = Clients(()).credentials(
        scope("192.0.2.1", ("authorization", "Basic c2VjcmV0"), ("cookie", "c2VjcmV0"))
    )
    assert (credentials.authorization, credentials.header("cookie")) == ("Basic c2VjcmV0", "c2VjcmV0")
    assert "c2VjcmV0" not in f"{credentials} {credentials!r}"
