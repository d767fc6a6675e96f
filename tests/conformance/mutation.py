"""Runs a suite on a mutant, inside of pytest."""

from collections.abc import Collection

import pytest

from drift_core.conformance.rules import Suite
from drift_core.conformance.runner import run_suite

RULES = pytest.mark.parametrize("extent", ["its rule", pytest.param("every rule", marks=pytest.mark.soak)])
"""For suites that take seconds: it is soon seen that a mutant fails its rule, and not that it fails no other."""


def failed_rules(suite: type[Suite], fixtures: object, only: Collection[str] = ()) -> set[str]:
    """Returns the ids of the rules that fail, of ``only`` or of all; ``fixtures`` has methods that are the fixtures."""
    results = run_suite(f"{suite.__module__}:{suite.__qualname__}", fixtures, only)
    return {result.rule for result in results if result.outcome == "fail"}


def asked(rule: str, extent: str) -> Collection[str]:
    """Returns what `failed_rules` runs for a parameter of `RULES`."""
    return [rule] if extent == "its rule" else ()
