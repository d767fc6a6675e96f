"""Decides to which addresses the routes of ``/api/quic`` may connect.

Whoever may call them could otherwise have the server knock at doors that only it reaches, such as the metadata service
of a cloud. So they connect to this server itself and to what ``quic.test_targets`` names, at an address that is looked
up once and then used.
"""

import asyncio
import ipaddress
import socket

from drift_core.api import Denied, Struct
from drift_quic_aioquic.config import Settings


class Target(Struct, frozen=True):
    """Where to connect: ``address`` is of IPv4 or IPv6, ``name`` what was asked for."""

    name: str
    address: str
    port: int


def parse(target: str) -> tuple[str, int]:
    """Returns host and port of ``host:port``. Raises ValueError."""
    host, mark, port = target.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not mark or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65535:  # noqa: PLR2004
        message = f"{target!r} is not host:port, such as registry.example:5443"
        raise ValueError(message)
    if any(char.isspace() or char in "/?#@" for char in host):
        message = f"{host!r} is no name of a host"
        raise ValueError(message)
    return host, int(port)


async def resolve(config: Settings, target: str) -> Target:
    """Returns where to connect for a target.

    Raises:
        ValueError: it is malformed, or there is no such host.
        Denied: the configuration does not name it, or it is an address that no server has.
    """
    host, port = parse(target)
    if not _is_named(config, host, port):
        message = f"{target} is not this server, and quic.test_targets does not name it"
        raise Denied(message)
    loop = asyncio.get_running_loop()
    try:
        (*_, address), *_ = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        message = f"{host} cannot be found: {error.strerror}"
        raise ValueError(message) from error
    found = ipaddress.ip_address(str(address[0]).partition("%")[0])
    if found.is_link_local or found.is_multicast or found.is_reserved:
        message = f"{target} is {found}, to which this server does not connect"
        raise Denied(message)
    return Target(host, str(found), port)


def _is_named(config: Settings, host: str, port: int) -> bool:
    named = {parse(one) for one in config.test_targets}
    own, own_port = parse(config.bind_addr)
    if (host, port) in named or (host, port) == (own, own_port):
        return True
    # A server that listens on every address is also reached on this machine's own.
    return port == own_port and _is_any(own) and host in {"127.0.0.1", "::1", "localhost"}


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
