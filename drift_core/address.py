"""What the address of a machine says: whether it is this one, and what one subscriber has beside it."""

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Says whether only this machine reaches a host: an address, of IPv6 also in brackets, or a name."""
    host = host.strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def stays_here(url: str) -> bool:
    """Says whether a URL leads to this machine."""
    return is_loopback(urlsplit(url).hostname or "")


def check_url(url: str) -> None:
    """Raises ValueError for a URL to which nothing may be sent: not encrypted, or with a password in it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("url must begin with https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url must not hold a password: it is shown in logs")
    if parts.scheme == "http" and not stays_here(url):
        raise ValueError("url must begin with https:// unless it stays on this machine")


def network_of(address: str) -> str:
    """Returns what one client has for itself: an address of IPv4, or the /64 of one of IPv6 (RFC 6177 section 2).

    What is no address is returned as it is.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    mapped = found.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((found, 64), strict=False))
