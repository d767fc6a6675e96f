"""The table of rules is what the suites say. `python -m tests.docs.test_rule_tables` writes it again."""

import inspect

from drift_core.conformance import StorageSuite
from drift_core.conformance.mutants import storage
from tests.conformance.test_storage import WITHOUT_MUTANT
from tests.tools import ROOT

PAGE = ROOT / "docs/reference/conformance.md"
HEAD = """# The rules of drivers

Written from the suites in `drift_core/conformance/suites/`: do not edit. The last column names a driver that breaks
this rule and no other, and the test suite runs it: so every rule is known to be able to fail.

## Stores

| Rule | Level | What is true | Who breaks it |
|---|---|---|---|
"""


def page() -> str:
    """Returns the whole page."""
    rows = []
    for rule in StorageSuite.rules():
        mutant = storage.MUTANTS.get(rule.id)
        broken = f"none: {WITHOUT_MUTANT[rule.id]}" if mutant is None else f"`{mutant.__name__}`: "
        broken += (inspect.getdoc(mutant) or "").removesuffix(".") if mutant else ""
        level = "base" if rule.power is None else f"`{rule.power}`"
        sentence = rule.sentence.replace("|", "\\|")
        rows.append(f"| `{rule.id}` | {level} | {sentence} | {broken} |\n")
    return HEAD + "".join(rows)


def test_the_table_is_what_the_suites_say() -> None:
    assert PAGE.read_text() == page()


if __name__ == "__main__":
    PAGE.write_text(page())
