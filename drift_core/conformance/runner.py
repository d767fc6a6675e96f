"""Runs a suite without a test file, on a driver that is installed, and says of each rule whether it is kept."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from msgspec import Struct

from drift_core.api import BlobStore
from drift_core.config import Config
from drift_core.conformance.rules import Rule, Suite
from drift_core.conformance.suites.storage import StorageSuite
from drift_core.errors import PluginError
from drift_core.plugins import FAMILIES, Plugins
from drift_core.runtime import open_driver

Opener = Callable[[], AbstractAsyncContextManager[Any]]

Outcome = Literal["pass", "fail", "xfail", "skip"]

_WORST: Sequence[Outcome] = ("fail", "pass", "xfail", "skip")

RUNNING: list[type[Suite]] = []
"""The suites that are running; more than one where a test of a suite runs another."""


class Result(Struct, frozen=True):
    """One rule; ``level`` is base or the name of the optional power, ``why`` says more where it did not pass."""

    rule: str
    level: str
    outcome: Outcome
    why: str
    sentence: str


class _Reports:
    """Collects what pytest reports; a rule with several parameters has several reports."""

    def __init__(self) -> None:
        self.found: dict[str, list[tuple[Outcome, str]]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.passed and report.when != "call":
            return
        test = report.nodeid.rpartition("::")[2].partition("[")[0]
        self.found.setdefault(test, []).append(_outcome(report))

    def result(self, test: str, rule: Rule) -> Result:
        reports = self.found.get(test, [("fail", "it did not run")])
        outcome, why = min(reports, key=lambda report: _WORST.index(report[0]))
        return Result(rule.id, rule.power or "base", outcome, why, rule.sentence)


def _outcome(report: pytest.TestReport) -> tuple[Outcome, str]:
    reason: str | None = getattr(report, "wasxfail", None)
    if reason is not None:
        return ("fail", f"it was expected to fail: {reason}") if report.passed else ("xfail", reason)
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        return "skip", reason.removeprefix("Skipped: ")
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        return "fail", str(report.longrepr)[-500:] if crash is None else crash.message.partition("\n")[0]
    return "pass", ""


def run(suite: type[Suite], mib: int) -> list[Result]:
    """Runs a suite whose fixtures are complete, with large content of ``mib`` MiB. Blocks, and runs an event loop."""
    reports = _Reports()
    quiet = ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:logging", "-p", "no:faulthandler"]
    collected = str(Path(__file__).with_name("collected.py"))
    with tempfile.TemporaryDirectory() as folder:
        options = ["--capture=no", "--import-mode=importlib", f"--rootdir={folder}", "-c", os.devnull]
        RUNNING.append(suite)
        try:
            pytest.main([*options, *quiet, f"--conformance-mib={mib}", collected], plugins=[reports])
        finally:
            RUNNING.pop()
            # pytest keeps what it imported, and would collect the same suite again.
            for name, module in list(sys.modules.items()):
                if getattr(module, "__file__", None) == collected:
                    del sys.modules[name]
    return [reports.result(name, suite.rule(name, getattr(suite, name))) for name in suite.written()]


def run_installed(config: Config, plugins: Plugins, driver: str, mib: int) -> list[Result]:
    """Runs the suite of ``FAMILY:NAME``.

    Raises:
        PluginError: there is no such family or driver, no suite for the family, or the place is not empty.
        StartError: the driver cannot be opened.
    """
    name, _, wanted = driver.partition(":")
    family = next((family for family in FAMILIES if family.name == name and family.name in SUITES), None)
    if family is None or not wanted:
        message = f"{driver!r} is not FAMILY:NAME; the families with a suite are {', '.join(SUITES)}"
        raise PluginError(message)
    return run(asyncio.run(SUITES[name](partial(open_driver, config, plugins, family, wanted))), mib)


async def _storage(open_one: Opener) -> type[Suite]:
    async with open_one() as opened:
        async for _ in opened.scan():
            message = "the store has blobs, which the suite would remove; name an empty place in the configuration"
            raise PluginError(message)

    class Installed(StorageSuite):
        @pytest.fixture
        async def store(self) -> AsyncIterator[BlobStore]:
            async with open_one() as store:
                yield store
                for digest in [blob.digest async for blob in store.scan()]:
                    await store.delete(digest)

        @pytest.fixture
        def reopen(self) -> Opener:
            return open_one

    return Installed


SUITES = {"storage": _storage}
"""How the suite of each family gets an installed driver, which is looked at first."""
