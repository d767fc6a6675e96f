"""The tables of rules are what the suites say. `python -m tests.docs.test_rule_tables` writes them again."""

import inspect
from collections.abc import Mapping

from msgspec import Struct

from drift_core.conformance import (
    AuthenticatorSuite,
    AuthorizerSuite,
    CollectorSuite,
    OptimizerSuite,
    PluginSuite,
    SigningSuite,
    StorageSuite,
    Suite,
    TransportSuite,
)
from drift_core.conformance.mutants import (
    authenticator,
    authorizer,
    collector,
    optimizer,
    plugin,
    signing,
    storage,
    transport,
)
from tests.conformance.test_storage import WITHOUT_MUTANT
from tests.tools import ROOT

PAGE = ROOT / "docs/reference/conformance.md"
HEAD = """# The rules of drivers

Written from the suites in `drift_core/conformance/suites/`: do not edit. The last column names a driver that breaks
this rule and no other, and the test suite runs it: so every rule is known to be able to fail.
"""
TABLE = """
## {title}

| Rule | Level | What is true | Who breaks it |
|---|---|---|---|
"""


class Section(Struct, frozen=True):
    """One suite; ``breakers`` has the mutant of each rule, or why there is none."""

    title: str
    suite: type[Suite]
    breakers: Mapping[str, type | str]


SECTIONS = (
    Section("Every plugin", PluginSuite, plugin.MUTANTS),
    Section("Stores", StorageSuite, storage.MUTANTS | WITHOUT_MUTANT),
    Section("Authenticators", AuthenticatorSuite, authenticator.MUTANTS),
    Section("Authorizers", AuthorizerSuite, authorizer.MUTANTS),
    Section("Signers and verifiers", SigningSuite, signing.MUTANTS),
    Section("Transports", TransportSuite, transport.MUTANTS),
    Section("Optimizers", OptimizerSuite, optimizer.MUTANTS),
    Section("Garbage collectors", CollectorSuite, collector.MUTANTS),
)


def rows(section: Section) -> str:
    """Returns one row for each rule."""
    found = []
    for rule in section.suite.rules():
        breaker = section.breakers[rule.id]
        broken = f"none: {breaker}" if isinstance(breaker, str) else f"`{breaker.__name__}`: {one_line(breaker)}"
        level = "base" if rule.power is None else f"`{rule.power}`"
        sentence = rule.sentence.replace("|", "\\|")
        found.append(f"| `{rule.id}` | {level} | {sentence} | {broken} |\n")
    return "".join(found)


def one_line(documented: type) -> str:
    """Returns a docstring as it stands in a table."""
    return " ".join((inspect.getdoc(documented) or "").split()).removesuffix(".").replace("|", "\\|")


def page() -> str:
    """Returns the whole page."""
    return HEAD + "".join(TABLE.format(title=section.title) + rows(section) for section in SECTIONS)


def test_the_tables_are_what_the_suites_say() -> None:
    assert PAGE.read_text() == page()


if __name__ == "__main__":
    PAGE.write_text(page())
