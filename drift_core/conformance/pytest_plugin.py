"""The kit's pytest plugin; every pytest run beside an installed drift-core loads it, so it imports only pytest.

It registers the marker of `rules.power`, and skips a rule whose power the driver does not claim, by the power's name.
"""

from typing import Any

import pytest

POWER = "drift_power"
"""The marker that `rules.power` sets."""

# An editable installation lists no files, by which pytest would know that these modules assert.
pytest.register_assert_rewrite("drift_core.conformance.suites")


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker, without which ``--strict-markers`` refuses every suite."""
    config.addinivalue_line("markers", f"{POWER}(protocol): a rule for drivers that claim an optional power")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Skips an unclaimed power: only now is the driver open, and can be asked."""
    marker = item.get_closest_marker(POWER)
    if marker is None:
        return
    driver = _subject(item)
    (protocol,) = marker.args
    if not isinstance(driver, protocol):
        pytest.skip(f"{type(driver).__name__} does not claim {protocol.__name__}")


def _subject(item: pytest.Item) -> Any:
    """Returns the driver, which is the value of the fixture that `Suite.subject` names."""
    assert isinstance(item, pytest.Function)  # noqa: S101 - the marker is for tests of a suite
    return item.funcargs[item.cls.subject]
