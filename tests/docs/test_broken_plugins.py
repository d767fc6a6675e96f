"""Each row of the page on broken plugins names a test that there is."""

import re

from tests.tools import ROOT

PAGE = ROOT / "docs/explanation/broken-plugins.md"


def test_every_row_names_a_test() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    sources = "".join(file.read_text() for file in ROOT.glob("tests/**/test_*.py"))
    defined = set(re.findall(r"^(?:async )?def (test_\w+)", sources, re.MULTILINE))
    named = [re.search(r"\| `(test_\w+)` \|$", row) for row in rows]
    assert len(rows) > 15
    assert [row for row, name in zip(rows, named, strict=True) if name is None or name[1] not in defined] == []
