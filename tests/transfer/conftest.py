"""A distribution that real clients have filled, which no test changes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.programs import Programs
from tests.transfer.distribution import Distribution
from tests.transfer.moves import Filled, fill


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Runs client programs in a home of their own."""
    return Programs(tmp_path_factory.mktemp("clients") / "home")


@pytest.fixture(scope="session")
def old() -> Iterator[Distribution]:
    """The registry to import from."""
    with Distribution() as distribution:
        yield distribution


@pytest.fixture(scope="session")
def filled(run: Programs, old: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """What is in it."""
    return fill(run, old.address, tmp_path_factory.mktemp("filled"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of the registry to import into."""
    return tmp_path / "new"
