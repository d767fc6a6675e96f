"""What pytest needs to know of the kit: its marker, its option, and which rules a driver does not claim."""

import pytest

# Loaded into every run of pytest where the kit is installed: nothing of Drift is imported before a suite is.
MARKER = "drift_power"
MIB = 1 << 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the size of the one large blob."""
    parser.addoption(
        "--conformance-mib", type=int, default=64, help="size of the large blob of Drift's storage suite, in MiB"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker, which pytest may be told to insist on."""
    config.addinivalue_line("markers", f"{MARKER}(protocol): a rule only for drivers that have this optional power")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Skips, by name, a rule of a power that the driver does not claim."""
    marker = item.get_closest_marker(MARKER)
    if marker is None or not isinstance(item, pytest.Function):
        return
    (protocol,) = marker.args
    if not isinstance(item.funcargs[item.cls.subject], protocol):
        pytest.skip(f"{protocol.__name__} is not claimed")


@pytest.fixture(scope="session")
def large(pytestconfig: pytest.Config) -> int:
    """The bytes of the large blob."""
    return int(pytestconfig.getoption("--conformance-mib")) * MIB
