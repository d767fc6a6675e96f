"""Some tests of the distribution API, with every request over QUIC; the long form has all of them."""

import copy
from collections.abc import Iterator

import pytest

from tests.oci import test_conditions
from tests.server import Server

from .gateway_process import gateway
from .oci_over_quic import collect
from .real_server import Both

globals().update(collect(test_conditions))


@pytest.fixture(scope="session")
def server(both: Both) -> Iterator[Server]:
    """The server of all tests, at the address of a gateway."""
    with gateway(both.ca_file, both.port) as host:
        behind = copy.copy(both.server)
        behind.host, behind.url, behind.port = host, f"http://{host}", int(host.rpartition(":")[2])
        yield behind
