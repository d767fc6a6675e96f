"""Runs a suite on a mutant, inside of pytest."""

from drift_core.conformance.rules import Suite
from drift_core.conformance.runner import run_suite


def failed_rules(suite: type[Suite], fixtures: object) -> set[str]:
    """Returns the ids of the rules that fail; ``fixtures`` has methods that are the suite's fixtures."""
    results = run_suite(f"{suite.__module__}:{suite.__qualname__}", fixtures)
    return {result.rule for result in results if result.outcome == "fail"}
