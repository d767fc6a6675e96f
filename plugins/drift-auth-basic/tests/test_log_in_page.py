"""The page "Let people log in": its configurations are good, and its commands exist."""

import re
import subprocess
from pathlib import Path

import pytest
from drift_auth_basic.commands import user

from tests.server import DRIFT
from tests.tools import ROOT

PAGE = (ROOT / "docs/how-to/log-in.md").read_text()
CONFIGURATIONS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(len(CONFIGURATIONS)))
def test_the_configurations_are_good(number: int, tmp_path: Path) -> None:
    file = tmp_path / "drift.toml"
    file.write_text(CONFIGURATIONS[number])
    command = [str(DRIFT), "config", "check", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_there_are_configurations() -> None:
    assert len(CONFIGURATIONS) == 5


def test_the_table_has_every_command() -> None:
    rows = " ".join(re.findall(r"^\| (`drift user .*?) \|", PAGE, re.MULTILINE))
    assert {*re.findall(r"([a-z]+)(?: NAME)?`", rows)} == {*user.commands}
