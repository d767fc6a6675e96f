"""Tests that are coroutines run on asyncio, whatever else is installed."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Names the backend for anyio's plugin."""
    return "asyncio"
