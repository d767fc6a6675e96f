"""Runs a suite in this process by pytest, without any test file, and returns what became of each rule."""

import os
from collections import defaultdict
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, cast

import pytest
from msgspec import Struct

from drift_core.api import StartError
from drift_core.conformance.rules import Rule, Suite

Outcome = Literal["pass", "fail", "xfail", "skip"]

OPTIONS = (
    f"--config-file={os.devnull}",
    "--import-mode=importlib",
    "--noconftest",
    "--strict-markers",
    "--capture=sys",
    "-pno:cacheprovider",
    "-pno:terminal",
    "-pno:faulthandler",
    "-panyio.pytest_plugin",
    "-pdrift_core.conformance.pytest_plugin",
)
"""Nothing but the suite decides: no settings, plugins or conftest of where this happens to run."""


class Result(Struct, frozen=True):
    """What became of the rule with that id: ``level`` is ``base`` or the optional power, ``why`` "" for a pass.

    ``seconds`` is how long it took, with its fixtures.
    """

    rule: str
    level: str
    sentence: str
    outcome: Outcome
    why: str
    seconds: float


class SuiteError(StartError):
    """A suite that cannot be run; that is no failed rule."""


def run_suite(suite: str, fixtures: object, only: Collection[str] = ()) -> list[Result]:
    """Runs the suite ``module:Class`` with an object whose methods are its fixtures.

    ``only`` are ids of rules; none means all. Called before the suite's module is imported, its assertions tell values.

    Raises:
        SuiteError: the suite could not be run at all, or has no such rule.
    """
    module, _, name = suite.partition(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        message = f"there is no module {module}"
        raise SuiteError(message)
    file = Path(spec.origin)
    recorder = Recorder(only)
    arguments = [f"{file}::{name}", f"--override-ini=python_classes={name}", f"--rootdir={file.parent}", *OPTIONS]
    with _only_our_plugins():
        code = pytest.main(arguments, plugins=[recorder, fixtures])
    if recorder.trouble or code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        message = recorder.trouble or f"pytest ended with {pytest.ExitCode(code).name}"
        raise SuiteError(message)
    return list(recorder.results())


class Recorder:
    """A pytest plugin that keeps the outcomes of each rule, of which a parametrized one has several."""

    def __init__(self, only: Collection[str]) -> None:
        self.only = only
        self.trouble = ""
        self.rules: list[Rule] = []
        self.seen: dict[str, list[tuple[Outcome, str]]] = {}
        self.seconds: dict[str, float] = defaultdict(float)

    def results(self) -> Iterator[Result]:
        """Yields every rule of the suite in its order, with its worst outcome."""
        for rule in self.rules:
            outcomes = self.seen[rule.id]
            worst = max(outcomes, key=lambda seen: ("pass", "skip", "xfail", "fail").index(seen[0]))
            yield Result(rule.id, rule.power or "base", rule.sentence, *worst, round(self.seconds[rule.id], 3))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keeps why a module cannot be imported."""
        if report.failed:
            self.trouble = str(report.longrepr)

    def pytest_internalerror(self, excrepr: object) -> None:
        """Keeps what pytest itself, or a plugin, stumbled over."""
        self.trouble = str(excrepr)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Learns the rules, and drops the tests of those that are not asked for."""
        every = {rule.id: rule for rule in _suite_of(items[0]).rules()}
        unknown = [rule for rule in self.only if rule not in every]
        if unknown:
            self.trouble = f"there is no rule {unknown[0]}; the rules are {', '.join(every)}"
        self.rules = [rule for rule in every.values() if not self.only or rule.id in self.only]
        items[:] = [item for item in items if _rule_of(item) in self.rules]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keeps the outcome of a test's body, and of its fixtures where they raise."""
        report = yield
        self.seconds[_rule_of(item).id] += call.duration
        why = call.excinfo.exconly() if call.excinfo else ""
        if hasattr(report, "wasxfail"):
            self._add(item, "xfail" if report.skipped else "pass", report.wasxfail)
        elif report.skipped:
            self._add(item, "skip", why.removeprefix("Skipped: "))
        elif report.failed:
            self._add(item, "fail", why or str(report.longrepr))
        elif call.when == "call":
            self._add(item, "pass", "")
        return report

    def _add(self, item: pytest.Item, outcome: Outcome, why: str) -> None:
        self.seen.setdefault(_rule_of(item).id, []).append((outcome, why))


def _suite_of(item: pytest.Item) -> type[Suite]:
    return cast("type[Suite]", cast("pytest.Function", item).cls)


def _rule_of(item: pytest.Item) -> Rule:
    test = cast("pytest.Function", item)
    return _suite_of(item).rule(test.originalname, test.function)


@contextmanager
def _only_our_plugins() -> Iterator[None]:
    """Hides from pytest what the environment would add to it."""
    kept = {name: os.environ.pop(name, None) for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")}
    autoload = os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        for name, value in (kept | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": autoload}).items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
