"""The tables of rules are what the suites say. `python -m tests.docs.test_rule_tables` writes them again."""

import inspect
from collections.abc import Mapping

from drift_core.conformance import (
    AuthenticatorSuite,
    AuthorizerSuite,
    CollectorSuite,
    OptimizerSuite,
    SigningSuite,
    StorageSuite,
    Suite,
    TransportSuite,
)
from drift_core.conformance.mutants import authenticator, authorizer, collector, optimizer, signing, storage, transport
from tests.conformance.test_storage import WITHOUT_MUTANT
from tests.tools import ROOT

PAGE = ROOT / "docs/reference/conformance.md"
HEAD = """# The rules of drivers

Written from the suites in `drift_core/conformance/suites/`: do not edit. The last column names a driver that breaks
this rule and no other, and the test suite runs it: so every rule is known to be able to fail.
"""
TABLES: Mapping[str, tuple[type[Suite], Mapping[str, type]]] = {
    "Stores": (StorageSuite, storage.MUTANTS),
    "Authenticators": (AuthenticatorSuite, authenticator.MUTANTS),
    "Authorizers": (AuthorizerSuite, authorizer.MUTANTS),
    "Signature formats": (SigningSuite, signing.MUTANTS),
    "Transports": (TransportSuite, transport.MUTANTS),
    "Optimizers": (OptimizerSuite, optimizer.MUTANTS),
    "Collectors": (CollectorSuite, collector.MUTANTS),
}


def table(suite: type[Suite], mutants: Mapping[str, type]) -> str:
    """Returns the table of one suite."""
    rows = ["| Rule | Level | What is true | Who breaks it |\n|---|---|---|---|\n"]
    for rule in suite.rules():
        mutant = mutants.get(rule.id)
        broken = f"none: {WITHOUT_MUTANT[rule.id]}" if mutant is None else f"`{mutant.__name__}`: "
        broken += (inspect.getdoc(mutant) or "").removesuffix(".") if mutant else ""
        level = "base" if rule.power is None else f"`{rule.power}`"
        sentence = rule.sentence.replace("|", "\\|")
        rows.append(f"| `{rule.id}` | {level} | {sentence} | {' '.join(broken.split())} |\n")
    return "".join(rows)


def page() -> str:
    """Returns the whole page."""
    return HEAD + "".join(f"\n## {title}\n\n{table(suite, mutants)}" for title, (suite, mutants) in TABLES.items())


def test_the_tables_are_what_the_suites_say() -> None:
    assert PAGE.read_text() == page()


if __name__ == "__main__":
    PAGE.write_text(page())
