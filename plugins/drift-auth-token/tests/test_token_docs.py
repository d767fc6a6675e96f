"""What the pages say of configuration and commands is so."""

import re
import shlex
from pathlib import Path

import msgspec
import pytest
from drift_auth_token.commands import robot, token
from drift_auth_token.config import TokenConfig

from tests.plugins.installation import Installation
from tests.tools import ROOT

PAGES = (ROOT / "docs/how-to/tokens.md", ROOT / "plugins/drift-auth-token/README.md")
EXAMPLES = [text for page in PAGES for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_a_configuration_loads(example: str, tmp_path: Path) -> None:
    file = tmp_path / "drift.toml"
    file.write_text(example)
    done = Installation(tmp_path / "site").drift("config", "check", "--config", str(file))
    assert done.returncode == 0, done.stderr


def test_the_table_has_every_key_and_its_default() -> None:
    rows = dict(re.findall(r"^\| (`.+?`) \| (.+?) \|", PAGES[0].read_text(), re.MULTILINE))
    named = {name: default for keys, default in rows.items() for name in re.findall(r"`(\w+)`", keys)}
    for field in msgspec.structs.fields(TokenConfig):
        assert field.name in named
        if isinstance(field.default, int | float):
            assert float(named[field.name]) == field.default


def test_every_command_exists_with_its_options() -> None:
    commands = {group.name: group for group in (token, robot)}
    shown = [line for page in PAGES for line in re.findall(r"^\$ drift (.*)$", page.read_text(), re.MULTILINE)]
    assert len(shown) > 6
    for line in shown:
        group, verb, *rest = shlex.split(line)
        command = commands[group].commands[verb]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, line
