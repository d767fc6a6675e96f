"""The reference of the plugin API is whole and true. `python -m tests.docs.test_plugin_api` writes it again.

What it has to say is found here by running the API, and not as the page is written, by reading its source.
"""

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from msgspec import Struct

from drift_core import api, certificates, config, errors, hookspecs, listener, model, signing_tables
from drift_core.metadata import statement
from tests.docs.plugin_api import PROTOCOLS, page
from tests.tools import ROOT

PAGE = ROOT / "docs/reference/plugin-api.md"
HOOKS = [name for name in vars(hookspecs) if name.startswith("drift_")]
ERRORS: dict[str, Any] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)
}
PUBLIC = {name: getattr(api, name) for name in api.__all__ if name != "Struct"}
STRUCTS = [name for name, kind in PUBLIC.items() if isinstance(kind, type) and issubclass(kind, Struct)]
CLASSES = [name for name, kind in PUBLIC.items() if isinstance(kind, type) and name not in STRUCTS]

NAMES = {
    name: value
    for module in (errors, model, config, hookspecs, listener, certificates, statement, signing_tables, api, *PROTOCOLS)
    for name, value in vars(module).items()
}
"""What the types on the page mean."""

ROW = re.compile(r"^\| `(\w+)` \| `(.*)` \| (?:required|`(.*)`) \|$", re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """Returns what the page says of each name."""
    _, *parts = re.split(r"^### `(\w+)`\n|^## .*\n", text, flags=re.MULTILINE)
    return {name: said for name, said in zip(parts[::2], parts[1::2], strict=True) if name}


def written(section: str) -> dict[str, Any]:
    """Returns the functions and attributes of a section's Python, made anew from what is written there."""
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        for node in ast.parse(block).body:
            if isinstance(node, ast.AnnAssign):
                found[ast.unparse(node.target)] = eval(ast.unparse(node.annotation), NAMES)  # noqa: S307
            else:
                exec(ast.unparse(node), NAMES, found)  # noqa: S102 - our own documentation
    return found


def function(member: Any) -> Callable[..., Any]:
    """Returns the function of a method, a class method or a property."""
    return cast("Callable[..., Any]", getattr(member, "fget", None) or getattr(member, "__func__", None) or member)


def shape(member: Any) -> tuple[inspect.Signature, type, bool]:
    """Returns how something is called, whether on a class or as a property, and whether it is awaited."""
    plain = function(member)
    return inspect.signature(plain), type(member), inspect.iscoroutinefunction(plain)


def documented(kind: type) -> str:
    """Returns a class's own docstring in one line, as Markdown has it."""
    return " ".join((vars(kind)["__doc__"] or "").replace("``", "`").split())


def own_members(kind: type) -> dict[str, Any]:
    """Returns the public methods that a class does not merely override, and how it is made where that is its own."""
    inherited = {name for base in kind.__mro__[1:-1] for name in vars(base)}
    methods = {
        name: value
        for name, value in vars(kind).items()
        if inspect.isfunction(function(value)) and not name.startswith("_") and name not in inherited
    }
    made = vars(kind).get("__init__")
    return methods | ({"__init__": made} if made and made.__module__ == kind.__module__ else {})


def test_the_page_is_what_the_source_says() -> None:
    assert PAGE.read_text() == page()


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_there_with_its_signature_its_choice_and_its_failure(name: str) -> None:
    hook, section = getattr(hookspecs, name), sections(PAGE.read_text())[name]
    assert shape(written(section)[name]) == shape(hook)
    told = hook.__doc__.replace("``", "`").partition("Example::")[0].split()
    assert "Failure:" in told
    assert " ".join(told).replace("Failure:", "**Failure:**") in " ".join(section.split())


def test_struct_itself_is_said_to_be_another_s() -> None:
    assert api.Struct is Struct
    assert "`msgspec`" in sections(PAGE.read_text())["Struct"]


@pytest.mark.parametrize("name", STRUCTS)
def test_a_struct_is_there_with_every_field(name: str) -> None:
    section = sections(PAGE.read_text())[name]
    assert documented(PUBLIC[name]) in " ".join(section.split())
    rows = [
        (field, eval(kind.replace("\\|", "|"), NAMES), eval(default, NAMES) if default else msgspec.NODEFAULT)  # noqa: S307
        for field, kind, default in ROW.findall(section)
    ]
    fields = msgspec.structs.fields(PUBLIC[name])
    assert rows == [
        (one.name, one.type, one.default if one.default_factory is msgspec.NODEFAULT else one.default_factory())
        for one in fields
    ]
    keyword_only = all(
        parameter.kind is parameter.KEYWORD_ONLY for parameter in inspect.signature(PUBLIC[name]).parameters.values()
    )
    assert keyword_only == ("By keyword only." in section)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_there_with_every_method(name: str) -> None:
    kind, text = PUBLIC[name], PAGE.read_text()
    members, section = own_members(kind), sections(text).get(name, "")
    assert section or (not members and f"\n| `{name}` |" in text)
    assert documented(kind) in " ".join(section.split())
    found = written(section)
    attributes = inspect.get_annotations(kind)
    assert {key: shape(value) for key, value in members.items()} | attributes == {
        key: value if key in attributes else shape(value) for key, value in found.items()
    }


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_method_is_documented_and_the_page_says_it(name: str) -> None:
    for member, value in own_members(PUBLIC[name]).items():
        doc = (function(value).__doc__ or "").partition("\n")[0]
        assert doc or member == "__init__"
        assert doc.replace("``", "`") in sections(PAGE.read_text()).get(name, "")


@pytest.mark.parametrize(
    "name", [name for name, value in PUBLIC.items() if name not in {*STRUCTS, *CLASSES} and not inspect.ismodule(value)]
)
def test_a_function_or_value_is_there(name: str) -> None:
    section = sections(PAGE.read_text())[name]
    found = written(section)[name]
    if inspect.isfunction(PUBLIC[name]):
        assert inspect.getdoc(PUBLIC[name])
        assert shape(found) == shape(PUBLIC[name])
    else:
        assert section.rpartition("\n```\n")[2].strip(), "it has no docstring"


def test_every_action_is_there() -> None:
    assert written(sections(PAGE.read_text())["Action"])["Action"] == model.Action


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_there_with_code_and_status(name: str) -> None:
    kind, importable = ERRORS[name], " yes |" if name in PUBLIC else " |"
    told = "| | | |" if not hasattr(kind, "code") else f"| `{kind.code}` | {kind.status} | {kind.text} |"
    assert f"\n| `{name}` | `{kind.__base__.__name__}` {told}{importable}\n" in PAGE.read_text()


def test_every_protocol_for_which_drivers_are_asked_is_said_to_be_one() -> None:
    drivers = PAGE.read_text().partition("\n## What an opened driver does\n")[2].partition("\n## ")[0]
    asked = [name for name, kind in PUBLIC.items() if getattr(kind, "_is_runtime_protocol", False)]
    assert set(sections("\n## \n" + drivers)) == set(asked)


def test_links_within_the_page_lead_somewhere() -> None:
    text = PAGE.read_text()
    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= {name.lower() for name in sections(text)}


if __name__ == "__main__":
    PAGE.write_text(page())
