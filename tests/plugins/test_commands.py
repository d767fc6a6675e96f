"""Commands of plugins: what they need is imported once one of them is run, and no earlier."""

import os
import subprocess
import sys

from drift_core import config
from drift_core.plugins import load_plugins
from tests.server import DRIFT


def test_a_deferred_command_is_listed_as_what_it_stands_for() -> None:
    deferred = 0
    for name, command in load_plugins(config.load(None, {}, ())).commands.items():
        real = command.make_context(name, [], resilient_parsing=True).command
        assert real.help is not None
        assert (command.name, command.help) == (real.name, real.help.partition("\n")[0])
        deferred += command is not real
    assert deferred >= 15


def test_commands_are_listed_without_what_they_need() -> None:
    listed = "from drift_core.cli import main; main(['--help'], standalone_mode=False)"
    heavy = "{'sqlalchemy', 'alembic', 'litestar', 'httpx'} & {*sys.modules}"
    ours = "{name for name in sys.modules if name.startswith('drift_') and name.endswith('.commands')}"
    code = f"import sys; {listed}; sys.exit(', '.join({heavy} | {ours}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
    assert "Decide who may do what" in done.stdout


def test_a_deferred_command_is_explained_as_itself() -> None:
    done = subprocess.run([str(DRIFT), "audit", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: drift audit [OPTIONS] COMMAND")
