"""The servers that speak S3: MinIO, and a second one that was written by others."""

from collections.abc import Iterator

import pytest

from tests.services.minio import Minio
from tests.services.versitygw import VersityGateway


@pytest.fixture(scope="session")
def minio() -> Iterator[Minio]:
    """One server for all tests, each of which has a bucket of its own."""
    with Minio() as server:
        yield server


@pytest.fixture(scope="session")
def versitygw() -> Iterator[VersityGateway]:
    """See `minio`."""
    with VersityGateway() as server:
        yield server
