"""Finds out what a request says about its client: the address behind proxies, the scheme, the certificate."""

import ipaddress
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, overload

from drift_core.protocols.access import Credentials

CACHED_ADDRESSES = 4096
"""Addresses of which each worker remembers whether they are proxies."""


class Clients:
    """Believes ``X-Forwarded-For`` and ``X-Forwarded-Proto`` of ``proxies``, and of nobody else."""

    def __init__(self, proxies: Sequence[str]) -> None:
        networks = [ipaddress.ip_network(proxy, strict=False) for proxy in proxies]
        self._any = bool(networks)
        self._trusted = lru_cache(CACHED_ADDRESSES)(lambda address: _within(address, networks))

    def credentials(self, scope: Any) -> Credentials:
        """Returns what an ASGI request says about its sender."""
        raw = scope["headers"]
        authorization = [value for name, value in raw if name == b"authorization"]
        address, scheme = self.origin(scope)
        tls = scope.get("extensions", {}).get("tls")
        return Credentials(
            b", ".join(authorization).decode("latin-1") if authorization else None,
            _Headers(raw),
            address,
            scope["method"],
            scope["path"],
            scheme,
            next(iter(tls["client_cert_chain"]), None) if tls else None,
            scope.get("state", {}).get("request_id", ""),
        )

    def origin(self, scope: Any) -> tuple[str, str]:
        """Returns address and scheme of the client; an empty address where the transport does not know it."""
        client, scheme = scope.get("client"), scope.get("scheme", "http")
        address = _plain(client[0]) if client else ""
        if not self._any or not self._trusted(address):
            return address, scheme
        # From the right: what stands left of the first who is not trusted anybody may have written.
        for hop in reversed(_listed(scope, b"x-forwarded-for")):
            try:
                address = str(ipaddress.ip_address(_plain(hop)))
            except ValueError:
                break
            if not self._trusted(address):
                break
        said = _listed(scope, b"x-forwarded-proto")[-1:]
        return address, said[0] if said in (["http"], ["https"]) else scheme


def _plain(address: str) -> str:
    """Returns an IPv4 address as such, also where the socket is of IPv6 (RFC 4291 section 2.5.5.2)."""
    return address.lower().removeprefix("::ffff:") if "." in address else address


class _Headers(Sequence[tuple[str, str]]):
    """Headers as text, each decoded when somebody looks: most requests are decided by one of them."""

    __slots__ = ("_raw",)

    def __init__(self, raw: Sequence[tuple[bytes, bytes]]) -> None:
        self._raw = raw

    def __len__(self) -> int:
        return len(self._raw)

    @overload
    def __getitem__(self, place: int) -> tuple[str, str]: ...

    @overload
    def __getitem__(self, place: slice) -> list[tuple[str, str]]: ...

    def __getitem__(self, place: int | slice) -> tuple[str, str] | list[tuple[str, str]]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        name, value = self._raw[place]
        return name.decode("latin-1"), value.decode("latin-1")


def _listed(scope: Any, wanted: bytes) -> list[str]:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
    return [part.strip() for value in values for part in value.split(",")]


def _within(address: str, networks: Collection[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found.version == network.version and found in network for network in networks)
