"""Every hook's docstring holds a complete plugin, and that plugin works."""

import textwrap
from types import FunctionType, ModuleType

import click
import pytest

from drift_core import hookspecs
from drift_core.discovery import Found
from drift_core.plugins import FAMILIES, Plugins

HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("drift_") and callable(hook)}


def example(hook: FunctionType) -> str:
    """Returns the code behind "Example::" in a docstring."""
    docstring = textwrap.dedent(hook.__doc__ or "")
    return textwrap.dedent(docstring.partition("Example::\n")[2])


def loaded(name: str) -> tuple[Plugins, ModuleType]:
    module = ModuleType(f"example_{name}")
    exec(compile(example(HOOKS[name]), f"<{name}>", "exec"), module.__dict__)  # noqa: S102 - our own documentation
    plugins = Plugins([Found(name, "example", "1", "loaded", module)])
    assert plugins.found[0].state == "loaded", plugins.found[0].error
    return plugins, module


def test_every_family_has_its_hook_and_every_hook_its_family() -> None:
    assert {family.hook for family in FAMILIES} | {"drift_commands"} == set(HOOKS)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_example_of_a_driver_hook_is_a_plugin(family: "object") -> None:
    hook = family.hook  # type: ignore[attr-defined]
    plugins, _ = loaded(hook)
    (offer,) = plugins.offers()
    assert offer.family == family.name  # type: ignore[attr-defined]
    assert "Failure:" in (HOOKS[hook].__doc__ or "")


def test_the_example_of_a_command_is_a_plugin() -> None:
    plugins, _ = loaded("drift_commands")
    assert isinstance(plugins.commands["hello"], click.Command)
