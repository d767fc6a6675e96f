"""Each configuration of the examples is one that Drift starts with, given the variables that it asks for."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.server import DRIFT
from tests.tools import ROOT

FILES = sorted((ROOT / "examples/deploy").glob("**/*.toml"))
STANDS_IN = "postgresql+psycopg://drift@db/drift"
"""What every variable has; of those in the examples one is a URL, and the others are any text."""


def test_there_are_configurations() -> None:
    assert {file.parent.name for file in FILES} == {"compose", "container", "systemd"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_the_configuration_is_good(file: Path) -> None:
    variables = dict.fromkeys(re.findall(r'env = "(\w+)"', file.read_text()), STANDS_IN)
    done = subprocess.run(
        [str(DRIFT), "config", "check", "--config", str(file)],
        env={"PATH": os.environ["PATH"], **variables},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the configuration is good\n"
