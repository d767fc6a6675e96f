"""There is a page for each family, which names its hook, its Protocol and its suite, and whose command works."""

import re
import shlex
from pathlib import Path

import pytest

from drift_core import conformance
from drift_core.plugins import FAMILIES, Family
from drift_core.scaffold import SUMMARIES
from tests.plugins.installation import Installation
from tests.tools import ROOT

PAGES = ROOT / "docs/how-to/plugins"
SUITES = {
    "authn": "AuthenticatorSuite",
    "authz": "AuthorizerSuite",
    "gc": "CollectorSuite",
    "optimization": "OptimizerSuite",
    "signing": "SigningSuite",
    "storage": "StorageSuite",
    "transport": "TransportSuite",
}


def test_every_family_has_a_page_and_every_suite_is_named() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {*SUMMARIES, "README"}
    suites = {name for name in conformance.__all__ if name.endswith("Suite")}
    assert suites - {"Suite", "PluginSuite", "ModuleSuite"} == {*SUITES.values()}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_page_names_hook_protocol_and_suite(family: Family) -> None:
    name = "signing" if family.name == "verification" else family.name
    text = (PAGES / f"{name}.md").read_text()
    for word in (family.hook, family.protocol.__name__, SUITES.get(name, "")):
        assert word in text
    for part in ("What to write", "When it fails", "What is hard", "How to prove it"):
        assert f"**{part}.**" in text


@pytest.mark.parametrize("family", SUMMARIES)
def test_the_command_of_a_page_writes_a_plugin(family: str, tmp_path: Path) -> None:
    (command,) = re.findall(r"^\$ drift (.*)$", (PAGES / f"{family}.md").read_text(), re.MULTILINE)
    done = Installation(tmp_path / "site").drift(*shlex.split(command), "--folder", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"drift-{family}-mine/pyproject.toml").exists()
